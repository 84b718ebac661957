"""One number of a cell against another: a point per cell, a panel per task and algorithm."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures.style import legend, line_styles, panel_list, plain
from benchmarks.report.results import LABELS, Results

__all__ = ["PER_PAGE", "panels_of", "points", "scatter"]

PER_PAGE = 12  # panels in one figure


def points(results: Results, columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Labels and columns, which are by cell, of the cells that have all of them."""
    rows = [
        cell.labels | {name: column.get(cell.cell_id) for name, column in columns.items()} for cell in results.cells
    ]
    return pd.DataFrame(rows, columns=[*LABELS, *columns]).dropna()


def panels_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Every task and algorithm that has points."""
    return list(dict.fromkeys(zip(frame["task"], frame["algorithm"], strict=True)))


def scatter(
    results: Results, frame: pd.DataFrame, pairs: list[tuple[str, str]], x: str, y: str
) -> tuple[Figure, list[Axes]]:
    """The figure with the points of these tasks and algorithms; axes are for the caller to name."""
    styles = line_styles(results)
    figure, axes = panel_list(len(pairs), 2, height=3.2)
    for ax, (task, algorithm) in zip(axes, pairs, strict=True):
        for _, row in frame[(frame["task"] == task) & (frame["algorithm"] == algorithm)].iterrows():
            colour = styles[row["generator"], row["variant"]].colour
            ax.plot(row[x], row[y], "o", color=colour, markersize=9, alpha=0.85, markeredgecolor="white")
        ax.set_title(plain(f"{task} · {algorithm}", 50))
    legend(figure, styles, frame, marker="o", linestyle="")
    return figure, axes
