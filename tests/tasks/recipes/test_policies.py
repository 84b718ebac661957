"""Exploring policies: the network, the exact densities, and the shipped files against their cards."""

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from core.errors import SpecError
from core.policy import Policy, UniformPolicy
from core.random import Streams
from tasks.base import DataOptions, load_task
from tasks.recipes.locomotion import ENV_IDS
from tasks.recipes.policies import FOLDER, ExploringPolicy, Policies, load_policies
from tasks.recipes.train_policies import TRAININGS
from tasks.simulators.locomotion import simulator

SHIPPED_FOR = pytest.mark.parametrize("name", sorted(ENV_IDS))
BEST = {"hopper": 3000, "halfcheetah": 4500, "walker2d": 3000}  # returns that the experts must have at least


def network(count: int, **fields: Any) -> ExploringPolicy:
    """3 actions of 5 observations, through 8 units."""
    rng = Streams(range(count), "weights")
    sizes = [(8, 5), (3, 8)]
    layers = tuple((rng.normal(*size).double() / 2, rng.normal(size[0]).double() / 2) for size in sizes)
    mean, std = rng.normal(5).double(), 0.5 + rng.uniform(5).double()
    common = {"limit": None, "hidden": "tanh", "output": "identity"}
    return ExploringPolicy(layers, mean, std, **{**common, **fields})


def constant(value: float, **fields: Any) -> ExploringPolicy:
    """One action dimension, the same greedy action everywhere."""
    layers = ((torch.zeros(1, 1, 1).double(), torch.full((1, 1), value).double()),)
    plain = ExploringPolicy(layers, torch.zeros(1, 1).double(), torch.ones(1, 1).double(), None, "tanh", "identity")
    return replace(plain, **fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [0.5 * 3 - 0.25, -0.25]),
        ({"limit": 2.0}, [0.5 * 2 - 0.25, -0.25]),
        ({"output": "tanh"}, [torch.tensor(1.25).tanh().item(), torch.tensor(-0.25).tanh().item()]),
    ],
)
def test_greedy_action_by_hand(fields: dict[str, Any], expected: list[float]) -> None:
    """Two states of one number, one unit: relu((s - 1) / 2), then half of it less a quarter, clipped."""
    one = torch.ones(1, 1, 1).double()
    layers = ((one, 0 * one[0]), (one / 2, -one[0] / 4))
    policy = ExploringPolicy(
        layers, one[0], 2 * one[0], **{"limit": None, "hidden": "relu", "output": "identity", **fields}
    )
    action = policy.act(torch.tensor([[[7.0], [-3.0]]]), None)[0, :, 0]
    assert action.tolist() == pytest.approx([min(1.0, x) for x in expected])
    assert isinstance(policy, Policy)


def test_policies_act_side_by_side_as_they_act_alone() -> None:
    policies = network(3, deviation=0.1, uniform=0.2)
    obs = Streams((7, 8, 9)).normal(20, 5)
    together = policies.act(obs, Streams((0, 1, 2)))
    for row in range(3):
        alone = policies.pick([row]).act(obs[row : row + 1], Streams((row,)))
        torch.testing.assert_close(together[row : row + 1], alone)
    swapped = policies.pick([2, 0, 0]).act(obs[[2, 0, 0]], Streams((2, 0, 0)))
    torch.testing.assert_close(swapped, together[[2, 0, 0]])


@pytest.mark.parametrize("uniform", [0.0, 0.3])
@pytest.mark.parametrize("centre", [0.2, 0.9, -1.0])
def test_atoms_and_density_sum_to_one(centre: float, uniform: float) -> None:
    policy = constant(centre, deviation=0.3, uniform=uniform)
    inside = torch.linspace(-1, 1, 20_001, dtype=torch.float64)[None, 1:-1, None]
    density = policy.log_prob(inside, inside)[0].exp()
    edge = torch.tensor([[[-1.0], [1.0]]], dtype=torch.float64)
    atoms = policy.log_prob(edge, edge)[0].exp()
    assert (torch.trapezoid(density, dx=1e-4) + atoms.sum()).item() == pytest.approx(1, abs=2e-4)


def test_draws_are_as_dense_as_they_say() -> None:
    """Shares of both bounds and of ten bins between them, within four standard errors."""
    count = 400_000
    policy = constant(0.7, deviation=0.4, uniform=0.25)
    action, density = policy.sample(torch.zeros(1, count, 1), Streams((0,)))
    assert torch.equal(density, policy.log_prob(torch.zeros(1, count, 1), action))
    assert torch.equal(action * 2**15, (action * 2**15).round())
    found = [(action == -1).sum(), (action == 1).sum()]
    expected = policy.log_prob(torch.zeros(1, 2, 1), torch.tensor([[[-1.0], [1.0]]]))[0].exp().tolist()
    fine = torch.linspace(-1, 1, 10_001, dtype=torch.float64)[None, 1:-1, None]
    mass = policy.log_prob(fine, fine)[0].exp() * 2e-4
    for low in torch.linspace(-1, 0.8, 10).double():
        found.append(((action > low) & (action <= low + 0.2) & (action.abs() < 1)).sum())
        expected.append(mass[(fine[0, :, 0] > low) & (fine[0, :, 0] <= low + 0.2)].sum().item())
    for share, number in zip(expected, found, strict=True):
        assert abs(int(number) / count - share) < 4 * (share / count) ** 0.5 + 2e-4


