"""Every way in which a file can be wrong is refused by name, and what is right is cut as it should be."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError, SpecError
from core.files import sha256
from tasks.layout import Rows, build, checked, episodes, qlearning, read, write
from tasks.sources.toy import LinearSystem

RESET = 100.0  # the observation of every episode's first row starts here, so that a leak across a reset shows


def make_rows(terminal: np.ndarray, timeout: np.ndarray, *, stored: bool = True) -> Rows:
    """Rows whose observation is (RESET * episode + step, row, 0, 0), and its successor one step further."""
    size = len(terminal)
    ends = np.append(0, np.cumsum(terminal | timeout)[:-1])
    row = np.arange(size)
    start = np.maximum.accumulate(np.where(np.append(True, (terminal | timeout)[:-1]), row, 0))
    first = RESET * ends + row - start
    rng = np.random.default_rng(size)

    def obs(ahead: int) -> np.ndarray:
        return np.stack([first + ahead, row + ahead, 0 * row, 0 * row], 1).astype(np.float32)

    action = rng.uniform(-1, 1, (size, 2)).astype(np.float32)
    reward = rng.normal(size=size).astype(np.float32)
    return Rows(obs(0), action, reward, terminal, timeout, obs(1) if stored else None)


def example(*, stored: bool = True) -> Rows:
    """Twelve rows, a timeout at row 4, a terminal at row 8."""
    return make_rows(np.arange(12) == 8, np.arange(12) == 4, stored=stored)


def arrays_of(rows: Rows) -> dict[str, np.ndarray]:
    return {
        "observations": rows.obs, "actions": rows.action, "rewards": rows.reward, "terminals": rows.terminal,
        "timeouts": rows.timeout,
    }  # fmt: skip


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.hdf5"


def test_what_is_written_is_read(path: Path) -> None:
    rows = replace(example(), qpos=np.random.default_rng(0).normal(size=(12, 2)), qvel=np.zeros((12, 2)))
    rows = replace(rows, action_log_prob=np.linspace(-3, 3, 12, dtype=np.float32))
    write(path, rows)
    found = read(path)
    for field in fields(rows):
        expected = getattr(rows, field.name)
        value = getattr(found, field.name)
        assert value.dtype == expected.dtype, field.name
        assert (value == expected).all(), field.name


def test_same_rows_same_bytes(path: Path) -> None:
    write(path, example())
    first = sha256(path)
    time.sleep(1.1)  # HDF5's time stamps have a resolution of a second
    write(path, example())
    assert sha256(path) == first


def test_odd_but_harmless_types_are_coerced(path: Path) -> None:
    rows = example()
    arrays = arrays_of(example())
    arrays["observations"] = arrays["observations"].astype(">f8")
    arrays["actions"] = arrays["actions"].astype(np.float64)
    arrays["rewards"] = arrays["rewards"].astype(">f4")[:, None]
    arrays["terminals"] = arrays["terminals"].astype(np.float32)[:, None]
    arrays["timeouts"] = arrays["timeouts"].astype(np.int8)
    found = read(save(path, arrays))
    for name in ("obs", "action", "reward", "terminal", "timeout"):
        value = getattr(found, name)
        expected = getattr(rows, name)
        assert value.dtype == expected.dtype, name
        assert value.dtype.isnative, name
        assert np.array_equal(value, expected), name


def test_missing_timeouts_are_derived_and_said(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = arrays_of(example())
    del arrays["timeouts"]
    assert not read(save(path, arrays)).timeout.any()
    assert f"{path}: has no timeouts; only terminals end an episode" in capsys.readouterr().err
    assert np.flatnonzero(read(path, max_steps=5).timeout).tolist() == [4]  # 9 starts anew, after the terminal at 8
    assert np.flatnonzero(read(path, max_steps=3).timeout).tolist() == [2, 5, 8, 11]


def refused(path: Path, *parts: str) -> None:
    """`read` refuses the file, naming it and every one of `parts`."""
    with pytest.raises(DataError) as caught:
        read(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)


def test_missing_file(path: Path) -> None:
    refused(path, "no such file")
    path.mkdir()
    refused(path, "must be a file")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"\n<!DOCTYPE html><html><body>403</body></html>", "it is an HTML page: b'\\n<!DOCTYPE html>"),
        (b"PK\x03\x04 an archive", "it starts with b'PK"),
        (b"\x89HDF\r\n\x1a\n and no more", "it is truncated or damaged"),
    ],
)
def test_files_of_another_kind(path: Path, content: bytes, rule: str) -> None:
    path.write_bytes(content)
    refused(path, "must be", rule)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_truncated_file(path: Path, share: float) -> None:
    write(path, example())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "must be a whole HDF5 file, but it is truncated or damaged")


def test_flipped_bytes_never_pass_as_another_kind_of_error(path: Path) -> None:
    write(path, example())
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with suppress(DataError):  # or none: a bit in a name, or in unused space, goes unnoticed without a checksum
            read(path)


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_missing_key(path: Path, key: str) -> None:
    arrays = arrays_of(example())
    del arrays[key]
    refused(save(path, arrays), f"missing: {key}")


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "infos/qpos"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf(path: Path, key: str, value: float) -> None:
    arrays = arrays_of(example()) | {"infos/qpos": np.zeros((12, 2))}
    arrays[key] = arrays[key].copy()
    arrays[key][[3, 5, 6]] = value
    refused(save(path, arrays), f"{key} must be finite, got NaN or Inf in rows 3..6 (3 of 12 rows, 25.00%)")


def test_too_large_for_float32(path: Path) -> None:
    arrays = arrays_of(example())
    arrays["observations"] = arrays["observations"].astype(np.float64) + 1e300 * (np.arange(12) == 7)[:, None]
    refused(save(path, arrays), "observations must be finite, got NaN or Inf in rows 7..7")


def test_lengths_differ(path: Path) -> None:
    arrays = arrays_of(example())
    arrays["rewards"] = arrays["rewards"][:-1]
    refused(save(path, arrays), "all keys must have the same number of rows", "'rewards': 11", "'actions': 12")


def test_no_rows(path: Path) -> None:
    refused(save(path, {key: value[:0] for key, value in arrays_of(example()).items()}), "at least one row, got 0")


@pytest.mark.parametrize(
    ("key", "shape", "rule"),
    [
        ("rewards", (12, 2), "rewards must have shape (N,) or (N, 1), got (12, 2)"),
        ("observations", (), "observations must have rows, got a single number"),
        ("observations", (12,), "observations must have shape (N, columns), got (12,)"),
        ("actions", (12, 2, 2), "actions must have shape (N, columns), got (12, 2, 2)"),
        ("next_observations", (12, 3), "next_observations must have shape (12, 4), got (12, 3)"),
    ],
)
def test_wrong_shapes(path: Path, key: str, shape: tuple[int, ...], rule: str) -> None:
    refused(save(path, arrays_of(example()) | {key: np.zeros(shape)}), rule)


def test_actions_out_of_range(path: Path) -> None:
    arrays = arrays_of(example())
    arrays["actions"] = arrays["actions"].copy()
    arrays["actions"][0, 0] = 1 + 5e-7  # rounding, forgiven
    assert read(save(path, arrays)).action.max() <= 1
    arrays["actions"][[2, 9]] = -1.25
    refused(save(path, arrays), "actions must be in [-1, 1], got |a| up to 1.25 in rows 2..9 (2 of 12 rows, 16.67%)")


def test_flags_that_are_no_flags(path: Path) -> None:
    refused(save(path, arrays_of(example()) | {"terminals": np.full(12, 0.5)}), "terminals must be 0 or 1")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.array([b"x"] * 12), "|S1"), (np.zeros(12, np.complex64), "complex64"), (np.zeros(12, "i4,f4"), "[(")],
)
def test_dtypes_that_are_no_numbers(path: Path, value: np.ndarray, dtype: str) -> None:
    refused(save(path, arrays_of(example()) | {"rewards": value}), "rewards must be numbers, got dtype", dtype)


def test_object_dtype(path: Path) -> None:
    arrays = arrays_of(example())
    del arrays["rewards"]
    with h5py.File(save(path, arrays), "a") as file:
        file.create_dataset("rewards", (12,), dtype=h5py.string_dtype())
    refused(path, "rewards must be numbers, got dtype object")


def external_link(file: h5py.File, other: Path) -> None:
    file["observations"] = h5py.ExternalLink(str(other), "observations")


def soft_link(file: h5py.File, other: Path) -> None:
    file["hidden"] = h5py.ExternalLink(str(other), "/")
    file["observations"] = h5py.SoftLink("/hidden/observations")


def external_group(file: h5py.File, other: Path) -> None:
    file["infos"] = h5py.ExternalLink(str(other), "/")
    file["observations"] = np.zeros((12, 4))


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout(shape=(12, 4), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "observations", shape=(12, 4))
    file.create_virtual_dataset("observations", layout)


def external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("observations", (12, 4), "f4", external=[(str(other), 0, 12 * 4 * 4)])


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (external_link, "observations must lie in this file, got a link (ExternalLink)"),
        (soft_link, "observations must lie in this file, got a link (SoftLink)"),
        (external_group, "infos/qpos must lie in this file, got a link (ExternalLink)"),
        (virtual, "observations must lie in this file, got a virtual dataset"),
        (external_storage, "observations must lie in this file, got external storage"),
    ],
)
def test_files_that_lead_elsewhere(path: Path, plant: Callable[[h5py.File, Path], None], rule: str) -> None:
    other = save(path.with_name("other.hdf5"), arrays_of(example()) | {"qpos": np.zeros((12, 2))})
    arrays = arrays_of(example())
    del arrays["observations"]
    with h5py.File(save(path, arrays), "a") as file:
        plant(file, other)
    refused(path, rule)


def test_a_group_where_an_array_should_be(path: Path) -> None:
    arrays = arrays_of(example())
    del arrays["actions"]
    refused(save(path, arrays | {"actions/low": np.zeros(12)}), "actions must be an array, got Group")


@pytest.mark.parametrize("rows", [10**7, 10**12])
def test_absurd_declared_size(path: Path, rows: int) -> None:
    arrays = arrays_of(example())
    del arrays["observations"]
    with h5py.File(save(path, arrays), "a") as file:
        file.create_dataset("observations", (rows, 4), "f4", chunks=(1024, 4))
    refused(path, f"declares {rows * 16 + 12 * (8 + 4 + 1 + 1)} bytes of data, more than the")


def test_foreign_filter(path: Path) -> None:
    arrays = arrays_of(example())
    del arrays["observations"]
    with h5py.File(save(path, arrays), "a") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 4))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((12, 4))
        h5py.h5d.create(file.id, b"observations", h5py.h5t.IEEE_F32LE, space, dcpl=plist)
    refused(path, "observations must use HDF5's own filters, got filter {32015}")


def test_qlearning_example() -> None:
    """The figures measured with d4rl itself: rows 4 and 11 go; lengths of the whole episodes are 5 and 4."""
    rows = example()
    assert qlearning(rows).obs[:, 1].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    with_ends = qlearning(rows, terminate_on_end=True)
    assert with_ends.obs[:, 1].tolist() == list(range(11))
    assert with_ends.next_obs[:, 1].tolist() == list(range(1, 12))
    assert with_ends.terminated.nonzero().flatten().tolist() == [8]
    starts, stops = episodes(rows)
    assert (stops - starts).tolist() == [5, 4, 3]  # the last is the unfinished tail


@pytest.mark.parametrize("stored", [True, False])
def test_no_row_points_at_the_next_episodes_reset(stored: bool) -> None:
    dataset, card = build(example(stored=stored), LinearSystem(), "digest", heldout=0.3, view="episodes")
    step = dataset.train.next_obs - dataset.train.obs
    assert (step[:, 0] == 1).all()
    heldout = dataset.heldout
    assert ((heldout.obs[:, 1:, 0] - heldout.obs[:, :-1, 0])[heldout.valid] == 1).all()
    assert card["dropped_rows"] == (0 if stored else 3)
    assert card["train_rows"] + card["heldout_rows"] == (12 if stored else 9)


def test_qlearning_view_is_qlearning_of_the_training_episodes() -> None:
    rows = example()
    dataset, card = build(rows, LinearSystem(), "digest", heldout=0.3, view="qlearning")
    held = dataset.heldout.obs[0, dataset.heldout.valid[0].nonzero().flatten(), 1]
    everything = qlearning(rows)
    kept = ~torch.isin(everything.obs[:, 1], held)
    assert torch.equal(dataset.train.next_obs, everything.next_obs[kept])
    assert card["train_rows"] == int(kept.sum())


def test_padding_repeats_the_end_and_counts_for_nothing() -> None:
    rows = make_rows(np.isin(np.arange(30), [2, 19, 29]), np.zeros(30, bool))
    rows = replace(rows, reward=np.ones(30, np.float32))
    held, card = build(rows, LinearSystem(), "digest", heldout=0.99, view="episodes")
    assert (card["heldout_episodes"], card["train_episodes"]) == (2, 1)  # one is always left to train on
    lengths = held.heldout.valid.sum(1)
    longest = held.heldout.valid.shape[1]
    assert sorted(lengths.tolist())[-1] == longest
    for episode, length in enumerate(lengths.tolist()):
        assert (held.heldout.obs[episode, length:] == held.heldout.obs[episode, length]).all()
        assert held.heldout.reward[episode].sum() == length
        assert held.heldout.terminated[episode].nonzero().flatten().tolist() == [length - 1]
        assert held.heldout_exact[episode].sum() == length


def test_a_single_stream_is_cut_at_a_step() -> None:
    rows = make_rows(np.zeros(50, bool), np.zeros(50, bool), stored=False)
    dataset, card = build(rows, LinearSystem(), "digest", heldout=0.1, view="episodes")
    assert card["episodes"] == 1
    assert card["unfinished_tail"] is True
    assert dataset.train.obs[:, 1].tolist() == list(range(44))  # row 44 leads into what is held out
    assert dataset.heldout.obs[0, :, 1].tolist() == list(range(45, 50))


class Clipped(LinearSystem):
    """The toy seen through a clip: velocities show as at most 1."""

    def observe(self, state: torch.Tensor) -> torch.Tensor:
        return torch.cat([state[..., :2], state[..., 2:].clamp(-1, 1)], -1)

    def restore(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return obs.double(), (obs[..., 2:].abs() < 1).all(-1)


def stored_state(qvel: np.ndarray, obs_velocity: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Held-out states of a stream of 20 rows, the last 10 of which are held out."""
    position = np.random.default_rng(0).normal(size=(20, 2))
    obs = np.concatenate([position, obs_velocity], 1).astype(np.float32)
    rows = replace(make_rows(np.zeros(20, bool), np.zeros(20, bool)), obs=obs, next_obs=obs, qpos=position, qvel=qvel)
    dataset, card = build(rows, Clipped(), "digest", heldout=0.5, view="episodes")
    return dataset.heldout_state[0], dataset.heldout_exact[0], card["inexact_state_share"]


