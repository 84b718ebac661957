"""Cells with different physics or data do not stand in one table unless somebody asks, and then the table says it."""

import gzip
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import run_bench
from benchmarks.records import Record
from benchmarks.report import report, score_text
from benchmarks.report.comparability import data_notes, mixtures, origins
from benchmarks.report.results import collect
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core.errors import DataError

A = "Hopper-v4, mujoco 3.3.7"
B = "Hopper-v4, mujoco 3.4.0"


def specs(dataset_rows: int = 100_000) -> list[RunSpec]:
    """Two tasks x two generators."""
    tasks = 'tasks=["toy/linear","d4rl/hopper-medium-v2"]'
    plain = cells(load_suite("smoke", (tasks, 'generators=["none","ensemble"]', "dataset_rows=100_000")))
    settings = plain[0].settings.model_copy(update={"dataset_rows": dataset_rows})
    return [replace(spec, settings=settings) for spec in plain]


def made(*seeds: int, **changes: Any) -> dict[str, Any]:
    return {
        "seeds": list(seeds), "physics": A, "dataset_sha256": "ab" * 32, "commit": "a" * 40, "dirty": False,
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"}, **changes,
    }  # fmt: skip


def records(*seeds: int) -> list[Record]:
    return [Record(seed, step, "normalized_score", 10.0 * seed) for seed in seeds for step in (50, 100, 150, 200)]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """The first three cells are done; the fourth is for the test to add."""
    store = ResultStore(tmp_path / "results")
    store.plan("smoke", specs())
    for spec in specs()[:3]:
        store.finish(spec, made(0, 1), records(0, 1))
    return store


def add(store: ResultStore, *seeds: int, **changes: Any) -> RunSpec:
    spec = specs()[3]
    store.finish(spec, made(*seeds, **changes), records(*seeds))
    return spec


def test_cells_that_are_alike_need_no_footnote(store: ResultStore) -> None:
    add(store, 0, 1)
    assert report(store) == []
    assert mixtures(store.cells()) == []
    assert origins(store.cells()) == ""
    assert "mixed" not in score_text(store)
    assert "Cells come from" not in score_text(store)


@pytest.mark.parametrize(("what", "one", "other"), [("physics", A, B), ("dataset_sha256", "ab" * 32, "cd" * 32)])
def test_two_versions_are_refused_with_a_cell_of_each(store: ResultStore, what: str, one: str, other: str) -> None:
    spec = add(store, 0, 1, **{what: other})
    with pytest.raises(DataError) as caught:
        report(store)
    rule, hint = str(caught.value).splitlines()
    assert rule == (
        f"finished cells of d4rl/hopper-medium-v2 must have one {what}, got {one!r} (cell {specs()[2].cell_id}) and "
        f"{other!r} (cell {spec.cell_id})"
    )
    assert "--allow-mixed" in hint
    assert not (store.root / "report").exists()


def test_seeds_of_one_cell_can_be_mixed_too(store: ResultStore) -> None:
    add(store, 0)
    spec = add(store, 1, physics=B)
    (mixture,) = mixtures(store.cells())
    assert {version: set(ids) for version, ids in mixture.cells.items()} == {
        A: {specs()[2].cell_id, spec.cell_id},
        B: {spec.cell_id},
    }


def test_allowed_mixtures_are_named_on_the_page(store: ResultStore) -> None:
    add(store, 0, 1, physics=B, dataset_sha256="cd" * 32)
    assert report(store, allow_mixed=True) == []
    written = {name: (store.root / "report" / name).read_text() for name in ("tables.md", "index.html")}
    for name, text in written.items():
        assert "mixed physics: d4rl/hopper-medium-v2 has Hopper-v4, mujoco 3." in text, name
        for thing in (A, B, "cd" * 32):
            assert f"{thing} (1 cell)" in text, name
    problems = written["index.html"].split('<section id="problems"')[1].split("</section>")[0]
    assert problems.count("<li>mixed ") == 2
    assert "mixed dataset_sha256" in " ".join(score_text(store).split())


