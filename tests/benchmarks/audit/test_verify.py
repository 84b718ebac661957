"""A good folder passes; whatever somebody does to it is found, and the file and the rule are named."""

import gzip
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run_bench
from benchmarks.audit.verify import verify
from benchmarks.records import Record
from benchmarks.report import report
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite

Tamper = Callable[[Path, Path], object]  # gets the folder and one of its cells


def specs() -> list[RunSpec]:
    """Two generators on two tasks; all four cells are done."""
    names = ('tasks=["toy/linear","d4rl/hopper-medium-v2"]', 'generators=["none","ensemble"]')
    return cells(load_suite("smoke", (*names, "dataset_rows=100_000")))


def origin(*seeds: int) -> dict[str, Any]:
    return {
        "seeds": list(seeds), "physics": "toy v1", "dataset_sha256": "ab" * 32, "commit": "c" * 40, "dirty": False,
        "versions": {"torch": "2.13.0"}, "device": "cpu x86_64", "started": "2026-01-01T00:00:00+00:00", "seconds": 1.5,
    }  # fmt: skip


def records(*seeds: int, scored: bool = True) -> list[Record]:
    return [
        record
        for seed in seeds
        for step in (50, 100, 150, 200)
        for record in (
            Record(seed, step, "return", seed + step / 3),
            Record(seed, step, "normalized_score", seed + step / 3 if scored else None),
        )
    ]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with its report; to copy."""
    store = ResultStore(tmp_path_factory.mktemp("good") / "results")
    store.plan("smoke", specs())
    for spec in specs():
        scored = spec.task == "toy/linear"  # one task has nothing to bootstrap: fast
        store.finish(spec, origin(1), records(1, scored=scored))
        store.finish(spec, origin(0), records(0, scored=scored))
    report(store)
    return store.root


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "sent")


def cell_of(folder: Path) -> Path:
    return folder / specs()[0].cell_id


def content(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_good_folder_passes_and_is_left_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(folder)
    assert verify(folder) == []
    assert run_bench.main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out == "4 cells, 8 seeds, 64 records: everything holds\n"
    assert content(folder) == before


def test_cells_that_failed_or_go_on_are_no_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is a folder without a plan and a report, nor one whose plan asks for more."""
    store = ResultStore(folder)
    (failed, going, *_) = cells(load_suite("smoke", ('generators=["mopo","synther"]',)))
    store.fail(failed, origin(0, 1), "Traceback")
    (folder / going.cell_id / "checkpoint" / "0").mkdir(parents=True)
    (folder / going.cell_id / "checkpoint" / "0" / "weights").write_bytes(b"\0")
    (folder / going.cell_id / "LEASE").touch()
    store.plan("smoke", [*specs(), failed, going])
    (cell_of(folder) / "LEASE").touch()
    shutil.rmtree(folder / "report")
    assert verify(folder) == []
    assert run_bench.main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out == (
        "5 cells, 8 seeds, 64 records: everything holds; planned seeds without a result: 4\n"
    )
    (folder / "plan.json").unlink()
    assert verify(folder) == []


def test_a_checkpoint_of_a_cell_that_goes_on_may_stay(folder: Path) -> None:
    (cell_of(folder) / "checkpoint").mkdir()
    plan = json.loads((folder / "plan.json").read_text())
    for entry in plan["cells"]:
        entry["seeds"] = [0, 1, 2]
    (folder / "plan.json").write_text(json.dumps(plan))
    shutil.rmtree(folder / "report")  # it says nothing of the seed that is missing now
    assert verify(folder) == []


def lines_of(cell: Path) -> list[str]:
    return gzip.decompress((cell / "records.jsonl.gz").read_bytes()).decode().splitlines()


def lines(change: Callable[[list[str]], list[str]]) -> Tamper:
    """Other lines in the records."""

    def tamper(_: Path, cell: Path) -> None:
        changed = change(lines_of(cell))
        (cell / "records.jsonl.gz").write_bytes(gzip.compress("".join(line + "\n" for line in changed).encode()))

    return tamper


