"""What the ensemble says of its cost, and its preset with the multi-step loss."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.data import Dataset, Trajectories
from core.random import Streams
from core.registry import build_method
from generators.base import start_states
from models.cache import ModelCache
from models.dynamics import DynamicsConfig
from tasks.base import DataOptions, Task, load_task

TINY = {"max_updates": 100}
ROW = 2 * (6 * 64 + 3 * 64 * 64 + 64 * 2 * 5)  # FLOP of one member: 4 + 2 inputs, four layers of 64, (s' - s, r) twice


class Still:
    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return torch.zeros(*obs.shape[:-1], 2)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("toy/linear", DataOptions(dataset_rows=3000))


def fit(name: str, task: Task, data: Dataset, folder: Path, seeds: tuple[int, ...] = (0, 1), **dynamics: Any) -> Any:
    generator = build_method("generators", name, {"preset": "smoke", "dynamics": TINY | dynamics})
    return generator.fit(task, data, ModelCache(Streams(seeds), folder), Streams(seeds))


def generate(fitted: Any, data: Dataset, seeds: tuple[int, ...] = (0, 1)) -> Trajectories:
    rng = Streams(seeds)
    made: Trajectories = fitted.generate(Still(), start_states(data, 20, rng), 8, rng.fork("generate"))
    return made


@pytest.mark.parametrize(("name", "evaluations"), [("ensemble", 1), ("mopo", 1 + 5)])
def test_a_transition_costs_one_elite_and_a_penalty_all_members(
    name: str, evaluations: int, task: Task, data: Dataset, tmp_path: Path
) -> None:
    fitted = fit(name, task, data, tmp_path)
    expected = {
        "evaluations": torch.full((2,), float(evaluations)),
        "flops": torch.full((2,), float(evaluations * ROW)),
    }
    info = generate(fitted, data).info
    assert info.keys() == expected.keys()
    assert all(info[key].dtype == torch.float32 and torch.equal(info[key], expected[key]) for key in expected)
    imagined = fitted.imagine(data.train.obs[:3].expand(2, -1, -1), torch.zeros(2, 3, 4, 2), Streams((0, 1)))
    assert imagined.info["evaluations"].tolist() == [1, 1]  # imagination is not penalised


def test_the_unrolled_preset_differs_in_the_loss_only() -> None:
    generator = build_method("generators", "ensemble", {"preset": "unrolled"})
    assert generator.dynamics == replace(DynamicsConfig(), unroll=8)
    assert replace(generator, dynamics=DynamicsConfig()) == build_method("generators", "ensemble", {})


def test_unrolled_members_generate_the_same_for_a_seed_alone(task: Task, data: Dataset, tmp_path: Path) -> None:
    tuned: dict[str, Any] = {"unroll": 4, "unroll_updates": 30, "unroll_batch": 16}
    together = generate(fit("ensemble", task, data, tmp_path / "together", **tuned), data)
    alone = generate(fit("ensemble", task, data, tmp_path / "alone", (1,), **tuned), data, (1,))
    plain = generate(fit("ensemble", task, data, tmp_path / "plain", (1,)), data, (1,))
    assert torch.equal(together.obs[1:], alone.obs)
    assert torch.equal(together.reward[1:], alone.reward)
    assert not torch.equal(plain.obs, alone.obs)