def test_different_tasks_may_differ(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for spec, physics in zip(specs(), (A, A, B, B), strict=True):
        store.finish(spec, made(0, 1, physics=physics, dataset_sha256=physics[-1] * 64), records(0, 1))
    assert mixtures(store.cells()) == []


def test_sizes_are_compared_only_of_sets_that_are_made_here(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for rows, digest in ((1000, "ab"), (2000, "cd")):
        for spec in specs(rows):
            store.finish(spec, made(0, 1, dataset_sha256=digest * 32), records(0, 1))
    assert [(mixture.task, mixture.what) for mixture in mixtures(store.cells())] == [
        ("d4rl/hopper-medium-v2", "dataset_sha256")
    ]


def test_failed_runs_and_runs_without_provenance_are_skipped(store: ResultStore) -> None:
    store.fail(specs()[3], made(0, 1, physics=B), "Traceback")
    assert mixtures(store.cells()) == []
    store.finish(specs()[3], {"seeds": [0, 1]}, records(0, 1))
    assert mixtures(store.cells()) == []


def test_different_commits_and_packages_are_named_not_refused(store: ResultStore) -> None:
    add(store, 0, 1, commit="b" * 40, dirty=True, versions={"torch": "2.12.0", "numpy": "2.4.6"})
    assert report(store) == []
    line = "Cells come from 2 commits (aaaaaaaa, bbbbbbbb), a tree with uncommitted changes, torch 2.13.0 and 2.12.0."
    assert origins(collect(store).cells) == line
    assert line in (store.root / "report" / "tables.md").read_text()


def test_the_command_line_refuses_and_allows(store: ResultStore, capsys: pytest.CaptureFixture[str]) -> None:
    add(store, 0, 1, physics=B)
    assert run_bench.main(["report", str(store.root)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: finished cells of d4rl/hopper-medium-v2 must have one phys")
    assert run_bench.main(["report", str(store.root), "--allow-mixed"]) == 0
    assert "mixed physics" in " ".join(capsys.readouterr().out.split())


def test_run_refuses_and_allows_too(
    store: ResultStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, 0, 1, physics=B)
    monkeypatch.setattr(run_bench, "cells", lambda *_: specs())
    command = ["run", "smoke", "--out", str(store.root), "--jobs", "1", "--device", "cpu"]
    assert run_bench.main(command) == 1
    assert "--allow-mixed" in capsys.readouterr().err
    assert run_bench.main([*command, "--allow-mixed"]) == 0
    assert "mixed physics" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("records.jsonl.gz", "10.0", "90.0"),
        ("records.jsonl.gz", '{"seed": 0', '{"seed": '),
        ("DONE", '"0": "', '"?": "f'),
        ("spec.json", '"updates": 200', '"updates": 400'),
    ],
)
def test_a_tampered_cell_is_left_out_by_name(
    store: ResultStore, capsys: pytest.CaptureFixture[str], name: str, old: str, new: str
) -> None:
    spec = add(store, 0, 1, physics=B)
    path = store.root / spec.cell_id / name
    packed = path.suffix == ".gz"
    text = (gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).decode()
    assert old in text
    changed = text.replace(old, new, 1).encode()
    path.write_bytes(gzip.compress(changed) if packed else changed)
    assert run_bench.main(["report", str(store.root)]) == 1
    shown = capsys.readouterr()
    assert re.search(rf"problem: failed: {spec.task} / {spec.generator.name} / td3bc, seeds 0, 1: {name} ", shown.err)
    assert "toy/linear" in shown.out
    assert "mixed" not in shown.out


def test_what_is_odd_about_data_is_a_footnote_of_the_page(store: ResultStore) -> None:
    odd = {"conventions": ["rewards are late"], "contradictions": ["5 of 100 rows have no step"]}
    add(store, 0, 1, dataset=odd)
    add(store, 2, dataset=odd)
    sentences = data_notes(collect(store).cells)
    task = "d4rl/hopper-medium-v2"
    assert sentences == [
        f"{task}: rewards are late.",
        f"{task}: the data contradict the simulator: 5 of 100 rows have no step.",
    ]
    report(store)
    text = (store.root / "report" / "index.html").read_text(encoding="utf-8")
    assert all(sentence in text for sentence in sentences)
