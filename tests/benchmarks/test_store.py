"""A results folder survives kills, edits and later seeds, or says which file does not."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import store as module
from benchmarks.spec import RunSpec
from benchmarks.store import Record, ResultStore
from benchmarks.suite import cells, load_suite
from core.errors import DataError


@pytest.fixture
def spec() -> RunSpec:
    return cells(load_suite("smoke", ('generators=["none"]', "seeds=[0, 1]")))[0]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def records(*seeds: int, value: float | None = 1.5) -> list[Record]:
    """Two numbers of every seed."""
    return [Record(seed, step, "return", value) for seed in seeds for step in (10, 20)]


def origin(*seeds: int) -> dict[str, Any]:
    return {"seeds": list(seeds), "seconds": 1.0}


def test_what_is_finished_is_not_missing_and_reads_back(store: ResultStore, spec: RunSpec) -> None:
    assert store.missing(spec) == (0, 1)
    assert store.cells() == []
    store.finish(spec, origin(0, 1), records(0, 1))
    (cell,) = store.cells()
    assert store.missing(spec) == ()
    assert (cell.cell_id, cell.variant, cell.done, cell.error) == (spec.cell_id, "default", (0, 1), None)
    assert cell.spec == spec.describe()
    assert cell.records == records(0, 1)
    assert cell.runs == [{**origin(0, 1), "status": "ok"}]


def test_records_of_mixed_seeds_are_kept_by_seed_in_their_order(store: ResultStore, spec: RunSpec) -> None:
    mixed = [Record(seed, step, "return", None) for step in (10, 20) for seed in (1, 0)]
    store.finish(spec, origin(0, 1), mixed)
    assert [(record.seed, record.step) for record in store.cells()[0].records] == [(0, 10), (0, 20), (1, 10), (1, 20)]


def test_later_seeds_leave_the_lines_of_earlier_ones_alone(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(1), records(1))
    before = (store.root / spec.cell_id / "records.jsonl").read_text().splitlines()
    more = replace(spec, seeds=(0, 1, 7))
    assert store.missing(more) == (0, 7)
    store.finish(more, origin(0, 7), records(0, 7, value=2.5))
    assert store.missing(more) == ()
    (cell,) = store.cells()
    assert cell.done == (0, 1, 7)
    assert [record for record in cell.records if record.seed == 1] == records(1)
    assert [run["seeds"] for run in cell.runs] == [[1], [0, 7]]
    assert set(before) < set((store.root / spec.cell_id / "records.jsonl").read_text().splitlines())


def test_cells_do_not_mix(store: ResultStore, spec: RunSpec) -> None:
    other = replace(spec, settings=spec.settings.model_copy(update={"updates": 3}))
    store.finish(spec, origin(0), records(0))
    store.finish(other, origin(1), records(1))
    assert store.missing(spec) == (1,)
    assert store.missing(other) == (0,)
    assert [cell.cell_id for cell in store.cells()] == sorted([spec.cell_id, other.cell_id])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
def test_what_is_not_finite_becomes_null(store: ResultStore, spec: RunSpec, value: float | None) -> None:
    store.finish(spec, origin(0), records(0, value=value))
    assert "NaN" not in (text := (store.root / spec.cell_id / "records.jsonl").read_text())
    assert "Inf" not in text
    assert [json.loads(line)["value"] for line in text.splitlines()] == [None, None]
    assert store.cells()[0].records == records(0, value=None)


def test_values_read_back_exactly(store: ResultStore, spec: RunSpec) -> None:
    values = (0.1 + 0.2, 1e-300, -0.0, 2.0**60)
    store.finish(spec, origin(0), [Record(0, 1, "x", value) for value in values])
    assert [record.value for record in store.cells()[0].records] == list(values)


def test_a_failure_is_kept_until_a_run_succeeds(store: ResultStore, spec: RunSpec) -> None:
    store.fail(spec, {"seeds": [0, 1]}, "Traceback: no luck")
    (cell,) = store.cells()
    assert (cell.error, cell.done, cell.records) == ("Traceback: no luck", (), [])
    assert [run["status"] for run in cell.runs] == ["failed"]
    assert store.missing(spec) == (0, 1)
    store.finish(spec, origin(0, 1), records(0, 1))
    (cell,) = store.cells()
    assert cell.error is None
    assert [run["status"] for run in cell.runs] == ["failed", "ok"]
    assert not (store.root / spec.cell_id / "error.txt").exists()


def test_a_failure_leaves_finished_seeds_alone(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    store.fail(spec, {"seeds": [1]}, "Traceback")
    (cell,) = store.cells()
    assert cell.done == (0,)
    assert cell.records == records(0)
    assert cell.error == "Traceback"
    assert store.missing(spec) == (1,)


def test_a_kill_before_done_runs_the_seeds_again(
    store: ResultStore, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.finish(spec, origin(0), records(0))
    write = module.write_json

    def killed(path: Path, value: Any) -> None:
        if path.name == "DONE":
            raise KeyboardInterrupt
        write(path, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_json", killed)
        store.finish(spec, origin(1), records(1, value=9.0))
    assert "9.0" in (store.root / spec.cell_id / "records.jsonl").read_text()
    assert store.missing(spec) == (1,)
    assert store.cells()[0].records == records(0)  # what DONE does not vouch for does not count
    store.finish(spec, origin(1), records(1))
    assert store.cells()[0].records == records(0, 1)
    assert store.missing(spec) == ()


def test_a_kill_before_the_first_done(store: ResultStore, spec: RunSpec) -> None:
    folder = store.root / spec.cell_id
    store.finish(spec, origin(0, 1), records(0, 1))
    (folder / "DONE").unlink()
    assert store.missing(spec) == (0, 1)
    assert store.cells()[0].records == []
    store.finish(spec, origin(0, 1), records(0, 1))
    assert store.cells()[0].records == records(0, 1)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda text: text[:-30], r"line 4 is not a record: '\{\"seed\"|does not match DONE"),
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "does not match DONE for seed 1: torn or edited"),
        (lambda text: text.replace("1.5", "1.6", 1), "does not match DONE for seed 0: torn or edited"),
        (lambda text: text + text, "does not match DONE for seed 0"),
        (lambda text: "[]\n" + text, r"line 1 is not a record: '\[\]'"),
        (lambda text: "{}\n" + text, r"line 1 is not a record"),
        (lambda text: "", "does not match DONE for seed 0"),
        (lambda text: text.replace("1.5", "NaN", 1), r"line 1 is not a record: .* \(NaN is not JSON\)"),
        (lambda text: text.replace("1.5", "1e999", 1), r"line 1 .* \(value must be a finite number or null, got inf"),
        (lambda text: text.replace("1.5", "true", 1), r"line 1 .* \(value must be a finite number or null, got True"),
        (
            lambda text: text.replace('"seed": 0', '"seed": false', 1),
            "line 1 .*seed must be a natural number, got False",
        ),
        (lambda text: text.replace('"step": 10', '"step": -1', 1), "line 1 .*step must be a natural number, got -1"),
        (lambda text: text.replace('"return"', "null", 1), "line 1 .*metric must be text, got None"),
        (lambda text: text.replace('"seed": 0', '"seed": 1, "seed": 0', 1), "line 1 .*a key is there twice"),
        (lambda text: text.replace('"seed": 0', '"seed": []', 1), "line 1 .*seed must be a natural number"),
        (lambda text: "[" * 100_000 + text, "line 1 is not a record"),
    ],
)
def test_torn_or_edited_records_are_named(store: ResultStore, spec: RunSpec, damage: Any, rule: str) -> None:
    store.finish(spec, origin(0, 1), records(0, 1))
    path = store.root / spec.cell_id / "records.jsonl"
    path.write_text(damage(path.read_text()))
    for ask in (lambda: store.missing(spec), lambda: store.finish(spec, origin(2), records(2))):
        with pytest.raises(DataError, match=rf"{spec.cell_id}.records\.jsonl .*({rule})"):
            ask()
    assert_left_out(store, rf"records\.jsonl .*({rule})")


def assert_left_out(store: ResultStore, reason: str) -> None:
    """A damaged cell has nothing to report but what is wrong with it."""
    (cell,) = store.cells()
    assert cell.records == []
    assert cell.done == ()
    assert cell.error is not None
    assert re.search(reason, cell.error)


def test_records_that_are_gone_or_no_text_are_named(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    path = store.root / spec.cell_id / "records.jsonl"
    path.write_bytes(b"\xff\xfe")
    assert_left_out(store, r"records\.jsonl cannot be read")
    path.unlink()
    assert_left_out(store, r"records\.jsonl cannot be read")


def test_a_torn_done_is_named(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    path = store.root / spec.cell_id / "DONE"
    whole = path.read_text()
    path.write_text(whole[:-5])
    assert_left_out(store, "DONE is not JSON")
    path.write_text(whole.replace('"0"', '"-1"'))
    assert_left_out(store, "DONE is not what it should be: seeds")
    path.write_text("[]")
    assert_left_out(store, "DONE is not what it should be")


def test_a_torn_spec_is_named(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    path = store.root / spec.cell_id / "spec.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(DataError, match=rf"{spec.cell_id}.spec\.json is not JSON"):
        store.cells()
    path.write_text('{"spec": {}, "variant": "default", "runs": []}')
    with pytest.raises(DataError, match=r"spec\.json is not what it should be: spec\.task Field required"):
        store.cells()


def test_a_plan_that_is_none_is_named(store: ResultStore) -> None:
    store.root.mkdir()
    (store.root / "plan.json").write_text('{"suite": "smoke", "cells": [{"cell_id": 3}]}')
    with pytest.raises(DataError, match=r"plan\.json is not what it should be: cells\.0"):
        store.planned()


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('"updates": 200', '"updates": 300', "must describe the cell of its folder, got .*: edited or renamed"),
        ('"name": "none"', '"name": "mopo"', "must describe the cell of its folder, got toy-linear--mopo"),
        ('"heldout": 0.1', '"heldout": 1e999', "must describe a cell: Out of range float"),
    ],
)
def test_an_edited_spec_is_named(store: ResultStore, spec: RunSpec, old: str, new: str, rule: str) -> None:
    store.finish(spec, origin(0), records(0))
    path = store.root / spec.cell_id / "spec.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert_left_out(store, rf"spec\.json {rule}")


def test_a_renamed_cell_is_named(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    (store.root / spec.cell_id).rename(store.root / "another--cell")
    assert_left_out(store, r"another--cell.spec\.json must describe the cell of its folder, got toy-linear--none")


def test_records_of_seeds_that_are_not_done_are_strays(store: ResultStore, spec: RunSpec) -> None:
    assert store.strays(spec.cell_id) == []
    store.finish(spec, origin(0), records(0))
    assert store.strays(spec.cell_id) == []
    with (store.root / spec.cell_id / "records.jsonl").open("a") as file:
        file.write(Record(4, 10, "return", 1.0).line() + "\n")
    assert store.strays(spec.cell_id) == [Record(4, 10, "return", 1.0)]
    assert store.cells()[0].records == records(0)


def test_a_run_that_was_killed_before_done_is_no_run(store: ResultStore, spec: RunSpec) -> None:
    """Its seeds run again, and only that run is remembered."""
    store.finish(spec, origin(0), records(0))
    (store.root / spec.cell_id / "DONE").unlink()
    store.finish(spec, origin(0, 1), records(0, 1))
    (cell,) = store.cells()
    assert [run["seeds"] for run in cell.runs] == [[0, 1]]


def test_the_plan_is_what_was_asked_for_last(store: ResultStore, spec: RunSpec) -> None:
    assert store.planned() == {}
    store.plan("first", [spec])
    store.plan("second", [replace(spec, seeds=(4,), variant="updates=4")])
    plan = store.planned()
    assert plan["suite"] == "second"
    (cell,) = plan["cells"]
    assert (cell["cell_id"], cell["seeds"], cell["variant"]) == (spec.cell_id, [4], "updates=4")
    assert {key: cell[key] for key in spec.describe()} == spec.describe()
    assert store.cells() == []
    assert store.missing(spec) == (0, 1)
