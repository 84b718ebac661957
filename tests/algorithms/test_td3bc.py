"""TD3+BC against its equations."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from algorithms.td3bc import TD3BC
from core.data import Batch, Dataset, Transitions
from core.random import Streams
from core.registry import build_method
from models.nn import descend, gradients
from tasks.base import DataOptions, load_task

SEEDS = (0, 1)
PLAIN = TD3BC(hidden=(8, 8), target_noise=0.0)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_task("toy/linear", DataOptions(dataset_rows=2000)).dataset()[0]


def batch(data: Dataset, number: int = 0, rows: int = 16) -> Batch:
    """Another batch for every seed; every third row ends, behaviour terms act on all."""
    chosen = (Streams(SEEDS, f"batch/{number}").uniform64(rows) * len(data.train.obs)).long()
    drawn = vars(data.train.map(lambda x: x[chosen]))
    return Batch(**{**drawn, "terminated": (torch.arange(rows) % 3 == 0).expand(len(SEEDS), -1)}, behaviour_rows=rows)


def start(config: TD3BC, data: Dataset) -> Any:
    """A state whose targets differ from the networks they follow."""
    state = config.init(data, Streams(SEEDS))
    other = config.init(data, Streams(SEEDS, "other"))
    state.target_actor = other.target_actor
    state.target_critic = other.target_critic
    return state


def mlp(net: Any, seed: Any, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """(output, input of every layer) of one copy in float64."""
    inputs = []
    for number, layer in enumerate(net.linear):
        inputs.append(x)
        x = x @ layer.weight[seed].detach().double().numpy() + layer.bias[seed].detach().double().numpy()
        x = np.maximum(x, 0) if number < len(net.linear) - 1 else x
    return x, inputs


def normal(data: Dataset, obs: torch.Tensor, epsilon: float = 1e-3) -> np.ndarray:
    return np.asarray((obs.double() - data.obs_mean.double()) / (data.obs_std.double() + epsilon))


def target_by_hand(data: Dataset, state: Any, rows: Transitions, seed: int, discount: float = 0.99) -> np.ndarray:
    """r + gamma (1 - d) min_i Q_i'(s', pi'(s'))."""
    obs = normal(data, rows.next_obs[seed])
    action = np.tanh(mlp(state.target_actor.net, seed, obs)[0])
    values = [mlp(state.target_critic, (seed, i), np.concatenate([obs, action], 1))[0][:, 0] for i in (0, 1)]
    ends = rows.terminated[seed].numpy()
    return np.asarray(rows.reward[seed].double().numpy() + discount * np.where(ends, 0, np.minimum(*values)))


def test_target_is_the_equation(data: Dataset) -> None:
    state = start(PLAIN, data)
    rows = batch(data)
    target = PLAIN.target(state, rows, Streams(SEEDS))
    for seed in range(2):
        assert np.abs(target[seed].numpy() - target_by_hand(data, state, rows, seed)).max() < 1e-6


def test_terminated_rows_do_not_bootstrap(data: Dataset) -> None:
    state = start(PLAIN, data)
    rows = batch(data)
    target = PLAIN.target(state, rows, Streams(SEEDS))
    assert torch.equal(target[rows.terminated], rows.reward[rows.terminated])
    assert (target != rows.reward)[~rows.terminated].all()


def test_target_noise_is_clipped_and_so_is_the_action(data: Dataset) -> None:
    rows = batch(data)
    state = start(PLAIN, data)
    noisy = replace(PLAIN, target_noise=0.2, noise_clip=1e-30)
    plain = PLAIN.target(state, rows, Streams(SEEDS))
    assert torch.allclose(noisy.target(state, rows, Streams(SEEDS)), plain, atol=1e-6)
    seen = []
    value = type(state).value
    state.value = lambda critic, obs, action: seen.append(action) or value(state, critic, obs, action)
    replace(PLAIN, target_noise=100.0, noise_clip=0.3).target(state, rows, Streams(SEEDS))
    replace(PLAIN, target_noise=100.0, noise_clip=9.0).target(state, rows, Streams(SEEDS))
    moved = (seen[0] - state.target_actor(rows.next_obs)).abs()
    assert moved.max() <= 0.3 + 1e-6
    assert (moved > 0.29).float().mean() > 0.9
    assert (seen[1].abs() == 1).float().mean() > 0.9


def actor_gradient(config: TD3BC, data: Dataset, factors: tuple[float, float]) -> list[torch.Tensor]:
    """Of one actor step, with every seed's critic scaled."""
    state = start(config, data)
    with torch.no_grad():
        last = state.critic.linear[-1]
        for parameter in (last.weight, last.bias):
            parameter.mul_(torch.tensor(factors).view(-1, *[1] * (parameter.ndim - 1)))
    gradients(state.actor_optimizer, config.actor_loss, state, batch(data), Streams(SEEDS))
    return [parameter.grad for parameter in state.actor.parameters() if parameter.grad is not None]


