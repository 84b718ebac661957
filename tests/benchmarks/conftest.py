"""What tests of suites and of results folders share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite

BASE = """
tasks = ["toy/linear"]
generators = ["none", "ensemble"]
algorithms = ["td3bc"]
seeds = [0, 1]
updates = 40

[ensemble]
rollout_length = 3
dynamics = { members = 4, elites = 2 }
"""


@pytest.fixture
def spec() -> RunSpec:
    return cells(load_suite("smoke", ('generators=["none"]', "seeds=[0, 1]")))[0]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@pytest.fixture
def suite(tmp_path: Path) -> str:
    """A suite file of our own; the project's may change."""
    path = tmp_path / "mine.toml"
    path.write_text(BASE, encoding="utf-8")
    return str(path)


@pytest.fixture
def expand(suite: str) -> Callable[..., list[RunSpec]]:
    """`expand(*overrides)`: the cells of that suite."""
    return lambda *overrides: cells(load_suite(suite, overrides))
