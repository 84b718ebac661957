"""Episodes are held out whole, transitions never lead across a reset, and states come from where they are exact."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data import Dataset
from core.errors import DataError, SpecError
from tasks.rows import Rows
from tasks.sources.toy import LinearSystem
from tasks.split import View, build, qlearning

MakeRows = Callable[..., Rows]


def test_qlearning_example(rows: Rows) -> None:
    """The figures measured with d4rl itself: rows 4 and 11 go."""
    assert qlearning(rows).obs[:, 1].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    with_ends = qlearning(rows, terminate_on_end=True)
    assert with_ends.obs[:, 1].tolist() == list(range(11))
    assert with_ends.next_obs[:, 1].tolist() == list(range(1, 12))
    assert with_ends.terminated.nonzero().flatten().tolist() == [8]


@pytest.mark.parametrize("stored", [True, False])
def test_no_row_points_at_the_next_episodes_reset(rows: Rows, stored: bool) -> None:
    rows = rows if stored else replace(rows, next_obs=None)
    dataset, card = build(rows, LinearSystem(), "digest", heldout=0.3, view="episodes")
    step = dataset.train.next_obs - dataset.train.obs
    assert (step[:, 0] == 1).all()
    heldout = dataset.heldout
    assert ((heldout.obs[:, 1:, 0] - heldout.obs[:, :-1, 0])[heldout.valid] == 1).all()
    assert card["dropped_rows"] == (0 if stored else 3)
    assert card["train_rows"] + card["heldout_rows"] == (12 if stored else 9)


def test_qlearning_view_is_qlearning_of_the_training_episodes(rows: Rows) -> None:
    dataset, card = build(rows, LinearSystem(), "digest", heldout=0.3, view="qlearning")
    held = dataset.heldout.obs[0, dataset.heldout.valid[0].nonzero().flatten(), 1]
    everything = qlearning(rows)
    kept = ~torch.isin(everything.obs[:, 1], held)
    assert torch.equal(dataset.train.next_obs, everything.next_obs[kept])
    assert card["train_rows"] == int(kept.sum())


def test_padding_repeats_the_end_and_counts_for_nothing(make_rows: MakeRows) -> None:
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


def test_a_single_stream_is_cut_at_a_step(make_rows: MakeRows) -> None:
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


FAST = np.full((20, 2), 3.0)
SLOW = np.full((20, 2), 0.5)
SHOWN = FAST.clip(-1, 1)


@pytest.fixture
def heldout_state(make_rows: MakeRows) -> Callable[..., tuple[torch.Tensor, torch.Tensor, float]]:
    """Held-out states of 20 rows in one stream, the last 10 held out: (states, exact, share that is not)."""

    def cut(qvel: np.ndarray, seen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, float]:
        position = np.random.default_rng(0).normal(size=(20, 2))
        obs = np.concatenate([position, seen], 1).astype(np.float32)
        stream = make_rows(np.zeros(20, bool), np.zeros(20, bool))
        rows = replace(stream, obs=obs, next_obs=obs, qpos=position, qvel=qvel)
        dataset, card = build(rows, Clipped(), "digest", heldout=0.5, view="episodes")
        return dataset.heldout_state[0], dataset.heldout_exact[0], card["inexact_state_share"]

    return cut


def test_stored_states_are_kept_where_observations_lost_them(make_rows: MakeRows) -> None:
    """Rows 3, 7 and 16 were clipped; of row 7 the file has no more than the observation shows. 16 is held out."""
    stream = make_rows(np.zeros(20, bool), np.zeros(20, bool))
    position = np.random.default_rng(0).normal(size=(20, 2))
    velocity = SLOW.copy()
    velocity[[3, 16]] = 3.0
    velocity[7] = 1.0
    obs = np.concatenate([position, velocity.clip(-1, 1)], 1).astype(np.float32)
    rows = replace(stream, obs=obs, next_obs=obs, qpos=position, qvel=velocity)
    dataset, _ = build(rows, Clipped(), "digest", heldout=0.5, view="episodes")
    assert torch.equal(dataset.recorded_obs, torch.from_numpy(obs[[3, 16]]))
    assert torch.equal(dataset.recorded_state, torch.from_numpy(np.concatenate([position, velocity], 1)[[3, 16]]))
    bare, _ = build(replace(rows, qpos=None, qvel=None), Clipped(), "digest", heldout=0.5, view="episodes")
    assert len(bare.recorded_obs) == len(bare.recorded_state) == 0


HeldoutState = Callable[[np.ndarray, np.ndarray], tuple[torch.Tensor, torch.Tensor, float]]


def test_a_stored_state_says_more_than_its_clipped_observation(heldout_state: HeldoutState) -> None:
    state, exact, inexact = heldout_state(FAST, SHOWN)
    assert (state[:, 2:] == 3).all()
    assert exact.all()
    assert inexact == 0


def test_states_completed_from_clipped_observations_are_inexact(heldout_state: HeldoutState) -> None:
    _, exact, inexact = heldout_state(SHOWN, SHOWN)
    assert not exact.any()
    assert inexact == 1


def test_a_stored_state_unlike_its_observation_is_not_used(heldout_state: HeldoutState) -> None:
    """All of them are: the file speaks of something else. `test_replay` has one among many."""
    state, exact, _ = heldout_state(FAST, SLOW)
    assert (state[:, 2:] == 0.5).all()
    assert exact.all()


def test_the_card_holds_statistics_of_the_split(rows: Rows) -> None:
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
def test_build_partitions_the_rows(
    make_rows: MakeRows, ends: list[str], stored: bool, heldout: float, view: str
) -> None:
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


@settings(max_examples=60, deadline=None)
@given(
    ends=st.lists(st.sampled_from(["", "", "", "terminal", "timeout"]), min_size=20, max_size=60),
    stored=st.booleans(),
    heldout=st.floats(0.01, 0.6),
    view=st.sampled_from(["episodes", "qlearning"]),
    shares=st.tuples(st.floats(0.2, 1), st.floats(0.2, 1)),
)
def test_smaller_training_sets_are_parts_of_larger_ones(
    make_rows: MakeRows, ends: list[str], stored: bool, heldout: float, view: View, shares: tuple[float, float]
) -> None:
    """Whole episodes as they were, at most as many rows as asked for; what is held out does not move."""
    flags = np.array(ends)
    rows = make_rows(flags == "terminal", flags == "timeout", stored=stored)

    def cut(train_rows: int | None) -> tuple[Dataset, dict[str, Any]]:
        return build(rows, LinearSystem(), "digest", heldout=heldout, view=view, train_rows=train_rows)

    try:
        (full, card) = cut(None)
        sizes = [max(1, round(share * card["train_rows"])) for share in sorted(shares)]
        (small, part), (large, _) = map(cut, sizes)
    except (DataError, SpecError):  # no rows to train on, or the first episode has more than the smaller size
        return
    found = [
        dict(zip(data.train.obs[:, 1].tolist(), data.episode.tolist(), strict=True)) for data in (small, large, full)
    ]
    assert found[0].items() <= found[1].items() <= found[2].items()
    assert len(found[0]) == part["train_rows"] <= sizes[0]
    for chosen in found[:2]:
        assert [x for x in found[2].items() if x[1] in chosen.values()] == list(chosen.items())
    assert part["left_out_rows"] == card["train_rows"] - part["train_rows"]
    assert part["dropped_rows"] == card["dropped_rows"]
    for name, value in (vars(full.heldout) | {"state": full.heldout_state, "exact": full.heldout_exact}).items():
        same = (vars(small.heldout) | {"state": small.heldout_state, "exact": small.heldout_exact})[name]
        assert torch.equal(value, same) if name != "info" else not same, name


def test_training_episodes_are_kept_while_they_fit(make_rows: MakeRows) -> None:
    """Nine episodes of 10 rows are left to train on."""
    rows = make_rows(np.zeros(100, bool), np.arange(1, 101) % 10 == 0)
    cards = {}
    for size in (10, 19, 20, 89, 90):
        data, cards[size] = build(rows, LinearSystem(), "digest", heldout=0.1, view="episodes", train_rows=size)
        assert torch.allclose(data.obs_mean, data.train.obs.mean(0))
        assert data.sha256 == "digest"
    kept = [(card["train_episodes"], card["train_rows"], card["left_out_rows"]) for card in cards.values()]
    assert kept == [(1, 10, 80), (1, 10, 80), (2, 20, 70), (8, 80, 10), (9, 90, 0)]
    sets = [build(rows, LinearSystem(), "", heldout=0.1, view="episodes", train_rows=size)[0] for size in (10, 20, 30)]
    small, middle, large = (set(data.episode.tolist()) for data in sets)
    assert small < middle < large
    assert large != {0, 1, 2}  # the first in a random order, not in the file's


@pytest.mark.parametrize(
    ("train_rows", "message"),
    [
        (9, "train_rows must be at least 10, the rows of the first kept episode of digest, got 9"),
        (91, "train_rows must be at most 90, the training rows of digest, got 91"),
    ],
)
def test_sizes_that_cannot_be_kept_are_refused(make_rows: MakeRows, train_rows: int, message: str) -> None:
    rows = make_rows(np.zeros(100, bool), np.arange(1, 101) % 10 == 0)
    with pytest.raises(SpecError, match=message):
        build(rows, LinearSystem(), "digest", heldout=0.1, view="episodes", train_rows=train_rows)


@pytest.mark.parametrize("heldout", [0.0, 1.0, -0.1])
def test_a_share_out_of_range_is_refused(rows: Rows, heldout: float) -> None:
    with pytest.raises(SpecError, match=r"heldout must be above 0 and below 1 \(share of the episodes\), got"):
        build(rows, LinearSystem(), "digest", heldout=heldout, view="episodes")


def test_too_few_rows_are_refused(make_rows: MakeRows) -> None:
    one = make_rows(np.ones(1, bool), np.zeros(1, bool))
    with pytest.raises(DataError, match="both to train on and to hold out, got 0 and 1"):
        build(one, LinearSystem(), "digest", heldout=0.1, view="episodes")
