"""How far generated states are from the true simulator's, step by step."""

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures.style import BASELINE, LineStyle, legend, line_styles, panels, plain
from benchmarks.report.results import LABELS, Results, once
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Entry, Table, as_number, cell_table
from metrics.compounding import growth_law

__all__ = ["SECTION", "compounding", "compounding_table", "growth_table"]

COLUMNS = [  # of compounding.csv
    *("task", "generator", "variant", "algorithm", "seed", "horizon"),
    *("median", "mean", "floor", "alive", "closed", "actions"),
    *("chaos", "still", "q10", "q90", "local", "capped", "alive_on_policy", "closed_floor"),
]
HORIZONS = (1, 2, 5, 10, 20)
KINDS = [  # title, actions, quantity
    ("open loop, policy actions", "policy", "median"),
    ("closed loop, policy actions", "policy", "closed"),
    ("open loop, logged actions", "logged", "median"),
]


@once
def compounding(results: Results) -> pd.DataFrame:
    """One row per cell, seed, kind of actions and horizon; compounding.csv is its COLUMNS."""
    quantities = [name for name in COLUMNS if name not in (*LABELS, "seed", "horizon", "actions")]
    rows = results.group("compounding/").dropna(subset="horizon")
    parts = rows["metric"].str.split("/", expand=True, n=1).reindex(columns=range(2))
    rows = rows.assign(actions=parts[0], quantity=parts[1])
    index = ["cell_id", *LABELS, "seed", "actions", "horizon"]
    wide = rows.pivot(index=index, columns="quantity", values="value").reindex(columns=quantities).reset_index()
    return wide.rename_axis(columns=None).sort_values(
        ["task", "generator", "variant", "algorithm", "actions", "seed", "horizon"], ignore_index=True
    )


def compounding_table(results: Results) -> Table:
    """Median error at a few horizons, one row per cell and kind of error."""
    frame = compounding(results)
    excluded = results.last("compounding/starts_excluded").groupby("cell_id")["value"].mean()
    longest = int(frame["horizon"].max()) if len(frame) else 0
    shown = [h for h in HORIZONS if h < longest] + [longest]
    rows = []
    for cell in results.cells:
        own = frame[frame["cell_id"] == cell.cell_id]
        for title, actions, quantity in KINDS:
            by_horizon = own[own["actions"] == actions].groupby("horizon")[quantity].median()
            if by_horizon.notna().any():
                errors = [as_number(by_horizon.get(h, math.nan), "{:.3g}") for h in shown]
                left_out = as_number(excluded.get(cell.cell_id, math.nan), "{:.1%}")
                rows.append((cell, [Entry(title), *errors, left_out]))
    caption = (
        "RMSE of generated states in standard deviations of the data, median over rollouts, then seeds. Open loop: "
        "against the generated actions replayed in the true simulator; closed loop: against the policy's own "
        "roll-out from the same start. — : no rollout is left at that step, or not defined. Starts excluded: "
        "share of held-out steps that cannot be a start, because their simulator state is not known exactly."
    )
    columns = ["error", *(f"h = {h}" for h in shown), "starts excluded"]
    return cell_table(results, "compounding", "Compounding error", caption, columns, rows)


def growth_table(results: Results) -> Table:
    """How the open-loop error grows, and what else a curve of medians does not show; one row per cell and actions."""
    frame = compounding(results)
    leaked = results.last("compounding/leakage").groupby("cell_id")["value"].median()
    rows = []
    for cell in results.cells:
        for actions in ("policy", "logged"):
            own = frame[(frame["cell_id"] == cell.cell_id) & (frame["actions"] == actions)]
            if own["median"].notna().any():
                leak = leaked.get(cell.cell_id, math.nan) if actions == "logged" else math.nan
                rows.append((cell, [Entry(actions), *_growth(own), *_beside(own, leak)]))
    caption = (
        "Growth of the median open-loop error before it saturates, as a power h^b and as an exponential exp(lambda h); "
        "the law with the smaller residual is named, a dash means fewer than four steps to fit. One step: error of a "
        "single step from the generated states. Leakage: how far states move when only later actions are replaced. "
        "Capped: share of errors cut to the diameter of the data. Alive: share of rollouts that have not ended before "
        "the last step of the generator, generated and in the simulator."
    )
    columns = ["actions", "b", "lambda", "better law", "one step", "leakage", "capped", "alive"]
    return cell_table(results, "growth", "How the error grows", caption, [*columns, "alive in the simulator"], rows)


def _growth(own: pd.DataFrame) -> list[Entry]:
    curve = own.groupby("horizon")["median"].median().sort_index()
    law = growth_law(torch.tensor(curve.to_numpy(), dtype=torch.float64))
    better = "—" if law.exponent.isnan() else "power" if law.power_is_better else "exponential"
    return [as_number(law.exponent.item(), "{:.2f}"), as_number(law.rate.item(), "{:.3f}"), Entry(better)]


def _beside(own: pd.DataFrame, leak: float) -> list[Entry]:
    followed = own.dropna(subset="alive")
    last = followed[followed["horizon"] == followed["horizon"].max()]
    return [
        as_number(own["local"].dropna().median(), "{:.3g}"),
        as_number(leak, "{:.3g}"),
        as_number(own["capped"].mean(), "{:.1%}"),
        as_number(last["alive"].mean(), "{:.0%}"),
        as_number(last["alive_on_policy"].mean(), "{:.0%}"),
    ]


