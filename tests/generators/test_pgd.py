"""Policy guidance: nothing at coefficient 0, the released schedule, and actions that follow the policy."""

from typing import Any

import pytest
import torch

from core.random import Streams
from core.registry import build_method
from generators.pgd import guidance
from models.cache import ModelCache
from tasks.base import DataOptions, Task, load_task

SEEDS = (0, 1)


class Steady:
    """Always the same action, unlike the data's."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return torch.full((*obs.shape[:-1], 2), 0.9)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("toy/linear", DataOptions(dataset_rows=3000))


def generate(name: str, task: Task, models: ModelCache, length: int = 7, **fields: Any) -> Any:
    data, _ = task.dataset()
    fitted = build_method("generators", name, {"preset": "smoke", **fields}).fit(task, data, models, Streams(SEEDS))
    return fitted.generate(Steady(), data.train.obs[:40].expand(2, -1, -1), length, Streams(SEEDS))


def test_the_schedule_is_the_released_one() -> None:
    assert [round(guidance(step, 4, 2.0), 4) for step in range(4)] == [2.4243, 2.1, 1.4243, 0.0]
    assert guidance(0, 1, 5.0) == 0.0


def test_without_guidance_it_is_trajectory_number_for_number(task: Task, models: ModelCache) -> None:
    plain = generate("trajectory", task, models)
    free = generate("pgd", task, models, coefficient=0.0)
    assert torch.equal(plain.obs, free.obs)
    assert torch.equal(plain.action, free.action)
    assert not torch.equal(plain.action, generate("pgd", task, models).action)


def test_the_stronger_the_guidance_the_nearer_to_the_policy(task: Task, models: ModelCache) -> None:
    distance = [(generate("pgd", task, models, coefficient=c).action - 0.9).abs().mean() for c in (0.0, 0.3, 1.0)]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 0.5 * distance[0]


def test_a_model_without_start_generates_its_own_first_states(task: Task, models: ModelCache) -> None:
    free = {"given": "nothing", "base": "zero"}
    model = {**free, "rows": 6, "denoiser": {"dim": 8, "multipliers": [1]}, "updates": 20, "batch_size": 8}
    made = generate("pgd", task, models, length=9, model=model)
    data, _ = task.dataset()
    assert made.obs.shape == (2, 40, 10, 4)
    assert (made.obs[0, :, 0] != data.train.obs[:40]).all()
    assert made.valid[:, :, :5].all()
    assert not made.valid[:, :, 5:].any()
    low, high = (getattr(torch.cat([data.train.obs, data.train.next_obs]), side)(0) for side in ("amin", "amax"))
    assert (made.obs == made.obs.clamp(low, high)).all()  # the first states, too: they are generated
    edges = (made.obs == low) | (made.obs == high)
    assert edges[:, :, 0].any()
    assert made.info["clipped"].tolist() == pytest.approx(edges[:, :, :6].flatten(1).float().mean(1).tolist())
    for name in ("pgd", "trajectory"):
        assert not build_method("generators", name, {"model": free}).keeps_start
    plain = generate("trajectory", task, models, length=9, model=model)
    unguided = generate("pgd", task, models, length=9, model=model, coefficient=0.0)
    assert torch.equal(plain.obs, unguided.obs)
    assert torch.equal(plain.valid, unguided.valid)
    assert build_method("generators", "pgd", {}).keeps_start
