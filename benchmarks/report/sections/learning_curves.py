"""Score against gradient updates: every cell in a panel of its own, beside real data only."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from benchmarks.report.figures.palette import BASELINE
from benchmarks.report.figures.style import LineStyle, legend, line_styles, panels, plain, short_task
from benchmarks.report.results import CellView, Results, once, titled
from benchmarks.report.scores import FEW_SEEDS, behaviours, estimates, partners, scores_by_step
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import as_number

__all__ = ["SECTION"]

_ACROSS = 5  # panels
_BEHAVIOUR: dict[str, Any] = {"color": BASELINE, "linestyle": ":", "linewidth": 1.2}
_NONE: dict[str, Any] = {"color": BASELINE, "linestyle": "-", "linewidth": 1}


def _figure(results: Results, cells: list[CellView]) -> Figure:
    """Axes are shared within a task, which begins a line of its own where any has several cells."""
    styles = line_styles(results)
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    groups = [[cell for cell in cells if cell.task == task] for task in tasks]
    if len(groups) == len(cells):
        groups = [cells]
    across = min(_ACROSS, max(len(group) for group in groups))
    lines = [group[first : first + across] for group in groups for first in range(0, len(group), across)]
    figure, grid = panels(len(lines), across, height=1.25)
    first: dict[str, Axes] = {}
    for axes, line in zip(grid, lines, strict=True):
        for ax, cell in zip(axes, line, strict=False):
            _panel(ax, results, cell, styles[cell.generator, cell.variant])
            shared = first.setdefault(cell.task, ax)
            if shared is not ax:
                ax.sharex(shared)
                ax.sharey(shared)
            last = any(cell in group[-across:] for group in groups)  # there is none of its task below
            ax.tick_params(labelbottom=last, labelleft=ax is axes[0] or shared is ax)
            ax.set_xlabel("gradient updates" if last else "")
        for ax in axes[len(line) :]:
            ax.set_visible(False)
        axes[0].set_ylabel("score" if line[0].task in results.scored_tasks else "return")
    _references(figure, results, cells)
    return figure


def _panel(ax: Axes, results: Results, cell: CellView, style: LineStyle) -> None:
    """The cell over real data only with equal settings, and the behaviour policy's score."""
    curves = _curves(results)
    none = curves[curves["cell_id"] == partners(results).get(cell.cell_id)]
    if len(none):
        _curve(ax, none, _NONE)
    if cell.cell_id in behaviours(results):
        ax.axhline(behaviours(results)[cell.cell_id], **_BEHAVIOUR)
    _curve(ax, curves[curves["cell_id"] == cell.cell_id], {"color": style.colour, "linestyle": "-"})
    ax.set_title(_title(results, cell), fontsize=7, fontweight="normal")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(4))


def _title(results: Results, cell: CellView) -> str:
    """Task, generator and variant, where cells differ in them."""
    several = len({other.task for other in results.cells if other.done}) > 1
    lines = [short_task(cell.task) if several else "", _name(results, cell)]
    lines.append(cell.variant if cell.variant != "default" else "")
    return "\n".join(plain(line, 23) for line in lines if line)


def _name(results: Results, cell: CellView) -> str:
    """Its generator, and its algorithm where there are several."""
    several = len({other.algorithm for other in results.cells if other.done}) > 1
    return f"{titled(cell.generator)} · {cell.algorithm}" if several else titled(cell.generator)


def _curve(ax: Axes, own: pd.DataFrame, look: dict[str, Any]) -> None:
    """Mean and interval over seeds at every evaluation, and the seeds where they are few."""
    estimate = estimates(own.assign(cell_id=own["step"]), "score")
    few = estimate["n"] < FEW_SEEDS
    if few.any():
        for _, seed in own.groupby("seed"):
            ax.plot(seed["step"], seed["score"], color=look["color"], linewidth=0.5, alpha=0.5)
    band = {"where": ~few, "alpha": 0.2, "linewidth": 0, "color": look["color"]}
    ax.fill_between(estimate.index, estimate["low"], estimate["high"], **band)
    ax.plot(estimate.index, estimate["mean"], **look)


def _references(figure: Figure, results: Results, cells: list[CellView]) -> None:
    """The legend of what is drawn beside the cells."""
    curves = _curves(results)
    drawn = set(curves["cell_id"])
    there = [
        ("real data only", _NONE, any(partners(results).get(cell.cell_id) in drawn for cell in cells)),
        ("behaviour", _BEHAVIOUR, any(cell.cell_id in behaviours(results) for cell in cells)),
    ]
    legend(figure, {}, curves, [Line2D([], [], label=label, **look) for label, look, shown in there if shown])


@once
def _curves(results: Results) -> pd.DataFrame:
    """Every evaluation as `score`: normalized if the task has reference returns. One evaluation makes no curve."""
    rows = scores_by_step(results).dropna(subset="score")
    return rows[rows.groupby("task")["step"].transform("nunique") > 1]


def _cells(results: Results) -> list[CellView]:
    """Those with a curve; real data only has a panel of its own where no other cell is compared with it."""
    drawn = set(_curves(results)["cell_id"])
    compared = {none for cell_id, none in partners(results).items() if cell_id in drawn}
    return [cell for cell in results.cells if cell.cell_id in drawn and cell.cell_id not in compared]


def _caption(results: Results) -> str:
    """Bands or seeds, whichever are drawn."""
    seeds = _curves(results).groupby(["cell_id", "step"])["seed"].nunique()
    bands = "band: 95 % Student-t interval over seeds" if (seeds >= FEW_SEEDS).any() else ""
    thin = f"thin lines: seeds, where there are fewer than {FEW_SEEDS}" if (seeds < FEW_SEEDS).any() else ""
    compared = partners(results).keys() & set(_curves(results)["cell_id"])
    none = ", with real data only under equal settings in grey" if compared else ""
    behaviour = " Dotted: mean score of the episodes in the data." if behaviours(results) else ""
    drawn = "; ".join(text for text in ("Line: mean over seeds", bands, thin) if text)
    return f"A panel per cell{none}. {drawn}.{behaviour}"


def _alt(results: Results, cells: list[CellView]) -> str:
    """The range of each task's means at the last evaluation."""
    rows = _curves(results)
    last = rows[rows["step"] == rows.groupby("cell_id")["step"].transform("max")]
    means = last.groupby("cell_id")["score"].mean()
    said = []
    for task in dict.fromkeys(cell.task for cell in cells):
        own = {cell.cell_id: cell for cell in cells if cell.task == task}
        ends = sorted((means[cell_id], _name(results, cell)) for cell_id, cell in own.items())
        low, high = (f"{as_number(mean, '{:.1f}').text} ({name})" for mean, name in (ends[0], ends[-1]))
        said.append(f"{short_task(task)}: means at the last evaluation from {low} to {high}")
    return f"{'; '.join(said)}."


SECTION = Section(
    "learning_curves",
    "Learning curves",
    "details",
    figures=[
        Plot(
            "learning_curves",
            _caption,
            _alt,
            "scores",
            rows=_cells,
            figure=_figure,
            per_page=4 * _ACROSS,
        )
    ],
)
