"""How far generated states are from the true simulator's, step by step."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
import torch

from benchmarks.report.figures.error_curves import ErrorPanel, error_curves, label
from benchmarks.report.figures.palette import CONTROLS
from benchmarks.report.figures.style import short_task
from benchmarks.report.results import LABELS, Results, once, titled
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
    table = cell_table(results, "compounding", "Compounding error", caption, columns, rows)
    return replace(table, data="compounding")


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
    columns.append("alive in the simulator")
    table = cell_table(results, "growth", "How the error grows", caption, columns, rows)
    return replace(table, data="compounding")


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


_EXACT = 1e-3  # share of the largest error below which one is rounding


@once
def _panels(results: Results) -> dict[tuple[str, str], list[ErrorPanel]]:
    """By task and algorithm with an error, in the order of tables: a panel for every kind of error of the folder."""
    frame = compounding(results)
    frame = frame[frame[["median", "closed"]].notna().any(axis=1)]
    kinds = [kind for kind in KINDS if frame.loc[frame["actions"] == kind[1], kind[2]].notna().any()]
    found = {}
    for task, algorithm in dict.fromkeys((cell.task, cell.algorithm) for cell in results.cells):
        own = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm)]
        shown = own[["median", "closed"]]
        bottom = shown.where(shown > _EXACT * shown.max().max()).min().min() / 10
        if bottom > 0:
            found[task, algorithm] = [_panel(results, own, kind, bottom) for kind in kinds]
    return found


def _panel(results: Results, own: pd.DataFrame, kind: tuple[str, str, str], bottom: float) -> ErrorPanel:
    title, actions, quantity = kind
    rows = own[own["actions"] == actions]
    curves = {}
    for cell in results.cells:
        by_horizon = rows[rows["cell_id"] == cell.cell_id].groupby("horizon")[quantity]
        spread = by_horizon.agg(["median", "min", "max"]).dropna().astype("float64")
        if len(spread):
            curves[cell.generator, cell.variant] = spread
    names = ("closed_floor",) if quantity == "closed" else ("still", "floor", "chaos")
    references = {name: rows.groupby("horizon")[name].median().dropna() for name in names}
    return ErrorPanel(title, curves, {name: values for name, values in references.items() if len(values)}, bottom)


def _caption(results: Results) -> str:
    """How to read the panels, which curves are one, and what lies below them."""
    panels = [panel for row in _panels(results).values() for panel in row]
    seeds = compounding(results).groupby("cell_id")["seed"].nunique()
    kinds = {panel.kind for panel in panels}
    few, many = seeds.min(), seeds.max()
    parts = [
        "Median error of generated states over rollouts that are still valid, in standard deviations of the data. "
        f"Line: median over {few if few == many else f'{few} to {many}'} seeds; band: all of them. Open loop: against "
        "the generated actions replayed in the true simulator"
        + ("; closed loop: against the policy's own rollout" if KINDS[1][0] in kinds else "")
    ]
    single = {titled(key[0]) for panel in panels for key, spread in panel.drawn.items() if spread.index.max() == 1}
    if single:
        parts.append(f"A marker at h = 1: {_listed(single)}, of single transitions")
    equal = {_together(keys) for panel in panels for keys, _ in panel.ends if len(keys) > 1}
    if equal:
        parts.append(f"Equal within 1 % at every step of a panel, and drawn over each other: {_listed(equal)}")
    below = _below(panels)
    if below:
        parts.append(f"Too small for the axes: {'; '.join(below)}")
    return ". ".join(parts) + "."


def _together(keys: list[tuple[str, str]]) -> str:
    """The names of curves that are one; where they are many, how many of which generator."""
    if len(keys) <= 3:
        return " = ".join(label(key) for key in keys)
    count = Counter(generator for generator, _ in keys)
    return " = ".join(f"{n} variants of {name}" if n > 1 else titled(name) for name, n in count.items())


def _below(panels: list[ErrorPanel]) -> list[str]:
    """By generator and reference, how small the largest error is that is not drawn, and where, if others are."""
    tops: dict[str, float] = {}
    where: dict[str, set[str]] = {}
    for panel in panels:
        for name, top in panel.below.items():
            tops[name] = max(top, tops.get(name, 0.0))
            where.setdefault(name, set()).add(panel.kind)
    seen = {titled(generator) for panel in panels for generator, _ in panel.drawn}
    return [
        name
        + (f" ({_listed(where[name])})" if name in seen else "")
        + (f", at most {as_number(top, '{:.0e}').text}" if top else ", 0")
        for name, top in tops.items()
    ]


def _alt(results: Results, pairs: list[tuple[str, str]]) -> str:
    """The least and the largest error at the last step of methods that roll out."""
    said = []
    for task, algorithm in pairs:
        for panel in _panels(results)[task, algorithm]:
            last = {key: spread["median"].iloc[-1] for key, spread in panel.curves.items() if spread.index.max() > 1}
            methods = sorted((error, label(key)) for key, error in last.items() if key[0] not in CONTROLS)
            if methods:
                (low, best), (high, worst) = methods[0], methods[-1]
                span = f"from {low:.2g} ({best}) to {high:.2g} ({worst})" if len(methods) > 1 else f"{low:.2g} ({best})"
                said.append(f"{short_task(task)}, {algorithm}, {panel.kind}: {span}")
    return f"Error at the last step in standard deviations. {'; '.join(said)}."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


SECTION = Section(
    "compounding",
    "Compounding error",
    "why",
    frames={"compounding": lambda results: compounding(results)[COLUMNS]},
    tables=[compounding_table, growth_table],
    figures=[
        Plot(
            "compounding",
            _caption,
            _alt,
            "compounding",
            rows=lambda results: list(_panels(results)),
            figure=lambda results, pairs: error_curves(results, {pair: _panels(results)[pair] for pair in pairs}),
            per_page=4,
        )
    ],
)
