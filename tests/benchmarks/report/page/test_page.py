"""The files of a report: columns of the csv files, equal bytes for equal results, a page that needs nothing else."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.report import report, sections
from benchmarks.store import ResultStore

Rows = Callable[[Path], list[dict[str, str]]]
Reported = tuple[Path, list[str]]


class Page(HTMLParser):
    """Tags with their attributes; insists that what is opened is closed."""

    void = frozenset({"meta", "br", "link", "img", "input", "hr", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_problems_are_named(reported: Reported) -> None:
    _, problems = reported
    assert set(problems) == {
        "failed: toy/linear / dydiff / bc, seeds 0, 1, 2, 3, 4, 5: ValueError: <b>bad</b> x.hdf5 is torn",
        "missing: local/hopper-medium / none / bc, seed 2",
        "missing: local/hopper-medium / dydiff / bc, seeds 0, 1",
    }


def test_csv_columns(reported: Reported) -> None:
    folder, _ = reported
    assert {path.stem: path.read_text().splitlines()[0] for path in folder.glob("*.csv")} == {
        "scores": "task,generator,algorithm,variant,seed,step,return,normalized_score,status",
        "answer": "task,generator,algorithm,variant,change,low,high,seeds,p_holm,verdict,"
        "error,steps,distance,price,signs",
        "regime": "task,algorithm,variant,unit,behaviour,none,room,verdict,"
        "learns,learns_n,learns_mean,learns_low,learns_high,control,control_n,control_mean,control_low,control_high,"
        "ceiling,ceiling_n,ceiling_mean,ceiling_low,ceiling_high",
        "aggregate": "generator,algorithm,variant,metric,value,low,high,n_seeds,n_tasks,interval",
        "improvements": "task,generator,algorithm,variant,unit,n,mean,low,high,std,better,p,p_holm,"
        "p_equivalent,seeds_needed,verdict",
        "compounding": "task,generator,algorithm,variant,seed,horizon,median,mean,floor,alive,closed,actions,"
        "chaos,still,q10,q90,local,capped,alive_on_policy,closed_floor",
        "diagnostics": "task,generator,algorithm,variant,signature,number,threshold,shows",
        "cost": "task,generator,algorithm,variant,metric,value",
    }  # files without rows are not written


def test_scores_csv_has_every_evaluation_and_absent_seed(reported: Reported, rows: Rows) -> None:
    scores = rows(reported[0] / "scores.csv")
    assert len(scores) == 4 * (6 + 6 + 2 + 3) + 6 + 1 + 2
    by_status = pd.Series([row["status"] for row in scores]).value_counts().to_dict()
    assert by_status == {"ok": 68, "failed": 6, "missing": 3}
    absent = next(row for row in scores if row["status"] == "failed")
    assert (absent["seed"], absent["step"], absent["return"], absent["normalized_score"]) == ("0", "", "", "")
    assert {row["normalized_score"] for row in scores if row["task"] == "local/hopper-medium"} == {""}


def test_compounding_csv_has_every_horizon(reported: Reported, rows: Rows) -> None:
    errors = rows(reported[0] / "compounding.csv")
    assert len(errors) == (6 + 3) * 6 * 2
    assert {row["closed"] == "" for row in errors if row["actions"] == "logged"} == {True}
    assert all(float(row["median"]) == 0.01 * int(row["horizon"]) for row in errors)


def test_equal_results_have_equal_bytes(store: ResultStore, reported: Reported) -> None:
    report(store)
    first, second = (
        {path.name: path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (reported[0], store.root / "report")
    )
    assert first == second


def test_files_are_written_without_dates_and_folders(reported: Reported) -> None:
    folder, _ = reported
    written = {path.name: path.read_bytes() for path in folder.rglob("*.*")}
    assert {"tables.md", "columns.md", "scores.tex", "index.html"} <= set(written)
    for name in ("scores", "learning_curves", "compounding"):
        assert written[f"{name}.png"].startswith(b"\x89PNG")
        assert len(written[f"{name}.png"]) > 10_000
        assert b"<svg" in written[f"{name}.svg"]
        assert b"<dc:date>" not in written[f"{name}.svg"]
    for name, content in written.items():
        assert b"\r\n" not in content or name.endswith((".png", ".pdf"))
        assert b"somebody" not in content, name
        assert str(folder.parent).encode() not in content, name


def test_nothing_escapes(store: ResultStore, rows: Rows, build: Any) -> None:
    store.finish(build.spec("toy/linear", "mopo", 1, "=1+1", iterations=9), {}, build.evaluations(1, 5.0))
    report(store)
    folder = store.root / "report"
    variants = {row["variant"] for row in rows(folder / "scores.csv")}
    assert {"'=1+1", build.HOSTILE} <= variants
    assert "<script>" not in (folder / "tables.md").read_text()
    latex = "".join(path.read_text() for path in folder.glob("latex/*.tex"))
    assert "\\input" not in latex
    assert r"\textless{}script\textgreater{}" in latex
    assert latex.isascii()
    assert not any("<script>" in path.read_text() for path in folder.glob("*.svg"))
    page = (folder / "index.html").read_text()
    assert page.count("<script>") == 1  # ours
    assert "<b>bad" not in page


def test_page_is_whole_and_needs_no_network(reported: Reported) -> None:
    text = (reported[0] / "index.html").read_text()
    page = Page(text)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert not re.search(r"(?:src|href)=\"//|@import|url\((?!#)", text)
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {
        (attributes.get("href") or "")[1:]
        for tag, attributes in page.tags
        if tag == "a" and (attributes.get("href") or "").startswith("#")
    }
    assert links <= ids
    assert [tag for tag, _ in page.tags].count("svg") == 4


def test_parts_stand_in_their_order(reported: Reported) -> None:
    """Problems under the answer; parts without content are left out."""
    page = Page((reported[0] / "index.html").read_text())
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "section" and "id" in attributes]
    own = ["definitions", "provenance", "reproduce", "downloads"]
    assert ids == ["answer", "problems", "help", "why", "price", "details", *own]
    links = [attributes.get("href") for tag, attributes in page.tags if tag == "a"]
    assert links[: len(ids) + 1] == ["#main", *(f"#{part}" for part in ids)]


def test_ids_are_unique(reported: Reported) -> None:
    page = Page((reported[0] / "index.html").read_text())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_page_names_every_csv_file(reported: Reported) -> None:
    folder, _ = reported
    text = (folder / "index.html").read_text()
    assert [path.name for path in folder.glob("*.csv") if f'href="{path.name}"' not in text] == []


def test_numbers_lead_to_their_provenance(reported: Reported) -> None:
    text = (reported[0] / "index.html").read_text()
    linked = set(re.findall(r'<a href="#(cell-\w+)"', text))
    assert len(linked) == 6
    assert linked <= set(re.findall(r'<details id="(cell-\w+)"', text))
    for fact in ("0123abcd + uncommitted changes", "ab" * 32, "toy v1", "<dt>commit</dt><dd>unknown</dd>"):
        assert fact in text


def test_an_empty_folder_makes_an_empty_report(tmp_path: Path, rows: Rows, build: Any) -> None:
    store = ResultStore(tmp_path)
    assert report(store) == []
    store.plan("smoke", [build.spec("toy/linear", "none", 2)])
    assert report(store) == ["missing: toy/linear / none / bc, seeds 0, 1"]
    assert not list((tmp_path / "report").glob("*.svg"))
    assert len(rows(tmp_path / "report" / "scores.csv")) == 2
    Page((tmp_path / "report" / "index.html").read_text())


def test_files_that_are_no_longer_written_are_removed(store: ResultStore) -> None:
    """But not those that are no report's."""
    folder = store.root / "report"
    (folder / "latex").mkdir(parents=True)
    stale = [folder / name for name in ("heat.png", "heat.pdf", "ablation.csv", "scores.md", "latex/shift.tex")]
    for path in [*stale, folder / "mine.csv"]:
        path.touch()
    report(store)
    assert [path.name for path in stale if path.exists()] == []
    assert (folder / "mine.csv").exists()


def test_every_section_is_on_the_page_once() -> None:
    ids = [section.id for section in sections.SECTIONS]
    assert len(ids) == len(set(ids))
    files = [path.stem for path in Path(str(sections.__file__)).parent.glob("[a-z]*.py")]
    parts = [getattr(getattr(sections, name), part, None) for name in files for part in ("SECTION", "DETAILS")]
    assert {id(part) for part in parts if part} == {id(section) for section in sections.SECTIONS}


def test_names_of_files_are_unique() -> None:
    names = [
        *(f"{name}.csv" for section in sections.SECTIONS for name in section.frames),
        *(f"{plot.name}.svg" for section in sections.SECTIONS for plot in section.figures),
    ]
    assert len(set(names)) == len(names)


def test_meaning_has_neither_marks_nor_links_to_pictures(reported: Reported) -> None:
    """METRICS.md holds both, for its table of coverage; the page is one file."""
    text = (reported[0] / "index.html").read_text(encoding="utf-8")
    assert "one run in five collapses" in text
    assert "&lt;!--" not in text
    assert 'src="coverage.svg"' not in text
