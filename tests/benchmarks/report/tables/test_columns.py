"""Every column of a csv file and every head of a table is defined, and nothing else is."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report as package
from benchmarks.report import report
from benchmarks.report.results import Results, collect
from benchmarks.report.sections import SECTIONS
from benchmarks.report.tables.columns import COLUMNS, TERMS, defined, terms
from benchmarks.report.tables.settle import settled
from benchmarks.store import ResultStore

REFERENCE = Path(__file__).parents[4] / "results" / "reference"


@pytest.fixture(scope="module", params=["demo", "M_by_eta", "planted"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, build: Any) -> Results:
    if request.param == "planted":
        return collect(build.folder(tmp_path_factory.mktemp("planted")))
    return collect(ResultStore(REFERENCE / request.param))


def written(results: Results) -> dict[str, list[str]]:
    """The columns of every csv file, those without rows included."""
    return {
        name: list(frame(results).columns) for section in SECTIONS for name, frame in section.frames.items()
    }  # fmt: skip


def test_every_column_is_defined(results: Results) -> None:
    missing = [
        (file, column)
        for file, columns in written(results).items()
        for column in columns
        if file not in COLUMNS or not defined(file, column)[1]
    ]
    assert missing == []


def test_no_column_is_defined_for_nothing(results: Results) -> None:
    columns = written(results)
    assert columns.keys() == COLUMNS.keys()
    assert [(file, name) for file, own in COLUMNS.items() for name in own if name not in columns[file]] == []


def test_every_head_has_a_term(results: Results) -> None:
    heads = {
        head
        for section in SECTIONS
        for function in section.tables
        for table in [settled(function(results))]
        if table.rows
        for head in table.head
    }
    assert len(heads) > 20
    assert heads - terms(heads).keys() == set()


def test_no_term_is_defined_for_nothing() -> None:
    """Heads are written in the files that make tables."""
    folder = Path(str(package.__file__)).parent
    definitions = {folder / "tables" / name for name in ("columns.py", "study.py")}
    files = [path for path in folder.rglob("*.py") if path not in definitions]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [term for term in TERMS if not re.search(rf"\"{re.escape(term)}\"|\"{re.escape(term)}, \{{", text)] == []


def test_steps_tasks_and_fields_share_a_term() -> None:
    known = ["change, hopper-medium‡", "filter.share (η)", "h = 15", "hopper-medium‡ (return) · td3bc", "toy/linear"]
    assert list(terms([*known, "word", "none (control)"])) == known


def test_columns_md_lists_the_files_of_the_report(store: ResultStore) -> None:
    report(store)
    lines = (store.root / "report" / "columns.md").read_text(encoding="utf-8").splitlines()
    assert "|scores.csv|return|reward|mean undiscounted return of the evaluation's episodes|" in lines
    assert "|improvements.csv|better|share|" in "\n".join(lines)
    expected = sum(len(path.read_text().split("\n")[0].split(",")) for path in store.root.glob("report/*.csv"))
    assert len([line for line in lines if ".csv|" in line]) == expected
    assert not any(line.startswith("|ablation.csv") for line in lines)  # nothing varies