def test_lambda_belongs_to_a_seed_and_takes_the_scale_out_of_q(data: Dataset) -> None:
    plain = actor_gradient(PLAIN, data, (1.0, 1.0))
    scaled = actor_gradient(PLAIN, data, (1.0, 50.0))
    assert len(plain) == 6
    for one, other in zip(plain, scaled, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.allclose(one[1], other[1], rtol=1e-4, atol=1e-7)
        assert one[1].abs().max() > 0


def test_actor_and_targets_move_every_second_update(data: Dataset) -> None:
    state = start(PLAIN, data)
    rng = Streams(SEEDS, "update")
    moved = []
    for number in range(4):
        parts = {part: getattr(state, part) for part in ("critic", "actor", "target_actor", "target_critic")}
        before = {name: deepcopy(part.state_dict()) for name, part in parts.items()}
        losses = PLAIN.update(state, batch(data, number), rng)
        after = {name: part.state_dict() for name, part in parts.items()}
        moved.append(
            {name for name in parts for key in after[name] if not torch.equal(after[name][key], before[name][key])}
        )
        assert ("actor" in losses) == (number % 2 == 1)
    assert moved == [{"critic"}, {"critic", "actor", "target_actor", "target_critic"}] * 2


def test_targets_follow_at_their_rate(data: Dataset) -> None:
    config = replace(PLAIN, policy_every=1, target_rate=0.25)
    state = start(config, data)
    before = [parameter.clone() for parameter in state.target_critic.parameters()]
    config.update(state, batch(data), Streams(SEEDS))
    moved = zip(before, state.target_critic.parameters(), state.critic.parameters(), strict=True)
    assert all(torch.allclose(after, 0.75 * old + 0.25 * new, atol=1e-7) for old, after, new in moved)


def backward(
    net: Any, seed: Any, inputs: list[np.ndarray], upstream: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """(gradient of weight and bias of every layer in turn, gradient of the input)."""
    gradients: list[np.ndarray] = []
    for layer, x in reversed(list(zip(net.linear, inputs, strict=True))):
        gradients[:0] = [x.T @ upstream, upstream.sum(0, keepdims=True)]
        upstream = upstream @ layer.weight[seed].detach().double().numpy().T
        if x is not inputs[0]:
            upstream = upstream * (x > 0)
    return gradients, upstream


class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self) -> None:
        self.steps = 0
        self.m = [0.0] * 6
        self.v = [0.0] * 6

    def step(self, parameters: list[np.ndarray], gradients: list[np.ndarray], rate: float) -> list[np.ndarray]:
        self.steps += 1
        after = []
        for i, (parameter, g) in enumerate(zip(parameters, gradients, strict=True)):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
            m = self.m[i] / (1 - 0.9**self.steps)
            v = self.v[i] / (1 - 0.999**self.steps)
            after.append(parameter - rate * m / (np.sqrt(v) + 1e-8))
        return after


def weights(net: Any, seed: Any) -> list[np.ndarray]:
    return [x[seed].detach().double().numpy().copy() for layer in net.linear for x in (layer.weight, layer.bias)]


def copied(net: Any, copies: dict[Any, list[np.ndarray]]) -> Any:
    """The network in float64 with these weights in these copies."""
    net = deepcopy(net).double()
    parameters = [x for layer in net.linear for x in (layer.weight, layer.bias)]
    with torch.no_grad():
        for seed, values in copies.items():
            for parameter, value in zip(parameters, values, strict=True):
                parameter[seed] = torch.from_numpy(value)
    return net


def followed(target: Any, net: Any, copies: list[Any]) -> Any:
    """The target network after one step towards `net` in these copies."""
    new = {}
    for copy in copies:
        pairs = zip(weights(target, copy), weights(net, copy), strict=True)
        new[copy] = [0.995 * old + 0.005 * x for old, x in pairs]
    return copied(target, new)


@pytest.mark.parametrize(("critic_weight", "behaviour_weight"), [(1.0, 1.0), (0.5, 0.25)])
def test_updates_are_those_of_an_independent_computation(
    data: Dataset, critic_weight: float, behaviour_weight: float
) -> None:
    """Three whole updates: forward, backward, Adam and targets, in float64 by hand."""
    config = replace(PLAIN, policy_every=1, critic_weight=critic_weight, behaviour_weight=behaviour_weight)
    state = start(config, data)
    reference = start(config, data)
    optimizers = {}
    for number in range(3):
        rows = batch(data, number)
        config.update(state, rows, Streams(SEEDS))
        for seed in range(2):
            size = 16
            obs = normal(data, rows.obs[seed])
            logged = rows.action[seed].double().numpy()
            target = target_by_hand(data, reference, rows, seed)
            critics = {}
            for i in (0, 1):
                q, inputs = mlp(reference.critic, (seed, i), np.concatenate([obs, logged], 1))
                upstream = critic_weight * 2 * (q - target[:, None]) / size
                gradients, _ = backward(reference.critic, (seed, i), inputs, upstream)
                adam = optimizers.setdefault(("critic", seed, i), Adam())
                critics[seed, i] = adam.step(weights(reference.critic, (seed, i)), gradients, 3e-4)
            reference.critic = copied(reference.critic, critics)
            raw, actor_inputs = mlp(reference.actor.net, seed, obs)
            action = np.tanh(raw)
            q, inputs = mlp(reference.critic, (seed, 0), np.concatenate([obs, action], 1))
            scale = 2.5 / np.abs(q).mean()
            _, through = backward(reference.critic, (seed, 0), inputs, np.full_like(q, -scale / size))
            pull = behaviour_weight * 2 * (action - logged) / action.size
            gradients, _ = backward(reference.actor.net, seed, actor_inputs, (through[:, 4:] + pull) * (1 - action**2))
            adam = optimizers.setdefault(("actor", seed), Adam())
            actor = {seed: adam.step(weights(reference.actor.net, seed), gradients, 3e-4)}
            reference.actor.net = copied(reference.actor.net, actor)
            copies = [(seed, 0), (seed, 1)]
            reference.target_critic = followed(reference.target_critic, reference.critic, copies)
            reference.target_actor.net = followed(reference.target_actor.net, reference.actor.net, [seed])
    for part in ("critic", "actor", "target_critic", "target_actor"):
        got = getattr(state, part)
        expected = getattr(reference, part)
        for one, other in zip(got.parameters(), expected.parameters(), strict=True):
            assert (one.double() - other).abs().max() < 1e-6, part


def outcome(config: TD3BC, data: Dataset, updates: int = 6) -> list[torch.Tensor]:
    """Weights after some updates."""
    state = config.init(data, Streams(SEEDS))
    rng = Streams(SEEDS, "update")
    for number in range(updates):
        config.update(state, batch(data, number), rng)
    return [*state.actor.parameters(), *state.critic.parameters(), *state.target_critic.parameters()]


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 2.6}, {"discount": 0.98}, {"target_rate": 0.006}, {"policy_every": 3}, {"target_noise": 0.3},
        {"noise_clip": 0.1}, {"learning_rate": 4e-4}, {"critic_weight": 0.7}, {"behaviour_weight": 0.9},
        {"epsilon": 1e-2}, {"hidden": (8, 9)}, {"weights": "normal"},
        {"actor": "tanh-gaussian"},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_changing_any_field_changes_the_result(data: Dataset, change: dict[str, Any]) -> None:
    base = TD3BC(hidden=(8, 8))
    before = outcome(base, data)
    again = outcome(base, data)
    assert all(torch.equal(one, other) for one, other in zip(before, again, strict=True))
    after = outcome(replace(base, **change), data)
    assert any(
        one.shape != other.shape or not torch.equal(one, other) for one, other in zip(before, after, strict=True)
    )


