"""The figures, as functions from frames to matplotlib figures; `save` gives equal bytes for equal data."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.ablation import ablation, ablations, curves_figure, heat_figure
from benchmarks.report.aggregates import aggregate_figure, compared_algorithms, improvement_figure, profile_figure
from benchmarks.report.fidelity import compounding
from benchmarks.report.results import CellView, Results, natural
from benchmarks.report.scores import FEW_SEEDS, estimates, finals, judged, paired
from benchmarks.report.style import BASELINE, GRID, SURFACE, Looks, draw, legend, make_looks, panels, plain
from benchmarks.report.tradeoffs import frontier_figure, frontiers, price_figure, prices

__all__ = ["CAPTIONS", "figures"]

_PAGE = 6  # rows of panels in one figure
CAPTIONS = {
    "scores": f"Points: seeds. Marker and bar: mean and 95 % Student-t interval; hollow below {FEW_SEEDS} seeds.",
    "aggregate": "Over all tasks with reference returns. Line: aggregate; bar: 95 % stratified bootstrap interval, "
    "runs resampled within tasks. Of the optimality gap less is better. What lacks a task is left out.",
    "profiles": "Share of the runs of all tasks that score above a threshold. Band: pointwise 95 % stratified "
    f"bootstrap, none below {FEW_SEEDS} seeds.",
    "improvement": "Chance that a run beats a run of the same task on real data only, mean over tasks, ties count "
    "half. Bar: 95 % stratified bootstrap interval. It says how often, not by how much.",
    "learning_curves": f"Line: mean over seeds. Band: 95 % Student-t interval; below {FEW_SEEDS} seeds thin lines, one "
    "per seed.",
    "ablation": "Cells that differ in one field. Marker and bar: mean and 95 % Student-t interval over seeds; hollow "
    f"below {FEW_SEEDS} seeds. Residual: how far actions moved in the last round of the generator's last call.",
    "frontier": "One point per cell, means over seeds: root mean square distance of generated actions to the learning "
    "policy's in the same states, against the median open-loop error at the longest horizon. Lower left is better.",
    "price": "One point per cell: mean score against the wall-clock seconds of its updates and generation, all seeds "
    "together, and of the fits of its pretrained models, whoever made them. Dashed: real data only.",
    "heat": "Cells that differ in two fields: means over seeds.",
    "compounding": "Median error of generated states over rollouts. Line: median over seeds; band: all seeds. "
    "Open loop: against the generated actions replayed in the true simulator; closed loop: against the "
    "policy's own roll-out. Only rollouts that are still valid count.",
}


def figures(results: Results) -> Iterator[tuple[str, Figure]]:
    """(file name, figure) of everything there is to draw; a long figure goes on in `<name>_2`, `<name>_3`."""
    looks = make_looks(results)
    rows = finals(results).dropna(subset="final")
    for name, tasks in _pages("scores", _ordered(results, rows), 3 * _PAGE):
        yield name, draw(_scores, results, looks, rows, tasks)
    gains = paired(results, rows).dropna(subset="gain")
    for name, over_tasks, scores in (
        ("aggregate", aggregate_figure, rows),
        ("profiles", profile_figure, rows),
        ("improvement", improvement_figure, gains),
    ):
        for page, algorithms in _pages(name, compared_algorithms(scores), _PAGE):
            yield page, draw(over_tasks, looks, scores, algorithms)
    curves = _curves(results)
    for name, tasks in _pages("learning_curves", _ordered(results, curves), _PAGE):
        yield name, draw(_learning, results, looks, curves, tasks)
    groups = ablations(results)
    varied = ablation(results, rows).set_index("cell_id")
    for name, figure_of, of_fields in (("ablation", curves_figure, 1), ("heat", heat_figure, 2)):
        for page, some in _pages(name, [group for group in groups if len(group.fields) == of_fields], _PAGE):
            yield page, draw(figure_of, results, looks, varied, some)
    errors = compounding(results)
    for name, draw_points, points in (
        ("frontier", frontier_figure, frontiers(results, errors)),
        ("price", price_figure, prices(results, rows)),
    ):
        there = list(dict.fromkeys(zip(points["task"], points["algorithm"], strict=True)))
        for page, part in _pages(name, there, 2 * _PAGE):
            yield page, draw(draw_points, results, looks, points, part)
    errors = errors[errors[["median", "closed"]].notna().any(axis=1)]
    pairs = [
        pair
        for pair in dict.fromkeys((cell.task, cell.algorithm) for cell in results.cells)
        if ((errors["task"] == pair[0]) & (errors["algorithm"] == pair[1])).any()
    ]
    for name, some in _pages("compounding", pairs, _PAGE):
        yield name, draw(_compounding, results, looks, errors, some)


def _scores(results: Results, looks: Looks, rows: pd.DataFrame, tasks: list[str]) -> Figure:
    """One panel per task: seeds, means and intervals, side by side within each algorithm."""
    estimate = estimates(rows)
    algorithms = sorted(rows["algorithm"].unique(), key=natural)
    marks = len(algorithms) * len(looks)
    columns = min(len(tasks), max(1, min(3, 60 // max(1, marks))))
    figure, grid = panels(-(-len(tasks) // columns), columns, height=3.1)
    axes = [ax for line in grid for ax in line]
    for ax, task in zip(axes, tasks, strict=False):
        for cell in results.cells:
            own = rows.loc[rows["cell_id"] == cell.cell_id, "final"].tolist()
            if cell.task == task and own:
                place = list(looks).index((cell.generator, cell.variant))
                colour = looks[cell.generator, cell.variant].colour
                x = algorithms.index(cell.algorithm) + 0.8 * ((place + 0.5) / len(looks) - 0.5)
                _one_score(ax, x, own, estimate.loc[cell.cell_id].to_dict(), colour)
        ax.set(
            title=plain(task, 100 // columns),
            xticks=range(len(algorithms)),
            xticklabels=[plain(name, 16) for name in algorithms],
            xlim=(-0.5, len(algorithms) - 0.5),
            ylabel=results.unit(task),
        )
        ax.grid(axis="x", visible=False)
        for edge in range(len(algorithms) - 1):
            ax.axvline(edge + 0.5, color=GRID, linewidth=0.8)
    for ax in axes[len(tasks) :]:
        ax.set_visible(False)
    legend(figure, looks, rows, marker="o", linestyle="")
    return figure


def _one_score(ax: Axes, x: float, seeds: list[float], estimate: Mapping[Any, float], colour: str) -> None:
    ax.plot([x - 0.045] * len(seeds), seeds, "o", color=colour, markersize=4, alpha=0.55, markeredgewidth=0)
    half = [[estimate["mean"] - estimate["low"]], [estimate["high"] - estimate["mean"]]]
    ax.errorbar(
        x,
        estimate["mean"],
        yerr=None if estimate["n"] < 2 else half,
        color=colour,
        marker="o",
        markersize=7,
        capsize=3,
        linewidth=1.6,
        markeredgewidth=1.6,
        markeredgecolor=colour,
        markerfacecolor=SURFACE if estimate["n"] < FEW_SEEDS else colour,
    )


def _learning(results: Results, looks: Looks, curves: pd.DataFrame, tasks: list[str]) -> Figure:
    """One panel per task x algorithm: score against updates."""
    algorithms = sorted(curves["algorithm"].unique(), key=natural)
    figure, grid = panels(len(tasks), len(algorithms), height=2.6, sharex="col", sharey="row")
    for (i, task), (j, algorithm) in ((a, b) for a in enumerate(tasks) for b in enumerate(algorithms)):
        ax = grid[i][j]
        for cell in _cells(results, task, algorithm):
            look = looks[cell.generator, cell.variant]
            own = curves[curves["cell_id"] == cell.cell_id]
            colour = look.colour
            estimate = estimates(own.assign(cell_id=own["step"]), "score")
            few = estimate["n"] < FEW_SEEDS
            if few.any():
                for _, seed in own.groupby("seed"):
                    ax.plot(seed["step"], seed["score"], color=colour, linewidth=0.6, alpha=0.45)
            ax.fill_between(
                estimate.index, estimate["low"], estimate["high"], where=~few, color=colour, alpha=0.18, linewidth=0
            )
            ax.plot(estimate.index, estimate["mean"], color=colour, linestyle=look.dash)
        width = 100 // len(algorithms)
        ax.set_title(f"{plain(task, width)}\n{plain(algorithm, width)}")
        ax.xaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
        if j == 0:
            ax.set_ylabel(results.unit(task))
        if i == len(tasks) - 1:
            ax.set_xlabel("gradient updates")
    legend(figure, looks, curves)
    return figure


def _compounding(results: Results, looks: Looks, errors: pd.DataFrame, pairs: list[tuple[str, str]]) -> Figure:
    """Rows: task x algorithm; columns: open loop and closed loop on policy actions, open loop on logged actions."""
    kinds = [
        ("policy", "median", "open loop, policy actions"),
        ("policy", "closed", "closed loop, policy actions"),
        ("logged", "median", "open loop, logged actions"),
    ]
    kinds = [kind for kind in kinds if errors.loc[errors["actions"] == kind[0], kind[1]].notna().any()]
    figure, grid = panels(len(pairs), len(kinds), height=2.9, sharex=True, sharey="row")
    drawn_too: set[str] = set()
    for (i, (task, algorithm)), (j, (actions, quantity, title)) in (
        (a, b) for a in enumerate(pairs) for b in enumerate(kinds)
    ):
        ax = grid[i][j]
        drawn = errors[(errors["task"] == task) & (errors["algorithm"] == algorithm)]
        drawn = drawn[drawn["actions"] == actions]
        own = errors[(errors["task"] == task) & (errors["algorithm"] == algorithm)]
        shown = own[["median", "closed"]]
        lowest = shown.where(shown > _EXACT * shown.max().max()).min().min()
        exact = []
        for cell in _cells(results, task, algorithm):
            by_horizon = drawn[drawn["cell_id"] == cell.cell_id].groupby("horizon")[quantity]
            label, colour, dash = looks[cell.generator, cell.variant]
            spread = by_horizon.agg(["median", "min", "max"]).dropna()
            if spread["max"].max() < lowest / 10:
                exact.append(f"{label} < {1.1 * spread['max'].max():.0e}")
                continue
            ax.fill_between(spread.index, spread["min"], spread["max"], color=colour, alpha=0.15, linewidth=0)
            alone = "o" if len(spread) == 1 else None  # single transitions have no line
            ax.plot(spread.index, spread["median"], color=colour, linestyle=dash, marker=alone)
        if quantity == "median":
            drawn_too |= _references(ax, drawn, exact, bottom=lowest / 10)
        ax.set(yscale="log", title=plain(f"{task} · {algorithm}", 46) + f"\n{title}")
        if shown.max().max() > 30 * lowest:
            ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        if j == 0:
            ax.set_ylabel("error in standard deviations")
        if i == len(pairs) - 1:
            ax.set_xlabel("horizon h in steps")
    legend(
        figure,
        looks,
        errors,
        extra=[Line2D([], [], label=name, **line) for name, line in _REFERENCES.values() if name in drawn_too],
    )
    return figure


_EXACT = 1e-5  # share of the largest error below which one is rounding
_REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "still": ("nothing moves", {"color": BASELINE, "linestyle": "--", "linewidth": 1.4}),
    "floor": ("replay floor", {"color": BASELINE, "linestyle": (0, (1, 1)), "linewidth": 1.6}),
    "chaos": ("simulator + 1 ulp", {"color": "#b39c5b", "linestyle": (0, (1, 2.5)), "linewidth": 1.6}),
}


def _references(ax: Axes, drawn: pd.DataFrame, exact: list[str], bottom: float) -> set[str]:
    """What no generator can beat, and what every one should: drawn, or named if far below. Returns the labels drawn.

    `exact`: generators that are as far below, such as copies of real rows.
    """
    below = exact
    above = set()
    for quantity, (label, look) in _REFERENCES.items():
        values = drawn.groupby("horizon")[quantity].median().dropna()
        if len(values) and values.max() < bottom:
            below.append(f"{label} < {1.1 * values.max():.0e}" if values.max() > 0 else f"{label} = 0")
        elif len(values):
            ax.plot(values.index, values.where(values >= bottom), **look)
            above.add(label)
    if below:
        ax.text(
            0.97,
            0.03,
            textwrap.fill("below: " + ", ".join(below), 44),
            transform=ax.transAxes,
            ha="right",
            va="bottom",
            fontsize=7.5,
            color=BASELINE,
        )
    return above


def _curves(results: Results) -> pd.DataFrame:
    """Every evaluation as `score`: normalized if the task has reference returns. One evaluation makes no curve."""
    rows = judged(results).dropna(subset="score")
    return rows[rows.groupby("task")["step"].transform("nunique") > 1]


def _cells(results: Results, task: str, algorithm: str) -> list[CellView]:
    return [cell for cell in results.cells if (cell.task, cell.algorithm) == (task, algorithm) and cell.done]


def _ordered(results: Results, rows: pd.DataFrame) -> list[str]:
    """Tasks that have rows, in the order of tables."""
    there = set(rows["task"])
    return [task for task in dict.fromkeys(cell.task for cell in results.cells) if task in there]


def _pages(name: str, rows: list[Any], size: int) -> Iterator[tuple[str, list[Any]]]:
    for page, start in enumerate(range(0, len(rows), size), 1):
        yield name if page == 1 else f"{name}_{page}", rows[start : start + size]
