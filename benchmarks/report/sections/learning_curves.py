"""Score against gradient updates."""

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures.style import BASELINE, LineStyle, legend, line_styles, panels, plain
from benchmarks.report.results import Results, once
from benchmarks.report.scores import FEW_SEEDS, behaviours, estimates, scores_by_step
from benchmarks.report.section import Plot, Section
from benchmarks.report.text import natural

__all__ = ["SECTION"]


_BEHAVIOUR: dict[str, Any] = {"color": BASELINE, "linestyle": ":", "linewidth": 1.4}


def _figure(results: Results, tasks: list[str]) -> Figure:
    """One panel per task x algorithm."""
    styles = line_styles(results)
    curves = _curves(results)
    behaviour = behaviours(results)
    algorithms = sorted(curves["algorithm"].unique(), key=natural)
    width = 100 // len(algorithms)
    figure, grid = panels(len(tasks), len(algorithms), height=2.6, sharex="col", sharey="row")
    for line, task in zip(grid, tasks, strict=True):
        for ax, algorithm in zip(line, algorithms, strict=True):
            there = results.finished(task, algorithm)
            for level in sorted({behaviour[cell.cell_id] for cell in there if cell.cell_id in behaviour}):
                ax.axhline(level, **_BEHAVIOUR)
            for cell in there:
                own = curves[curves["cell_id"] == cell.cell_id]
                if len(own):  # not all of its evaluations are undefined
                    _cell(ax, styles[cell.generator, cell.variant], own)
            ax.set_title(f"{plain(task, width)}\n{plain(algorithm, width)}")
            ax.xaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
        line[0].set_ylabel(results.unit(task))
    for ax in grid[-1]:
        ax.set_xlabel("gradient updates")
    drawn = any(cell.task in tasks and cell.cell_id in behaviour for cell in results.cells)
    legend(figure, styles, curves, [Line2D([], [], label="behaviour", **_BEHAVIOUR)] if drawn else [])
    return figure


def _cell(ax: Axes, style: LineStyle, own: pd.DataFrame) -> None:
    """Mean and interval over seeds at every evaluation, and the seeds where they are few."""
    estimate = estimates(own.assign(cell_id=own["step"]), "score")
    few = estimate["n"] < FEW_SEEDS
    if few.any():
        for _, seed in own.groupby("seed"):
            ax.plot(seed["step"], seed["score"], color=style.colour, linewidth=0.6, alpha=0.45)
    ax.fill_between(
        estimate.index, estimate["low"], estimate["high"], where=~few, color=style.colour, alpha=0.18, linewidth=0
    )
    ax.plot(estimate.index, estimate["mean"], color=style.colour, linestyle=style.dash)


@once
def _curves(results: Results) -> pd.DataFrame:
    """Every evaluation as `score`: normalized if the task has reference returns. One evaluation makes no curve."""
    rows = scores_by_step(results).dropna(subset="score")
    return rows[rows.groupby("task")["step"].transform("nunique") > 1]


SECTION = Section(
    "learning_curves",
    "Learning curves",
    "details",
    figures=[
        Plot(
            "learning_curves",
            lambda _: (
                f"Line: mean over seeds. Band: 95 % Student-t interval; below {FEW_SEEDS} seeds thin lines, one per "
                "seed. Dotted: mean score of the episodes in the data, where it is known. Dashed grey: perfect "
                "rollouts, if run."
            ),
            lambda *_: "",
            "scores",
            rows=lambda results: results.tasks_of(_curves(results)),
            figure=_figure,
        )
    ],
)
