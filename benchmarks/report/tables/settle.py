"""The rules that every table keeps before it is written: decimals of a column, and what all rows share said once."""

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.report.tables.table import Entry, Table, filled, without_blank

__all__ = ["SHARED", "decimals", "settled", "short_caption"]

SHARED = (  # heads of columns of which one value in all rows is said in the caption instead
    *("task", "dataset type", "algorithm", "variant", "generator", "seeds", "tasks", "cells", "actions", "error"),
    *("steps", "starts excluded", "capped", "unit", "regimes", "regime", "room", "mixing"),
)
_MOST = 4  # decimals
_LOCAL = "local/"
_SHARED = "In all rows: "


def settled(table: Table) -> Table:
    """The table as all writers show it.

    Columns in which nothing is defined are left out. What all rows share (a column of SHARED, the `local/` of their
    tasks, the mark of their numbers) is left out and said once, behind the first sentence of the caption; one column
    of labels always stays. The numbers of a column have one number of decimals, see `decimals`.
    """
    shared: list[str] = []
    if table.rows:
        table = _without_shared(table, shared)
    table = _without_mark(_without_prefix(without_blank(table), shared), shared)
    columns = [_written([row[i] for row in table.rows]) for i in range(len(table.head))]
    rows = [list(row) for row in zip(*columns, strict=True)] if table.rows else []
    first, rest = _sentence(table.caption)
    said = f"{_SHARED}{'; '.join(shared)}." if shared else ""
    return replace(table, rows=rows, caption=_minus(" ".join(part for part in (first, said, rest) if part)))


def decimals(sizes: Sequence[float]) -> str:
    """The format specification of a column whose numbers have these sizes (the largest number of every entry).

    Three significant figures of the median of those that are at least a thousandth of the largest, at most 4 decimals;
    where that would show fewer than two figures, that is below 0.001, every number is written as 1.23e-04.
    """
    finite = [size for size in sizes if math.isfinite(size)]
    largest = max(finite, default=0.0)
    if not largest:
        return "z,.0f"
    median = statistics.median(size for size in finite if size >= largest / 1000)
    if median < 10 ** (1 - _MOST):
        return "z.2e"
    return f"z,.{min(_MOST, max(0, 2 - math.floor(math.log10(median))))}f"


def short_caption(table: Table) -> tuple[str, str]:
    """The first sentence of a settled table's caption with what all rows share, and the rest: notes."""
    first, rest = _sentence(table.caption)
    if rest.startswith(_SHARED):
        said, rest = _sentence(rest)
        first = f"{first} {said}"
    return first, rest


def _sentence(caption: str) -> tuple[str, str]:
    """The first sentence, and the rest."""
    first, _, rest = caption.partition(". ")
    return (f"{first}.", rest) if rest else (first, "")


def _written(column: list[Entry]) -> list[Entry]:
    """A number that is not zero but would be shown as zero is written as 1.2e-05."""
    spec = decimals([max(map(abs, entry.numbers)) for entry in column if entry.numbers])
    shown = []
    for entry in column:
        if entry.numbers:
            tiny = len(entry.numbers) == 1 and entry.numbers[0] and not re.search("[1-9]", f"{entry.numbers[0]:{spec}}")
            shown.append(filled(entry, "z.1e" if tiny else spec))
        else:
            shown.append(replace(entry, text=_minus(entry.text)))
    return shown


def _minus(text: str) -> str:
    """With true minus signs before numbers that stand in a text; names with hyphens and values of fields stay."""
    return re.sub(r"(?<![^\s(\[])-(?=\.?\d)", "−", text)


def _without_shared(table: Table, shared: list[str]) -> Table:
    same = [
        i
        for i, name in enumerate(table.head)
        if name in SHARED and len({row[i].text for row in table.rows}) == 1 and table.rows[0][i].text not in ("", "—")
    ]
    left = [i for i in range(len(table.head)) if i not in same and not table.numeric(i)]
    if not left or len(table.rows) == 1:
        same = same[1:]
    said = {table.head[i]: _written([row[i] for row in table.rows])[0].text for i in same}
    shared += [f"{name} {text}" for name, text in said.items() if text != "default"]
    kept = [i for i in range(len(table.head)) if i not in same]
    return replace(table, head=[table.head[i] for i in kept], rows=[[row[i] for i in kept] for row in table.rows])


def _without_prefix(table: Table, shared: list[str]) -> Table:
    """Tasks without their `local/` and its mark, where all have it."""
    if "task" not in table.head or not table.rows:
        return table
    column = table.head.index("task")
    tasks = [row[column] for row in table.rows]
    if len(tasks) < 2 or not all(task.text.startswith(_LOCAL) for task in tasks):
        return table
    shared.append("task local/‡" if all("‡" in task.text for task in tasks) else "task local/")
    rows = [
        [replace(x, text=x.text.removeprefix(_LOCAL).replace("‡", "")) if i == column else x for i, x in enumerate(row)]
        for row in table.rows
    ]
    return replace(table, rows=rows)


def _without_mark(table: Table, shared: list[str]) -> Table:
    """Numbers without the mark that all numbers of the columns with marks have."""
    columns = [[entry for entry in column if entry.numbers] for column in zip(*table.rows, strict=True)]
    marked = [column for column in columns if any(entry.mark for entry in column)]
    marks = {entry.mark for column in marked for entry in column}
    if len(marks) != 1 or sum(map(len, marked)) < 2:
        return table
    shared.append(marks.pop().strip())
    rows = [[replace(entry, mark="") if entry.mark else entry for entry in row] for row in table.rows]
    return replace(table, rows=rows)
