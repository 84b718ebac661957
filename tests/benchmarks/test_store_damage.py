"""A results folder that was torn, edited or written by another version: the file that does not hold is named."""

import gzip
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import run_bench
from benchmarks import records as module
from benchmarks.records import Record
from benchmarks.report.results import collect
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from core.errors import DataError


def records(*seeds: int, value: float | None = 1.5) -> list[Record]:
    """Two numbers of every seed."""
    return [Record(seed, step, "return", value) for seed in seeds for step in (10, 20)]


def origin(*seeds: int) -> dict[str, Any]:
    return {"seeds": list(seeds), "seconds": 1.0}


def kept(store: ResultStore, spec: RunSpec) -> Path:
    return store.root / spec.cell_id / "records.jsonl.gz"


def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def change(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda text: text[:-30], "line 4 is not a record: Invalid JSON"),
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "does not match DONE for seed 1: torn or edited"),
        (lambda text: text.replace("1.5", "1.6", 1), "does not match DONE for seed 0: torn or edited"),
        (lambda text: text + text, "does not match DONE for seed 0"),
        (lambda text: "[]\n" + text, "line 1 is not a record"),
        (lambda text: "{}\n" + text, "line 1 is not a record: seed Field required"),
        (lambda text: "", "does not match DONE for seed 0"),
        (lambda text: text.replace("1.5", "NaN", 1), "line 1 is not a record: value Input should be a finite number"),
        (lambda text: text.replace("1.5", "1e999", 1), "line 1 .*value Input should be a finite number"),
        (lambda text: text.replace("1.5", "true", 1), "line 1 .*value Input should be a valid number, got True"),
        (lambda text: text.replace('"seed": 0', '"seed": false', 1), "line 1 .*seed .* a valid integer, got False"),
        (
            lambda text: text.replace('"step": 10', '"step": -1', 1),
            "line 1 .*step .* greater than or equal to 0, got -1",
        ),
        (lambda text: text.replace('"return"', "null", 1), "line 1 .*metric Input should be a valid string, got None"),
        (lambda text: text.replace('"seed": 0', '"seed": 0, "x": 1', 1), "line 1 .*x Extra inputs are not permitted"),
        (lambda text: text.replace('"value"', '"horizon": 0, "value"', 1), "line 1 .*horizon .* equal to 1, got 0"),
        (lambda text: "[" * 100_000 + text, "line 1 is not a record: Invalid JSON: recursion limit"),
    ],
)
def test_torn_or_edited_records_are_named(store: ResultStore, spec: RunSpec, damage: Any, rule: str) -> None:
    store.finish(spec, origin(0, 1), records(0, 1))
    path = kept(store, spec)
    change(path, damage(text_of(path)))
    for ask in (lambda: store.missing(spec), lambda: store.finish(spec, origin(2), records(2))):
        with pytest.raises(DataError, match=rf"{spec.cell_id}.records\.jsonl\.gz .*({rule})"):
            ask()
    assert_left_out(store, rf"records\.jsonl\.gz .*({rule})")


def assert_left_out(store: ResultStore, reason: str) -> None:
    """A damaged cell has nothing to report but what is wrong with it."""
    (cell,) = store.cells()
    assert cell.records == []
    assert cell.done == ()
    assert cell.error is not None
    assert re.search(reason, cell.error)


def test_records_that_are_gone_or_no_text_are_named(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    path = kept(store, spec)
    path.write_bytes(b"\xff\xfe")
    assert_left_out(store, r"records\.jsonl\.gz cannot be read")
    path.unlink()
    assert_left_out(store, r"records\.jsonl\.gz cannot be read")


def test_a_torn_done_is_named(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    path = store.root / spec.cell_id / "DONE"
    whole = path.read_text()
    path.write_text(whole[:-5])
    assert_left_out(store, "DONE is not JSON")
    path.write_text(whole.replace('"0"', '"-1"'))
    assert_left_out(store, "DONE is not what it should be: seeds.-1")
    path.write_text("[]")
    assert_left_out(store, "DONE is not what it should be")


def test_a_torn_spec_is_named(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    path = store.root / spec.cell_id / "spec.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(DataError, match=rf"{spec.cell_id}.spec\.json is not JSON"):
        store.cells()
    path.write_text('{"format": 2, "spec": {}, "variant": "default", "runs": []}')
    with pytest.raises(DataError, match=r"spec\.json is not what it should be: spec\.task Field required"):
        store.cells()


def test_a_plan_that_is_none_is_named(store: ResultStore) -> None:
    store.root.mkdir()
    (store.root / "plan.json").write_text('{"format": 2, "suite": "smoke", "cells": [{"cell_id": 3}]}')
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
    path = kept(store, spec)
    change(path, text_of(path) + Record(4, 10, "return", 1.0).line() + "\n")
    assert store.strays(spec.cell_id) == [4]
    assert store.cells()[0].records == records(0)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-12], "Compressed file ended"),
        (lambda content: content[:12] + bytes([content[12] ^ 255]) + content[13:], "cannot be read"),
        (lambda content: content + b"garbage", "Not a gzipped file"),
        (lambda content: b"", "does not match DONE"),
    ],
)
def test_a_damaged_compressed_file_is_named(store: ResultStore, spec: RunSpec, damage: Any, reason: str) -> None:
    store.finish(spec, origin(0), records(0))
    path = kept(store, spec)
    path.write_bytes(damage(path.read_bytes()))
    assert_left_out(store, rf"records\.jsonl\.gz .*{reason}")


def test_records_that_decompress_without_end_are_refused(store: ResultStore, spec: RunSpec) -> None:
    """Only what may be there is decompressed."""
    store.finish(spec, origin(0), records(0))
    tracemalloc.start()
    with gzip.open(kept(store, spec), "wb", compresslevel=1) as file:
        for _ in range(2**8):
            file.write(b" " * 2**20)
    assert_left_out(store, r"records\.jsonl\.gz must hold at most 134217728 bytes of records, got more")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * module.MAX_BYTES


OLD = r"was written by RolloutBench 0\.1\.0 \(commit 6684090\).* reads format 2"


@pytest.mark.parametrize("name", ["plan.json", "spec.json"])
def test_a_folder_of_version_0_1_0_is_refused_by_name(store: ResultStore, spec: RunSpec, name: str) -> None:
    store.plan("smoke", [spec])
    store.finish(spec, origin(0), records(0))
    (path,) = store.root.rglob(name)
    described = json.loads(path.read_text())
    del described["format"]
    path.write_text(json.dumps(described))
    for ask in (lambda: collect(store), lambda: store.plan("smoke", [spec])):
        with pytest.raises(DataError, match=f"{name} {OLD}"):
            ask()


@pytest.mark.parametrize("command", [["report"], ["status"], ["verify"], ["run", "smoke", "--out"]])
def test_every_command_refuses_a_folder_of_0_1_0(
    store: ResultStore, spec: RunSpec, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store.finish(spec, origin(0), records(0))
    path = store.root / spec.cell_id / "spec.json"
    path.write_text(path.read_text().replace('"format": 2,', ""))
    before = sorted(store.root.rglob("*"))
    assert run_bench.main([*command, str(store.root)]) == 1
    assert re.search(f"spec.json {OLD}", "".join(capsys.readouterr()))
    assert sorted(store.root.rglob("*")) == before


def test_a_folder_of_a_later_version_is_refused_by_name(store: ResultStore, spec: RunSpec) -> None:
    store.plan("smoke", [spec])
    path = store.root / "plan.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(DataError, match=r"plan\.json has format 3, which only the version .* that wrote it can read"):
        store.planned()
