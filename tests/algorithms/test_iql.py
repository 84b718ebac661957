"""IQL against its equations."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from algorithms.iql import IQL, expectile_loss
from core.data import Batch, Dataset
from core.errors import DataError
from core.random import Streams

SEEDS = (0, 1)
PLAIN = IQL(hidden=(8, 8), decay_updates=None)


def start(config: IQL, data: Dataset, hand: SimpleNamespace) -> Any:
    """A state in float64 whose target differs from the critics and whose deviations differ from one."""
    state = config.init(data, Streams(SEEDS))
    state.target_critic = config.init(data, Streams(SEEDS, "other")).target_critic
    if config.actor == "gaussian":
        state.actor.free_log_std.data += torch.tensor([[[0.2, -0.5]], [[-1.0, 0.1]]])
    return hand.double(state)


class ByHand:
    """One seed of IQL: three networks, their optimisers, and the formulas of the paper."""

    def __init__(self, config: IQL, state: Any, seed: int, hand: SimpleNamespace) -> None:
        self.config = config
        self.hand = hand
        self.critics = [hand.weights(state.critic, (seed, i)) for i in (0, 1)]
        self.targets = [hand.weights(state.target_critic, (seed, i)) for i in (0, 1)]
        self.value = hand.weights(state.value, seed)
        self.actor = hand.weights(state.actor.net, seed)
        self.log_std = [state.actor.free_log_std[seed].detach().numpy().copy()] if config.actor == "gaussian" else []
        self.adams = [hand.adam(3e-4) for _ in range(4)]

    def update(self, obs: Any, action: Any, reward: Any, next_obs: Any, ends: Any, regressed: int, rate: float) -> None:
        config = self.config
        forward = self.hand.forward
        backward = self.hand.backward
        size = len(obs)
        both = np.concatenate([obs, action], 1)
        value, value_trace = forward(self.value, obs)
        target = reward + 0.99 * np.where(ends, 0, forward(self.value, next_obs)[0][:, 0])
        u = np.minimum(*(forward(critic, both)[0][:, 0] for critic in self.targets)) - value[:, 0]
        slope = -2 * np.abs(config.expectile - (u < 0)) * u / size
        gradients = [backward(self.value, value_trace, slope[:, None])[0]]
        for critic in self.critics:
            q, trace = forward(critic, both)
            gradients.append(backward(critic, trace, 2 * (q - target[:, None]) / (2 * size))[0])
        weight = (
            np.minimum(np.exp(config.temperature * u), config.weight_limit)[:, None]
            * (np.arange(size) < regressed)[:, None]
        )
        raw, trace = forward(self.actor, obs)
        mean = np.tanh(raw)
        if config.actor == "gaussian":
            variance = np.exp(2 * self.log_std[0])
            by_mean = weight * (mean - action) / variance / regressed
            by_log_std = (weight * (1 - (mean - action) ** 2 / variance) / regressed).sum(0, keepdims=True)
        else:
            by_mean = weight * 2 * (mean - action) / regressed
            by_log_std = None
        actor_gradient = backward(self.actor, trace, by_mean * (1 - mean**2))[0]
        parts = [self.value, *self.critics, [*self.actor, *self.log_std]]
        gradients.append(actor_gradient + ([] if by_log_std is None else [by_log_std]))
        self.adams[3].rate = rate
        for adam, part, gradient in zip(self.adams, parts, gradients, strict=True):
            adam.step(part, gradient)
        for target_part, part in zip(self.targets, self.critics, strict=True):
            for old, new in zip(target_part, part, strict=True):
                old += 0.005 * (new - old)


@pytest.mark.parametrize("behaviour_rows", [3, 5])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"actor": "deterministic", "expectile": 0.9},
        {"temperature": 40.0, "weight_limit": 2.0},
        {"decay_updates": 4},
    ],
    ids=str,
)
def test_updates_are_those_of_an_independent_computation(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace, change: dict[str, Any], behaviour_rows: int
) -> None:
    """Three whole updates: forward, backward, Adam and targets, in float64 by hand."""
    config = replace(PLAIN, **change)
    state = start(config, toy, hand)
    expected = [ByHand(config, state, seed, hand) for seed in range(2)]
    for number in range(3):
        rows = draw(number, behaviour_rows=behaviour_rows)
        config.update(state, rows, Streams(SEEDS))
        rate = 3e-4 * (1 if config.decay_updates is None else (1 + np.cos(np.pi * number / 4)) / 2)
        for seed in range(2):
            obs = hand.normal(toy, rows.obs[seed])
            next_obs = hand.normal(toy, rows.next_obs[seed])
            other = (rows.action[seed].numpy(), rows.reward[seed].numpy(), next_obs, rows.terminated[seed].numpy())
            expected[seed].update(obs, *other, behaviour_rows, rate)
    for seed, oracle in enumerate(expected):
        pairs = [(hand.weights(state.value, seed), oracle.value), (hand.weights(state.actor.net, seed), oracle.actor)]
        pairs += [(hand.weights(state.critic, (seed, i)), oracle.critics[i]) for i in (0, 1)]
        pairs += [(hand.weights(state.target_critic, (seed, i)), oracle.targets[i]) for i in (0, 1)]
        if config.actor == "gaussian":
            pairs.append(([state.actor.free_log_std[seed].detach().numpy()], oracle.log_std))
        for one, other in ((a, b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True)):
            assert np.abs(one - other).max() < 1e-9


def test_terminated_rows_do_not_bootstrap(toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace) -> None:
    """Where all rows end, the next state changes nothing."""
    rows = draw()
    rows = replace(rows, terminated=torch.ones_like(rows.terminated))
    after = []
    for next_obs in (rows.next_obs, 5 * rows.next_obs):
        state = start(PLAIN, toy, hand)
        PLAIN.update(state, replace(rows, next_obs=next_obs), Streams(SEEDS))
        after.append([*state.critic.parameters(), *state.actor.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*after, strict=True))


def test_synthetic_actions_reach_the_policy_only_where_asked_to(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace
) -> None:
    """One critic for all: of the batches only the synthetic rows' actions differ, the weights exp(0) do not."""
    rows = draw()
    changed = replace(rows, action=torch.cat([rows.action[:, :3], -rows.action[:, 3:]], 1))
    config = replace(PLAIN, temperature=0.0)
    for behaviour_rows, same in ((5, False), (3, True)):
        after = []
        for batch in (rows, changed):
            state = start(config, toy, hand)
            config.update(state, replace(batch, behaviour_rows=behaviour_rows), Streams(SEEDS))
            after.append(state.actor.net.linear[0].weight)
        assert torch.equal(*after) == same


