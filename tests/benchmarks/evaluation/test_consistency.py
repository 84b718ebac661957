"""Actions of generated rollouts against the learning policy and against those behind the data."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.spec import Settings
from core.data import Trajectories
from core.random import Streams
from tasks.base import Task
from tasks.recipes.linear import LinearPolicy

Measure = Callable[..., dict[str, np.ndarray]]


def test_a_shifted_action_costs_what_the_formulas_say(task: Task, measure: Measure, toys: SimpleNamespace) -> None:
    """The toy's behaviour policy is known, so the surprise about a shift by delta is delta^2 / (2 (std^2 + .2^2))."""
    known = task.behaviour
    shift = 0.1
    assert isinstance(known, LinearPolicy)

    @dataclass(frozen=True)
    class Behaviour:
        def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
            return known.centre(obs) if rng is None else known.act(obs, rng)

    @dataclass(frozen=True)
    class Shifted(toys.Told):
        def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
            generated = super().generate(policy, start, length, rng)
            return replace(
                generated,
                action=known.act(generated.obs[:, :, :-1].flatten(1, 2), rng).view_as(generated.action) + shift,
            )

    settings = Settings(fidelity_starts=2000, fidelity_horizon=toys.horizon)
    found = measure(Shifted(), policy=Behaviour(), settings=settings)
    noise = known.sigma**2
    assert found["consistency/kl"].tolist() == pytest.approx([2 * (shift**2 + noise) / (2 * 0.2**2)] * 2, rel=0.03)
    excess = 2 * shift**2 / (2 * (noise + 0.2**2))
    assert found["behaviour/excess/generated"].tolist() == pytest.approx([excess] * 2, abs=0.15)
    assert found["behaviour/excess/on_policy"].tolist() == pytest.approx([0, 0], abs=0.15)
    for name in ("generated", "on_policy"):
        assert np.abs(found[f"behaviour/nearest/{name}"] / found["behaviour/nearest/heldout"] - 1).max() < 0.3
    assert "consistency/energy" not in found


def test_every_kind_of_policy_is_compared_in_its_own_way(measure: Measure, toys: SimpleNamespace) -> None:
    @dataclass(frozen=True)
    class Gaussian(toys.Gain):
        latent_limit: float = 9.0

        def latent(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return action.double(), self.act(obs, None).double(), torch.full_like(action, 0.5).double()

    @dataclass(frozen=True)
    class Implicit(toys.Gain):
        def sample(self, obs: torch.Tensor, count: int, rng: Streams) -> torch.Tensor:
            return self.act(obs, None)[:, None] + 0.5 * rng.normal(count, *obs.shape[1:-1], 2)

    settings = Settings(fidelity_starts=50, fidelity_horizon=5)
    greedy = [
        measure(toys.Told(), policy=policy, settings=settings) for policy in (toys.Gain(), Gaussian(), Implicit())
    ]
    for found in greedy:  # the generator takes the mean
        assert np.abs(found["consistency/distance"]).max() < 1e-6
    assert np.abs(greedy[0]["consistency/kl"]).max() < 1e-6
    assert greedy[1]["consistency/kl"].tolist() == pytest.approx([-1, -1], abs=1e-6)
    middle = 2 * 0.5 * ((math.pi / 2) ** 0.5 - math.pi**0.5)  # E|x|, E|x - x'| of two-dimensional normals
    assert greedy[2]["consistency/energy"].tolist() == pytest.approx([middle] * 2, abs=0.02)
    assert "consistency/kl" not in greedy[2]


def test_a_fitted_density_says_nearly_the_same_as_the_known_one(
    task: Task, measure: Measure, toys: SimpleNamespace
) -> None:
    settings = Settings(fidelity_starts=200, fidelity_horizon=5)
    blind = replace(task, behaviour=None)
    known, fitted = (measure(toys.Told(), task=which, settings=settings) for which in (task, blind))
    for rows in ("generated", "on_policy"):
        assert np.abs(known[f"behaviour/excess/{rows}"] - fitted[f"behaviour/excess/{rows}"]).max() < 0.1


def test_a_sampled_policy_is_asked_for_few_greedy_actions(measure: Measure, toys: SimpleNamespace) -> None:
    """They may cost 50 samples each, and the rows are spread over all steps of the rollouts."""
    asked = []

    @dataclass(frozen=True)
    class Implicit(toys.Gain):
        def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
            if rng is None:
                asked.append(obs)
            return super().act(obs, rng)

        def sample(self, obs: torch.Tensor, count: int, rng: Streams) -> torch.Tensor:
            return super().act(obs, None)[:, None].expand(-1, count, -1, -1)

    drift = toys.Told((0.05,) * 4)
    found = measure(drift, policy=Implicit(), settings=Settings(fidelity_starts=1000, fidelity_horizon=10))
    assert np.abs(found["consistency/distance"]).max() < 1e-6
    (obs,) = asked
    assert obs.shape[1] == 500
    assert obs.mean(-1).std() > 0.1  # a stride of 20 would see first steps only
