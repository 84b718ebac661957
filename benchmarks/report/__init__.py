"""From a results folder to tables, figures and one HTML page; everything is redrawn from the folder alone."""

from benchmarks.report.ablation import ablation
from benchmarks.report.aggregates import aggregate
from benchmarks.report.comparability import mixtures, refusal
from benchmarks.report.consistency import consistency, consistency_table, shift_table
from benchmarks.report.diagnostics import diagnostics_table
from benchmarks.report.fidelity import (
    COMPOUNDING,
    compounding,
    compounding_table,
    cost,
    cost_table,
    growth_table,
    return_table,
    returns,
)
from benchmarks.report.page import page
from benchmarks.report.plots import figures
from benchmarks.report.published import published_table
from benchmarks.report.render import to_csv, to_latex, to_markdown, to_text
from benchmarks.report.results import Results, collect
from benchmarks.report.scores import comparisons, evaluations, finals
from benchmarks.report.style import save
from benchmarks.report.tables import aggregate_table, detail_table, improvement_table, score_table
from benchmarks.store import ResultStore
from core.errors import DataError
from core.files import write_text

__all__ = ["report", "score_text"]


def report(store: ResultStore, *, allow_mixed: bool = False) -> list[str]:
    """Write DIR/report/ and return what is wrong with the results: diverged, failed, missing and undefined.

    Figures of an earlier report that there is nothing to draw for any more are removed. With `allow_mixed`, cells of
    one task with different physics or data are drawn together, and the score table and the page say so.

    Raises:
        DataError: a file of the store is torn or was edited, or a task's cells are mixed; names them.
    """
    results = collect(store)
    folder = store.root / "report"
    mixed = mixtures(results.cells)
    if mixed and not allow_mixed:
        raise DataError(refusal(mixed))
    final = finals(results)
    problems = [*results.problems, *_undefined(results)]
    written = [
        score_table(results, final),
        improvement_table(results, final),
        published_table(results, final),
        aggregate_table(final),
        detail_table(results, final),
        compounding_table(results),
        growth_table(results),
        consistency_table(results),
        shift_table(results),
        return_table(results),
        diagnostics_table(results),
        cost_table(results),
    ]
    for name, frame in (
        ("scores", evaluations(results)),
        ("aggregate", aggregate(final)),
        ("ablation", ablation(results, final).drop(columns="cell_id")),
        ("improvements", comparisons(results, final)),
        ("compounding", compounding(results)[COMPOUNDING]),
        ("consistency", consistency(results)),
        ("returns", returns(results)),
        ("cost", cost(results)),
    ):
        write_text(folder / f"{name}.csv", to_csv(frame))
    for suffix, render in (("md", to_markdown), ("tex", to_latex)):
        write_text(folder / f"scores.{suffix}", "\n".join(render(table) for table in written if table.rows))
    svgs = {}
    for name, figure in figures(results):
        save(figure, folder, name)
        svgs[name] = (folder / f"{name}.svg").read_text(encoding="utf-8")
    for path in [*folder.glob("*.svg"), *folder.glob("*.png")]:
        if path.stem not in svgs:
            path.unlink(missing_ok=True)
    write_text(folder / "index.html", page(results, written, svgs, [*(m.footnote for m in mixed), *problems]))
    return problems


def score_text(store: ResultStore) -> str:
    """The score table for a terminal."""
    results = collect(store)
    return to_text(score_table(results, finals(results)))


def _undefined(results: Results) -> list[str]:
    """Seeds that finished without a score, because an evaluation that counts is not defined."""
    undefined = finals(results).query("final.isna()")
    cells = {cell.cell_id: cell for cell in results.cells}
    return [
        f"undefined: {cells[cell_id].name}, seed {seed}: no score, an evaluation that counts has no return"
        for cell_id, seed in zip(undefined["cell_id"].tolist(), undefined["seed"].tolist(), strict=True)
        if seed not in cells[cell_id].diverged
    ]