def test_that_test_leaves_no_field_out() -> None:
    fields = set(TD3BC.__dataclass_fields__) - {"presets", "batch_size"}  # the batch comes from outside
    marks = test_changing_any_field_changes_the_result.pytestmark
    assert {next(iter(change)) for change in marks[0].args[1]} == fields


def test_preset_dydiff_is_dydiffs_code(data: Dataset) -> None:
    config = build_method("algorithms", "td3bc", {"preset": "dydiff", "hidden": [8, 8]})
    assert (config.target_noise, config.critic_weight, config.behaviour_weight) == (0.0, 0.5, 0.5)
    assert (config.alpha, config.discount, config.policy_every) == (2.5, 0.99, 2)
    state = config.init(data, Streams(SEEDS))
    rows = batch(data)
    assert all((layer.bias == 0).all() for layer in (*state.critic.linear, *state.actor.net.linear))
    expected = torch.from_numpy(normal(data, rows.obs, epsilon=1e-6)).float()
    assert torch.allclose(state.normaliser(rows.obs), expected, atol=1e-5)
    assert torch.allclose(state.actor.normaliser(rows.obs), expected, atol=1e-5)
    obs = rows.obs
    greedy = state.actor.act(obs, None)
    assert not torch.equal(state.actor.act(obs, Streams(SEEDS, "a")), greedy)
    assert torch.equal(state.actor.act(obs, None), greedy)
    drawn = [config.target(state, rows, Streams(SEEDS, label)) for label in "aba"]
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_halved_squares_halve_the_losses(data: Dataset) -> None:
    whole, half = (replace(PLAIN, critic_weight=x, behaviour_weight=x, policy_every=1) for x in (1.0, 0.5))
    one, two = (config.update(start(config, data), batch(data), Streams(SEEDS)) for config in (whole, half))
    assert torch.allclose(two["critic"], one["critic"] / 2)
    pull = 2 * (one["actor"] - two["actor"])  # what the data's actions add at full weight
    assert (pull > 0).all()


