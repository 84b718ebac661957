"""CQL against its equations."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from algorithms.cql import CQL
from core.data import Batch, Dataset
from core.random import Streams
from core.registry import build_method
from models.actors import TanhGaussianActor
from models.nn import descend

SEEDS = (0, 1)
PLAIN = CQL(hidden=(8, 8), weights="torch", actor_rate=3e-4)


def start(config: CQL, data: Dataset, hand: SimpleNamespace) -> Any:
    """A state in float64 whose target differs from the critics and whose two temperatures differ."""
    state = config.init(data, Streams(SEEDS))
    state.target_critic = config.init(data, Streams(SEEDS, "other")).target_critic
    state.temperature.data += torch.tensor([0.3, -0.4])
    return hand.double(state)


class ByHand:
    """One seed of CQL, without automatic differentiation; it is given the random numbers."""

    def __init__(self, config: CQL, state: Any, seed: int, hand: SimpleNamespace) -> None:
        self.config = config
        self.hand = hand
        self.critics = [hand.weights(state.critic, (seed, i)) for i in (0, 1)]
        self.targets = [hand.weights(state.target_critic, (seed, i)) for i in (0, 1)]
        self.actor = hand.weights(state.actor.net, seed)
        self.scale = [x[seed, 0].detach().numpy().copy() for x in state.actor.scale]
        self.scalars = [x[seed : seed + 1].detach().numpy().copy() for x in (state.temperature, state.multiplier)]
        rates = config.actor_rate, config.critic_rate, config.critic_rate, config.actor_rate, config.critic_rate
        self.adams = [hand.adam(rate) for rate in rates]  # actor, critics, temperature, multiplier

    def sample(self, obs: Any, noise: Any) -> tuple[Any, ...]:
        """(action, log-density, and what the gradient needs) for noise [n, B, A]."""
        raw, trace = self.hand.forward(self.actor, obs)
        mean = raw[:, :2]
        free = raw[:, 2:]
        log_std = np.clip(self.scale[0] * free + self.scale[1] if self.scale else free, -20, 2)
        u = mean + np.exp(log_std) * noise
        density = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
        return np.tanh(u), (density - np.log(1 - np.tanh(u) ** 2)).sum(-1), noise * np.exp(log_std), free, trace

    def q(self, critic: Any, obs: Any, action: Any) -> tuple[Any, Any]:
        repeated = np.broadcast_to(obs, (*action.shape[:-1], obs.shape[-1]))
        value, trace = self.hand.forward(critic, np.concatenate([repeated, action], -1).reshape(-1, 6))
        return value[:, 0].reshape(action.shape[:-1]), trace

    def actor_step(self, obs: Any, noise: Any) -> None:
        action, log_prob, spread, free, trace = (x[0] if i < 3 else x for i, x in enumerate(self.sample(obs, noise)))
        size = len(obs)
        low, high = self.config.log_temperature_range or (-np.inf, np.inf)
        before = np.exp(self.scalars[0].clip(low, high))
        self.adams[3].step(self.scalars[:1], [-np.array([log_prob.mean() - 2])])
        alpha = np.exp(self.scalars[0].clip(low, high)) if self.config.actor_first else before
        values = [self.q(critic, obs, action) for critic in self.critics]
        lower = values[0][0] < values[1][0]
        by_action = 0.0
        for (_, q_trace), critic, mine in zip(values, self.critics, (lower, ~lower), strict=True):
            by_action += self.hand.backward(critic, q_trace, -(mine / size)[:, None])[1][:, 4:]
        by_u = by_action * (1 - action**2) + alpha * 2 * action / size
        by_log_std = by_u * spread - alpha / size
        factor = self.scale[0] if self.scale else 1.0
        gradients = self.hand.backward(self.actor, trace, np.concatenate([by_u, by_log_std * factor], 1))[0]
        if self.scale:
            gradients += [(by_log_std * free).sum()[None], by_log_std.sum()[None]]
        self.adams[0].step([*self.actor, *self.scale], gradients)

    def update(self, rows: Any, noise: dict[str, Any]) -> None:
        obs, action, reward, next_obs, ends, behaviour_rows = rows
        config = self.config
        size = len(obs)
        if config.actor_first:
            self.actor_step(obs, noise["actor"])
        candidates = self.sample(next_obs, noise["backup"])[0]
        best = np.minimum(*(self.q(target, next_obs, candidates)[0] for target in self.targets)).max(0)
        target = reward + 0.99 * np.where(ends, 0, best)
        here = self.sample(obs, noise["here"])[:2]
        there = self.sample(next_obs, noise["there"])[:2]
        actions = np.concatenate([2 * noise["uniform"] - 1, here[0], there[0]])
        log_density = np.concatenate([np.full_like(here[1], 2 * np.log(0.5)), here[1], there[1]])
        assert len(actions) == 3 * config.samples  # B25: over 30 values, not 3
        pushed_up = np.arange(size) < behaviour_rows
        steps = []
        gaps = []
        for critic in self.critics:
            (q, trace) = self.q(critic, obs, action)
            (others, other_trace) = self.q(critic, obs, actions)
            shifted = np.exp(others - log_density - (others - log_density).max(0))
            gaps.append((np.log(shifted.sum(0)) + (others - log_density).max(0)).mean() - q[pushed_up].mean())
            steps.append((q, trace, other_trace, shifted / shifted.sum(0)))
        multiplier = np.exp(self.scalars[1]) if config.lagrange_gap is not None else 1.0
        if config.lagrange_gap is not None:
            excess = config.weight * (np.mean(gaps) - config.lagrange_gap)
            self.adams[4].step(self.scalars[1:], [-np.exp(self.scalars[1]) * excess])
        gradients = []
        for critic, (q, trace, other_trace, share) in zip(self.critics, steps, strict=True):
            push = multiplier * config.weight
            by_q = 2 * (q - target) / size - push * pushed_up / behaviour_rows
            own = self.hand.backward(critic, trace, by_q[:, None])[0]
            down = self.hand.backward(critic, other_trace, push * share.reshape(-1, 1) / size)[0]
            gradients.append([a + b for a, b in zip(own, down, strict=True)])
        if not config.actor_first:
            self.actor_step(obs, noise["actor"])
        for critic, adam, gradient, target_critic in zip(
            self.critics, self.adams[1:3], gradients, self.targets, strict=True
        ):
            adam.step(critic, gradient)
            for old, new in zip(target_critic, critic, strict=True):
                old += 0.005 * (new - old)


def draws(config: CQL, rng: Streams, rows: int) -> dict[str, Any]:
    """The random numbers of an update, in the order in which they are drawn."""
    order = ["backup", "uniform", "here", "there"]
    found = {}
    for name in ["actor", *order] if config.actor_first else [*order, "actor"]:
        count = {"backup": config.backup_samples, "actor": 1}.get(name, config.samples)
        found[name] = (rng.uniform if name == "uniform" else rng.normal)(count, rows, 2).double().numpy()
    return found


@pytest.mark.parametrize("behaviour_rows", [3, 5])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"lagrange_gap": 5.0, "backup_samples": 4},
        {"weight": 1.0},
        {"actor_first": True, "log_temperature_range": (-10.0, 0.2999), "scaled_log_std": False, "epsilon": 1e-6},
    ],
    ids=str,
)
def test_updates_are_those_of_an_independent_computation(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace, change: dict[str, Any], behaviour_rows: int
) -> None:
    """Three whole updates: forward, backward, Adam and targets, in float64 by hand, from the same random numbers."""
    config = replace(PLAIN, **change)
    state = start(config, toy, hand)
    expected = [ByHand(config, state, seed, hand) for seed in range(2)]
    for number in range(3):
        rows = draw(number, behaviour_rows=behaviour_rows)
        label = f"update/{number}"
        losses = config.update(state, rows, Streams(SEEDS, label))
        assert all(value.isfinite().all() for value in losses.values())
        noise = draws(config, Streams(SEEDS, label), 5)
        for seed, oracle in enumerate(expected):
            obs, next_obs = (hand.normal(toy, x[seed], config.epsilon) for x in (rows.obs, rows.next_obs))
            other = rows.action[seed].numpy(), rows.reward[seed].numpy(), next_obs, rows.terminated[seed].numpy()
            oracle.update((obs, *other, behaviour_rows), {name: value[seed] for name, value in noise.items()})
    for seed, oracle in enumerate(expected):
        pairs = [(hand.weights(state.actor.net, seed), oracle.actor)]
        pairs += [(hand.weights(state.critic, (seed, i)), oracle.critics[i]) for i in (0, 1)]
        pairs += [(hand.weights(state.target_critic, (seed, i)), oracle.targets[i]) for i in (0, 1)]
        scalars = [x.detach()[seed : seed + 1].numpy() for x in (state.temperature, state.multiplier)]
        pairs += [([x[seed, 0].detach().numpy() for x in state.actor.scale], oracle.scale), (scalars, oracle.scalars)]
        for one, other in ((a, b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True)):
            assert np.abs(one - other).max() < 1e-9


def test_terminated_rows_do_not_bootstrap(toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace) -> None:
    state = start(PLAIN, toy, hand)
    rows = draw()
    target = PLAIN.target(state, rows, Streams(SEEDS))
    assert torch.equal(target[rows.terminated], rows.reward[rows.terminated])
    assert (target != rows.reward)[~rows.terminated].all()


def test_rewards_of_hopper_medium_are_scaled(toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace) -> None:
    """As in CORL's configuration of that set: the returns of the training episodes then span 1000."""
    returns = toy.train.reward.view(-1, 50).sum(-1)
    preset = CQL.presets["hopper-medium"]
    rows = draw(behaviour_rows=5)
    targets = []
    for config, batch in ((replace(PLAIN, **preset), rows), (PLAIN, rows)):
        state = start(config, toy, hand)
        scale = 1000 / (returns.max() - returns.min()).item() if config is PLAIN else 1.0
        targets.append(config.target(state, replace(batch, reward=scale * batch.reward), Streams(SEEDS)))
    assert torch.allclose(*targets, rtol=1e-5)


