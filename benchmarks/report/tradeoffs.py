"""One thing against another, a point per cell: consistency against error, score against seconds."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.results import LABELS, Results
from benchmarks.report.scores import estimates
from benchmarks.report.style import BASELINE, Looks, legend, panels, plain

__all__ = ["Pair", "frontier_figure", "frontiers", "price_figure", "prices"]

Pair = tuple[str, str]  # task, algorithm


def frontiers(results: Results, errors: pd.DataFrame) -> pd.DataFrame:
    """One row per cell with rollouts of full length: open-loop error there, distance of actions to the policy's.

    `errors` is `compounding`.
    """
    own = errors[errors["actions"] == "policy"]
    last = own[own["horizon"] == own["horizon"].max()].groupby("cell_id")["median"].median()
    records = results.records[results.records["metric"] == "consistency/distance"]
    return _points(results, {"distance": records.groupby("cell_id")["value"].mean(), "error": last})


def prices(results: Results, final: pd.DataFrame) -> pd.DataFrame:
    """One row per cell with a score: the seconds of generation, updates and pretrained models, whoever fitted those."""
    costs = results.group("cost/")
    parts = costs[costs["metric"].isin(["generate_seconds", "update_seconds", "model_seconds"])]
    seconds = parts.groupby(["cell_id", "metric"])["value"].mean().groupby("cell_id").sum()
    return _points(results, {"seconds": seconds, "score": estimates(final)["mean"]})


def frontier_figure(results: Results, looks: Looks, points: pd.DataFrame, pairs: list[Pair]) -> Figure:
    """Lower left is better: actions that are the policy's, and states that are the simulator's."""
    figure, axes = _grid(looks, points, pairs, "distance", "error")
    for ax in axes:
        ax.set_xscale("symlog", linthresh=1e-3)
        ax.set_yscale("log")
        ax.set(xlabel="distance of actions to the policy's", ylabel="open-loop error at the last step")
    return figure


def price_figure(results: Results, looks: Looks, points: pd.DataFrame, pairs: list[Pair]) -> Figure:
    """Upper left is better; the dashed line is real data only."""
    figure, axes = _grid(looks, points, pairs, "seconds", "score")
    for ax, (task, algorithm) in zip(axes, pairs, strict=True):
        none = points[(points["task"] == task) & (points["algorithm"] == algorithm) & (points["generator"] == "none")]
        if len(none):
            ax.axhline(none["score"].mean(), color=BASELINE, linestyle="--", linewidth=1.4)
        ax.set(xlabel="seconds of training, generation and models", ylabel=results.unit(task), xscale="log")
        ax.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    return figure


def _points(results: Results, columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    rows = [
        [*(getattr(cell, label) for label in LABELS), *(values.get(cell.cell_id) for values in columns.values())]
        for cell in results.cells
    ]
    return pd.DataFrame(rows, columns=[*LABELS, *columns]).dropna()


def _grid(looks: Looks, points: pd.DataFrame, pairs: list[Pair], x: str, y: str) -> tuple[Figure, list[Any]]:
    columns = min(len(pairs), 2)
    figure, grid = panels(-(-len(pairs) // columns), columns, height=3.2)
    axes = [ax for line in grid for ax in line]
    for ax, (task, algorithm) in zip(axes, pairs, strict=False):
        for _, row in points[(points["task"] == task) & (points["algorithm"] == algorithm)].iterrows():
            colour = looks[row["generator"], row["variant"]].colour
            ax.plot(row[x], row[y], "o", color=colour, markersize=9, alpha=0.85, markeredgecolor="white")
        ax.set_title(plain(f"{task} · {algorithm}", 50))
    for ax in axes[len(pairs) :]:
        ax.set_visible(False)
    legend(figure, looks, points, marker="o", linestyle="")
    return figure, axes[: len(pairs)]
