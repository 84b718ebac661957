"""Sound sets pass with a report, and every fault is refused by file, rule and row."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from core.errors import DataError
from core.files import sha256, write_json
from tasks import hdf5
from tasks.audit import broken_rules, examine
from tasks.base import DataOptions, load_task
from tasks.replay import TOLERANCE, replay
from tasks.rows import Rows, episodes
from tasks.simulators.locomotion import simulator
from tasks.sources import local
from tasks.sources.local import card

SMALL = DataOptions(dataset_rows=400)
NAME = "local/hopper-random"


@pytest.fixture
def path(hopper_set: Path) -> Path:
    return hopper_set


def rewrite(path: Path, change: Callable[[Rows], Rows]) -> None:
    """The file with other rows, and a card with its new checksum: only the rows themselves can be wrong."""
    content = card(path)
    hdf5.write(path, change(hdf5.read(path)))
    write_json(path.with_suffix(".json"), content | {"sha256": sha256(path)})


def altered(key: str, row: int | tuple[int, int], value: object) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        array = getattr(rows, key).copy()
        array[row] = value
        return replace(rows, **{key: array})

    return change


def inner(rows: Rows) -> int:
    """A row in the middle of an episode."""
    starts, stops = episodes(rows)
    longest = int((stops - starts).argmax())
    return int(starts[longest] + stops[longest]) // 2


def test_a_sound_set_passes_with_a_report(path: Path) -> None:
    report = examine(NAME, SMALL)
    assert (report["task"], report["rows"], report["sha256"]) == (NAME, 400, sha256(path))
    assert report["broken_rules"] == {}
    replay = report["replay"]
    assert (replay["rows"], replay["excluded"], replay["stuck"], replay["mismatches"]) == (400, 0, 0, 0)
    assert 0 < replay["next_obs"]["median"] < replay["next_obs"]["max"] < 10 * TOLERANCE
    assert replay["next_obs_in_std"]["max"] < 10 * TOLERANCE
    assert replay["reward"]["max"] < 10 * TOLERANCE
    rows = hdf5.read(path)
    starts, stops = episodes(rows)
    finished = stops[rows.terminal[stops - 1]]
    returns = [rows.reward[start:stop].sum(dtype=np.float64) for start, stop in zip(starts, finished, strict=False)]
    assert report["return_quantiles"]["0.5"] == pytest.approx(np.median(returns))
    assert report["length_mean"] == pytest.approx(finished[-1] / len(finished))
    assert report["inexact_obs_share"] == pytest.approx((np.abs(rows.obs[:, 5:]) >= 10).any(1).mean())


def test_a_flipped_byte_is_refused_and_nothing_is_remade(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=rf"{path.name}: sha256 must be the one on its card, \w+, got \w+"):
        examine(NAME, SMALL)
    assert path.read_bytes() == damaged


def test_other_types_and_shapes_are_refused(path: Path) -> None:
    content = card(path)
    with h5py.File(path, "r+") as file:
        rewards = file["rewards"][()].astype(np.float64)
        del file["rewards"]
        file["rewards"] = rewards
    write_json(path.with_suffix(".json"), content | {"sha256": sha256(path)})
    with pytest.raises(DataError, match=r"rewards must have dtype and shape \('float32', \(400,\)\), got \('float64'"):
        examine(NAME, SMALL)


def test_a_shifted_next_observation_is_refused(path: Path) -> None:
    row = inner(hdf5.read(path))
    rewrite(path, lambda rows: altered("next_obs", row, rows.next_obs[row - 1])(rows))  # type: ignore[index]
    rule = "next_observations must be the following row's observations"
    with pytest.raises(DataError, match=rf"{path.name}: {rule} within an episode; broken by 1 rows: {row}$"):
        examine(NAME, SMALL)


def test_a_terminal_without_a_fall_is_refused(path: Path) -> None:
    row = inner(hdf5.read(path))
    rewrite(path, altered("terminal", row, True))
    with pytest.raises(DataError, match=rf"a terminal must satisfy .* termination rule; broken by 1 rows: {row}$"):
        examine(NAME, SMALL)


def test_a_fall_without_a_terminal_is_refused(path: Path) -> None:
    row = int(np.flatnonzero(hdf5.read(path).terminal)[3])
    rewrite(path, lambda rows: altered("terminal", row, False)(altered("timeout", row, True)(rows)))
    with pytest.raises(DataError, match=rf"no terminal must not satisfy .*; broken by 1 rows: {row}$"):
        examine(NAME, SMALL)


def test_both_flags_on_one_row_are_refused(path: Path) -> None:
    row = int(np.flatnonzero(hdf5.read(path).terminal)[0])
    rewrite(path, altered("timeout", row, True))
    with pytest.raises(DataError, match=rf"must not both be set; broken by 1 rows: {row}$"):
        examine(NAME, SMALL)


def test_a_state_of_another_row_is_refused(path: Path) -> None:
    row = inner(hdf5.read(path))
    rewrite(path, lambda rows: altered("qpos", row, rows.qpos[row - 1])(rows))  # type: ignore[index]
    with pytest.raises(DataError, match=rf"qvel must look like observations; broken by 1 rows: {row}$"):
        examine(NAME, SMALL)


@pytest.mark.parametrize("key", ["action", "reward"])
def test_a_replay_finds_a_changed_action_or_reward(path: Path, key: str) -> None:
    row = inner(hdf5.read(path))
    rewrite(path, lambda rows: altered(key, row, getattr(rows, key)[row] * 0.999)(rows))
    with pytest.raises(
        DataError, match=rf"a replay must give terminal, next_obs and reward .* broken by 1 rows: {row}$"
    ):
        examine(NAME, SMALL)


def test_an_episode_beyond_the_horizon_is_a_broken_rule(path: Path) -> None:
    rows = hdf5.read(path)
    starts, stops = episodes(rows)
    longest = int((stops - starts).max())
    assert broken_rules(rows, simulator("Hopper-v4"), longest) == {}
    ((rule, first),) = broken_rules(rows, simulator("Hopper-v4"), longest - 1).items()
    assert rule == f"an episode must have at most {longest - 1} rows"
    assert first.tolist() == starts[stops - starts == longest].tolist()


def test_a_fall_that_clipping_hides_is_judged_by_the_state() -> None:
    """Hopper falls at a velocity of 100 too; the observation says 10, and only a step from the state knows."""
    world = simulator("Hopper-v4")
    state = torch.zeros(1, 12, dtype=torch.float64)
    state[:, 1] = 1.25
    state[:, -1] = -300.0
    action = torch.zeros(1, 3)
    after, reward, ended = world.step(state, action, None)
    obs, next_obs = (world.observe(x).float() for x in (state, after))
    assert ended.all()
    assert not world.terminated(obs, action, next_obs).any()
    flag = np.array([True])
    rows = Rows(
        obs.numpy(),
        action.numpy(),
        reward.float().numpy(),
        flag,
        ~flag,
        next_obs.numpy(),
        *np.split(state.numpy(), 2, 1),
    )
    assert broken_rules(rows, world, 1000) == {}
    assert replay(rows, world).wrong.tolist() == []
    assert replay(replace(rows, terminal=~flag), world).wrong.tolist() == [0]


def test_without_stored_states_clipped_rows_are_not_replayed(path: Path) -> None:
    clipped = altered("obs", (3, 10), 10.0)(hdf5.read(path))
    found = replay(replace(clipped, qpos=None, qvel=None), simulator("Hopper-v4"))
    report = found.report
    assert (report["rows"], report["excluded"]) == (399, 1)
    assert report["next_obs"]["median"] < 1e-4  # a state in float32, at x = 0
    assert len(found.wrong) == report["mismatches"]


def test_rows_without_a_next_observation_are_not_replayed(path: Path) -> None:
    rows = hdf5.read(path)
    report = replay(replace(rows, next_obs=None), simulator("Hopper-v4")).report
    assert report["excluded"] == len(episodes(rows)[1])


def test_a_replay_draws_the_same_rows_again(path: Path) -> None:
    rows = hdf5.read(path)
    report = replay(rows, simulator("Hopper-v4"), count=50).report
    assert report["rows"] == 50
    assert replay(rows, simulator("Hopper-v4"), count=50).report == report


@pytest.mark.parametrize("name", ["local/maze2d-umaze", "local/halfcheetah-random", "local/walker2d-medium"])
def test_other_local_sets_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_EPISODES", {"random policy": 2, "waypoint controller": 2})
    tiny = DataOptions(dataset_rows=100)
    load_task(name, tiny).rows()
    replay = examine(name, tiny)["replay"]
    assert (replay["rows"], replay["mismatches"]) == (100, 0)


def test_the_toys_noise_is_reported_and_no_error() -> None:
    report = examine("toy/linear", SMALL)
    assert report["broken_rules"] == {}
    assert report["replay"]["reward"]["max"] < 1e-6  # of the state before the noise
    assert 0.005 < report["replay"]["next_obs"]["median"] < 0.03  # largest of four dimensions with deviation 0.01


def test_a_users_d4rl_file_is_only_reported_on(path: Path, tmp_path: Path) -> None:
    """Another physics cannot be told from a tampered action there, and published files do break rules."""
    row = inner(hdf5.read(path))
    rows = altered("terminal", row, True)(altered("action", row, 0.0)(hdf5.read(path)))
    hdf5.write(tmp_path / "hopper-medium-v2.hdf5", rows)
    report = examine("d4rl/hopper-medium-v2", DataOptions(data_dir=tmp_path))
    rule = "a terminal must satisfy the environment's termination rule"
    assert report["broken_rules"] == {rule: {"rows": 1, "first": row}}
    assert report["replay"]["mismatches"] == 1
    assert report["replay"]["next_obs"]["max"] > 1e-3
