"""What tests of results folders share."""

from pathlib import Path

import pytest

from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite


@pytest.fixture
def spec() -> RunSpec:
    return cells(load_suite("smoke", ('generators=["none"]', "seeds=[0, 1]")))[0]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")
