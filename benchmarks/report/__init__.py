"""From a results folder to csv files, tables, figures and one HTML page; everything is redrawn from the folder alone.

Read `results` (the folder as frames), `scores` and `aggregates` (intervals over seeds and over tasks), `verdict` (what
a comparison says), `regime` (whether comparisons count at all), `words` (all of it in sentences), then one file of
`sections/` (what the page shows) with `section` (what it is made of). `tables/` decides how tables look and writes
them, `figures/` is how figures look, `page/` puts both into one page; `score_rows` is shared by sections, `compute/` is
about folders in which the length of fits varies; `comparability` says which results must not stand in one table.
"""

import textwrap
from pathlib import Path

import pandas as pd

from benchmarks.report.comparability import data_notes, mixtures, refusal
from benchmarks.report.figures.style import FORMATS, save
from benchmarks.report.page.build import page
from benchmarks.report.page.layout import Content, Picture
from benchmarks.report.regime import terminal
from benchmarks.report.results import collect
from benchmarks.report.scores import undefined
from benchmarks.report.sections import SECTIONS
from benchmarks.report.sections.scores import score_table
from benchmarks.report.tables.columns import COLUMNS, to_columns
from benchmarks.report.tables.latex import to_latex
from benchmarks.report.tables.markdown import to_markdown
from benchmarks.report.tables.settle import settled
from benchmarks.report.tables.spreadsheet import to_csv
from benchmarks.report.tables.table import Table
from benchmarks.report.tables.terminal import WIDTH, to_text
from benchmarks.report.text import one_line
from benchmarks.report.words.headline import headline
from benchmarks.store import ResultStore
from core.errors import DataError
from core.files import write_text

__all__ = ["report", "score_text"]


def report(store: ResultStore, *, allow_mixed: bool = False, interval: str = "t") -> list[str]:
    """Write DIR/report/ and return what is wrong with the results: diverged, failed, missing and undefined.

    Files of an earlier report that there is nothing to write into any more are removed. With `allow_mixed`, cells of
    one task with different physics or data are drawn together, and the score table and the page say so. `interval` is
    the method of intervals over tasks: t or bootstrap.

    Raises:
        DataError: a file of the store is torn or was edited, or a task's cells are mixed; names them.
    """
    results = collect(store, interval)
    folder = store.root / "report"
    mixed = mixtures(results.cells)
    if mixed and not allow_mixed:
        raise DataError(refusal(mixed))
    problems = [*results.problems, *undefined(results)]
    contents = []
    for section in SECTIONS:
        for name, frame in section.frames.items():
            _numbers(folder / f"{name}.csv", frame(results))
        tables = [settled(table) for table in (function(results) for function in section.tables) if table.rows]
        pictures = []
        for plot in section.figures:
            for name, alt, figure in plot.pages(results):
                save(figure, folder, name)
                svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
                pictures.append(Picture(name, plot.caption(results), alt, plot.data, svg))
        words = list(section.words(results)) if section.words else []
        contents.append(Content(section, tables, pictures, words))
    _tables(folder, results.suite, [table for content in contents for table in content.tables])
    drawn = {picture.name for content in contents for picture in content.pictures}
    for path in [path for kind in FORMATS for path in folder.glob(f"*.{kind}")]:
        if path.stem not in drawn:
            path.unlink(missing_ok=True)
    warnings = [*(mixture.footnote for mixture in mixed), *data_notes(results.cells), *problems]
    beside = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} - {"index.html"}
    write_text(folder / "index.html", page(results, contents, warnings, beside))
    return problems


def score_text(store: ResultStore) -> str:
    """For a terminal: the headline, the score table, and whether its comparisons may judge generators."""
    results = collect(store)
    told = textwrap.fill(one_line(headline(results)).replace("**", ""), WIDTH)
    table = settled(score_table(results))
    return "\n".join([told, "", *([to_text(table)] if table.rows else []), terminal(results)])


def _numbers(path: Path, frame: pd.DataFrame) -> None:
    """A csv file, if there are rows."""
    if len(frame):
        write_text(path, to_csv(frame))
    else:
        path.unlink(missing_ok=True)


def _tables(folder: Path, suite: str, tables: list[Table]) -> None:
    """tables.md with all of them, latex/ with a file for each, columns.md on the csv files."""
    write_text(folder / "tables.md", "\n".join(map(to_markdown, tables)))
    for table in tables:
        write_text(folder / "latex" / f"{table.name}.tex", to_latex(table, suite))
    write_text(folder / "columns.md", to_columns(path for path in sorted(folder.glob("*.csv")) if path.stem in COLUMNS))
    names = {table.name for table in tables}
    older = [folder / "scores.md", folder / "scores.tex"]  # of versions before 0.3
    for path in [*older, *(path for path in folder.glob("latex/*.tex") if path.stem not in names)]:
        path.unlink(missing_ok=True)