def test_log_sum_exp_of_a_constant_critic_is_the_boxs_volume(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace
) -> None:
    """For Q = c, log of the integral of exp(c) is c + A log 2: the mean over 3n importance weights, plus log 3n."""
    config = replace(PLAIN, samples=4000)
    rows = draw(rows=3)
    state = start(config, toy, hand)
    with torch.no_grad():
        state.critic.linear[-1].weight.zero_()
        state.critic.linear[-1].bias.fill_(7.0)
    q = state.value(state.critic, rows.obs, rows.action[:, None])[:, :, 0]
    gap = config.gap(state, rows, q, Streams(SEEDS)) - math.log(3 * 4000)
    assert (gap - 2 * math.log(2)).abs().max() < 0.1


def test_a_multiplier_belongs_to_a_seed(toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace) -> None:
    """It grows where the gap is too large and falls where it is too small."""
    config = replace(PLAIN, lagrange_gap=5.0)
    state = start(config, toy, hand)
    before = state.multiplier.detach().clone()
    assert torch.allclose(config.multiplier(state), before.exp())
    gap = torch.tensor([[6.0, 6.0], [1.0, 4.0]], dtype=torch.float64)
    descend(state.multiplier_optimizer, config.multiplier_loss, state, gap)
    assert state.multiplier[0] > before[0]
    assert state.multiplier[1] < before[1]