def test_smoothed_density_is_that_of_draws_with_noise() -> None:
    """Against a histogram of a million draws, at a policy with both atoms."""
    policy = constant(0.5, deviation=0.8, uniform=0.2)
    action, _ = policy.sample(torch.zeros(1, 1_000_000, 1), Streams((0,)))
    noisy = (action + 0.2 * Streams((1,)).normal(1_000_000, 1).double()).flatten()
    edges = torch.linspace(-1.6, 1.6, 65, dtype=torch.float64)
    counts = torch.histogram(noisy, edges).hist
    fine = torch.linspace(-1.6, 1.6, 6401, dtype=torch.float64)[None, :, None]
    density = policy.smoothed_log_prob(fine, fine, 0.2)[0].exp()
    mass = (density[:-1] + density[1:]).view(64, 100).sum(-1) * 0.0005 / 2
    assert ((counts / 1e6 - mass).abs() < 5 * (mass / 1e6).sqrt() + 1e-5).all()


def test_smoothed_density_of_far_actions_is_finite() -> None:
    policy = constant(0.0, deviation=0.01, uniform=0.0)
    far = torch.tensor([[[1.0], [-1.7], [0.0]]])
    assert policy.smoothed_log_prob(far, far, 0.1).isfinite().all()


def test_without_noise_there_is_no_density() -> None:
    with pytest.raises(ValueError, match=r"deviation must be positive .* got 0\.0"):
        network(1).sample(torch.zeros(1, 1, 5), Streams((0,)))


def test_unknown_environment_names_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"halfcheetah, hopper, walker2d, got 'hoper'; did you mean 'hopper'"):
        load_policies("hoper")


@SHIPPED_FOR
def test_shipped_tensors_fit_their_card_and_environment(name: str) -> None:
    shipped = load_policies(name)
    world = simulator(ENV_IDS[name])
    tensors = load_file(FOLDER / f"{name}.safetensors")
    count = len(shipped.steps)
    widths = [world.obs_dim, *TRAININGS[name].hidden, world.action_dim]
    for index, (width, wider) in enumerate(zip(widths[1:], widths[:-1], strict=True)):
        assert tensors[f"{index}.weight"].shape == (count, width, wider)
        assert tensors[f"{index}.bias"].shape == (count, width)
        assert tensors[f"{index}.weight"].dtype == torch.float16
    assert shipped.policy.mean.shape == shipped.policy.std.shape == (count, world.obs_dim)
    assert all(x.isfinite().all() for x in tensors.values())
    assert (shipped.policy.std > 0).all()
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 2**20
    entries = shipped.card["checkpoints"]
    assert shipped.card["physics"] == world.physics
    assert shipped.card["network"] == TRAININGS[name].network
    assert [entry["steps"] for entry in entries] == shipped.steps.tolist()
    assert shipped.steps.tolist() == [TRAININGS[name].interval * index for index in range(count)]


@SHIPPED_FOR
def test_shipped_policies_span_the_returns(name: str) -> None:
    """Untrained at first, an expert at the end, and one near a third of it: the recipes' medium."""
    shipped: Policies = load_policies(name)
    assert shipped.returns[0] < 0.1 * shipped.returns.max()
    assert shipped.returns[shipped.expert] > BEST[name]
    assert 0.25 < shipped.returns[shipped.medium] / shipped.returns.max() < 0.42
    assert 0 < shipped.medium < shipped.expert


def test_smoothed_density_of_uniform_actions_integrates_to_one() -> None:
    grid = torch.linspace(-3, 3, 3001)[None, :, None]
    density = UniformPolicy(1).smoothed_log_prob(grid, grid, 0.2).exp()[0]
    assert torch.trapezoid(density, grid[0, :, 0].double()).item() == pytest.approx(1, abs=1e-6)
    assert density[1500].item() == pytest.approx(0.5)  # in the middle nothing is lost


def test_uniform_share_alone_is_the_uniform_policy() -> None:
    """Where the Gaussian is far away, the mixture's density is its share of the uniform one."""
    policy = constant(-5.0, deviation=0.1, uniform=0.5)
    action: Tensor = torch.tensor([[[0.3], [0.9]]], dtype=torch.float64)
    assert policy.log_prob(action, action)[0].tolist() == pytest.approx([log(0.25)] * 2)
    smoothed = UniformPolicy(1).smoothed_log_prob(action, action, 0.1) + log(0.5)
    torch.testing.assert_close(policy.smoothed_log_prob(action, action, 0.1), smoothed)


def test_only_sets_of_one_policy_have_a_known_behaviour() -> None:
    def kind(name: str) -> str:
        return type(load_task(f"local/{name}", DataOptions(dataset_rows=100)).behaviour).__name__

    assert [kind(f"hopper-{level}") for level in ("random", "medium", "expert")] == [
        "UniformPolicy",
        "ExploringPolicy",
        "ExploringPolicy",
    ]
    assert {kind("hopper-medium-replay"), kind("hopper-medium-expert"), kind("maze2d-umaze")} == {"NoneType"}
