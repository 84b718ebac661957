"""Every generator, with every preset, and every model on the emulated GPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from core.buffer import Buffer
from core.checkpoint import Checkpoint
from core.data import Dataset, Trajectories
from core.filter import Filter, Mode
from core.random import Streams
from generators.base import ActionConditioned, start_states
from models.behaviour import BehaviourConfig
from models.cache import FitContext, ModelCache, ModelConfig
from tasks.base import DataOptions, Task, load_task

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("toy/linear", DataOptions(dataset_rows=600))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Presets share models."""
    return tmp_path_factory.mktemp("models")


class Linear:
    """Explores with its rng; greedy without."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        mean = -0.5 * obs[..., :2]
        return (mean if rng is None else mean + 0.1 * rng.normal(*mean.shape[1:])).clamp(-1, 1)


def on_gpu(made: Trajectories) -> bool:
    return all(x.is_cuda for name, x in (vars(made) | made.info).items() if name != "info")


def test_rollouts_are_on_the_device(gpu: Any, task: Task, cache: Path, generator: Any) -> None:
    """From the fit to the rows of the buffer."""
    rng = Streams(SEEDS, device="cuda")
    data = task.dataset()[0].to("cuda")
    fitted = generator.fit(task, data, ModelCache(rng.fork("models"), cache), rng.fork("fit"))
    start = start_states(data, 5, rng.fork("start"))
    made = fitted.generate(Linear(), start, generator.rollout_length, rng.fork("generate")).finite()
    assert on_gpu(made)
    if isinstance(fitted, ActionConditioned):
        action = 2 * rng.fork("actions").uniform(5, 9, 2) - 1  # more steps than a small sequence model has rows
        assert on_gpu(fitted.imagine(start, action, rng.fork("imagine")))
    if not made.valid.shape[1]:
        return
    kept = [generator.filter.apply(made, rng.fork("filter"))]
    kept += [Filter(mode=mode).apply(made, rng.fork("filter")) for mode in get_args(Mode)]
    assert all(map(on_gpu, kept))
    buffer = Buffer(len(SEEDS), 50, 4, 2, "cuda")
    buffer.add(*kept[0].transitions())
    assert buffer.rows.is_cuda


def kinds(kind: type[Any] = ModelConfig) -> list[type[Any]]:
    """Every configuration of a model that the generators and metrics above have imported."""
    below = [found for child in kind.__subclasses__() for found in kinds(child)]
    return below + ([] if kind.__abstractmethods__ else [kind])


def config_of(kind: type[Any]) -> Any:
    return kind(smoothing=0.2) if kind is BehaviourConfig else kind()


def with_ends(data: Dataset) -> Dataset:
    """Some rows are ends, or a classifier of ends has nothing to learn."""
    return replace(data, train=replace(data.train, terminated=data.train.obs[:, 0] > data.obs_mean[0]))


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_resumed_fit_equals_an_undisturbed_one(
    gpu: Any, small: Callable, task: Task, cache: Path, tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLLOUTBENCH_CHECKPOINT_SECONDS", "0")
    config = small(config_of(kind))
    rng = Streams(SEEDS, device="cuda")
    data = with_ends(task.dataset()[0]).to("cuda")
    needs = [ModelCache(rng.fork("models"), cache).get(need, data) for need in config.needs]

    def fit() -> dict[str, torch.Tensor]:
        model = config.init(4, 2, rng.fork("init"))
        config.fit(model, data, FitContext(rng.fork("fit"), Checkpoint(tmp_path)), *needs)
        return dict(model.state_dict())

    whole = fit()
    newest = max(tmp_path.rglob("*.json"), key=lambda path: path.stem)
    newest.unlink()
    assert list(tmp_path.rglob("*.json"))
    for name, value in fit().items():
        assert value.is_cuda
        assert torch.equal(value.cpu(), whole[name].cpu()), name
