"""What a cell cost: seconds, network evaluations, FLOP, memory; and what score that bought."""

import math
from collections import Counter

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.figures.scatter import PER_PAGE, panels_of, points, scatter
from benchmarks.report.figures.style import BASELINE
from benchmarks.report.prices import run_seconds
from benchmarks.report.results import Results, once
from benchmarks.report.scores import estimates, finals
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Table, as_number, cell_table, values

__all__ = ["SECTION", "cost", "cost_table", "prices"]

_COLUMNS = {  # of the table: metric and factor
    "seconds in all": ("total_seconds", 1.0),
    "updates/s": ("updates_per_second", 1.0),
    "fit of models, s": ("model_seconds", 1.0),
    "the same, shared": ("model_seconds_shared", 1.0),
    "generate, s per 1000 rows": ("generate_seconds_per_transition", 1000.0),
    "network evaluations per row": ("evaluations_per_transition", 1.0),
    "MFLOP per row": ("flops_per_transition", 1e-6),
    "peak memory, MiB": ("peak_memory_mib", 1.0),
}


def cost(results: Results) -> pd.DataFrame:
    """cost.csv: mean over seeds, and the fits of models divided among the cells of this folder that use them."""
    index = ["task", "generator", "variant", "algorithm", "metric"]
    rows = results.group("cost/").groupby(["cell_id", *index])["value"].mean().reset_index()
    shares = _shared_fits(results)
    first = rows.drop_duplicates("cell_id")
    shared = first.assign(metric="model_seconds_shared", value=first["cell_id"].map(shares))
    return pd.concat([rows, shared.dropna(subset="value")]).sort_values(index, ignore_index=True)[[*index, "value"]]


def cost_table(results: Results) -> Table:
    """One row per cell: what a reader wants to know before running it."""
    frame = results.group("cost/").groupby(["cell_id", "metric"])["value"].mean().unstack()
    frame["model_seconds_shared"] = frame.index.map(_shared_fits(results))
    rows = []
    for cell in results.cells:
        if cell.cell_id in frame.index:
            own = dict(zip(frame.columns, values(frame.loc[cell.cell_id]), strict=True))
            numbers = [as_number(factor * own.get(name, math.nan)) for name, factor in _COLUMNS.values()]
            rows.append((cell, numbers))
    caption = (
        "Mean over seeds; seeds that ran together in one program share one measurement. Fit of models: seconds all "
        "pretrained models of the cell once took, whenever that was; shared: each of them divided by the number of "
        "cells of this folder that use it. Rows are generated transitions, those that were masked included. Peak "
        "memory: of the device, on a CPU of the cell's process; MiB = 2^20 bytes."
    )
    return cell_table(results, "cost", "Cost", caption, _COLUMNS, rows)


@once
def prices(results: Results) -> pd.DataFrame:
    """One row per cell with a score and known seconds: both."""
    return points(results, {"seconds": run_seconds(results), "score": estimates(finals(results))["mean"]})


def _figure(results: Results, pairs: list[tuple[str, str]]) -> Figure:
    """Upper left is better; the dashed line is real data only."""
    price = prices(results)
    figure, axes = scatter(results, price, pairs, "seconds", "score")
    for ax, (task, algorithm) in zip(axes, pairs, strict=True):
        none = price[(price["task"] == task) & (price["algorithm"] == algorithm) & (price["generator"] == "none")]
        if len(none):
            ax.axhline(none["score"].mean(), color=BASELINE, linestyle="--", linewidth=1.4)
        ax.set(xlabel="seconds of training, generation and models", ylabel=results.unit(task), xscale="log")
        ax.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    return figure


@once
def _shared_fits(results: Results) -> dict[str, float]:
    """Seconds of model fits by cell, each divided among its users; without cells that do not name theirs."""
    used = {
        cell.cell_id: {key: model["seconds"] for run in cell.runs for key, model in run.get("models", {}).items()}
        for cell in results.cells
        if any("models" in run for run in cell.runs)
    }
    users = Counter(key for models in used.values() for key in models)
    return {cell_id: sum((s / users[key] for key, s in own.items()), 0.0) for cell_id, own in used.items()}


SECTION = Section(
    "cost",
    "Cost",
    "price",
    frames={"cost": cost},
    tables=[cost_table],
    figures=[
        Plot(
            "price",
            lambda _: (
                "One point per cell: mean score against the wall-clock seconds of its updates and generation, all "
                "seeds together, and of the fits of its pretrained models, whichever cell made them. Dashed: real "
                "data only."
            ),
            lambda *_: "",
            "cost",
            rows=lambda results: panels_of(prices(results)),
            figure=_figure,
            per_page=PER_PAGE,
        )
    ],
)
