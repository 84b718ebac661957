"""What a change in score costs, over the regimes that hold: seconds and FLOP as multiples of generator none."""

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.report import prices
from benchmarks.report.figures.labels import label_point
from benchmarks.report.figures.palette import BASELINE
from benchmarks.report.figures.style import line_styles, log_ticks, panel_list, plain
from benchmarks.report.results import Results, once
from benchmarks.report.section import Plot, Section
from benchmarks.report.study.decomposition import algorithm_name, averages, coupling_name
from benchmarks.report.study.quantities import measured
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number, without_blank, without_constant
from benchmarks.report.words.phrases import span

__all__ = ["SECTION", "bought", "bought_table"]

_ENOUGH = 2  # regimes that hold; of one the section Cost tells as much
_PRICES: Mapping[str, Callable[[Results], pd.Series]] = {  # by column: multiples of generator none, by cell
    "seconds": prices.price_multiples,
    "flop": prices.flop_multiples,
}
_AXES = {"seconds": "seconds, in runs of none", "flop": "FLOP in all, over those of none"}


@once
def bought(results: Results) -> pd.DataFrame:
    """bought.csv: one row per algorithm, coupling, generator and variant, over the regimes that hold.

    change, low, high: mean over regimes. seconds, flop: median over their cells of the multiple of generator none, with
    the least and the largest.
    """
    cells = measured(results)
    known = {column: multiple(results) for column, multiple in _PRICES.items()}
    views = {cell.cell_id: cell for cell in results.cells}
    rows = []
    for own in averages(results):
        if own.term != "change":
            continue
        there = [
            cell_id
            for cell_id, row in cells.iterrows()
            if (row["algorithm"], row["generator"]) == (own.algorithm, own.generator)
            and own.variant in ("", row["variant"])
            and coupling_name(results, views[str(cell_id)]) == own.coupling
        ]
        row = {name: getattr(own, name) for name in ("algorithm", "coupling", "generator", "variant", "regimes")}
        row |= {"change": own.mean, "low": own.low, "high": own.high}
        for column, multiples in known.items():
            spent = multiples.reindex(there).dropna()
            row |= {column: spent.median(), f"{column}_low": spent.min(), f"{column}_high": spent.max()}
        rows.append(row)
    head = ["algorithm", "coupling", "generator", "variant", "regimes", "change", "low", "high"]
    columns = [*head, *(f"{column}{end}" for column in _PRICES for end in ("", "_low", "_high"))]
    table = pd.DataFrame(rows, columns=columns)
    return table if len(table) and table["regimes"].max() >= _ENOUGH else table.iloc[:0]


def bought_table(results: Results) -> Table:
    """One row per method, the highest change first."""
    table = bought(results).sort_values(["algorithm", "coupling", "change"], ascending=[True, True, False])
    rows = [
        [
            *(Entry(str(row[name])) for name in ("algorithm", "coupling", "generator")),
            Entry(str(row["variant"]) or "default"),
            as_number(float(row["regimes"]), "{:.0f}"),
            as_interval(row["low"], row["high"], row["change"], True),
            *(_multiple(row, column) for column in _PRICES),
        ]
        for row in table.to_dict("records")
    ]
    caption = (
        "Change in score against real data only, mean over the regimes that hold, with its 95 % Student-t interval; "
        "and what a run took, as multiples of generator none with equal settings: median over these cells, in brackets "
        "the least and the largest. Fits of models count in full, whichever cell made them."
    )
    heads = {"seconds": "price", "flop": "FLOP of none"}
    head = ["algorithm", "coupling", "generator", "variant", "regimes", "change", *(heads[name] for name in _PRICES)]
    made = Table("bought", "What a change costs", caption, head, rows, "bought")
    for column in ("variant", "coupling"):
        made = without_constant(made, column) if rows else made
    return without_blank(made)


def _multiple(row: Mapping[Hashable, Any], column: str) -> Entry:
    if math.isnan(row[column]):
        return Entry("—", value=-math.inf)
    ends = span(row[f"{column}_low"], row[f"{column}_high"], ".1f", "×")
    return Entry(f"{row[column]:.1f}× [{ends}]", value=float(row[column]))


def _panels(results: Results) -> list[tuple[str, str, str]]:
    """Algorithms, couplings and prices that are known."""
    table = bought(results)
    pairs = dict.fromkeys(zip(table["algorithm"], table["coupling"], strict=True))
    return [(*pair, column) for pair in pairs for column in _PRICES if table[column].notna().any()]


def _figure(results: Results, shown: list[tuple[str, str, str]]) -> Figure:
    """Upper left is better."""
    styles = {generator: style for (generator, _), style in line_styles(results).items()}
    table = bought(results)
    figure, axes = panel_list(len(shown), 2, height=2.3)
    for ax, (algorithm, coupling, column) in zip(axes, shown, strict=True):
        own = table[(table["algorithm"] == algorithm) & (table["coupling"] == coupling)].dropna(subset=column)
        ax.axhline(0, color=BASELINE, linestyle="--", linewidth=1)
        for row in own.to_dict("records"):
            style = styles[row["generator"]]
            ax.vlines(row[column], row["low"], row["high"], color=style.colour, linewidth=0.8)
            ax.plot(row[column], row["change"], style.marker, color=style.colour, markersize=5)
            name = f"{row['generator']} · {row['variant']}" if row["variant"] else str(row["generator"])
            label_point(ax, plain(name, 24), row[column], row["change"], style.colour)
        title = algorithm_name(algorithm, coupling)
        ax.set(xscale="log", xlabel=_AXES[column], ylabel="change in score", title=plain(title, 36))
        ax.set_xlim(0.75 * own[column].min(), 1.5 * own[column].max())
        log_ticks(ax.xaxis, own[column].min(), own[column].max(), "{x:g}\N{MULTIPLICATION SIGN}")
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    return figure


def _caption(results: Results) -> str:
    return (
        "Change in score against real data only (dashed), mean over the regimes that hold with its 95 % interval, "
        "against what a run took in multiples of generator none; upper left is better."
    )


def _alt(results: Results, shown: list[tuple[str, str, str]]) -> str:
    table = bought(results)
    best = table.sort_values("change").iloc[-1]
    told = f"{best['generator']} for {as_number(best['seconds'], '{:.1f}').text} runs of none"
    return f"The highest mean change is {as_number(best['change'], '{:+.1f}').text} ({told})."


SECTION = Section(
    "bought",
    "What a change costs",
    "price",
    frames={"bought": bought},
    tables=[bought_table],
    figures=[Plot("bought", _caption, _alt, "bought", rows=_panels, figure=_figure)],
)
