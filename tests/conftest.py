"""Shapes are checked in every test: the annotations of our packages are enforced by beartype from here on."""

import os
from pathlib import Path

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/generators/test_contract.py --generator package.module:Class` checks a generator of yours."""
    parser.addoption("--generator", metavar="MODULE:CLASS", help="run the generators' contract on this class only")
