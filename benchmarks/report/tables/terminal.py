"""A table for a terminal of 100 columns."""

import textwrap

from tabulate import tabulate

from benchmarks.report.tables.layout import by_width, keys
from benchmarks.report.tables.table import Table
from benchmarks.report.text import one_line

__all__ = ["WIDTH", "to_text"]

WIDTH = 100  # characters in a line
_GAP = 2  # between columns
_WORDS = 40  # a longer text is wrapped


def to_text(table: Table) -> str:
    """Title, table, caption; columns that do not fit side by side follow in tables of their own."""
    lines = [[one_line(name) for name in table.head], *([one_line(x.text) for x in row] for row in table.rows)]
    columns = zip(*lines, strict=True)
    widths = [float(_GAP + min(_WORDS, max([len(name) + _GAP, *map(len, rest)]))) for name, *rest in columns]
    pieces = []
    for shown in by_width(widths, keys(table), float(WIDTH + _GAP)):
        head, *rows = [[textwrap.fill(line[i], _WORDS) for i in shown] for line in lines]
        align = ["right" if table.numeric(i) else "left" for i in shown]
        pieces.append(tabulate(rows, head, tablefmt="simple", colalign=align, disable_numparse=True))
    body = "\n\n".join(pieces)
    return f"{table.title}\n\n{body}\n\n{textwrap.fill(one_line(table.caption), WIDTH)}\n"
