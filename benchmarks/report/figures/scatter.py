"""One number of a cell against another: a point per cell with its intervals, a panel per task and algorithm."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.report.figures.labels import fitting, label_point
from benchmarks.report.figures.palette import SURFACE
from benchmarks.report.figures.style import LineStyle, legend, line_styles, panel_list, plain, short_task
from benchmarks.report.results import LABELS, Results
from benchmarks.report.scores import FEW_SEEDS

__all__ = ["PER_PAGE", "panels_of", "points", "scatter"]

PER_PAGE = 8  # panels in one figure


def points(results: Results, columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Labels and columns, which are by cell, of the cells that have the first two."""
    rows = [
        cell.labels | {name: column.get(cell.cell_id) for name, column in columns.items()} for cell in results.cells
    ]
    frame = pd.DataFrame(rows, columns=[*LABELS, *columns]).astype(dict.fromkeys(columns, "float64"))
    return frame.dropna(subset=list(columns)[:2])


def panels_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Every task and algorithm that has points."""
    return list(dict.fromkeys(zip(frame["task"], frame["algorithm"], strict=True)))


def scatter(
    results: Results, frame: pd.DataFrame, pairs: list[tuple[str, str]], x: str, y: str
) -> tuple[Figure, list[Axes]]:
    """The figure with the points of these tasks and algorithms; axes are for the caller to name.

    Columns `<x>_low`, `<x>_high`, and those of y, are ends of thin bars; points are hollow where column `n` says that
    there are few seeds. Names stand beside the points, or in a legend where they are too long or too many.
    """
    styles = line_styles(results)
    figure, axes = panel_list(len(pairs), 2, height=2.3)
    crowded = False
    for ax, (task, algorithm) in zip(axes, pairs, strict=True):
        own = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm)]
        shown = [(styles[row["generator"], row["variant"]], row) for _, row in own.iterrows()]
        for style, row in shown:
            _point(ax, style, row, x, y)
        if fitting([style.label for style, _ in shown], 20):
            for style, row in shown:
                label_point(ax, style.label, row[x], row[y], style.colour)
        else:
            crowded = True
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.set_title(plain(f"{short_task(task)} · {algorithm}", 50))
    if crowded:
        legend(figure, styles, frame, linestyle="")
    return figure, axes


def _point(ax: Axes, style: LineStyle, row: pd.Series, x: str, y: str) -> None:
    few = "n" in row and row["n"] < FEW_SEEDS
    if f"{y}_low" in row:
        ax.vlines(row[x], row[f"{y}_low"], row[f"{y}_high"], color=style.colour, linewidth=0.8)
    if f"{x}_low" in row:
        ax.hlines(row[y], row[f"{x}_low"], row[f"{x}_high"], color=style.colour, linewidth=0.8)
    face = SURFACE if few else style.colour
    ax.plot(row[x], row[y], style.marker, color=style.colour, markerfacecolor=face, markersize=5, markeredgewidth=0.9)
