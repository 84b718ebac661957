"""The score of every cell, and what other rules of selection would have said."""

import math
from collections import Counter
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.comparability import mixtures, origins
from benchmarks.report.figures.forest import forest, panels_of
from benchmarks.report.results import CellView, Results, generator_order, titled
from benchmarks.report.score_rows import DAGGER, INTERVAL, heading, notes, ranked, score_entry
from benchmarks.report.scores import FEW_SEEDS, behaviours, estimates, evaluations, finals, rule
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Entry, Table, as_number, cell_table
from benchmarks.report.text import natural
from benchmarks.report.verdict import compares_scores, verdicts

__all__ = ["DETAILS", "SECTION", "score_table", "selection_table"]

_MANY = 6  # columns that fit a page
_BEHAVIOUR = (
    "behaviour: mean score of the episodes that the data hold; where they are pieces of one stream (maze2d), of as "
    "many steps of it as an evaluation has."
)


def score_table(results: Results) -> Table:
    """Rows: the data's behaviour, generators x variants; columns: tasks x algorithms. None where all data are real.

    Where columns are many and rows few it is turned over.
    """
    columns = _columns(results)
    cells = {(cell.generator, cell.variant, cell.task, cell.algorithm): cell for cell in results.cells}
    estimate = estimates(finals(results))
    verdict = verdicts(results)["verdict"]
    rows = []
    for generator, variant in sorted({key[:2] for key in cells}, key=lambda x: (generator_order(x[0]), natural(x[1]))):
        row = [cells.get((generator, variant, *column)) for column in columns]
        bold = [ranked(generator) and cell is not None and verdict.get(cell.cell_id) == "helps" for cell in row]
        entries = [score_entry(cell, estimate, strong) for cell, strong in zip(row, bold, strict=True)]
        rows.append([Entry(titled(generator), value=generator), Entry(variant), *entries])
    known = _behaviour(results, columns)
    if any(not math.isnan(score) for score in known):
        rows.insert(0, [Entry("behaviour (data)"), Entry("default"), *(as_number(score, "{:,.1f}") for score in known)])
    bold_rule = "Bold: helps, by the verdict against real data only; never the ceiling."
    algorithms = {cell.algorithm for cell in results.cells}
    told = [
        rule(results),
        f"Algorithm: {min(algorithms)}." if len(algorithms) == 1 else "",
        INTERVAL,
        bold_rule,
        _BEHAVIOUR if behaviours(results) else "",
        DAGGER,
        notes(results),
    ]
    told += [*(mixture.footnote for mixture in mixtures(results.cells)), origins(results.cells)]
    names = [heading(results, *column) for column in columns]
    if len(columns) > _MANY and len(columns) > 2 * len(rows):
        head = ["task" if len(algorithms) == 1 else "task · algorithm"]
        head += [row[0].text if row[1].text == "default" else f"{row[0].text} · {row[1].text}" for row in rows]
        rows = [[Entry(name), *entries] for name, *entries in zip(names, *(row[2:] for row in rows), strict=True)]
    else:
        head = ["generator", "variant", *names]
    caption = " ".join(text for text in told if text)
    return Table("scores", "Scores", caption, head, rows if compares_scores(results) else [], data="scores")


def selection_table(results: Results) -> Table:
    """One row per cell: the score by the rule, and what other rules would have said."""
    final = finals(results)
    estimate = estimates(final)
    means = final.groupby("cell_id")[["last", "best"]].mean()
    rows = []
    for cell in results.cells if compares_scores(results) else ():
        numbers = [as_number(means[column].get(cell.cell_id, math.nan)) for column in ("last", "best")]
        rows.append((cell, [score_entry(cell, estimate), *numbers]))
    caption = (
        f"{rule(results)} last: mean over seeds of the last evaluation. best: mean over seeds of the best evaluation; "
        "this is oracle selection (it needs the environment to choose the checkpoint) and is never a headline. "
        f"{DAGGER} {notes(results)}"
    )
    columns = ["score", "last", "best (oracle selection)"]
    table = cell_table(results, "selection", "Scores under other selection rules", caption, columns, rows)
    return replace(table, data="scores")


def _columns(results: Results) -> list[tuple[str, str]]:
    """Every task and algorithm, in the order of the folder."""
    return list(dict.fromkeys((cell.task, cell.algorithm) for cell in results.cells))


def _behaviour(results: Results, columns: list[tuple[str, str]]) -> list[float]:
    """Of each task and algorithm, the score of the data; NaN where no run tells."""
    found: dict[tuple[str, str], float] = {}
    for cell in results.cells:
        if cell.cell_id in behaviours(results):
            found.setdefault(_pair(cell), behaviours(results)[cell.cell_id])
    return [found.get(column, math.nan) for column in columns]


def _figure(results: Results, pairs: list[tuple[str, str]]) -> Figure:
    """Scores, the highest first, beside that of real data only."""
    estimate, seeds = _scored(results)
    known = [cell for cell in _baselines(results) if cell.cell_id in estimate.index]
    none = {_pair(cell): float(estimate["mean"][cell.cell_id]) for cell in known}
    figure, axes = forest(results, estimate, seeds, pairs, none)
    for ax, (task, _) in zip(axes, pairs, strict=True):
        ax.set_xlabel(results.unit(task))
    return figure


def _scored(results: Results) -> tuple[pd.DataFrame, pd.Series]:
    rows = finals(results).dropna(subset="final")
    return estimates(rows), rows.set_index("cell_id")["final"]


def _baselines(results: Results) -> list[CellView]:
    """Cells of generator none, where a task and algorithm has only one."""
    none = [cell for cell in results.cells if cell.generator == "none"]
    count = Counter(map(_pair, none))
    return [cell for cell in none if count[_pair(cell)] == 1]


def _pair(cell: CellView) -> tuple[str, str]:
    return cell.task, cell.algorithm


def _alt(results: Results, pairs: list[tuple[str, str]]) -> str:
    estimate, _ = _scored(results)
    own = [cell for cell in results.cells if _pair(cell) in set(pairs) and cell.cell_id in estimate.index]
    means = estimate.loc[[cell.cell_id for cell in own], "mean"]
    low, high = (as_number(x, "{:.1f}").text for x in (means.min(), means.max()))
    best = next(cell for cell in own if cell.cell_id == means.idxmax())
    return f"Mean scores of {len(own)} cells lie between {low} and {high}, the highest that of {best.generator}."


SECTION = Section("scores", "Scores", "help", frames={"scores": evaluations}, tables=[score_table])
DETAILS = Section(
    "score_details",
    "Scores, seed by seed",
    "details",
    tables=[selection_table],
    figures=[
        Plot(
            "scores",
            lambda _: (
                "Marker and bar: mean and 95 % Student-t interval over seeds, which are the small points; hollow below "
                f"{FEW_SEEDS} seeds. Dashed: real data only."
            ),
            _alt,
            "scores",
            rows=lambda results: panels_of(_scored(results)[0], results) if compares_scores(results) else [],
            figure=_figure,
        )
    ],
)
