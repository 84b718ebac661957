"""What training compute buys: errors against the FLOP of training, exponents, and who overtakes the ensemble where."""

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report.compute.laws import REFERENCE, SURE, outcome, scaling
from benchmarks.report.compute.series import ACTIONS, compute, horizons, series
from benchmarks.report.compute.words import as_exponent, as_flop, compute_words, label
from benchmarks.report.figures.budget_curves import BudgetPanel, budget_curves
from benchmarks.report.figures.style import short_task
from benchmarks.report.results import CEILING, Results, once, titled
from benchmarks.report.scores import FEW_SEEDS
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number

__all__ = ["SECTION", "crossing_table", "exponent_table"]

_WHOSE = {"policy": "under the policy's actions", "logged": "under logged actions"}
Pair = tuple[str, str]


def exponent_table(results: Results) -> Table:
    """One row per series and kind of actions: the budgets, and b at every horizon that is shown."""
    shown = horizons(results)
    head = ["task", "algorithm", "generator", "actions", "budgets", "FLOP of training", "fits"]
    head += [name for h in shown for name in (f"b, h = {h}", f"b, last step, h = {h}")]
    rows = []
    for own in _grouped(results):
        first = own[min(own)]
        row = [*_names(first), as_number(float(first["budgets"]), "{:.0f}"), Entry(_range(first)), _fits(own)]
        for h in shown:
            row += _laws(own.get(h))
        rows.append(row)
    few = f" Fewer than {FEW_SEEDS} fits: an indication only." if _few(results) else ""
    caption = (
        "Exponent b of error = a FLOP^−b: a line in logarithms through all budgets of each fit, and through the two "
        f"largest alone (last step); mean over fits with its 95 % interval.{few} Half the error takes 2^(1/b) times "
        "the FLOP; an interval that holds 0 shows no fall. The law is fitted, not shown to hold: where the last step "
        "is smaller than b, the curve flattens. FLOP: of fitting all models of a cell, for one seed."
    )
    return Table("scaling", "How fast errors fall with compute", caption, head, rows, data="scaling")


def crossing_table(results: Results) -> Table:
    """One row per series that is held against the ensemble: what happens at every horizon that is shown."""
    shown = horizons(results)
    rows = []
    for own in _grouped(results):
        if any(outcome(row) for row in own.values()):
            first = own[min(own)]
            rows.append([*_names(first), *(_crossing(own.get(h)) for h in shown)])
    caption = (
        f"Each generator's curve against that of the {REFERENCE}: geometric means over fits, straight between budgets "
        "in logarithms, compared where both have been. From: the FLOP of training from which on the order of the "
        "largest common budget holds, with the 95 % range of where it begins. Per cent: resamples of whole fits of "
        f"both that say the same, a crossing or none, and the same order at the end; named in the text from {SURE:.0%} "
        "on. Resamples of few fits repeat each other: a high share of three fits is a weak proof. Nothing is said "
        "beyond the budgets."
    )
    head = ["task", "algorithm", "generator", "actions", *(f"beside the {REFERENCE}, h = {h}" for h in shown)]
    return Table("overtaking", f"Who overtakes the {REFERENCE}, and from where on", caption, head, rows, data="scaling")


def _grouped(results: Results) -> list[dict[int, dict[Hashable, Any]]]:
    """Rows of `scaling` by horizon, for every series and kind of actions."""
    keys = ["task", "algorithm", "generator", "series", "actions"]
    groups = scaling(results).groupby(keys, sort=False)
    return [{int(row["horizon"]): row for row in own.to_dict("records")} for _, own in groups]


def _names(row: Mapping[Hashable, Any]) -> list[Entry]:
    return [Entry(row["task"]), Entry(row["algorithm"]), Entry(label(row)), Entry(row["actions"])]


def _range(row: Mapping[Hashable, Any]) -> str:
    return f"{as_flop(row['flop_from'])} to {as_flop(row['flop_to'])}"


def _fits(own: Mapping[int, Mapping[Hashable, Any]]) -> Entry:
    """How many are whole, at least."""
    return as_number(float(min(row["fits"] for row in own.values())), "{:.0f}")


def _laws(row: Mapping[Hashable, Any] | None) -> list[Entry]:
    """Of all budgets and of the last two; dashes where there is no such step."""
    if row is None:
        return [as_number(math.nan), as_number(math.nan)]
    return [
        as_interval(row["low"], row["high"], row["exponent"]),
        as_interval(row["last_low"], row["last_high"], row["last_exponent"]),
    ]


def _crossing(row: Mapping[Hashable, Any] | None) -> Entry:
    """Such as: below from 3.1e14 [2.2e14, 4.0e14], 98 %."""
    said = outcome(row) if row else ""
    if row is None or not said:
        return Entry("—")
    where = "no crossing in range"
    if not math.isnan(row["crossing"]):
        spread = [as_flop(row[name]) for name in ("crossing_low", "crossing_high") if not math.isnan(row[name])]
        where = f"from {as_flop(row['crossing'])}" + (f" [{', '.join(spread)}]" if spread else "")
    share = "" if math.isnan(row["share"]) else f", {100 * row['share']:.0f} %"
    return Entry(f"{'below' if row['below'] else 'above'}: {where}{share}", bold=row["share"] >= SURE)


def _few(results: Results) -> bool:
    return bool((scaling(results)["fits"] < FEW_SEEDS).any())