@pytest.mark.parametrize("scaled", [False, True])
def test_log_prob_is_torchs_and_finite_at_the_edge(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace, scaled: bool
) -> None:
    actor = TanhGaussianActor(toy, (8,), Streams(SEEDS), scaled=scaled).double()
    obs = draw().obs
    action, log_prob = actor.sample_and_log_prob(obs, Streams(SEEDS).normal(200, 5, 2))
    mean, log_std = actor.moments(obs)
    cached = TanhTransform(cache_size=1)
    expected = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [cached])
    u = mean[:, None] + log_std.exp()[:, None] * Streams(SEEDS).normal(200, 5, 2)
    for i in range(5):
        assert torch.allclose(log_prob[:, i], expected.log_prob(cached(u[:, i])))
        assert torch.allclose(actor.log_prob(obs, action[:, i]), log_prob[:, i], atol=1e-5)
    actor.float()
    edges = torch.tensor([1.0, -1.0, 1 - 1e-7, 0.9999999]).view(1, 4, 1).expand(2, 4, 2)
    assert actor.log_prob(obs[:, :4].float(), edges).isfinite().all()
    with torch.no_grad():
        actor.net.linear[-1].bias[..., :2] = 30.0  # float32 tanh is exactly one here
    action, log_prob = actor.sample_and_log_prob(obs.float(), Streams(SEEDS).normal(5, 5, 2))
    assert (action == 1).all()
    assert log_prob.isfinite().all()
    gradient = torch.autograd.grad(log_prob.sum(), actor.net.linear[-1].bias)[0]
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_the_temperature_winds_up_outside_of_its_range(toy: Dataset, draw: Callable[..., Batch]) -> None:
    """DyDiff clamps what is used: under a constant gradient Adam moves the parameter by its rate, clamped or not.

    70 updates up, of 0.01 each from 0, pass the limit of 0.5 at the 50th and end at 0.7; on the way down alpha is below
    exp(0.5) only once as many were made as had been too many.
    """
    config = replace(PLAIN, actor_first=True, actor_rate=0.01, log_temperature_range=(-10.0, 0.5))
    state = config.init(toy, Streams(SEEDS))
    used = []
    for update in range(140):
        surplus = torch.full((2,), -1.0 if update < 70 else 1.0)
        descend(state.temperature_optimizer, config.temperature_loss, state, surplus)
        used.append(config.temperature(state))
        if update == 69:
            assert torch.allclose(state.temperature.detach(), torch.full((2,), 0.7), atol=1e-4)
    assert torch.allclose(used[29], torch.full((2,), math.exp(0.3)), atol=1e-4)
    top = state.temperature.detach().new_tensor(0.5).exp()
    clamped = [bool((alpha == top).all()) for alpha in used]
    assert clamped[51:90] == [True] * 39
    assert not any(clamped[:48])
    rows = draw().map(lambda x: x.float() if x.is_floating_point() else x)
    losses = config.update(state, rows, Streams(SEEDS))
    assert torch.equal(losses["temperature"], config.temperature(state))


