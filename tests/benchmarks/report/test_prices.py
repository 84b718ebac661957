"""Seconds of a cell, and their multiple of generator none."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.prices import price_multiples, run_seconds
from benchmarks.report.results import Results, collect
from benchmarks.store import Record, ResultStore


def folder(root: Path, build: Any, **costs: dict[str, float | None]) -> Results:
    """Cells of these generators with these seconds, and a second more for every seed."""
    store = ResultStore(root)
    for generator, seconds in costs.items():
        records = [
            Record(seed, 100, f"cost/{metric}_seconds", None if value is None else value + seed)
            for seed in (0, 1)
            for metric, value in seconds.items()
        ]
        store.finish(build.spec("toy/linear", generator, 2), build.provenance(2), records)
    return collect(store)


def by_generator(results: Results, numbers: Any) -> dict[str, float]:
    return {cell.generator: numbers[cell.cell_id] for cell in results.cells if cell.cell_id in numbers}


def test_price_is_training_generation_and_models(tmp_path: Path, build: Any) -> None:
    """Means over two seeds are half a second above the first's; the evaluation is not counted."""
    seconds = {"update": 3.0, "generate": 1.0, "model": 2.0, "evaluate": 100.0}
    results = folder(tmp_path, build, none={"update": 3.0}, mopo=seconds)
    assert by_generator(results, run_seconds(results)) == {"none": 3.5, "mopo": 7.5}
    assert by_generator(results, price_multiples(results)) == {"none": 1.0, "mopo": pytest.approx(7.5 / 3.5)}


def test_without_a_partner_there_is_no_multiple(tmp_path: Path, build: Any) -> None:
    results = folder(tmp_path, build, mopo={"update": 3.0})
    assert all(math.isnan(value) for value in price_multiples(results))


@pytest.mark.parametrize("costs", [{"update": None, "model": 0.0}, {"model": 0.0}])
def test_unknown_seconds_are_not_none_at_all(tmp_path: Path, build: Any, costs: dict[str, float | None]) -> None:
    """A sum over what is not defined is not defined, and updates take time in every cell."""
    results = folder(tmp_path, build, none=costs)
    assert run_seconds(results).dropna().empty
    assert price_multiples(results).dropna().empty
