"""What the tables say, whatever they are written in: titles, captions, entries."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from benchmarks.report.aggregates import AGGREGATES, aggregate
from benchmarks.report.comparability import mixtures, origins
from benchmarks.report.results import CellView, Results, natural
from benchmarks.report.scores import (
    DIVERGENCE,
    FEW_SEEDS,
    LEVEL,
    RULE,
    comparisons,
    estimates,
    resolution,
)

__all__ = [
    "Entry",
    "Table",
    "aggregate_table",
    "as_number",
    "as_text",
    "detail_table",
    "improvement_table",
    "labels",
    "score_table",
    "values",
    "without_blank",
    "without_constant",
]

DAGGER = f"† fewer than {FEW_SEEDS} seeds: read as an indication only, never bold."
LOCAL = (
    "‡ local/ tasks: scores use D4RL's reference returns, but the data were made by this project's recipes; "
    "do not put these rows beside published D4RL numbers."
)
INTERVAL = "± is half the width of the 95 % Student-t interval over seeds, n the seeds with a result."


@dataclass(frozen=True)
class Entry:
    """One cell of a table."""

    text: str
    bold: bool = False
    value: float | str | None = None  # to sort by; None: the text
    cell_id: str | None = None  # where the number comes from


@dataclass(frozen=True)
class Table:
    """Rows of entries under one head; `caption` holds the rules a reader needs."""

    name: str
    title: str
    caption: str
    head: list[str]
    rows: list[list[Entry]]


def score_table(results: Results, final: pd.DataFrame) -> Table:
    """Rows: tasks x algorithms x variants; columns: generators."""
    estimate = estimates(final)
    caption = (
        f"{RULE} {INTERVAL} Bold: the highest mean of its row, if it has at least {FEW_SEEDS} seeds and its interval "
        f"overlaps none of the others. {DAGGER} {_notes(results)}"
    )
    said = [*(mixture.footnote for mixture in mixtures(results.cells)), origins(results.cells)]
    caption = " ".join(text for text in (caption.strip(), *said) if text)
    return _by_generator(results, "scores", "Scores", caption, lambda row: _scores(row, estimate, _separate))


def improvement_table(results: Results, final: pd.DataFrame) -> Table:
    """The same rows; every generator minus `none`, seed by seed."""
    compared = comparisons(results, final)
    caption = (
        f"Score minus that of generator none with the same seed, algorithm and settings. {RULE} {INTERVAL} P: "
        "probability that a run beats one of generator none, ties count half. Bold: at least "
        f"{FEW_SEEDS} seeds and p < {LEVEL} in a paired t-test, after Holm's correction for all comparisons of the "
        f"algorithm. {resolution(compared)} {DAGGER} {_notes(results)}"
    )
    return _by_generator(
        results,
        "improvement",
        "Improvement over real data only",
        caption,
        lambda row: _scores(row, compared, _nonzero, sign="+"),
        skip="none",
    )


def detail_table(results: Results, final: pd.DataFrame) -> Table:
    """One row per cell: the score by the rule, and what other rules would have said."""
    estimate = estimates(final)
    means = final.groupby("cell_id")[["last", "best"]].mean()
    rows = []
    for cell in results.cells:
        numbers = [as_number(means[column].get(cell.cell_id, math.nan)) for column in ("last", "best")]
        score = _scores([cell], estimate, lambda _: set())[0]
        rows.append([*labels(results, cell), as_text(cell.generator), score, *numbers])
    caption = (
        f"{RULE} last: mean over seeds of the last evaluation. best: mean over seeds of the best evaluation; this is "
        f"oracle selection (it needs the environment to choose the checkpoint) and is never a headline. {DAGGER} "
        f"{_notes(results)}"
    )
    head = ["task", "algorithm", "variant", "generator", "score", "last", "best (oracle selection)"]
    return without_constant(Table("selection", "Scores under other selection rules", caption, head, rows), "variant")


def aggregate_table(final: pd.DataFrame) -> Table:
    """Over tasks: one row per generator x algorithm x variant."""
    frame = aggregate(final)
    rows = []
    for (algorithm, variant, generator), group in frame.groupby(["algorithm", "variant", "generator"]):
        by_metric = group.set_index("metric")
        few = "†" if group["n_seeds"].iloc[0] < FEW_SEEDS else ""
        numbers = []
        for metric in AGGREGATES:
            value, low, high = values(by_metric.loc[metric, ["value", "low", "high"]])
            digits = 3 if metric == "optimality_gap" else 1
            interval = "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
            text = "—" if math.isnan(value) else f"{value:.{digits}f}{interval}{few}"
            numbers.append(Entry(text, value=value))
        counts = [as_number(float(group[column].iloc[0]), "{:.0f}") for column in ("n_seeds", "n_tasks")]
        rows.append([as_text(str(algorithm)), as_text(str(variant)), as_text(str(generator)), *numbers, *counts])
    rows.sort(key=lambda row: (row[0].text, natural(row[1].text), row[2].text != "none", row[2].text))
    caption = (
        f"Tasks with reference returns only, on the seeds that all of them have. {RULE} Brackets: 95 % interval, "
        "stratified bootstrap over runs within tasks; Student-t where there is one task. Optimality gap: mean "
        f"shortfall from a score of 100, in parts of 100; lower is better. {DAGGER}"
    )
    head = ["algorithm", "variant", "generator", "mean", "median", "IQM", "optimality gap", "seeds", "tasks"]
    return without_constant(Table("aggregate", "Over all tasks", caption, head, rows), "variant")


def _by_generator(
    results: Results,
    name: str,
    title: str,
    caption: str,
    entries: Callable[[Sequence[CellView | None]], list[Entry]],
    skip: str | None = None,
) -> Table:
    cells = [cell for cell in results.cells if cell.generator != skip]
    generators = sorted({cell.generator for cell in cells}, key=lambda name: (name != "none", natural(name)))
    rows: dict[tuple[str, str, str], dict[str, CellView]] = {}
    for cell in cells:
        rows.setdefault((cell.task, cell.algorithm, cell.variant), {})[cell.generator] = cell
    filled = [
        [*labels(results, next(iter(row.values()))), *entries([row.get(name) for name in generators])]
        for row in rows.values()
    ]
    return without_constant(
        Table(name, title, caption, ["task", "algorithm", "variant", *generators], filled), "variant"
    )


def _scores(
    row: Sequence[CellView | None], estimate: pd.DataFrame, bold: Callable[[pd.DataFrame], set[str]], sign: str = ""
) -> list[Entry]:
    """The entries of one row: `mean ± half-width, n` and `better` if it is known, or why there is no number."""
    known = estimate[estimate.index.isin([cell.cell_id for cell in row if cell is not None]) & (estimate["n"] > 0)]
    strong = bold(known)
    entries = []
    for cell in row:
        if cell is None:
            entries.append(Entry("", value=-math.inf))
        elif cell.cell_id not in known.index:
            why = "diverged" if cell.diverged else "failed" if cell.failed else "missing" if cell.missing else "—"
            entries.append(Entry(why, value=-math.inf, cell_id=cell.cell_id))
        else:
            n, mean, low, high = values(known.loc[cell.cell_id, ["n", "mean", "low", "high"]])
            width = 0.0 if math.isnan(low) else (high - low) / 2
            digits = _digits(max(abs(mean), width))
            half = "" if math.isnan(low) else f" ± {width:.{digits}f}"
            of = "" if n == cell.seeds else f"/{cell.seeds}"
            few = "†" if n < FEW_SEEDS else ""
            lost = f", {len(cell.diverged)} diverged" if cell.diverged else ""
            better = f", P={float(known['better'][cell.cell_id]):.2f}" if "better" in known else ""
            text = f"{mean:{sign}.{digits}f}{half} (n={int(n)}{of}{lost}{better}){few}"
            entries.append(Entry(text, cell.cell_id in strong, mean, cell.cell_id))
    return entries


def _separate(row: pd.DataFrame) -> set[str]:
    """The cell with the highest mean, if its interval lies above all the others'."""
    if len(row) < 2:
        return set()
    best = str(row["mean"].idxmax())
    others = row.drop(index=best)
    (seeds, low) = values(row.loc[best, ["n", "low"]])
    apart = (others["high"].fillna(others["mean"]) < low).all()
    return {best} if apart and seeds >= FEW_SEEDS else set()