@once
def _pairs(results: Results) -> list[Pair]:
    return list(dict.fromkeys(own.place for own in series(results)))


def _panels(results: Results, pairs: list[Pair], actions: str, largest: bool) -> dict[Pair, list[BudgetPanel]]:
    """A panel for every horizon; of all budgets over FLOP of training, or of the `largest` over FLOP per transition."""
    frame = compute(results)
    frame = frame[frame["actions"] == actions]
    x = "transition_flop" if largest else "train_flop"
    found = {}
    for task, algorithm in pairs:
        own = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm)].dropna(subset=x)
        row = []
        for h in horizons(results):
            groups = own[own["horizon"] == h].groupby(["generator", "series"], sort=False)
            curves = {
                (str(generator), str(name)): (rows.tail(1) if largest else rows).set_index(x)[["error", "low", "high"]]
                for (generator, name), rows in groups
            }
            row.append(BudgetPanel(f"h = {h}", curves, _still(results, (task, algorithm), actions, h)))
        if any(panel.curves for panel in row):
            found[task, algorithm] = row
    return found


def _still(results: Results, pair: Pair, actions: str, horizon: int) -> float:
    """Median over cells and seeds of the error of the prediction that nothing moves."""
    rows = results.last(f"compounding/{actions}/still")
    own = rows[(rows["task"] == pair[0]) & (rows["algorithm"] == pair[1]) & (rows["horizon"] == horizon)]
    return float(own["value"].median())


def _drawn(actions: str, largest: bool) -> Callable[[Results], list[Pair]]:
    return lambda results: list(_panels(results, _pairs(results), actions, largest))


def _figure(actions: str, largest: bool) -> Callable[[Results, list[Pair]], Figure]:
    xlabel = "FLOP per generated transition" if largest else "FLOP of training"
    return lambda results, pairs: budget_curves(_panels(results, pairs, actions, largest), xlabel)


def _caption(actions: str, largest: bool) -> Callable[[Results], str]:
    def caption(results: Results) -> str:
        what = (
            "Error at the largest budget against the FLOP of a generated transition"
            if largest
            else "Error against the FLOP that the fits of all models of a generator took, for one seed"
        )
        return (
            f"{what}, {_WHOSE[actions]}: median open-loop error over rollouts after h steps. Points: geometric mean "
            f"over fits; bars: 95 % interval, cut at the panel's edge. {_below(results, actions)}"
            f"{'' if largest else _result(results, actions)}"
        ).strip()

    return caption


def _below(results: Results, actions: str) -> str:
    """How small the errors are that no model can beat."""
    shown = horizons(results)
    tops = {}
    floor = results.last(f"compounding/{actions}/floor")
    tops["recorded actions replayed"] = floor.loc[floor["horizon"].isin(shown), "value"].max()
    own = results.last(f"compounding/{actions}/median")
    tops[titled(CEILING)] = own.loc[(own["generator"] == CEILING) & own["horizon"].isin(shown), "value"].max()
    told = [f"{name}, at most {top:.0e}".replace("e-", "e−") for name, top in tops.items() if top >= 0]
    return f"Below the axes: {'; '.join(told)}. " if told else ""


def _result(results: Results, actions: str) -> str:
    """The range of exponents at every horizon."""
    found = scaling(results)
    told = []
    for h, own in found[found["actions"] == actions].groupby("horizon"):
        ordered = own.sort_values("exponent").to_dict("records")
        low, high = ordered[0], ordered[-1]
        ends = f"{as_exponent(low['exponent'])} ({label(low)}, {short_task(low['task'])})"
        if len(ordered) > 1:
            ends += f" to {as_exponent(high['exponent'])} ({label(high)}, {short_task(high['task'])})"
        told.append(f"{ends} at h = {h}")
    return f"Exponents b of FLOP^−b: {'; '.join(told)}." if told else ""


def _alt(actions: str, largest: bool) -> Callable[[Results, list[Pair]], str]:
    def alt(results: Results, pairs: list[Pair]) -> str:
        """The least error of each panel, and at what cost."""
        said = []
        for (task, algorithm), row in _panels(results, pairs, actions, largest).items():
            for panel in row:
                points = [
                    (float(curve["error"].iloc[-1]), float(curve.index[-1]), key) for key, curve in panel.curves.items()
                ]
                if points:
                    error, flop, (generator, name) = min(points)
                    who = f"{titled(generator)} [{name}]" if name else titled(generator)
                    least = f"least error at the largest budget {error:.2g} ({who}, {as_flop(flop)} FLOP)"
                    said.append(f"{short_task(task)}, {algorithm}, {panel.title}: {least}")
        return f"Error in standard deviations, {_WHOSE[actions]}. {'; '.join(said)}."

    return alt


def _plot(name: str, actions: str, largest: bool = False) -> Plot:
    return Plot(
        name,
        _caption(actions, largest),
        _alt(actions, largest),
        "compute",
        rows=_drawn(actions, largest),
        figure=_figure(actions, largest),
        per_page=4,
    )


SECTION = Section(
    "compute",
    "What compute buys",
    "varied",
    frames={"compute": compute, "scaling": scaling},
    words=compute_words,
    tables=[crossing_table, exponent_table],
    figures=[
        _plot("compute", ACTIONS[0]),
        _plot("compute_logged", ACTIONS[1]),
        _plot("compute_price", ACTIONS[0], largest=True),
    ],
)
