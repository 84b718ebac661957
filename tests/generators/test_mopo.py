"""MOPO's penalty by hand, and that everything else is the ensemble generator's."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.data import Dataset, Trajectories
from core.random import Streams
from core.registry import build_method
from generators.base import start_states
from generators.mopo import penalized, uncertainty
from models.cache import ModelCache
from tasks.base import DataOptions, Task, load_task

SEEDS = (0, 1)
TINY = {"max_updates": 200}


class Pushing:
    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        noise = 0.0 if rng is None else 0.5 * rng.normal(*obs.shape[1:-1], 2)
        return (-obs[..., :2] + noise).clamp(-1, 1)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("toy/linear", DataOptions(dataset_rows=3000))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of models for all generators of this file."""
    return tmp_path_factory.mktemp("models")


def fit(name: str, task: Task, data: Dataset, folder: Path, **fields: Any) -> Any:
    rng = Streams(SEEDS)
    generator = build_method("generators", name, {"preset": "smoke", "dynamics": TINY, **fields})
    return generator.fit(task, data, ModelCache(rng.fork("models"), folder), rng.fork("fit"))


def generate(fitted: Any, data: Dataset) -> Trajectories:
    rng = Streams(SEEDS)
    made: Trajectories = fitted.generate(Pushing(), start_states(data, 50, rng), 4, rng.fork("generate"))
    return made


def test_uncertainty_by_hand() -> None:
    """Member 2: |(2, 3, 6)|, the reward's 6 included; member 1: |(1, 2, 2)| = 3."""
    std = torch.tensor([[1.0, 2.0, 2.0], [2.0, 3.0, 6.0]])[None, :, None]
    assert uncertainty(std).item() == pytest.approx(7.0)


def test_penalty_by_hand() -> None:
    assert penalized(torch.full((1, 1, 2), 5.0), torch.tensor([[[1.0, 2.0]]]), 0.5).tolist() == [[[4.5, 4.0]]]


def test_without_a_penalty_it_is_the_ensemble_bit_for_bit(task: Task, data: Dataset, folder: Path) -> None:
    plain = generate(fit("ensemble", task, data, folder), data)
    before = sorted(path.name for path in folder.glob("*.safetensors"))
    made = generate(fit("mopo", task, data, folder, penalty=0.0), data)
    assert all(torch.equal(value, getattr(plain, name)) for name, value in vars(made).items() if name != "info")
    assert sorted(path.name for path in folder.glob("*.safetensors")) == before
    assert len(before) == 2


def test_only_the_reward_of_valid_steps_is_lowered(task: Task, data: Dataset, folder: Path) -> None:
    plain, made = (generate(fit(name, task, data, folder), data) for name in ("ensemble", "mopo"))
    for name in ("obs", "action", "terminated", "valid"):
        assert torch.equal(getattr(made, name), getattr(plain, name))
    assert (made.reward < plain.reward)[made.valid].all()


@pytest.mark.parametrize("units", ["standard", "environment"])
def test_the_penalty_is_lambda_times_the_largest_norm(task: Task, data: Dataset, folder: Path, units: str) -> None:
    fitted = fit("mopo", task, data, folder, penalty=2.0, units=units)
    plain = generate(fitted.plain, data)
    made = generate(fitted, data)
    obs = made.obs[:, :, 2]
    action = made.action[:, :, 2]
    std = fitted.model.predict(obs, action)[1]
    scale = fitted.model.output.scale
    assert std.shape[1] == 5 > fitted.model.elites.shape[1]
    for seed in range(2):
        own = std[seed] / (scale[seed] if units == "standard" else 1)
        doubt = torch.stack([member.square().sum(-1).sqrt() for member in own]).amax(0)
        unit = scale[seed, 0, -1] if units == "standard" else 1
        assert torch.allclose(made.reward[seed, :, 2], plain.reward[seed, :, 2] - 2 * doubt * unit, atol=1e-5)


def test_imagination_is_not_penalised(task: Task, data: Dataset, folder: Path) -> None:
    fitted = fit("mopo", task, data, folder)
    rng = Streams(SEEDS)
    start = start_states(data, 9, rng)
    action = 2 * rng.uniform(9, 3, 2) - 1
    made, plain = (x.imagine(start, action, Streams(SEEDS, "imagine")) for x in (fitted, fitted.plain))
    assert torch.equal(made.reward, plain.reward)
    assert torch.equal(made.obs, plain.obs)
