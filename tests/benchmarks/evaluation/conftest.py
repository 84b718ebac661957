"""Generators on the linear system, where every expected number is a closed form."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.evaluation.rollouts import evaluate_rollouts
from benchmarks.spec import Settings
from core.data import Dataset, Trajectories
from core.random import Streams
from tasks.base import DataOptions, Task, load_task
from tasks.sources.toy import LinearSystem

SYSTEM = LinearSystem()
SEEDS = (0, 1)
HORIZON = 10
SETTINGS = Settings(fidelity_starts=1500, fidelity_horizon=HORIZON)


@dataclass(frozen=True)
class Gain:
    """a = -K s; by default so weak that nothing is clipped where the data is."""

    gain: np.ndarray = field(default_factory=lambda: SYSTEM.optimal_gain / 3)

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return -(obs.double() @ torch.from_numpy(self.gain).T).float()


@dataclass(frozen=True)
class Exact:
    """The true system without its noise, plus a constant push per step."""

    push: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    life: int = 10**6  # steps until it claims an end
    reach: int = 10**6  # steps that it makes, at most

    def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
        return self._walk(start, length, lambda obs, step: policy.act(obs, rng).clamp(-1, 1))

    def _walk(self, start: torch.Tensor, length: int, act: Any) -> Trajectories:
        obs = [start]
        action = []
        reward = []
        for step in range(length):
            action.append(act(obs[-1], step))
            after, paid, _ = SYSTEM.step(obs[-1].double(), action[-1], None)
            obs.append((after + torch.tensor(self.push, dtype=torch.float64)).float())
            reward.append(paid.float())
        step = torch.arange(length).expand(*start.shape[:2], length)
        generated = (torch.stack(x, 2) for x in (action, obs, reward))
        return Trajectories(*generated, step == self.life - 1, step < min(self.life, self.reach))


@dataclass(frozen=True)
class Told(Exact):
    """The same under given actions."""

    def imagine(self, start: torch.Tensor, action: torch.Tensor, rng: Streams) -> Trajectories:
        return self._walk(start, action.shape[2], lambda obs, step: action[:, :, step])


@pytest.fixture(scope="session")
def task() -> Task:
    return load_task("toy/linear", DataOptions(dataset_rows=60_000))


@pytest.fixture(scope="session")
def data(task: Task) -> Dataset:
    """With a unit deviation, so that errors are in the system's own units."""
    return replace(task.dataset()[0], obs_std=torch.ones(4))


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    """What tests of the linear system share."""
    return SimpleNamespace(system=SYSTEM, seeds=SEEDS, horizon=HORIZON, Gain=Gain, Exact=Exact, Told=Told)


@pytest.fixture(scope="session")
def measure(task: Task, data: Dataset) -> Callable[..., dict[str, np.ndarray]]:
    """Every metric of a generator's rollouts by name: curves as [S, L], single values as [S]."""

    def measured(
        fitted: Any,
        *,
        policy: Any = None,
        data: Dataset = data,
        task: Task = task,
        settings: Settings = SETTINGS,
        seeds: tuple[int, ...] = SEEDS,
        **more: Any,
    ) -> dict[str, np.ndarray]:
        values = evaluate_rollouts(task, data, fitted, policy or Gain(), settings, Streams(seeds), **more)
        return {name: value.numpy() for name, value in values}

    return measured