def test_synthetic_actions_pull_the_actor_only_where_asked_to(data: Dataset) -> None:
    rows = batch(data)
    other = replace(rows, action=torch.cat([rows.action[:, :12], -rows.action[:, 12:]], 1))
    for behaviour_rows, same in ((16, False), (12, True)):
        after = []
        for one in (rows, other):
            state = start(PLAIN, data)
            acted_on = replace(one, behaviour_rows=behaviour_rows)
            descend(state.actor_optimizer, PLAIN.actor_loss, state, acted_on, Streams(SEEDS))
            after.append(state.actor.net.linear[0].weight)
        assert torch.equal(*after) == same


def test_the_behaviour_term_is_a_mean_over_its_rows(data: Dataset) -> None:
    """Plain transitions: over all rows."""
    rows = batch(data)
    state = start(PLAIN, data)
    plain = Transitions(**{name: value for name, value in vars(rows).items() if name != "behaviour_rows"})
    distance = (state.actor(rows.obs) - rows.action).square().mean(-1)
    unpulled = replace(PLAIN, behaviour_weight=0.0).actor_loss(state, rows, Streams(SEEDS))
    for given, count in ((replace(rows, behaviour_rows=12), 12), (rows, 16), (plain, 16)):
        pull = PLAIN.actor_loss(state, given, Streams(SEEDS)) - unpulled
        assert torch.allclose(pull, distance[:, :count].sum(-1) / count, atol=1e-5)


@pytest.mark.parametrize(
    "fields", [{"alpha": 0.0}, {"hidden": (0,)}, {"actor": "other"}, {"batch_size": 0}, {"tau": 1.0}]
)
def test_bad_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        TD3BC(**fields)
