"""Whole cells on the emulated GPU: fits, updates as graphs, generation, evaluation, every metric, resuming."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.execution.cell import run_cell
from benchmarks.records import Record
from benchmarks.spec import Method, RunSpec, Settings
from core.registry import build_method
from models.behaviour import BehaviourConfig
from tasks.base import DataOptions, Task, load_task

CUDA = torch.device("cuda")
SETTINGS = Settings(
    updates=6, evaluate_every=6, episodes=1, dataset_rows=600, fidelity_starts=4, fidelity_horizon=3, real_fraction=0.5
)


@pytest.fixture(scope="module")
def toy() -> Task:
    return load_task("toy/linear", SETTINGS.data_options(None))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells share pretrained models."""
    return tmp_path_factory.mktemp("models")


def run(task: Task, generator: Any, algorithm: Any, models: Path, folder: Path | None = None) -> list[Record]:
    spec = RunSpec(task.name, Method("generator", generator), Method("algorithm", algorithm), SETTINGS, (0, 1))
    records, card = run_cell(spec, task, CUDA, folder, models_folder=models)
    assert card["device"] == "emulated"
    return records


@pytest.fixture
def td3bc(small: Any) -> Any:
    return small(build_method("algorithms", "td3bc", {}))


@pytest.fixture
def ensemble(small: Any) -> Any:
    return small(build_method("generators", "ensemble", {}))


def test_every_generator(gpu: Any, toy: Task, models: Path, any_generator: Any, td3bc: Any) -> None:
    """On data whose behaviour policy is known: its density is asked on the device."""
    metrics = {record.metric for record in run(toy, any_generator, td3bc, models)}
    assert any_generator.rollouts == 0 or {"compounding/policy/median", "behaviour/excess/generated"} <= metrics


def test_every_algorithm(gpu: Any, toy: Task, models: Path, ensemble: Any, any_algorithm: Any) -> None:
    metrics = {record.metric for record in run(toy, ensemble, any_algorithm, models)}
    assert "consistency/distance" in metrics


def test_data_of_an_unknown_policy(
    gpu: Any, toy: Task, models: Path, ensemble: Any, td3bc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its density is fitted."""
    quick = partial(BehaviourConfig, hidden=(8,), max_updates=4, check_every=2)
    monkeypatch.setattr("benchmarks.evaluation.rollouts.BehaviourConfig", quick)
    metrics = {record.metric for record in run(replace(toy, behaviour=None), ensemble, td3bc, models)}
    assert "behaviour/excess/generated" in metrics


def test_a_physics_simulator(gpu: Any, models: Path, small: Any, td3bc: Any) -> None:
    """It computes on the CPU: states go there, rows come back."""
    task = load_task("local/hopper-random", DataOptions(dataset_rows=600))
    metrics = {record.metric for record in run(task, small(build_method("generators", "simulator", {})), td3bc, models)}
    assert {"compounding/logged/median", "behaviour/excess/generated"} <= metrics


def test_a_resumed_cell_equals_an_undisturbed_one(
    gpu: Any, toy: Task, models: Path, small: Any, ensemble: Any, tmp_path: Path, numbers: Any, monkeypatch: Any
) -> None:
    """With a learning rate that changes."""
    monkeypatch.setenv("ROLLOUTBENCH_CHECKPOINT_SECONDS", "0")
    iql = small(build_method("algorithms", "iql", {}))
    whole = run(toy, ensemble, iql, models, tmp_path)
    newest = max(tmp_path.glob("*.json"))
    newest.unlink()
    assert list(tmp_path.glob("*.json"))
    assert numbers(run(toy, ensemble, iql, models, tmp_path)) == numbers(whole)
