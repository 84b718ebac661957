"""What a table is made of: entries, heads, rows; and the entries that hold numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.report.results import CellView, Results, titled

__all__ = [
    "Entry",
    "Table",
    "as_estimate",
    "as_interval",
    "as_number",
    "cell_table",
    "digits",
    "filled",
    "labels",
    "values",
    "without_blank",
    "without_constant",
]


@dataclass(frozen=True)
class Entry:
    """One cell of a table: a text, or numbers whose decimals the column decides (`settled`)."""

    text: str
    bold: bool = False
    value: float | str | None = None  # to sort by; None: the text
    cell_id: str | None = None  # where the number comes from
    numbers: tuple[float, ...] = ()  # what `form` is filled with; none: the text stays as it is
    form: str = ""  # with the column's `spec` for every number, such as {0:{spec}}
    mark: str = ""  # behind the numbers, part of the text


@dataclass(frozen=True)
class Table:
    """Rows of entries under one head; `caption` holds the rules a reader needs."""

    name: str
    title: str
    caption: str
    head: list[str] = field(default_factory=list)
    rows: list[list[Entry]] = field(default_factory=list)
    data: str = ""  # the csv file that holds its numbers, without suffix

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers, or reasons why there is none: such columns are aligned on the right."""
        found = [row[column].value for row in self.rows]
        return all(isinstance(x, int | float) for x in found) and any(x != -math.inf for x in found)


def cell_table(
    results: Results,
    name: str,
    title: str,
    caption: str,
    columns: Iterable[str],
    rows: Iterable[tuple[CellView, list[Entry]]],
) -> Table:
    """Rows begin with the labels of their cell; the column of variants is left out where all are the default."""
    head = ["task", "algorithm", "variant", "generator", *columns]
    full = [[*labels(results, cell), Entry(titled(cell.generator)), *entries] for cell, entries in rows]
    return without_constant(Table(name, title, caption, head, full), "variant")


def labels(results: Results, cell: CellView) -> list[Entry]:
    """Task (with its marks), algorithm, variant."""
    unit = " (return)" if cell.task in results.unscored_tasks else ""
    mark = "‡" if cell.task.startswith("local/") else ""
    return [Entry(f"{cell.task}{mark}{unit}", value=cell.task), Entry(cell.algorithm), Entry(cell.variant)]


def without_constant(table: Table, column: str) -> Table:
    """Without a column that says `default` in every row."""
    where = table.head.index(column)
    if any(row[where].text != "default" for row in table.rows):
        return table
    rows = [[entry for i, entry in enumerate(row) if i != where] for row in table.rows]
    return replace(table, head=[name for i, name in enumerate(table.head) if i != where], rows=rows)


def without_blank(table: Table) -> Table:
    """Without the columns in which nothing is defined."""
    kept = [
        i for i in range(len(table.head)) if not table.rows or any(row[i].text not in ("", "—") for row in table.rows)
    ]
    return replace(table, head=[table.head[i] for i in kept], rows=[[row[i] for i in kept] for row in table.rows])


def as_number(value: float, form: str = "", sign: bool = False) -> Entry:
    """A number by `form`, or with as many decimals as its column has; a dash for what is not defined."""
    if math.isnan(value):
        return Entry("—", value=-math.inf)
    if form:
        return Entry(form.format(value).replace("-", "−"), value=float(value))
    return _measured((float(value),), _field(0, sign), "", False, None)


def as_estimate(
    mean: float,
    low: float,
    high: float,
    sign: bool = False,
    *,
    mark: str = "",
    bold: bool = False,
    cell_id: str | None = None,
) -> Entry:
    """`mean ± half the interval`, the mean alone where there is none; `mark`, such as ` (n=3)†`, stands behind it."""
    if math.isnan(mean):
        return Entry("—", value=-math.inf, cell_id=cell_id)
    if math.isnan(low):
        return _measured((float(mean),), _field(0, sign), mark, bold, cell_id)
    return _measured((float(mean), float(high - low) / 2), f"{_field(0, sign)} ± {_field(1)}", mark, bold, cell_id)


def as_interval(
    low: float,
    high: float,
    mean: float = math.nan,
    sign: bool = False,
    *,
    mark: str = "",
    bold: bool = False,
    cell_id: str | None = None,
) -> Entry:
    """`[low, high]`, behind `mean` where it is given; the mean alone where there is no interval."""
    numbers = tuple(float(x) for x in (mean, low, high) if not math.isnan(x))
    if not numbers:
        return Entry("—", value=-math.inf, cell_id=cell_id)
    form = {
        1: _field(0, sign),
        2: f"[{_field(0, sign)}, {_field(1, sign)}]",
        3: f"{_field(0, sign)} [{_field(1)}, {_field(2)}]",
    }[len(numbers)]
    return _measured(numbers, form, mark, bold, cell_id)


def _field(place: int, sign: bool = False) -> str:
    return f"{{{place}:{'+' if sign else ''}{{spec}}}}"


def _measured(numbers: tuple[float, ...], form: str, mark: str, bold: bool, cell_id: str | None) -> Entry:
    """Written by itself, until a column knows better."""
    spec = f"z,.{digits(max(map(abs, numbers)))}f"
    return filled(Entry("", bold, numbers[0], cell_id, numbers, form, mark), spec)


def filled(entry: Entry, spec: str) -> Entry:
    """With its numbers written by a format specification, with a true minus sign."""
    return replace(entry, text=entry.form.format(*entry.numbers, spec=spec).replace("-", "−") + entry.mark)


def digits(value: float) -> int:
    """Decimals that show about three significant figures of a value that is not negative."""
    return 0 if value >= 1000 or value == 0 else 1 if value >= 10 else 2 if value >= 1 else 3


def values(row: Any) -> list[float]:
    """A row of a frame as plain numbers."""
    return [float(value) for value in row]