def test_states_come_from_the_file_where_they_fit_the_observations() -> None:
    fast = np.full((20, 2), 3.0)
    slow = np.full((20, 2), 0.5)
    state, exact, inexact = stored_state(fast, fast.clip(-1, 1))
    assert (state[:, 2:] == 3).all()  # more than the observation shows
    assert exact.all()
    assert inexact == 0
    state, exact, inexact = stored_state(fast.clip(-1, 1), fast.clip(-1, 1))
    assert not exact.any()  # the file was completed from its clipped observations
    assert inexact == 1
    state, exact, _ = stored_state(fast, slow)
    assert (state[:, 2:] == 0.5).all()  # what is stored is another state: not believed
    assert exact.all()


def test_statistics_of_the_split() -> None:
    rows = example()
    dataset, card = build(rows, LinearSystem(), "digest", heldout=0.3, view="episodes")
    returns = [rows.reward[:5].sum(), rows.reward[5:9].sum()]  # the tail has not ended
    assert card["return_mean"] == pytest.approx(np.mean(returns))
    assert card["return_max"] == pytest.approx(np.max(returns))
    assert (card["terminals"], card["timeouts"], card["episodes"]) == (1, 1, 3)
    assert card["constant_dims"] == [2, 3]
    assert torch.allclose(dataset.obs_mean, dataset.train.obs.mean(0))
    assert dataset.obs_std[2] == 0
    assert dataset.sha256 == "digest"


