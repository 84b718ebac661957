"""Which measured quantity of rollouts goes with the change in score, over all cells whose regime holds."""

import math

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks.report.figures.palette import BASELINE, INK, SURFACE
from benchmarks.report.figures.style import panels
from benchmarks.report.results import Results, once
from benchmarks.report.section import Plot, Section
from benchmarks.report.study.association import FEW_CLUSTERS, Association, correlation, correlation_within
from benchmarks.report.study.quantities import QUANTITIES, codes, measured
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number

__all__ = ["SECTION", "predictor_table", "predictors"]

_ENOUGH = 2  # data sets
_FEWEST = 8  # cells with the quantity
_KINDS = {"all": "all cells", "within": "within a regime"}


@once
def predictors(results: Results) -> pd.DataFrame:
    """predictors.csv: one row per quantity and kind: rank correlation with the change, low, high, cells, clusters.

    kind all: over all cells; within: inside every regime, then the mean over data sets. No rows below two data sets.
    """
    cells = measured(results)
    rows = []
    if cells["data"].nunique() >= _ENOUGH:
        for name in QUANTITIES:
            own = cells.dropna(subset=[name, "change"])
            if len(own) >= _FEWEST and own[name].nunique() > 1:
                rows += [[name, kind, *found] for kind, found in _associations(own, name).items()]
    return pd.DataFrame(rows, columns=["quantity", "kind", "correlation", "low", "high", "cells", "clusters"])


def _associations(own: pd.DataFrame, name: str) -> dict[str, Association]:
    x, y = (torch.tensor(own[column].to_numpy(), dtype=torch.float64) for column in (name, "change"))
    cluster = codes(own["data"])
    rng = torch.Generator().manual_seed(0)  # equal resamples: a report drawn again has equal bytes
    return {
        "all": correlation(x, y, cluster, rng),
        "within": correlation_within(x, y, codes(own["regime"]), cluster),
    }


@once
def _ordered(results: Results) -> pd.DataFrame:
    """By quantity, columns by kind; the most negative within a regime first."""
    table = predictors(results).pivot(index="quantity", columns="kind")
    return table.sort_values(("correlation", "within")) if len(table) else table


def predictor_table(results: Results) -> Table:
    """One row per quantity: both correlations with their intervals, and of how many cells."""
    table = _ordered(results)
    head = ["quantity", "all cells: correlation", "within a regime: correlation", "cells", "data sets"]
    rows = [
        [
            Entry(str(name)),
            *(as_interval(row["low", kind], row["high", kind], row["correlation", kind], True) for kind in _KINDS),
            as_number(row["cells", "all"], "{:.0f}"),
            as_number(row["clusters", "all"], "{:.0f}"),
        ]
        for name, row in table.iterrows()
    ]
    caption = (
        "Spearman's rank correlation between a quantity of a cell's rollouts and the change of its score against real "
        "data only; −1: who has more of it always loses more. All cells: over every cell whose regime holds, with a "
        "95 % percentile bootstrap that draws whole data sets. Within a regime: between generators that share task, "
        "rows, algorithm and coupling, mean over data sets with Student's t; what makes a task easy or hard is not in "
        f"it. No interval below {FEW_CLUSTERS} data sets; with few of them it is too narrow. Not corrected for the "
        "number of quantities, and no proof of a cause."
    )
    return Table("predictors", "What goes with the change in score", caption, head, rows, "predictors")


def _figure(results: Results, _: list[str]) -> Figure:
    """A row per quantity: filled over all cells, hollow within a regime."""
    table = _ordered(results)
    figure, grid = panels(1, 1, 0.21 * len(table) + 0.6, wide=True)
    ax = grid[0][0]
    for kind, shift, face, marker in (("all", -0.16, INK, "o"), ("within", 0.16, SURFACE, "s")):
        values, low, high = (table[number, kind].to_numpy(dtype=float) for number in ("correlation", "low", "high"))
        places = [place + shift for place in range(len(table))]
        ax.hlines(places, low, high, color=INK, linewidth=0.9)
        ax.plot(values, places, marker, color=INK, markerfacecolor=face, markersize=4.5, label=_KINDS[kind])
    ax.axvline(0, color=BASELINE, linestyle="--", linewidth=1.2)
    ax.set_yticks(range(len(table)), [str(name) for name in table.index])
    ax.set(ylim=(len(table) - 0.5, -0.5), xlim=(-1.03, 1.03), xlabel="rank correlation with the change in score")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="upper right")
    return figure


def _caption(results: Results) -> str:
    table = predictors(results)
    none = f", none below {FEW_CLUSTERS}" if table["low"].isna().all() else ""
    return (
        f"Rank correlation of what was measured of rollouts with the change in score, over {table['cells'].max():.0f} "
        f"cells of {table['clusters'].max():.0f} data sets; filled: over all cells, hollow: within a regime. Bars: "
        f"95 % intervals over data sets{none}. On the left, more of it goes with a loss."
    )


def _alt(results: Results, _: list[str]) -> str:
    table = predictors(results)
    own = table[table["kind"] == "within"].dropna(subset="correlation").sort_values("correlation")
    if own.empty:
        return "No quantity varies within a regime."
    ends = [f"{row['quantity']} ({_signed(row['correlation'])})" for row in own.iloc[[0, -1]].to_dict("records")]
    clear = own[(own["low"] > 0) | (own["high"] < 0)]
    apart = f"{len(clear)} of {len(own)} intervals leave out 0." if own["low"].notna().any() else "No intervals."
    return f"Within a regime correlations with the change lie between {' and '.join(ends)}. {apart}"


def _signed(value: float) -> str:
    return as_number(math.nan if value is None else value, "{:+.2f}").text


SECTION = Section(
    "predictors",
    "What goes with the change in score",
    "why",
    frames={"predictors": predictors, "study": measured},
    tables=[predictor_table],
    figures=[
        Plot(
            "predictors",
            _caption,
            _alt,
            "predictors",
            rows=lambda results: ["all"] if len(predictors(results)) else [],
            figure=_figure,
        )
    ],
)
