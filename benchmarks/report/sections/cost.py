"""What a cell cost: seconds, network evaluations, FLOP, memory; and what score that bought."""

import math
from collections import Counter
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.figures.scatter import PER_PAGE, panels_of, points, scatter
from benchmarks.report.figures.style import BASELINE, CONTROLS, log_ticks, short_task
from benchmarks.report.prices import price_multiples, run_seconds
from benchmarks.report.results import Results, once
from benchmarks.report.scores import FEW_SEEDS, estimates, finals
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Table, as_number, cell_table, values

__all__ = ["SECTION", "cost", "cost_table", "prices"]

_COLUMNS = {  # of the table: metric and factor
    "run, s": ("run_seconds", 1.0),
    "runs of none": ("price_multiple", 1.0),
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

    Those are model_seconds_shared, the fits of models divided among the cells that use them, run_seconds and
    price_multiple.
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
    rows = []
    for cell in results.cells:
        if cell.cell_id in frame.index:
            own = dict(zip(frame.columns, values(frame.loc[cell.cell_id]), strict=True))
            numbers = [as_number(factor * own.get(name, math.nan)) for name, factor in _COLUMNS.values()]
            rows.append((cell, numbers))
    caption = (
        "Run: seconds of updates, generation and of all pretrained models, whichever cell fitted them; runs of none: "
        "the same as a multiple of the cell on real data only with equal settings. Mean over seeds; seeds that ran "
        "together in one program share one measurement. Fit of models: seconds all pretrained models of the cell once "
        "took, whenever that was; shared: each of them divided by the number of cells of this folder that use it. Rows "
        "are generated transitions, those that were masked included. Peak memory: of the device, on a CPU of the "
        "cell's process; MiB = 2^20 bytes. Seconds of this cell alone: with evaluation and metrics, without models "
        "that another cell had fitted before."
    )
    return cell_table(results, "cost", "Cost", caption, _COLUMNS, rows)


@once
def prices(results: Results) -> pd.DataFrame:
    """One row per cell with a score and a price in runs of generator none: both, and the interval of the score."""
    score = estimates(finals(results))
    columns = {"price": price_multiples(results), "score": score["mean"]}
    return points(results, columns | {"score_low": score["low"], "score_high": score["high"], "n": score["n"]})


def _figure(results: Results, pairs: list[tuple[str, str]]) -> Figure:
    """Upper left is better; the dashed line is real data only."""
    price = prices(results)
    figure, axes = scatter(results, price, pairs, "price", "score")
    for ax, (task, algorithm) in zip(axes, pairs, strict=True):
        own = price[(price["task"] == task) & (price["algorithm"] == algorithm)]
        none = own[own["generator"] == "none"]
        if len(none) == 1:
            ax.axhline(none["score"].item(), color=BASELINE, linestyle="--", linewidth=1)
            ax.axhspan(none["score_low"].item(), none["score_high"].item(), color=BASELINE, alpha=0.15, linewidth=0)
        ax.set(xlabel="price in runs of none", ylabel=results.unit(task), xscale="log")
        ax.set_xlim(0.8 * own["price"].min(), 1.5 * own["price"].max())
        log_ticks(ax.xaxis, own["price"].min(), own["price"].max(), "{x:g}\N{MULTIPLICATION SIGN}")
    return figure


def _caption(results: Results) -> str:
    """How to read the figure, then the seconds behind its multiples."""
    seconds = run_seconds(results)
    none = {cell.task: seconds.get(cell.cell_id, math.nan) for cell in results.cells if cell.generator == "none"}
    one = ", ".join(f"{value:,.0f} s on {short_task(task)}" for task, value in none.items() if value > 0)
    return (
        "Score against price, one point per cell; bars: 95 % Student-t interval over seeds"
        f"{_few(results)}. Dashed, with its interval as a band: real data only. Price: wall-clock seconds of updates and "
        "generation, all seeds together, and of the fits of pretrained models, whichever cell made them, in runs of "
        f"generator none with equal settings.\nA run of none took {one}."
    )


def _few(results: Results) -> str:
    return f", hollow below {FEW_SEEDS} seeds" if (prices(results)["n"] < FEW_SEEDS).any() else ""


def _alt(results: Results, pairs: list[tuple[str, str]]) -> str:
    """What the dearest and the best of each panel cost and score."""
    price = prices(results)
    said = []
    for task, algorithm in pairs:
        own = price[(price["task"] == task) & (price["algorithm"] == algorithm)]
        own = own[~own["generator"].isin(CONTROLS)].sort_values("price")
        if len(own):
            best, first, last = own.loc[own["score"].idxmax()], own.iloc[0], own.iloc[-1]
            said.append(
                f"{short_task(task)}, {algorithm}: prices from {first['price']:.1f} ({first['generator']}) to "
                f"{last['price']:.1f} runs of none ({last['generator']}); highest score {best['score']:.1f} "
                f"({best['generator']}, at {best['price']:.1f})"
            )
    return ("; ".join(said) + ".") if said else "Scores of controls only."


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


def _derived(results: Results) -> dict[str, Mapping[str, float]]:
    """By metric, then cell: what other cells of the folder tell of it."""
    return {
        "model_seconds_shared": _shared_fits(results),
        "run_seconds": run_seconds(results).to_dict(),
        "price_multiple": price_multiples(results).to_dict(),
    }


SECTION = Section(
    "cost",
    "Cost",
    "price",
    frames={"cost": cost},
    tables=[cost_table],
    figures=[
        Plot(
            "price",
            _caption,
            _alt,
            "cost",
            rows=lambda results: panels_of(prices(results)),
            figure=_figure,
            per_page=PER_PAGE,
        )
    ],
)
