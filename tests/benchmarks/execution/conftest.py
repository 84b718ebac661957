"""Cells of a second each."""

from collections.abc import Callable

import pytest

from benchmarks.spec import RunSpec
from benchmarks.suite import cells, load_suite


@pytest.fixture
def tiny_cells(tiny: tuple[str, ...]) -> Callable[..., list[RunSpec]]:
    """`tiny_cells(*overrides)`: the two cells of `tiny`, changed."""
    return lambda *overrides: cells(load_suite("smoke", (*tiny, *overrides)))
