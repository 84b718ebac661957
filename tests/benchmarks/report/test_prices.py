"""Seconds of a cell, and their multiple of generator none."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.prices import flop_in_all, flop_multiples, price_multiples, run_seconds
from benchmarks.report.results import Results, collect
from benchmarks.store import ResultStore


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


@pytest.mark.parametrize(("spent", "mean"), [((2e9, 4e9), 3e9), ((2e9, None), None)])
def test_flop_of_a_cell_are_the_mean_of_its_seeds(
    tmp_path: Path, build: Any, spent: tuple[float | None, ...], mean: float | None
) -> None:
    """One seed that is not known leaves the mean unknown, not smaller."""
    store = ResultStore(tmp_path)
    for generator, factor in (("none", 1), ("mopo", 5)):
        records = [
            Record(seed, 100, "cost/total_flop", None if flop is None else factor * flop)
            for seed, flop in enumerate(spent)
        ]
        store.finish(build.spec("toy/linear", generator, 2), build.provenance(2), records)
    results = collect(store)
    flop, multiples = (by_generator(results, found(results)) for found in (flop_in_all, flop_multiples))
    if mean is None:
        assert all(math.isnan(value) for value in (*flop.values(), *multiples.values()))
    else:
        assert flop == {"none": mean, "mopo": 5 * mean}
        assert multiples == {"none": 1.0, "mopo": 5.0}


def test_a_folder_without_flop_has_no_multiples(tmp_path: Path, build: Any) -> None:
    results = folder(tmp_path, build, none={"update": 3.0})
    assert flop_in_all(results).empty
    assert flop_multiples(results).empty