def _nonzero(row: pd.DataFrame) -> set[str]:
    """The cells that differ from generator none by more than chance."""
    return set(row.index[(row["n"] >= FEW_SEEDS) & (row["p_holm"] < LEVEL)])


def labels(results: Results, cell: CellView) -> list[Entry]:
    """Task (with its marks), algorithm, variant."""
    unit = " (return)" if cell.task in results.unscored_tasks else ""
    mark = "‡" if cell.task.startswith("local/") else ""
    return [Entry(f"{cell.task}{mark}{unit}", value=cell.task), as_text(cell.algorithm), as_text(cell.variant)]


def _notes(results: Results) -> str:
    """Marks that this folder's tasks need."""
    notes = [LOCAL] if any(cell.task.startswith("local/") for cell in results.cells) else []
    if results.unscored_tasks:
        notes.append("(return): the task has no reference returns; its rows are undiscounted returns.")
    if any(cell.diverged for cell in results.cells):
        notes.append(DIVERGENCE)
    return " ".join(notes)


def without_constant(table: Table, column: str) -> Table:
    """Without a column that says `default` in every row."""
    where = table.head.index(column)
    if any(row[where].text != "default" for row in table.rows):
        return table
    rows = [[entry for i, entry in enumerate(row) if i != where] for row in table.rows]
    return replace(table, head=[name for i, name in enumerate(table.head) if i != where], rows=rows)


def without_blank(table: Table) -> Table:
    """Without the columns in which nothing is defined."""
    kept = [i for i in range(len(table.head)) if not table.rows or any(row[i].text != "—" for row in table.rows)]
    return replace(table, head=[table.head[i] for i in kept], rows=[[row[i] for i in kept] for row in table.rows])


def as_text(text: str) -> Entry:
    """A name."""
    return Entry(text)


def as_number(value: float, form: str = "") -> Entry:
    """A number by `form`, or with about three significant figures; a dash for what is not defined."""
    if math.isnan(value):
        return Entry("—", value=-math.inf)
    return Entry(form.format(value) if form else f"{value:,.{_digits(abs(value))}f}", value=float(value))


def _digits(value: float) -> int:
    """Decimals that show about three significant figures of a value that is not negative."""
    return 0 if value >= 1000 or value == 0 else 1 if value >= 10 else 2 if value >= 1 else 3


def values(row: Any) -> list[float]:
    """A row of a frame as plain numbers."""
    return [float(value) for value in row]
