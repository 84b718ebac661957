"""From a results folder to cells with labels and states, and to curves and their ends."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.records import Record
from benchmarks.report.results import Results, at_end, collect, error_at_end, error_by_cell, once
from benchmarks.spec import Settings
from benchmarks.store import ResultStore

MEDIAN = "compounding/policy/median"


def finish(folder: Path, build: Any, curves: dict[str, dict[int, Iterable[float | None]]]) -> Results:
    """Cells by generator; at every horizon, the error of each seed."""
    store = ResultStore(folder)
    for generator, curve in curves.items():
        records = [Record(s, 9, MEDIAN, x, h) for h, values in curve.items() for s, x in enumerate(values)]
        store.finish(build.spec("toy/linear", generator, 3), {}, records)
    return collect(store)


def test_cells_that_look_alike_are_told_apart(store: ResultStore, build: Any) -> None:
    twin = build.spec("toy/linear", "mopo", 6, iterations=9)
    store.finish(twin, {}, build.evaluations(6, 0.0))
    variants = {cell.variant for cell in collect(store).cells if (cell.task, cell.generator) == ("toy/linear", "mopo")}
    assert f"default#{twin.cell_id[-12:-6]}" in variants
    assert len(variants) == 2


def test_results_tell_the_command_where_the_plan_does(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    assert collect(store).command == ""
    store.plan("smoke", [build.spec("toy/linear", "none", 2)], "run_bench.py run smoke --seeds 2")
    assert collect(store).command == "run_bench.py run smoke --seeds 2"
    plan = tmp_path / "plan.json"
    older = {key: value for key, value in json.loads(plan.read_text()).items() if key != "command"}
    plan.write_text(json.dumps(older))
    assert collect(store).command == ""
    assert [cell.missing for cell in collect(store).cells] == [(0, 1)]


def test_every_cell_has_one_state(store: ResultStore, build: Any) -> None:
    store.finish(build.spec("toy/linear", "pgd", 1), {}, [Record(0, 100, "diverged/critic", None)])
    assert {(cell.task, cell.generator): cell.state for cell in collect(store).cells} == {
        ("toy/linear", "none"): "finished",
        ("toy/linear", "mopo"): "finished",
        ("toy/linear", "dydiff"): "failed",
        ("toy/linear", "pgd"): "diverged",
        ("local/hopper-medium", "none"): "missing",
        ("local/hopper-medium", "mopo"): "finished",
        ("local/hopper-medium", "dydiff"): "missing",
    }


def test_error_is_that_of_the_cells_own_last_step(tmp_path: Path, build: Any) -> None:
    results = finish(tmp_path, build, {"mopo": {1: [1, 2, 9], 2: [3, 4, 8]}, "synther": {1: [0.1, 0.3, 0.2]}})
    errors = error_at_end(results)
    assert errors.groupby("generator")["horizon"].unique().map(list).to_dict() == {"mopo": [2], "synther": [1]}
    assert errors.set_index(["generator", "seed"])["value"].loc["mopo"].tolist() == [3, 4, 8]


def test_error_of_a_cell_is_the_median_over_seeds(tmp_path: Path, build: Any) -> None:
    assert error_by_cell(finish(tmp_path, build, {"mopo": {1: [1, 2, 9], 2: [3, 4, 8]}})).tolist() == [4]


def test_steps_without_a_value_are_no_end(tmp_path: Path, build: Any) -> None:
    """The last step is the last at which any seed has a value; the others have none there."""
    results = finish(tmp_path, build, {"mopo": {1: [1, 1, 1], 2: [None, 5, 7], 3: [None, None, None]}})
    assert error_at_end(results)["value"].tolist() == [5, 7]


def test_only_the_last_measurement_counts(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    records = [Record(0, step, "generate/residual", step + m, m) for step in (1, 10) for m in (1, 2)]
    store.finish(build.spec("toy/linear", "dydiff", 1), {}, records)
    results = collect(store)
    assert results.last("generate/residual")["value"].tolist() == [11, 12]
    assert at_end(results, "generate/residual")["value"].tolist() == [12]


def test_numbers_that_are_no_curves_have_no_end(store: ResultStore) -> None:
    assert at_end(collect(store), "compounding/leakage").empty


def test_an_empty_folder_has_no_errors(tmp_path: Path) -> None:
    assert error_by_cell(collect(ResultStore(tmp_path))).empty


def test_what_is_computed_once_is_kept_with_the_results(store: ResultStore) -> None:
    calls = []

    @once
    def count(results: Results) -> int:
        calls.append(results)
        return len(calls)

    first = collect(store)
    assert [count(first), count(first), count(collect(store))] == [1, 1, 2]


def test_fields_that_all_cells_have_are_not_in_their_variants(tmp_path: Path, build: Any) -> None:
    named = ["train_rows=50, regularise=all, x=[1, 2]", "train_rows=700, regularise=all, x=[1, 2]"]
    store = ResultStore(tmp_path)
    for variant in named:
        spec = replace(build.spec("toy/a", "none", 5), settings=Settings(updates=len(variant)), variant=variant)
        store.finish(spec, build.provenance(5), build.evaluations(5, 0.0))
    assert {cell.variant for cell in collect(store).cells} == {"train_rows=50", "train_rows=700"}
    build.planted(tmp_path, {"none": [0.0] * 5})
    assert {cell.variant for cell in collect(store).cells} == {"default", *named}
