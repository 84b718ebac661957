"""Facts of a run as the page shows them: one line of size and code, machines, cells."""

from pathlib import Path
from typing import Any

from benchmarks.report.page.provenance import about, cells, environments, headline, key, newest
from benchmarks.report.results import Results, collect
from benchmarks.store import ResultStore


def made(root: Path, build: Any, **facts: Any) -> Results:
    store = ResultStore(root)
    spec = build.spec("toy/linear", "none", 2)
    store.plan("smoke", [spec])
    store.finish(spec, build.provenance(2) | facts, build.evaluations(2, 0.0))
    return collect(store)


def test_headline_counts_and_dates(tmp_path: Path, build: Any) -> None:
    results = made(tmp_path, build, commit="9c753b60aaf03a53", dirty=False)
    line = headline(results)
    assert line.startswith("1 task × 1 generator × 1 algorithm × 2 seeds, 2026-01-01, RolloutBench")
    assert line.endswith(", commit 9c753b6")
    assert newest(results) == "2026-01-01"


def test_an_empty_folder_has_a_headline(tmp_path: Path) -> None:
    results = collect(ResultStore(tmp_path))
    assert headline(results).startswith("0 tasks × 0 generators × 0 algorithms × 0 seeds, RolloutBench")
    assert environments(results) == []


def test_processors_are_named_where_a_run_says(tmp_path: Path, build: Any) -> None:
    known = dict(environments(made(tmp_path / "new", build, cpu="Xeon 8480", cores=8)))
    assert (known["CPU model"], known["CPU cores"], known["date"]) == ("Xeon 8480", "8", "2026-01-01")
    old = dict(environments(made(tmp_path / "old", build)))
    assert (old["CPU model"], old["CPU cores"]) == ("unknown", "unknown")


def test_about_names_what_limits_a_reading(tmp_path: Path, build: Any) -> None:
    facts = dict(about(made(tmp_path, build)))
    assert facts["models shared by the seeds of a cell"] in ("yes", "no")
    assert facts["cells"] == "1 of 1 finished"
    assert facts["training rows"] == "all"


def test_cells_show_their_specification(tmp_path: Path, build: Any) -> None:
    (cell,) = cells(made(tmp_path, build))
    assert cell["key"] == key(cell["id"])
    assert cell["id"].endswith(cell["key"])
    assert dict(cell["spec"])["algorithm"] == '{"name": "bc"}'
    assert dict(cell["runs"][0])["dataset"] == '{"recipe": "recipe.toml"}'
