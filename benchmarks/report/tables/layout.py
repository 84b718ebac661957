"""How a table that is too wide or too long is cut into pieces that fit a page or a terminal."""

from collections.abc import Sequence

from benchmarks.report.tables.table import Table

__all__ = ["by_height", "by_width", "keys"]


def keys(table: Table) -> int:
    """How many columns say what a row is about: those before the first number."""
    return next((i for i in range(len(table.head)) if table.numeric(i)), 1)


def by_width(widths: Sequence[float], repeated: int, limit: float) -> list[list[int]]:
    """Columns in their order, as many side by side as fit; the first `repeated` stand in every piece."""
    pieces = [list(range(repeated))]
    for column in range(repeated, len(widths)):
        if len(pieces[-1]) > repeated and sum(widths[i] for i in pieces[-1]) + widths[column] > limit:
            pieces.append(list(range(repeated)))
        pieces[-1].append(column)
    return pieces


def by_height(heights: Sequence[float], limit: float) -> list[range]:
    """Rows in their order, as many below each other as fit; at least one."""
    pieces = [range(0)]
    height = 0.0
    for row, own in enumerate(heights):
        if pieces[-1] and height + own > limit:
            pieces.append(range(row, row))
            height = 0.0
        pieces[-1] = range(pieces[-1].start, row + 1)
        height += own
    return pieces