def _drawn(results: Results) -> pd.DataFrame:
    frame = compounding(results)
    return frame[frame[["median", "closed"]].notna().any(axis=1)]


def _pairs(results: Results) -> list[tuple[str, str]]:
    """Tasks and algorithms with an error, in the order of tables."""
    frame = _drawn(results)
    there = set(zip(frame["task"], frame["algorithm"], strict=True))
    return [pair for pair in dict.fromkeys((cell.task, cell.algorithm) for cell in results.cells) if pair in there]


def _figure(results: Results, pairs: list[tuple[str, str]]) -> Figure:
    """Rows: task x algorithm; columns: open loop and closed loop on policy actions, open loop on logged actions."""
    styles = line_styles(results)
    errors = _drawn(results)
    kinds = [kind for kind in KINDS if errors.loc[errors["actions"] == kind[1], kind[2]].notna().any()]
    figure, grid = panels(len(pairs), len(kinds), height=2.9, sharex=True, sharey="row")
    references: set[str] = set()
    for line, (task, algorithm) in zip(grid, pairs, strict=True):
        own = errors[(errors["task"] == task) & (errors["algorithm"] == algorithm)]
        shown = own[["median", "closed"]]
        largest = shown.max().max()
        lowest = shown.where(shown > _EXACT * largest).min().min()
        for ax, (title, actions, quantity) in zip(line, kinds, strict=True):
            drawn = own[own["actions"] == actions]
            below = []
            for cell in results.finished(task, algorithm):
                of_cell = drawn[drawn["cell_id"] == cell.cell_id].groupby("horizon")[quantity]
                spread = of_cell.agg(["median", "min", "max"]).dropna()
                below += _curve(ax, styles[cell.generator, cell.variant], spread, lowest / 10)
            names = ("closed_floor",) if quantity == "closed" else ("still", "floor", "chaos")
            references |= _references(ax, drawn, names, below, bottom=lowest / 10)
            ax.set(yscale="log", title=plain(f"{task} · {algorithm}", 46) + f"\n{title}")
            if largest > 30 * lowest:
                ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        line[0].set_ylabel("error in standard deviations")
    for ax in grid[-1]:
        ax.set_xlabel("horizon h in steps")
    extra = [Line2D([], [], label=name, **line) for name, line in _REFERENCES.values() if name in references]
    legend(figure, styles, errors, extra=extra)
    return figure


_EXACT = 1e-3  # share of the largest error below which one is rounding
_REFERENCES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "still": ("nothing moves", {"color": BASELINE, "linestyle": "--", "linewidth": 1.4}),
    "floor": ("replay floor", {"color": BASELINE, "linestyle": (0, (1, 1)), "linewidth": 1.6}),
    "closed_floor": ("the policy's other rollouts", {"color": BASELINE, "linestyle": "-.", "linewidth": 1.4}),
    "chaos": ("simulator + 1 ulp", {"color": "#b39c5b", "linestyle": (0, (1, 2.5)), "linewidth": 1.6}),
}


def _curve(ax: Axes, style: LineStyle, spread: pd.DataFrame, bottom: float) -> list[str]:
    """Draw the median over seeds and the band of all seeds; or name a generator whose errors are all below `bottom`.

    What of a curve is below is not drawn: rounding that grows would take all of the axis.
    """
    if spread["max"].max() < bottom:
        return [f"{style.label} < {1.1 * spread['max'].max():.0e}"]
    spread = spread.where(spread["median"] >= bottom).clip(lower=bottom)
    ax.fill_between(spread.index, spread["min"], spread["max"], color=style.colour, alpha=0.15, linewidth=0)
    alone = "o" if len(spread) == 1 else None  # single transitions have no line
    ax.plot(spread.index, spread["median"], color=style.colour, linestyle=style.dash, marker=alone)
    return []


def _references(ax: Axes, drawn: pd.DataFrame, names: Iterable[str], below: list[str], bottom: float) -> set[str]:
    """Draw what no generator can beat, and what every one should; return the labels drawn.

    What is below `bottom` is written into the corner, behind the generators that are `below`, too.
    """
    above = set()
    for quantity in names:
        label, look = _REFERENCES[quantity]
        values = drawn.groupby("horizon")[quantity].median().dropna()
        if len(values) and values.max() < bottom:
            below = [*below, f"{label} < {1.1 * values.max():.0e}" if values.max() > 0 else f"{label} = 0"]
        elif len(values):
            ax.plot(values.index, values.where(values >= bottom), **look)
            above.add(label)
    if below:
        text = textwrap.fill("below: " + ", ".join(below), 44)
        right = {"ha": "right", "va": "bottom"}
        ax.text(0.97, 0.03, text, right, transform=ax.transAxes, fontsize=7.5, color=BASELINE)
    return above


SECTION = Section(
    "compounding",
    "Compounding error",
    "why",
    frames={"compounding": lambda results: compounding(results)[COLUMNS]},
    tables=[compounding_table, growth_table],
    figures=[
        Plot(
            "compounding",
            lambda _: (
                "Median error of generated states over rollouts. Line: median over seeds; band: all seeds. Open loop: "
                "against the generated actions replayed in the true simulator; closed loop: against the policy's own "
                "roll-out, whose distance to another of its own is the floor. Only rollouts that are still valid count."
            ),
            lambda *_: "",
            "compounding",
            rows=_pairs,
            figure=_figure,
        )
    ],
)
