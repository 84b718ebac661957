"""Means with their intervals, one below the other: names on the axis, seeds as points, a line to compare with."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.report.figures.palette import BASELINE, GRID, SURFACE
from benchmarks.report.figures.style import LineStyle, line_styles, panels, plain
from benchmarks.report.results import CellView, Results
from benchmarks.report.score_rows import heading, ranked
from benchmarks.report.scores import FEW_SEEDS
from benchmarks.report.tables.table import values

__all__ = ["forest", "panels_of"]

_LONG = 22  # characters of a name that leaves no room for a panel in half a page
_GOLDEN = 0.618  # spreads the points of a row without two of them meeting


def panels_of(estimate: pd.DataFrame, results: Results) -> list[tuple[str, str]]:
    """Every task and algorithm that has a row of `estimate`."""
    return list(dict.fromkeys((cell.task, cell.algorithm) for cell in _shown(estimate, results)))


def forest(
    results: Results,
    estimate: pd.DataFrame,
    seeds: pd.Series,
    pairs: Sequence[tuple[str, str]],
    lines: Mapping[tuple[str, str], float],
) -> tuple[Figure, list[Axes]]:
    """One panel for each task and algorithm: cells by their mean, controls and the ceiling last; axes are not named.

    `estimate` has n, mean, low and high by cell; `seeds` are the numbers behind the means, indexed by cell; `lines` are
    drawn dashed. Panels side by side share their axis where their unit is the same.
    """
    styles = line_styles(results)
    rows = [_ordered([cell for cell in _shown(estimate, results) if _pair(cell) == pair], estimate) for pair in pairs]
    wide = max(len(styles[cell.generator, cell.variant].label) for cells in rows for cell in cells) > _LONG
    across = 1 if wide else min(len(pairs), 2)
    one_unit = len({results.unit(task) for task, _ in pairs}) == 1
    height = 0.19 * max(map(len, rows)) + 0.6
    figure, grid = panels(-(-len(pairs) // across), across, height, wide, sharex="row" if one_unit else False)
    axes = [ax for line in grid for ax in line]
    for ax in axes[len(pairs) :]:
        ax.set_visible(False)
    for ax, pair, cells in zip(axes, pairs, rows, strict=False):
        for place, cell in enumerate(cells):
            style = styles[cell.generator, cell.variant]
            _row(ax, place, style, values(estimate.loc[cell.cell_id, ["n", "mean", "low", "high"]]))
            _seeds(ax, place, style, seeds[[cell.cell_id]].tolist())
        best = sum(ranked(cell.generator) for cell in cells)
        if 0 < best < len(cells):
            ax.axhline(best - 0.5, color=GRID, linewidth=1.2)
        if pair in lines:
            ax.axvline(lines[pair], color=BASELINE, linestyle="--", linewidth=1.2)
        ax.set_yticks(range(len(cells)), [styles[cell.generator, cell.variant].label for cell in cells])
        ax.set(title=plain(heading(results, *pair), 50), ylim=(len(cells) - 0.5, -0.5))
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        ax.tick_params(labelbottom=True)
        ax.grid(axis="y", visible=False)
    return figure, axes[: len(pairs)]


def _row(ax: Axes, place: int, style: LineStyle, estimate: list[float]) -> None:
    """Mean and interval, hollow below five seeds."""
    n, mean, low, high = estimate
    ax.errorbar(
        mean,
        place,
        xerr=None if n < 2 else [[mean - low], [high - mean]],
        color=style.colour,
        marker=style.marker,
        markersize=5,
        capsize=2,
        linewidth=1.1,
        markeredgewidth=1.1,
        markeredgecolor=style.colour,
        markerfacecolor=SURFACE if n < FEW_SEEDS else style.colour,
        zorder=3,
    )


def _seeds(ax: Axes, place: int, style: LineStyle, seeds: list[float]) -> None:
    """Small points around the row, always at the same heights."""
    heights = [place + 0.5 * ((k * _GOLDEN + 0.25) % 1 - 0.5) for k in range(len(seeds))]
    ax.plot(seeds, heights, "o", color=style.colour, markersize=2.5, alpha=0.5, markeredgewidth=0)


def _shown(estimate: pd.DataFrame, results: Results) -> list[CellView]:
    there = set(estimate.index[estimate["n"] > 0])
    return [cell for cell in results.cells if cell.cell_id in there]


def _ordered(cells: list[CellView], estimate: pd.DataFrame) -> list[CellView]:
    """The highest mean first; what is not ranked stands below."""
    return sorted(cells, key=lambda cell: (not ranked(cell.generator), -estimate["mean"][cell.cell_id]))


def _pair(cell: CellView) -> tuple[str, str]:
    return cell.task, cell.algorithm
