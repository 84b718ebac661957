"""Shapes are checked in every test: the annotations of our packages are enforced by beartype from here on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import install_import_hook

PACKAGES = ["core", "tasks", "models", "generators", "algorithms", "metrics", "benchmarks"]
install_import_hook(PACKAGES, "beartype.beartype")

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)  # tests run side by side; two threads each would only wait


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder, without any of the user's datasets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Overrides that make `smoke` two cells (none and ensemble) of a second each."""
    settings = ("updates=6", "evaluate_every=3", "episodes=2", "dataset_rows=1000")
    fidelity = ("fidelity_starts=4", "fidelity_horizon=3")
    ensemble = ("ensemble.dynamics.max_updates=4", "ensemble.dynamics.check_every=2", "ensemble.rollouts=8")
    return ('generators=["none","ensemble"]', *settings, *fidelity, *ensemble)


@pytest.fixture
def never() -> Callable[..., Any]:
    """In place of a function that must not be called."""

    def fail(*arguments: Any) -> Any:
        raise AssertionError("nothing was to be run")

    return fail


@pytest.fixture
def numbers() -> Callable[[list[Any]], list[str]]:
    """Records as lines, without costs: they are the same in every run."""
    return lambda records: [record.line() for record in records if not record.metric.startswith("cost/")]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/generators/test_contract.py --generator package.module:Class` checks a generator of yours."""
    parser.addoption("--generator", metavar="MODULE:CLASS", help="run the generators' contract on this class only")