def test_the_minimum_of_the_expectile_loss_is_the_expectile() -> None:
    """For 0.5 the mean; for 0.9 the point where nine times the shortfall equals the excess."""
    values = torch.tensor([0.0, 1.0], dtype=torch.float64)
    at = torch.linspace(0, 1, 1001, dtype=torch.float64)
    for expectile in (0.5, 0.7, 0.9):
        loss = expectile_loss(values[:, None] - at, expectile).mean(0)
        assert abs(at[loss.argmin()].item() - expectile) < 1e-9


def test_log_prob_is_that_of_torchs_distribution(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace
) -> None:
    state = start(PLAIN, toy, hand)
    rows = draw()
    mean = state.actor.act(rows.obs, None)
    log_std = state.actor.free_log_std
    expected = Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)
    for action in (rows.action, torch.ones_like(rows.action)):
        assert torch.allclose(state.actor.log_prob(rows.obs, action), expected.log_prob(action))
    drawn = state.actor.act(rows.obs, Streams(SEEDS))
    noise = Streams(SEEDS).normal(5, 2)
    assert torch.allclose(drawn, (mean + log_std.exp() * noise).clamp(-1, 1))


def test_it_beats_the_behaviour_policy(score: Callable[..., torch.Tensor]) -> None:
    """86.8 is the behaviour policy, 98.4 its mean action, 100 the optimum."""
    assert (score("iql", 300, batch_size=128) > 92).all()


def test_scaled_returns_span_1000(toy: Dataset) -> None:
    returns = toy.train.reward.view(-1, 50).sum(-1)
    scale = replace(PLAIN, reward="return_range").init(toy, Streams(SEEDS)).reward_scale
    assert abs((returns.max() - returns.min()).item() * scale - 1000) < 1e-9
    assert PLAIN.init(toy, Streams(SEEDS)).reward_scale == 1


def test_rewards_are_scaled_wherever_they_come_from(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace
) -> None:
    scaled = replace(PLAIN, reward="return_range")
    after = []
    state = start(scaled, toy, hand)
    rows = draw(behaviour_rows=3)
    for config, own, batch in (
        (scaled, state, rows),
        (PLAIN, start(PLAIN, toy, hand), replace(rows, reward=state.reward_scale * rows.reward)),
    ):
        config.update(own, batch, Streams(SEEDS))
        after.append([*own.critic.parameters(), *own.value.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*after, strict=True))


def test_equal_returns_have_no_range(toy: Dataset) -> None:
    same = replace(toy, train=replace(toy.train, reward=torch.ones_like(toy.train.reward)))
    with pytest.raises(
        DataError, match=r"iql\.reward='return_range' needs episodes of different returns, got 36 equal"
    ):
        replace(PLAIN, reward="return_range").init(same, Streams(SEEDS))


@pytest.mark.parametrize("fields", [{"expectile": 1.0}, {"temperature": -1.0}, {"actor": "other"}, {"reward": "x"}])
def test_bad_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        IQL(**fields)