@settings(max_examples=40, deadline=None)
@given(
    ends=st.lists(st.sampled_from(["", "", "", "terminal", "timeout"]), min_size=4, max_size=40),
    stored=st.booleans(),
    heldout=st.floats(0.01, 0.99),
    view=st.sampled_from(["episodes", "qlearning"]),
)
def test_build_partitions_the_rows(ends: list[str], stored: bool, heldout: float, view: str) -> None:
    """Each row trains, or is held out with its whole episode, or is counted as dropped."""
    flags = np.array(ends)
    rows = make_rows(flags == "terminal", flags == "timeout", stored=stored)
    try:
        dataset, card = build(rows, LinearSystem(), "digest", heldout=heldout, view=view)
    except DataError:
        return  # only episodes of one row whose successor is unknown
    train = set(dataset.train.obs[:, 1].int().tolist())
    held = set(dataset.heldout.obs[:, :-1, 1][dataset.heldout.valid].int().tolist())
    assert not train & held
    assert len(train) == card["train_rows"]
    assert len(held) == card["heldout_rows"]
    assert len(train) + len(held) + card["dropped_rows"] == len(flags)
    if stored and view == "episodes":
        assert card["dropped_rows"] == 0
    again, _ = build(rows, LinearSystem(), "digest", heldout=heldout, view=view)
    assert torch.equal(again.train.obs, dataset.train.obs)


@pytest.mark.parametrize("heldout", [0.0, 1.0, -0.1])
def test_heldout_out_of_range(heldout: float) -> None:
    with pytest.raises(SpecError, match=r"heldout must be above 0 and below 1 \(share of the episodes\), got"):
        build(example(), LinearSystem(), "digest", heldout=heldout, view="episodes")


def test_too_little_to_split() -> None:
    one = make_rows(np.ones(1, bool), np.zeros(1, bool))
    with pytest.raises(DataError, match="both to train on and to hold out, got 0 and 1"):
        build(one, LinearSystem(), "digest", heldout=0.1, view="episodes")


def test_checked_names_its_source() -> None:
    with pytest.raises(DataError, match=r"^minari/x: actions must be in \[-1, 1\]"):
        checked(arrays_of(example()) | {"actions": np.full((12, 2), 2.0)}, "minari/x")
