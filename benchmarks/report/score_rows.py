"""What tables of scores and of changes share: names of tasks, entries, and the notes that explain their marks."""

import math

import pandas as pd

from benchmarks.report.results import CEILING, CellView, Results, titled
from benchmarks.report.scores import DIVERGENCE, FEW_SEEDS
from benchmarks.report.tables.table import Entry, as_estimate, values

__all__ = [
    "CONTROL",
    "DAGGER",
    "INTERVAL",
    "heading",
    "no_score",
    "notes",
    "ranked",
    "roles",
    "score_entry",
    "task_name",
]

CONTROL = "duplicate"  # the generator that copies real rows: it must change nothing
DAGGER = f"† fewer than {FEW_SEEDS} seeds: read as an indication only, never bold."
INTERVAL = "± is half the width of the 95 % Student-t interval over seeds, n the seeds with a result."
_OWN = "local/"
_LOCAL = (
    "‡ local/ tasks: scores use D4RL's reference returns, but the data were made by this project's recipes; "
    "do not put these numbers beside published D4RL numbers."
)


def task_name(results: Results, task: str) -> str:
    """A task in heads and sentences: without `local/` where all tasks have it."""
    return task.removeprefix(_OWN) if all(cell.task.startswith(_OWN) for cell in results.cells) else task


def heading(results: Results, task: str, algorithm: str) -> str:
    """A column of a task (with its marks) and, where there are several, algorithm."""
    mark = "‡" if task.startswith(_OWN) else ""
    unit = " (return)" if task in results.unscored_tasks else ""
    several = len({cell.algorithm for cell in results.cells}) > 1
    return f"{task_name(results, task)}{mark}{unit}{f' · {algorithm}' if several else ''}"


def ranked(generator: str) -> bool:
    """Whether it is a method to choose: neither real data only, nor copies of them, nor the ceiling."""
    return generator not in ("none", CONTROL, CEILING)


def score_entry(cell: CellView | None, estimate: pd.DataFrame, bold: bool = False) -> Entry:
    """`mean ± half-width (n=seeds)` of a row of `estimates`, or why there is none; empty where there is no cell."""
    if cell is None:
        return Entry("", value=-math.inf)
    if cell.cell_id not in estimate.index or not estimate["n"][cell.cell_id]:
        return no_score(cell)
    n, mean, low, high = values(estimate.loc[cell.cell_id, ["n", "mean", "low", "high"]])
    of = "" if n == cell.seeds else f"/{cell.seeds}"
    lost = f", {len(cell.diverged)} diverged" if cell.diverged else ""
    mark = f" (n={int(n)}{of}{lost}){'†' if n < FEW_SEEDS else ''}"
    return as_estimate(mean, low, high, mark=mark, bold=bold, cell_id=cell.cell_id)


def no_score(cell: CellView) -> Entry:
    """Why a cell has none: its state, or a dash where it finished and an evaluation that counts is not defined."""
    return Entry("—" if cell.state == "finished" else cell.state, value=-math.inf, cell_id=cell.cell_id)


def roles(results: Results) -> str:
    """Which of this folder's generators are no methods to choose between."""
    there = {cell.generator for cell in results.cells}
    found = [f"none and {CONTROL} are controls: real rows only, and copies of them."] if CONTROL in there else []
    if CEILING in there:
        found.append(f"{titled(CEILING)}: perfect rollouts, a bound to measure against; never bold, never ranked.")
    return " ".join(found)


def notes(results: Results) -> str:
    """Explanations of the marks that this folder's tables have."""
    found = [_LOCAL] if any(cell.task.startswith(_OWN) for cell in results.cells) else []
    if told := roles(results):
        found.append(told)
    if results.unscored_tasks:
        found.append("(return): the task has no reference returns; its numbers are undiscounted returns.")
    if any(cell.diverged for cell in results.cells):
        found.append(DIVERGENCE)
    return " ".join(found)
