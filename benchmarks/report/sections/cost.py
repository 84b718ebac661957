"""What a cell cost: seconds, network evaluations, FLOP, memory; and what score that bought."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.figures.palette import BASELINE, CONTROLS
from benchmarks.report.figures.scatter import PER_PAGE, panels_of, points, scatter
from benchmarks.report.figures.style import log_ticks, short_task
from benchmarks.report.prices import flop_in_all, flop_multiples, price_multiples, run_seconds
from benchmarks.report.results import Results, once
from benchmarks.report.scores import FEW_SEEDS, estimates, finals
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Table, as_number, cell_table, values
from benchmarks.report.verdict import compares_scores

__all__ = ["SECTION", "cost", "cost_table", "prices"]

_COLUMNS = {  # of the table: metric and factor
    "run, s": ("run_seconds", 1.0),
    "runs of none": ("price_multiple", 1.0),
    "FLOP in all, TFLOP": ("total_flop", 1e-12),
    "FLOP of none": ("flop_multiple", 1.0),
    "fit of models, s": ("model_seconds", 1.0),
    "the same, shared": ("model_seconds_shared", 1.0),
    "updates/s": ("updates_per_second", 1.0),
    "generate, s per 1000 rows": ("generate_seconds_per_transition", 1000.0),
    "network evaluations per row": ("evaluations_per_transition", 1.0),
    "MFLOP per row": ("flops_per_transition", 1e-6),
    "peak memory, MiB": ("peak_memory_mib", 1.0),
    "seconds of this cell alone": ("total_seconds", 1.0),
}


def cost(results: Results) -> pd.DataFrame:
    """cost.csv: mean over seeds, and what is known of a cell from the others of its folder.

    Those are model_seconds_shared, the fits of models divided among the cells that use them, run_seconds,
    price_multiple and flop_multiple.
    """
    index = ["task", "generator", "variant", "algorithm", "metric"]
    rows = results.group("cost/").groupby(["cell_id", *index])["value"].mean().reset_index()
    first = rows.drop_duplicates("cell_id")
    derived = [
        first.assign(metric=metric, value=first["cell_id"].map(values)).dropna(subset="value")
        for metric, values in _derived(results).items()
    ]
    return pd.concat([rows, *derived]).sort_values(index, ignore_index=True)[[*index, "value"]]


def cost_table(results: Results) -> Table:
    """One row per cell: what a reader wants to know before running it."""
    frame = results.group("cost/").groupby(["cell_id", "metric"])["value"].mean().unstack()
    for metric, by_cell in _derived(results).items():
        frame[metric] = frame.index.map(by_cell)
    counted = len(flop_in_all(results)) > 0
    columns = {head: of for head, of in _COLUMNS.items() if counted or of[0] not in ("total_flop", "flop_multiple")}
    rows = []
    for cell in results.cells:
        if cell.cell_id in frame.index:
            own = dict(zip(frame.columns, values(frame.loc[cell.cell_id]), strict=True))
            numbers = [as_number(factor * own.get(name, math.nan)) for name, factor in columns.values()]
            rows.append((cell, numbers))
    flop = (
        "FLOP in all: 10^12 additions and multiplications of one seed's fits, generation and updates; FLOP of none: "
        "the same as a multiple. "
    )
    caption = (
        "Run: seconds of updates, generation and of all pretrained models, whichever cell fitted them; runs of none: "
        "the same as a multiple of the cell on real data only with equal settings. Mean over seeds; seeds that ran "
        f"together in one program share one measurement. {flop if counted else ''}Fit of models: seconds all "
        "pretrained models of the cell once took, whenever that was; shared: each of them divided by the number of "
        "cells of this folder that use it. Rows are generated transitions, those that were masked included. Peak "
        "memory: of the device, on a CPU of the cell's process; MiB = 2^20 bytes. Seconds of this cell alone: with "
        "evaluation and metrics, without models that another cell had fitted before."
    )
    return replace(cell_table(results, "cost", "Cost", caption, columns, rows), data="cost")


@once
def prices(results: Results) -> pd.DataFrame:
    """One row per cell with a score and a price in runs of generator none: both, and the interval of the score."""
    return _priced(results, price_multiples(results))


@once
def flop_prices(results: Results) -> pd.DataFrame:
    """The same with FLOP in all, as a multiple of those of generator none, for the price."""
    return _priced(results, flop_multiples(results))


def _priced(results: Results, price: pd.Series) -> pd.DataFrame:
    score = estimates(finals(results))
    columns = {"price": price, "score": score["mean"]}
    return points(results, columns | {"score_low": score["low"], "score_high": score["high"], "n": score["n"]})


@dataclass(frozen=True)
class _Form:
    """What the price is counted in."""

    frame: Callable[[Results], pd.DataFrame]
    label: str  # of the axis
    many: str  # how a sentence calls so many of them

    def pairs(self, results: Results) -> list[tuple[str, str]]:
        """Tasks and algorithms in which something was paid for other scores."""
        return panels_of(self.frame(results).query("generator != 'none'")) if compares_scores(results) else []


_SECONDS = _Form(prices, "price in runs of none", "runs of none")
_FLOP = _Form(flop_prices, "FLOP in all, over those of none", "times the FLOP of none")


def _figure(form: _Form, results: Results, pairs: list[tuple[str, str]]) -> Figure:
    """Upper left is better; the dashed line is real data only."""
    price = form.frame(results)
    figure, axes = scatter(results, price, pairs, "price", "score")
    for ax, (task, algorithm) in zip(axes, pairs, strict=True):
        own = price[(price["task"] == task) & (price["algorithm"] == algorithm)]
        none = own[own["generator"] == "none"]
        if len(none) == 1:
            ax.axhline(none["score"].item(), color=BASELINE, linestyle="--", linewidth=1)
            ax.axhspan(none["score_low"].item(), none["score_high"].item(), color=BASELINE, alpha=0.15, linewidth=0)
        ax.set(xlabel=form.label, ylabel=results.unit(task), xscale="log")
        ax.set_xlim(0.75 * own["price"].min(), 1.5 * own["price"].max())
        log_ticks(ax.xaxis, own["price"].min(), own["price"].max(), "{x:g}\N{MULTIPLICATION SIGN}")
    return figure


def _caption(results: Results) -> str:
    """How to read the figure, then the seconds behind its multiples."""
    seconds = run_seconds(results).dropna()
    took: dict[str, list[float]] = {}
    for cell in results.cells:
        if cell.generator == "none" and cell.cell_id in seconds.index:
            took.setdefault(cell.task, []).append(float(seconds[cell.cell_id]))
    one = ", ".join(f"{_range(of_task)} s on {short_task(task)}" for task, of_task in took.items())
    return (
        f"{_reading(prices(results))} Price: wall-clock seconds of updates and generation, all seeds together, "
        "and of the fits of pretrained models, whichever cell made them, in runs of generator none with equal "
        f"settings. A run of none took {one}."
    )


def _flop_caption(results: Results) -> str:
    """The same, with the FLOP behind the multiples."""
    flop = flop_in_all(results)
    took: dict[str, list[float]] = {}
    for cell in results.cells:
        if cell.generator == "none" and cell.cell_id in flop.index:
            took.setdefault(cell.task, []).append(float(flop[cell.cell_id]) * 1e-12)
    one = ", ".join(f"{_range(of_task, '.3g')} on {short_task(task)}" for task, of_task in took.items())
    return (
        f"{_reading(flop_prices(results))} FLOP in all: additions and multiplications of one seed's updates and "
        "generation and of the fits of its pretrained models, whichever cell made them, over those of generator none "
        f"with equal settings. Unlike seconds they are the same on every machine. None took, in TFLOP: {one}."
    )


def _reading(price: pd.DataFrame) -> str:
    few = f", hollow below {FEW_SEEDS} seeds" if (price["n"] < FEW_SEEDS).any() else ""
    return (
        f"Score against price, one point per cell{few}; bars: 95 % Student-t interval over seeds. Dashed, with its "
        "interval as a band: real data only."
    )


def _names(rows: pd.DataFrame) -> list[str]:
    pairs = zip(rows["generator"], rows["variant"], strict=True)
    return [generator if variant == "default" else f"{generator} · {variant}" for generator, variant in pairs]


def _range(numbers: list[float], form: str = ",.0f") -> str:
    least, most = (f"{value:{form}}" for value in (min(numbers), max(numbers)))
    return least if least == most else f"{least} to {most}"


def _alt(form: _Form, results: Results, pairs: list[tuple[str, str]]) -> str:
    """From the cheapest to the dearest method of each panel, and what the best scores at which price."""
    price = form.frame(results)
    said = []
    for task, algorithm in pairs:
        own = price[(price["task"] == task) & (price["algorithm"] == algorithm) & ~price["generator"].isin(CONTROLS)]
        shown = sorted(zip(own["price"].tolist(), own["score"].tolist(), _names(own), strict=True))
        if shown:
            (low, _, cheap), (high, _, dear) = shown[0], shown[-1]
            at, score, best = max(shown, key=lambda point: point[1])
            said.append(
                f"{short_task(task)}, {algorithm}: from {low:.1f} ({cheap}) to {high:.1f} {form.many} ({dear}); "
                f"highest mean {as_number(score, '{:.1f}').text} ({best}, for {at:.1f})"
            )
    return ". ".join(said) + "." if said else "Controls only."


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


def _derived(results: Results) -> dict[str, Mapping[Any, float]]:
    """By metric, then cell: what other cells of the folder tell of it."""
    return {
        "model_seconds_shared": _shared_fits(results),
        "run_seconds": dict(run_seconds(results).items()),
        "price_multiple": dict(price_multiples(results).items()),
        "flop_multiple": dict(flop_multiples(results).items()),
    }


SECTION = Section(
    "cost",
    "Cost",
    "price",
    frames={"cost": cost},
    tables=[cost_table],
    figures=[
        Plot(
            name,
            caption,
            partial(_alt, form),
            "cost",
            rows=form.pairs,
            figure=partial(_figure, form),
            per_page=PER_PAGE,
        )
        for name, form, caption in (("price", _SECONDS, _caption), ("price_flop", _FLOP, _flop_caption))
    ],
)