def signed(change: Callable[[list[str]], list[str]]) -> Tamper:
    """Other lines, and a DONE that vouches for them."""

    def tamper(folder: Path, cell: Path) -> None:
        lines(change)(folder, cell)
        kept = lines_of(cell)
        by_seed = {seed: [line for line in kept if f'"seed": {seed},' in line] for seed in (0, 1)}
        digests = {str(s): hashlib.sha256("\n".join(kept).encode()).hexdigest() for s, kept in by_seed.items()}
        (cell / "DONE").write_text(json.dumps({"seeds": digests}))

    return tamper


def first(old: str, new: str) -> Callable[[list[str]], list[str]]:
    """Replace something in the first line."""

    def change(lines: list[str]) -> list[str]:
        assert old in lines[0]
        return [lines[0].replace(old, new), *lines[1:]]

    return change


def edit(name: str, old: str, new: str) -> Tamper:
    """Replace something in a file of the folder; a bare name is a file of the cell."""

    def tamper(folder: Path, cell: Path) -> None:
        path = folder / name if "/" in name or name == "plan.json" else cell / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return tamper


def link(folder: Path, cell: Path) -> None:
    (cell / "records.jsonl.gz").rename(folder.parent / "elsewhere")
    (cell / "records.jsonl.gz").symlink_to(folder.parent / "elsewhere")


def link_to_cell(folder: Path, cell: Path) -> None:
    cell.rename(folder.parent / "elsewhere")
    cell.symlink_to(folder.parent / "elsewhere")


def binary(_: Path, cell: Path) -> None:
    (cell / "records.jsonl.gz").write_bytes(bytes(range(256)))


def both(_: Path, cell: Path) -> None:
    (cell / "records.jsonl").write_text("".join(line + "\n" for line in lines_of(cell)))


def without_runs(_: Path, cell: Path) -> None:
    described = json.loads((cell / "spec.json").read_text())
    (cell / "spec.json").write_text(json.dumps({**described, "runs": []}))


def twice_run(_: Path, cell: Path) -> None:
    described = json.loads((cell / "spec.json").read_text())
    (cell / "spec.json").write_text(json.dumps({**described, "runs": described["runs"] * 2}))


def empty_seed(_: Path, cell: Path) -> None:
    done = json.loads((cell / "DONE").read_text())
    done["seeds"]["7"] = hashlib.sha256(b"").hexdigest()
    (cell / "DONE").write_text(json.dumps(done))


