"""Tables of scores: one row per task, algorithm and variant, one column per generator."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from benchmarks.report.results import CEILING, CellView, Results, generator_order, titled
from benchmarks.report.scores import DIVERGENCE, FEW_SEEDS, behaviours
from benchmarks.report.tables.table import Entry, Table, as_number, digits, labels, values, without_constant

__all__ = ["DAGGER", "INTERVAL", "by_generator", "no_score", "notes", "roles", "score_entries"]

DAGGER = f"† fewer than {FEW_SEEDS} seeds: read as an indication only, never bold."
_LOCAL = (
    "‡ local/ tasks: scores use D4RL's reference returns, but the data were made by this project's recipes; "
    "do not put these rows beside published D4RL numbers."
)
INTERVAL = "± is half the width of the 95 % Student-t interval over seeds, n the seeds with a result."


def by_generator(
    results: Results,
    table: Table,
    estimate: pd.DataFrame,
    bold: Callable[[pd.DataFrame], set[str]],
    sign: str = "",
    skip: str | None = None,
    behaviour: bool = False,
) -> Table:
    """`table` with a column per generator but `skip`, filled from `estimate`; `bold` picks cells of a row.

    `behaviour` puts the data's own score before them, where it is known of any row.
    """
    cells = [cell for cell in results.cells if cell.generator != skip]
    generators = sorted({cell.generator for cell in cells}, key=generator_order)
    grouped: dict[tuple[str, str, str], dict[str, CellView]] = {}
    for cell in cells:
        grouped.setdefault((cell.task, cell.algorithm, cell.variant), {})[cell.generator] = cell
    known = behaviours(results)
    beside = ["behaviour"] if behaviour and len(known) else []
    rows = [
        [
            *labels(results, next(iter(row.values()))),
            *(
                as_number(next((known[x.cell_id] for x in row.values() if x.cell_id in known), math.nan))
                for _ in beside
            ),
            *score_entries([row.get(name) for name in generators], estimate, bold, sign),
        ]
        for row in grouped.values()
    ]
    head = ["task", "algorithm", "variant", *beside, *map(titled, generators)]
    return without_constant(replace(table, head=head, rows=rows), "variant")


def score_entries(
    row: Sequence[CellView | None], estimate: pd.DataFrame, bold: Callable[[pd.DataFrame], set[str]], sign: str = ""
) -> list[Entry]:
    """The entries of one row: `mean ± half-width, n` and `better` if it is known, or why there is no number.

    The ceiling is not among the cells that `bold` picks from.
    """
    known = estimate[estimate.index.isin([cell.cell_id for cell in row if cell is not None]) & (estimate["n"] > 0)]
    ceilings = [cell.cell_id for cell in row if cell is not None and cell.generator == CEILING]
    strong = bold(known[~known.index.isin(ceilings)])
    entries = []
    for cell in row:
        if cell is None:
            entries.append(Entry("", value=-math.inf))
        elif cell.cell_id not in known.index:
            entries.append(no_score(cell))
        else:
            n, mean, low, high = values(known.loc[cell.cell_id, ["n", "mean", "low", "high"]])
            width = 0.0 if math.isnan(low) else (high - low) / 2
            places = digits(max(abs(mean), width))
            half = "" if math.isnan(low) else f" ± {width:.{places}f}"
            of = "" if n == cell.seeds else f"/{cell.seeds}"
            few = "†" if n < FEW_SEEDS else ""
            lost = f", {len(cell.diverged)} diverged" if cell.diverged else ""
            better = f", P={float(known['better'][cell.cell_id]):.2f}" if "better" in known else ""
            text = f"{mean:{sign}.{places}f}{half} (n={int(n)}{of}{lost}{better}){few}"
            entries.append(Entry(text, cell.cell_id in strong, mean, cell.cell_id))
    return entries


def no_score(cell: CellView) -> Entry:
    """Why a cell has none: its state, or a dash where it finished and an evaluation that counts is not defined."""
    return Entry("—" if cell.state == "finished" else cell.state, value=-math.inf, cell_id=cell.cell_id)


def roles(results: Results) -> str:
    """Which of this folder's generators are no methods to choose between."""
    there = {cell.generator for cell in results.cells}
    found = ["none and duplicate are controls: real rows only, and copies of them."] if "duplicate" in there else []
    if CEILING in there:
        found.append(f"{titled(CEILING)}: perfect rollouts, a bound to measure against; never bold, never ranked.")
    return " ".join(found)


def notes(results: Results) -> str:
    """Explanations of the marks that this folder's tables have."""
    found = [_LOCAL] if any(cell.task.startswith("local/") for cell in results.cells) else []
    if told := roles(results):
        found.append(told)
    if results.unscored_tasks:
        found.append("(return): the task has no reference returns; its rows are undiscounted returns.")
    if any(cell.diverged for cell in results.cells):
        found.append(DIVERGENCE)
    return " ".join(found)
