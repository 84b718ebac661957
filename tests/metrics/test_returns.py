"""Every part of the return gap on the linear system without noise, where one thing at a time is made wrong."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import inf

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from core.data import Trajectories
from core.random import Streams
from metrics.returns import ReturnGap, kept_and_dropped, rank_correlation, return_gap
from tasks.sources.toy import LinearSystem

SYSTEM = LinearSystem(noise=0.0)
STEPS = 12
ROWS = 40
PARTS = ("reward", "dynamics", "termination", "feedback", "unsplit")
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class World:
    """The linear system with an end: beyond `limit` on the first line."""

    limit: float = inf

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        after, reward, _ = SYSTEM.step(state, action, None)
        return after, reward, after[..., 0] > self.limit


def feedback(state: Tensor) -> Tensor:
    return (-state @ torch.from_numpy(SYSTEM.optimal_gain).T).clamp(-1, 1)


def idle(state: Tensor) -> Tensor:
    """A policy that looks at nothing."""
    return torch.full_like(state[..., :2], 0.3)


def starts(*, seeds: tuple[int, ...] = (0, 1)) -> Tensor:
    return SYSTEM.reset(ROWS, Streams(seeds, "start"))


def walk(step: Step, policy: Callable[[Tensor], Tensor], start: Tensor) -> Trajectories:
    obs = [start]
    action = list[Tensor]()
    reward = list[Tensor]()
    ended = list[Tensor]()
    for _ in range(STEPS):
        action.append(policy(obs[-1]))
        after, paid, end = step(obs[-1], action[-1])
        obs.append(after)
        reward.append(paid)
        ended.append(end)
    return Trajectories.until_terminated(*(torch.stack(x, 2) for x in (action, obs, reward, ended)))


def judged(
    world: World,
    generated: Trajectories,
    policy: Callable[[Tensor], Tensor],
    discount: float = 1.0,
    known: Tensor | None = None,
) -> ReturnGap:
    states = SYSTEM.replay(generated.obs[:, :, 0], generated.action)
    _, paid, ended = world.step(states[:, :, :-1], generated.action)
    before = ended.long().cumsum(-1) - ended.long() == 0
    replayed = Trajectories(generated.action, states, paid, ended, before)
    _, one_step, _ = world.step(generated.obs[:, :, :-1], generated.action)
    on_policy = walk(world.step, policy, generated.obs[:, :, 0])
    return return_gap(generated, replayed, on_policy, one_step, generated.valid if known is None else known, discount)


def assert_only(found: ReturnGap, **parts: Tensor | float) -> None:
    """The named parts, and every other one 0."""
    for name in PARTS:
        expected = torch.as_tensor(parts.get(name, 0.0), dtype=torch.float64).expand_as(found.gap)
        assert torch.allclose(getattr(found, name), expected, atol=1e-9), name


def total(found: ReturnGap) -> Tensor:
    return torch.stack([getattr(found, name) for name in PARTS]).sum(0)


@pytest.mark.parametrize("limit", [inf, 0.1])
def test_the_exact_simulator_has_no_gap_and_no_parts(limit: float) -> None:
    world = World(limit)
    found = judged(world, walk(world.step, feedback, starts()), feedback)
    assert_only(found)
    assert torch.equal(found.generated, found.on_policy)
    assert torch.allclose(found.replayed, found.on_policy)
    assert found.used.tolist() == [1, 1]


def test_a_reward_that_is_too_high_is_a_matter_of_reward_alone() -> None:
    world = World()

    def praised(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        after, reward, ended = world.step(state, action)
        return after, reward + 0.25, ended

    assert_only(judged(world, walk(praised, feedback, starts()), feedback), reward=0.25 * torch.arange(1, STEPS + 1))


def test_wrong_states_under_fixed_actions_change_dynamics_alone() -> None:
    """From rest without a push, the true cart stays at x and the generated one is at x + p t: r = 1 - x^2."""
    world = World()
    shift = 0.1

    def drifting(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        after, reward, ended = world.step(state, action)
        return after + shift * torch.eye(4, dtype=torch.float64)[0], reward, ended

    start = torch.zeros(2, ROWS, 4, dtype=torch.float64)
    start[..., 0] = 0.5
    found = judged(world, walk(drifting, lambda s: torch.zeros_like(s[..., :2]), start), lambda s: 0 * s[..., :2])
    expected = (0.5**2 - (0.5 + shift * torch.arange(STEPS).double()) ** 2).cumsum(0)
    assert_only(found, dynamics=expected)


def test_actions_of_another_policy_change_feedback_alone() -> None:
    world = World()
    generated = walk(world.step, idle, starts())
    found = judged(world, generated, feedback)
    on_policy = walk(world.step, feedback, starts())
    assert_only(found, feedback=(generated.reward - on_policy.reward).mean(1).cumsum(-1))


def test_steps_after_the_true_end_change_termination_alone() -> None:
    generated = walk(World().step, idle, starts())
    world = World(limit=0.1)
    found = judged(world, generated, idle)
    on_policy = walk(world.step, idle, starts())
    assert 0 < on_policy.valid.double().mean() < 1
    assert_only(found, termination=(generated.reward.where(~on_policy.valid, 0.0)).mean(1).cumsum(-1))


def test_steps_missed_after_a_false_end_change_termination_alone() -> None:
    world = World()
    on_policy = walk(World().step, idle, starts())
    generated = walk(World(limit=0.1).step, idle, starts())
    expected = -on_policy.reward.where(~generated.valid, 0.0).mean(1).cumsum(-1)
    assert_only(judged(world, generated, idle), termination=expected)
    # what a generator writes behind its own end is nobody's action
    generated.action[~generated.valid] = -1.0
    assert_only(judged(world, generated, idle), termination=expected)


def test_an_end_that_the_replay_confirms_is_no_termination_error() -> None:
    """The policy that sees would have gone on: that is a matter of feedback."""
    world = World(limit=0.1)
    generated = walk(world.step, idle, starts())
    on_policy = walk(world.step, feedback, starts())
    counted = [x.reward.where(x.valid, 0.0).mean(1).cumsum(-1) for x in (generated, on_policy)]
    assert_only(judged(world, generated, feedback), feedback=counted[0] - counted[1])


def test_where_no_true_step_can_start_parts_stay_together() -> None:
    world = World()

    def wrong(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        after, reward, ended = world.step(state, action)
        return 1.1 * after, reward + 0.25, ended

    generated = walk(wrong, idle, starts())
    known = torch.arange(ROWS)[:, None].expand(2, -1, STEPS) % 2 == 0
    whole = judged(world, generated, idle)
    part = judged(world, generated, idle, known=known)
    assert torch.allclose(part.unsplit + part.reward + part.dynamics, whole.reward + whole.dynamics)
    assert torch.allclose(part.reward, whole.reward / 2)
    assert (part.unsplit.abs() > 0.1).any()


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_parts_add_up_whatever_the_masks(discount: float) -> None:
    rng = Streams((0, 1), "any")
    generated, replayed, on_policy = (rollouts(rng.fork(name)) for name in ("generated", "replayed", "on_policy"))
    one_step = rng.normal(ROWS, STEPS)
    known = rng.uniform(ROWS, STEPS) < 0.7
    one_step[:, :3] = torch.nan  # the simulator gave up on the generated state
    found = return_gap(generated, replayed, on_policy, one_step, known, discount)
    weight = discount ** torch.arange(STEPS).double()
    sums = [(weight * x.reward.double().where(x.valid, 0.0).mean(1)).cumsum(-1) for x in (generated, on_policy)]
    assert torch.allclose(found.generated, sums[0])
    assert torch.allclose(found.on_policy, sums[1])
    assert torch.allclose(total(found), found.gap, atol=1e-12, rtol=0)
    assert all(getattr(found, name).abs().sum() > 0 for name in PARTS)


def rollouts(rng: Streams) -> Trajectories:
    """Rewards at every step, ends anywhere; the true simulator goes on past its end, so nothing is blanked."""
    obs = rng.normal(ROWS, STEPS + 1, 4)
    ended = rng.uniform(ROWS, STEPS) < 0.15
    valid = ended.long().cumsum(-1) - ended.long() == 0
    return Trajectories(rng.normal(ROWS, STEPS, 2), obs, rng.normal(ROWS, STEPS), ended, valid)


def test_what_does_not_count_may_hold_anything() -> None:
    rng = Streams((0, 1), "any")
    generated, replayed, on_policy = (rollouts(rng.fork(name)) for name in ("generated", "replayed", "on_policy"))
    one_step = rng.normal(ROWS, STEPS)
    known = torch.ones(2, ROWS, STEPS, dtype=torch.bool)
    clean = return_gap(generated, replayed, on_policy, one_step, known)
    generated.reward[~generated.valid] = torch.nan
    on_policy.reward[~on_policy.valid] = torch.nan
    replayed.reward[~generated.valid] = torch.nan
    one_step[~generated.valid] = torch.nan
    dirty = return_gap(generated, replayed, on_policy, one_step, known)
    assert all(torch.equal(getattr(clean, entry.name), getattr(dirty, entry.name)) for entry in fields(clean))


def test_rollouts_without_valid_step_or_true_reward_do_not_count() -> None:
    world = World()
    start = starts()
    generated = walk(world.step, idle, start)
    generated.valid[:, :10] = False  # for instance filtered out
    kept = judged(world, generated, feedback)
    alone = judged(world, generated.map(lambda x: x[:, 10:]), feedback)
    assert torch.allclose(kept.gap, alone.gap)
    assert kept.used.tolist() == [1, 1]
    generated.action[:, 10:25, 3] = torch.nan  # the simulator gives up
    part = judged(world, generated, feedback)
    rest = judged(world, generated.map(lambda x: x[:, 25:]), feedback)
    assert torch.allclose(part.feedback, rest.feedback)
    assert part.used.tolist() == [0.5, 0.5]


def test_single_transitions_are_compared_over_one_step() -> None:
    """Some of them end; the others, of which nobody knows how they go on, make no false end."""
    world = World(limit=0.1)
    whole = walk(world.step, feedback, starts())
    single = replace(whole, valid=whole.valid & (torch.arange(STEPS) == 0))
    assert single.terminated[:, :, 0].any()
    assert whole.valid[:, :, 1].any()
    found, all_steps = (judged(world, x, feedback) for x in (single, whole))
    for entry in fields(found):
        part, full = (getattr(x, entry.name) for x in (found, all_steps))
        if part.ndim == 2:
            assert torch.allclose(part[:, 0], full[:, 0], atol=1e-12), entry.name
            assert part[:, 1:].isnan().all(), entry.name


def test_a_rollout_that_is_cut_off_takes_nothing_from_others() -> None:
    world = World()
    generated = walk(world.step, idle, starts())
    cut = replace(generated, valid=generated.valid.clone())
    cut.valid[:, 3, 4:] = False
    found = judged(world, cut, feedback)
    others = judged(world, generated.map(lambda x: x[:, torch.arange(ROWS) != 3]), feedback)
    assert_only(found, feedback=found.gap)
    steps = [x.gap.diff(dim=-1)[:, 3:] for x in (found, others)]
    assert torch.allclose(*steps)


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_error_of_the_gap_is_that_of_a_mean(discount: float) -> None:
    rng = Streams((0, 1), "any")
    generated, replayed, on_policy = (rollouts(rng.fork(name)) for name in ("generated", "replayed", "on_policy"))
    one_step = rng.normal(ROWS, STEPS)
    known = rng.uniform(ROWS, STEPS) < 0.7
    found = return_gap(generated, replayed, on_policy, one_step, known, discount)
    weight = discount ** torch.arange(STEPS).double()
    gap = generated.reward.where(generated.valid, 0.0) - on_policy.reward.where(on_policy.valid, 0.0)
    over = (generated.reward - one_step).where(generated.valid & known, 0.0)
    for error, each in ((found.gap_error, gap), (found.rest_error, gap - over)):
        assert torch.allclose(error, (weight * each.double()).cumsum(-1).std(1) / ROWS**0.5)


def test_no_rollout_is_nan_not_zero() -> None:
    generated = walk(World().step, idle, starts())
    generated.valid[1] = False
    found = judged(World(), generated, idle)
    assert found.gap[0].isfinite().all()
    assert found.gap[1].isnan().all()
    assert total(found)[1].isnan().all()


def test_a_seed_is_alone_in_its_numbers() -> None:
    def wrong(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        after, reward, ended = World(limit=0.2).step(state, action)
        return 1.1 * after, 2 * reward, ended

    both, one = (judged(World(0.1), walk(wrong, idle, starts(seeds=seeds)), feedback, 0.99) for seeds in ((0, 1), (1,)))
    assert all(torch.allclose(getattr(both, x.name)[1:], getattr(one, x.name), rtol=1e-12) for x in fields(both))


def test_kept_and_dropped_rollouts() -> None:
    generated = torch.tensor([[5.0, 4.0, 3.0, 2.0, 9.0, 9.0]])
    true = torch.tensor([[1.0, 3.0, 2.0, 0.0, 9.0, torch.nan]])
    kept = torch.tensor([[True, True, False, False, True, True]])
    valid = torch.tensor([[True, True, True, True, False, True]])
    found = kept_and_dropped(generated, true, kept, valid)
    assert [getattr(found, x.name).item() for x in fields(found)] == pytest.approx([4.5, 2.5, 2.0, 1.0, 0.4])
    none = kept_and_dropped(generated, true, torch.ones_like(kept), valid)
    assert none.true_dropped.isnan()
    assert none.generated_dropped.isnan()
    assert none.true_kept.item() == 1.5


def test_rank_correlation_is_spearmans_with_ties_and_masks() -> None:
    rng = Streams((0, 1, 2))
    x = (3 * rng.normal(50)).round()
    y = rng.normal(50)
    valid = rng.uniform(50) < 0.8
    y = (y + x).round()
    expected = [spearmanr(a[on], b[on]).statistic for a, b, on in zip(x, y, valid, strict=True)]
    assert rank_correlation(x, y, valid).tolist() == pytest.approx(expected)
    wild = x.masked_fill(~valid, torch.nan)
    assert torch.equal(rank_correlation(wild, y, valid), rank_correlation(x, y, valid))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_no_spread_has_no_rank_correlation(rows: int) -> None:
    valid = (torch.arange(4) < rows)[None]
    assert rank_correlation(torch.ones(1, 4), torch.arange(4.0)[None], valid).isnan().all()