LINE_1 = "records.jsonl.gz line 1 "
ONE_METRIC = '"metric": "return"'
TAMPERINGS: dict[str, tuple[Tamper, str, str]] = {  # what is done: how, the file that is named, the rule
    "value edited": (lines(first("16.66", "96.66")), "records.jsonl", "does not match DONE for seed 0"),
    "line deleted": (lines(lambda kept: kept[1:]), "records.jsonl", "does not match DONE for seed 0"),
    "line doubled": (lines(lambda kept: [kept[0], *kept]), "records.jsonl", "does not match DONE for seed 0"),
    "lines swapped": (lines(lambda kept: [kept[1], kept[0], *kept[2:]]), "records.jsonl", "does not match DONE"),
    "line doubled, signed": (
        signed(lambda kept: [kept[0], *kept]),
        "records.jsonl",
        "one record per seed, step, metric and horizon, got seed 0, step 50, 'return', horizon None 2 times",
    ),
    "value edited, signed": (signed(first("16.66", "96.66")), "report/scores.csv", "by the records"),
    "digest flipped": (edit("DONE", '"0": "', '"0": "0'), "records.jsonl.gz", "does not match DONE for seed 0"),
    "digest of another": (edit("DONE", '"1": "', '"2": "'), "records.jsonl", "does not match DONE for seed 2"),
    "torn DONE": (lambda _, cell: (cell / "DONE").write_text('{"seeds": {'), "DONE", "is not JSON"),
    "DONE gone": (lambda _, cell: (cell / "DONE").unlink(), "records.jsonl", "DONE lists, got seeds [0, 1] too"),
    "records gone": (lambda _, cell: (cell / "records.jsonl.gz").unlink(), "records.jsonl", "cannot be read"),
    "seed without records": (empty_seed, "records.jsonl", "every seed that DONE lists, got nothing of seeds [7]"),
    "stray seed": (
        lines(lambda kept: [*kept, Record(9, 50, "return", 1.0).line()]),
        "records.jsonl",
        "seeds that DONE lists, got seeds [9] too",
    ),
    "folder renamed": (lambda _, cell: cell.rename(cell.with_name("toy--best")), "toy--best", "edited or renamed"),
    "setting edited": (edit("spec.json", '"updates": 200', '"updates": 250'), "spec.json", "edited or renamed"),
    "setting infinite": (edit("spec.json", '"updates": 200', '"updates": 200, "x": 1e999'), "spec.json", "a cell"),
    "torn spec": (edit("spec.json", "}", ""), "spec.json", "is not JSON"),
    "spec without task": (edit("spec.json", '"task"', '"tsak"'), "spec.json", "spec.task Field required"),
    "spec gone": (lambda _, cell: (cell / "spec.json").unlink(), specs()[0].cell_id, "must hold spec.json"),
    "provenance gone": (without_runs, "spec.json", "one run with status ok for every seed, got 0 for seed 0"),
    "provenance doubled": (twice_run, "spec.json", "one run with status ok for every seed, got 2 for seed 0"),
    "run failed": (edit("spec.json", '"status": "ok"', '"status": "failed"'), "spec.json", "got 0 for seed 1"),
    "commit gone": (edit("spec.json", '"commit"', '"comit"'), "spec.json", "commit: Field required"),
    "dirty unknown": (edit("spec.json", '"dirty": false', '"dirty": null'), "spec.json", "dirty: Input should"),
    "versions gone": (edit("spec.json", '"versions"', '"version"'), "spec.json", "versions: Field required"),
    "device gone": (edit("spec.json", '"device"', '"devise"'), "spec.json", "device: Field required"),
    "negative time": (edit("spec.json", '"seconds": 1.5', '"seconds": -1.5'), "spec.json", "seconds: Input"),
    "no time zone": (edit("spec.json", "00:00:00+00:00", "00:00:00"), "spec.json", "should have timezone info"),
    "no time at all": (edit("spec.json", "2026-01-01T", "2026-13-01T"), "spec.json", "started: Input"),
    "physics gone": (edit("spec.json", '"physics"', '"fysics"'), "spec.json", "physics: Field required"),
    "other physics": (edit("spec.json", "toy v1", "toy v2"), "sent", "toy/linear must have one physics, got 'toy v1'"),
    "other data": (edit("spec.json", "ab" * 32, "cd" * 32), "sent", "toy/linear must have one dataset_sha256"),
    "data unknown": (edit("spec.json", "ab" * 32, "ab"), "spec.json", "dataset_sha256: String should match pattern"),
    "link to a file": (link, "records.jsonl.gz", "got a link or a special file"),
    "link to a cell": (link_to_cell, specs()[0].cell_id, "got a link or a special file"),
    "pipe": (lambda _, cell: os.mkfifo(cell / "LEASE"), "LEASE", "got a link or a special file"),
    "both kinds of records": (both, "records.jsonl", "must not be beside records.jsonl.gz"),
    "pickle in a cell": (
        lambda _, cell: (cell / "policy.pkl").write_bytes(pickle.dumps({})), "policy.pkl", "must not be there",
    ),
    "pickle in the report": (
        lambda folder, _: (folder / "report" / "x.pkl").write_bytes(pickle.dumps({})), "x.pkl", "must not be there",
    ),
    "pickle beside the tables": (
        lambda folder, _: (folder / "report/latex/x.pkl").write_bytes(pickle.dumps({})), "x.pkl", "must not be there",
    ),
    "file beside the cells": (lambda folder, _: (folder / "notes.txt").touch(), "notes.txt", "must not be there"),
    "folder in a cell": (lambda _, cell: (cell / "more").mkdir(), "more", "must not be there"),
    "folder called DONE": (
        lambda _, cell: ((cell / "DONE").unlink(), (cell / "DONE").mkdir()), "DONE", "must not be there",
    ),
    "empty cell": (lambda folder, _: (folder / "new").mkdir(), "new", "must hold spec.json, got nothing"),
    "leftover": (lambda _, cell: (cell / ".DONE.x1.part").touch(), ".DONE.x1.part", "must not be there"),
    "leftover checkpoint": (lambda _, cell: (cell / "checkpoint").mkdir(), "checkpoint", "must be gone"),
    "torn line": (signed(lambda kept: [*kept[:-1], kept[-1][:-9]]), "records.jsonl.gz line 16", "is not a record"),
    "NaN": (signed(first("16.666666666666668", "NaN")), LINE_1, "value Input should be a finite"),
    "infinity": (signed(first("16.666666666666668", "1e999")), LINE_1, "value Input should be a finite"),
    "negative step": (signed(first('"step": 50', '"step": -50')), LINE_1, "step Input should be greater"),
    "fraction of a step": (signed(first('"step": 50', '"step": 50.0')), LINE_1, "step Input should"),
    "bool as seed": (
        signed(first('"seed": 0', '"seed": false')), LINE_1, "a valid integer, got False",
    ),
    "bool as value": (signed(first("16.666666666666668", "true")), LINE_1, "a valid number, got True"),
    "list as metric": (signed(first('"return"', '["return"]')), LINE_1, "metric Input should"),
    "another field": (signed(first(ONE_METRIC, ONE_METRIC + ', "x": 1')), LINE_1, "x Extra inputs are"),
    "step beyond updates": (signed(first('"step": 50', '"step": 201')), "records.jsonl", "got step 201"),
    "binary records": (binary, "records.jsonl", "cannot be read"),
    "binary spec": (lambda _, cell: (cell / "spec.json").write_bytes(b"\x80\xff\x00"), "spec.json", "is not JSON"),
    "plan edited": (edit("plan.json", '"updates": 200', '"updates": 250'), "plan.json", "the cells that it names"),
    "plan of another cell": (edit("plan.json", specs()[0].cell_id, specs()[1].cell_id), "plan.json", "that it names"),
    "torn plan": (edit("plan.json", "}", ""), "plan.json", "is not JSON"),
    "scores edited": (edit("report/scores.csv", "16.66", "96.66"), "scores.csv line", "by the records, got"),
    "scores cut": (
        lambda folder, _: (folder / "report/scores.csv").write_text("task\n"), "scores.csv line 1", "by the records",
    ),
    "aggregate edited": (edit("report/aggregate.csv", ",mean,58", ",mean,98"), "aggregate.csv line 2", "by the"),
    "binary scores": (
        lambda folder, _: (folder / "report/scores.csv").write_bytes(b"\xff\x00"), "scores.csv", "by the records",
    ),
}  # fmt: skip