def test_orthogonal_weights_are_as_in_corl(toy: Dataset) -> None:
    state = CQL(hidden=(16, 16, 16)).init(toy, Streams(SEEDS))
    first, second, _, last = state.critic.linear
    eye = torch.eye(16).expand(2, 2, -1, -1)
    assert torch.allclose(second.weight @ second.weight.mT, 2 * eye, atol=1e-5)
    assert torch.allclose(first.weight @ first.weight.mT, 2 * torch.eye(6).expand(2, 2, -1, -1), atol=1e-5)
    assert torch.allclose(last.weight.norm(dim=-2), torch.full((2, 2, 1), 0.01))
    assert all((layer.bias == 0).all() for layer in state.critic.linear)
    edge = 0.01 * math.sqrt(6 / (16 + 4))
    assert (state.actor.net.linear[-1].bias == 0).all()
    biggest = state.actor.net.linear[-1].weight.abs().amax((1, 2))
    assert (biggest <= edge).all()
    assert (biggest > 0.9 * edge).all()
    log_std = state.actor.moments(toy.train.obs[:9].float().expand(2, -1, -1))[1]
    assert (log_std + 1).abs().max() < 0.5


def test_preset_dydiff_is_dydiffs_code() -> None:
    config = build_method("algorithms", "cql", {"preset": "dydiff"})
    assert (config.hidden, config.weights, config.epsilon) == ((256, 256), "normal", 1e-6)
    assert config.actor_first
    assert config.log_temperature_range == (-10.0, 0.5)
    assert not config.scaled_log_std
    assert (config.weight, config.samples, config.actor_rate, config.lagrange_gap) == (10.0, 10, 3e-5, None)


@pytest.mark.slow
def test_it_beats_the_behaviour_policy(score: Callable[..., torch.Tensor]) -> None:
    """86.8 is the behaviour policy, 98.4 its mean action, 100 the optimum."""
    assert (
        score("cql", 300, batch_size=64, hidden=[32, 32], actor_rate=3e-3, critic_rate=3e-3, discount=0.9) > 90
    ).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": -1.0},
        {"samples": 0},
        {"hidden": (0,)},
        {"weights": "other"},
        {"lagrange_gap": -1.0},
        {"log_temperature_range": (0.5, -10.0)},
    ],
)
def test_bad_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        CQL(**fields)
