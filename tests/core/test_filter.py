"""The filter: limits of the temperature, exact counts, and what the released code's softmax really does."""

from typing import get_args

import pytest
import torch

from core.data import Trajectories
from core.filter import Filter, Mode, keep_best, keep_rate, rollout_score
from core.random import Streams

CHOOSING: list[Mode] = [mode for mode in get_args(Mode) if mode != "none"]


def test_scores_are_discounted_and_stop_at_the_end() -> None:
    reward = torch.tensor([[[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]])
    valid = torch.tensor([[[True, True, True], [True, True, False]]])
    assert torch.allclose(rollout_score(reward, valid, 0.5), torch.tensor([[3.0, 2.0]]))
    assert torch.allclose(rollout_score(reward, valid, 1.0, masked=False), torch.tensor([[7.0, 7.0]]))
    wild = reward.masked_fill(~valid, torch.nan)
    assert torch.equal(rollout_score(wild, valid), rollout_score(reward, valid))


@pytest.mark.parametrize("mode", CHOOSING)
@pytest.mark.parametrize(("share", "rows", "count"), [(0.6, 2048, 1228), (0.29, 100, 29), (1.0, 7, 7), (0.1, 5, 1)])
def test_the_count_is_exact(mode: Mode, share: float, rows: int, count: int) -> None:
    kept = keep_best(Streams((0, 1)).normal(rows), share, mode, Streams((0, 1)))
    assert kept.sum(-1).tolist() == [count, count]


def test_hardmax_keeps_the_highest_and_of_equals_the_first() -> None:
    score = torch.tensor([[0.0, 3.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    assert keep_best(score, 0.5, "hardmax", Streams((0, 1))).tolist() == [
        [False, True, False, True],
        [True, True, False, False],
    ]
    assert keep_best(score, 0.5, "none", Streams((0, 1))).all()


def test_a_cold_softmax_is_hardmax() -> None:
    score = Streams((0, 1)).normal(500)
    hard = keep_best(score, 0.6, "hardmax", Streams((0, 1)))
    assert torch.equal(keep_best(score, 0.6, "softmax", Streams((0, 1)), temperature=1e-9), hard)


@pytest.mark.parametrize("mode", ["softmax", "softmax_floor"])
def test_a_hot_softmax_is_uniform(mode: Mode) -> None:
    seeds = tuple(range(200))
    score = Streams(seeds).normal(1000)
    rates = keep_rate(score, keep_best(score, 0.6, mode, Streams(seeds, "keep"), temperature=1e9)).mean(0)
    assert ((rates - 0.6).abs() < 0.02).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("softmax_floor", [0.68, 0.58, 0.60, 0.58, 0.60, 0.61, 0.58, 0.59, 0.60, 0.57]),
        ("softmax", [1, 1, 1, 1, 1, 0.91, 0.09, 0, 0, 0]),
        ("hardmax", [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]),
    ],
)
def test_keep_rates_of_bell_shaped_scores(mode: Mode, expected: list[float]) -> None:
    """methods.md 5.4: 2048 rollouts, eta 0.6, tau 0.05. Its rows are one draw: a standard error of 0.03 per decile."""
    seeds = tuple(range(40))
    score = Streams(seeds).normal(2048)
    rates = keep_rate(score, keep_best(score, 0.6, mode, Streams(seeds, "keep"), temperature=0.05)).mean(0)
    assert ((rates - torch.tensor(expected)).abs() < 0.06).all()
    assert rates.mean().item() == pytest.approx(0.6, abs=0.002)
    if mode == "softmax_floor":  # practically no filter
        assert rates[0] > 0.61
        assert ((rates[1:] - rates[1:].mean()).abs() < 0.02).all()


def test_draws_have_the_probabilities_of_the_softmax() -> None:
    """One of three: p ~ exp(z / tau), z standardised."""
    seeds = tuple(range(20_000))
    score = torch.tensor([0.0, 1.0, 5.0])
    z = (score - score.mean()) / score.std(correction=0)
    kept = keep_best(score.expand(len(seeds), 3), 0.34, "softmax", Streams(seeds), temperature=1.5)
    assert torch.allclose(kept.float().mean(0), (z / 1.5).softmax(0), atol=0.015)


@pytest.mark.parametrize("mode", CHOOSING)
def test_seeds_do_not_touch(mode: Mode) -> None:
    score = Streams((0, 1, 2)).normal(300) * torch.tensor([[1.0], [50.0], [1e-3]])
    together = keep_best(score, 0.3, mode, Streams((0, 1, 2)), temperature=0.7)
    assert torch.equal(keep_best(score[1:2], 0.3, mode, Streams((1,)), temperature=0.7)[0], together[1])
    assert not torch.equal(together[0], together[1])


def test_keep_rate_sorts_by_score() -> None:
    score = torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    kept = torch.tensor([[True, False, True, True]])
    assert keep_rate(score, kept, bins=2).tolist() == [[1.0, 0.5]]


def test_a_filter_masks_whole_rollouts() -> None:
    reward = torch.tensor([[[1.0, 1.0], [2.0, 9.0], [1.5, 1.0]]])
    valid = torch.tensor([[[True, True], [True, False], [True, True]]])
    made = Trajectories(torch.zeros(1, 3, 2, 1), torch.zeros(1, 3, 3, 1), reward, torch.zeros_like(valid), valid)
    kept = Filter(mode="hardmax", share=0.4, discount=1.0).apply(made, Streams((0,)))
    assert kept.valid.tolist() == [[[False, False], [False, False], [True, True]]]
    careless = Filter(mode="hardmax", share=0.4, discount=1.0, masked=False).apply(made, Streams((0,)))
    assert careless.valid.tolist() == [[[False, False], [True, False], [False, False]]]
    assert torch.equal(Filter().apply(made, Streams((0,))).valid, valid)


def wander(seeds: tuple[int, ...] = (0, 1), rollouts: int = 100, length: int = 8) -> tuple[torch.Tensor, ...]:
    """Rewards, and where a rule that ends a tenth of the steps cuts the rollouts."""
    reward = Streams(seeds, "reward").normal(rollouts, length) - 2
    return reward, Streams(seeds, "ended").uniform(rollouts, length) < 0.1


def cut(reward: torch.Tensor, ended: torch.Tensor) -> Trajectories:
    seeds, rollouts, length = reward.shape
    return Trajectories.until_terminated(
        torch.zeros(seeds, rollouts, length, 1), torch.zeros(seeds, rollouts, length + 1, 1), reward, ended
    )


def test_rewards_behind_the_end_count_for_an_unmasked_filter() -> None:
    """DyDiff's code sums over all steps (methods.md, D5)."""
    reward, ended = wander()
    made = cut(reward, ended)
    best = reward.sum(-1).argsort(descending=True)[:, :60]
    careless = Filter(mode="hardmax", discount=1.0, masked=False).apply(made, Streams((0, 1)))
    expected = torch.zeros(2, 100, dtype=torch.bool).scatter_(1, best, True)
    assert torch.equal(careless.valid, made.valid & expected[..., None])
    masked = Filter(mode="hardmax", discount=1.0).apply(made, Streams((0, 1)))
    assert not torch.equal(careless.valid, masked.valid)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("mode", CHOOSING)
def test_one_reward_that_is_not_finite_moves_no_other_rollout(mode: Mode, masked: bool) -> None:
    """The bad rollout ranks last; the others are chosen as if it had been the worst of all from the start."""
    reward, ended = wander()
    wild = reward.clone()
    wild[0, 57, 3] = torch.nan
    ended[0, 57] = False
    score = rollout_score(*(cut(wild, ended).finite().reward, cut(wild, ended).finite().valid), masked=masked)
    kept = keep_best(score, 0.6, mode, Streams((0, 1)))
    rank = reward[0].where(cut(reward, ended).valid[0], 0.0).sum(-1).argsort(descending=True).argsort().float()
    assert kept.sum(-1).tolist() == [60, 60]
    if mode != "softmax_floor":  # that one is all but uniform
        assert rank[kept[0]].mean() < 40
    assert not kept[0, 57] or masked
    fine = rollout_score(cut(reward, ended).reward, cut(reward, ended).valid, masked=masked)
    assert torch.equal(kept[1], keep_best(fine, 0.6, mode, Streams((0, 1)))[1])


@pytest.mark.parametrize("mode", CHOOSING)
def test_a_rollout_without_a_valid_step_ranks_last(mode: Mode) -> None:
    """Its sum is 0, the best where rewards are negative."""
    reward, ended = wander()
    made = cut(reward - 5, ended)
    empty = torch.arange(100) < 40
    made = Trajectories(made.action, made.obs, made.reward, made.terminated, made.valid & ~empty[:, None])
    kept = Filter(mode=mode).apply(made, Streams((0, 1)))
    assert kept.valid[..., 0].sum(-1).tolist() == [60, 60]


@pytest.mark.parametrize("mode", CHOOSING)
def test_nothing_usable_is_no_error(mode: Mode) -> None:
    score = torch.full((1, 5), -torch.inf)
    assert keep_best(score, 0.6, mode, Streams((0,))).sum() == 3


def test_more_streams_than_scores_is_an_error_of_shapes() -> None:
    with pytest.raises(RuntimeError):
        keep_best(torch.zeros(2, 5), 0.5, "softmax", Streams((0, 1, 2)))
