"""From a results folder to csv files, tables, figures and one HTML page; everything is redrawn from the folder alone.

Read `results` (the folder as frames), `scores` and `aggregates` (intervals over seeds and over tasks), `regime`
(whether comparisons count at all), then one file of `sections/` (what the page shows) with `section` (what it is made
of). `tables/` writes tables as csv, Markdown, LaTeX and text, `figures/` is how figures look, `page/` puts both into
one page; `score_rows` is shared by sections; `comparability` says which results must not stand in one table.
"""

from benchmarks.report.comparability import data_notes, mixtures, refusal
from benchmarks.report.figures.style import FORMATS, save
from benchmarks.report.page.build import page
from benchmarks.report.page.layout import Content, Picture
from benchmarks.report.regime import terminal
from benchmarks.report.results import collect
from benchmarks.report.scores import undefined
from benchmarks.report.sections import SECTIONS
from benchmarks.report.sections.scores import score_table
from benchmarks.report.tables.settle import settled
from benchmarks.report.tables.table import to_csv, to_latex, to_markdown, to_text
from benchmarks.store import ResultStore
from core.errors import DataError
from core.files import write_text

__all__ = ["report", "score_text"]


def report(store: ResultStore, *, allow_mixed: bool = False, interval: str = "t") -> list[str]:
    """Write DIR/report/ and return what is wrong with the results: diverged, failed, missing and undefined.

    Figures of an earlier report that there is nothing to draw for any more are removed. With `allow_mixed`, cells of
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
            write_text(folder / f"{name}.csv", to_csv(frame(results)))
        tables = [settled(table) for table in (function(results) for function in section.tables) if table.rows]
        pictures = []
        for plot in section.figures:
            for name, alt, figure in plot.pages(results):
                save(figure, folder, name)
                svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
                pictures.append(Picture(name, plot.caption(results), alt, plot.data, svg))
        words = list(section.words(results)) if section.words else []
        contents.append(Content(section, tables, pictures, words))
    for suffix, render in (("md", to_markdown), ("tex", to_latex)):
        text = "\n".join(render(table) for content in contents for table in content.tables)
        write_text(folder / f"scores.{suffix}", text)
    drawn = {picture.name for content in contents for picture in content.pictures}
    for path in [path for kind in FORMATS for path in folder.glob(f"*.{kind}")]:
        if path.stem not in drawn:
            path.unlink(missing_ok=True)
    warnings = [*(mixture.footnote for mixture in mixed), *data_notes(results.cells), *problems]
    beside = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} - {"index.html"}
    write_text(folder / "index.html", page(results, contents, warnings, beside))
    return problems


def score_text(store: ResultStore) -> str:
    """For a terminal: the score table, and whether its comparisons may judge generators."""
    results = collect(store)
    return f"{to_text(settled(score_table(results)))}\n{terminal(results)}"