def test_a_report_by_bootstrap_holds(folder: Path) -> None:
    """aggregate.csv names the method that its intervals are drawn again with."""
    assert run_bench.main(["report", str(folder), "--interval", "bootstrap"]) == 0
    assert verify(folder) == []
    edit("report/aggregate.csv", ",bootstrap\n", ",t\n")(folder, cell_of(folder))
    assert any("aggregate.csv" in fault for fault in verify(folder))


@pytest.mark.parametrize(("tamper", "file", "rule"), TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_tampering_is_found(folder: Path, tamper: Tamper, file: str, rule: str) -> None:
    tamper(folder, cell_of(folder))
    faults = verify(folder)
    assert [fault for fault in faults if file in fault and rule in fault], faults


def test_every_fault_is_named_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").touch()
    edit("spec.json", '"device"', '"devise"')(folder, cell_of(folder))
    edit("report/scores.csv", "16.66", "96.66")(folder, cell_of(folder))
    assert run_bench.main(["verify", str(folder)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [part in line for part, line in zip(("notes.txt", "device", "scores.csv"), told, strict=True)] == [True] * 3


def test_a_folder_with_links_is_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[Path]()
    link(folder, cell_of(folder))
    monkeypatch.setattr(Path, "read_bytes", opened.append)
    monkeypatch.setattr(Path, "read_text", opened.append)
    assert len(verify(folder)) == 1
    assert not opened


def test_rounding_of_another_machine_is_no_fault(folder: Path) -> None:
    edit("report/scores.csv", "16.666666666666668", "16.666666666666664")(folder, cell_of(folder))
    assert verify(folder) == []


def test_what_is_no_results_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, rule in (
        ("file", "a folder, got a file"),
        ("gone", "a folder, got nothing"),
        ("empty", "cells, got none"),
    ):
        assert run_bench.main(["verify", str(tmp_path / name)]) == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert name in line
        assert line.endswith(rule)
    (tmp_path / "empty" / "report").mkdir()
    (tmp_path / "empty" / "plan.json").write_text('{"format": 2, "suite": "smoke", "cells": []}')
    assert [fault.endswith("must hold cells, got none") for fault in verify(tmp_path / "empty")] == [True]
