"""What the metrics inside the generated data say, and what it all cost: csv frames and tables."""

import math
from collections import Counter

import pandas as pd
import torch

from benchmarks.report.results import LABELS, Results
from benchmarks.report.tables import Table, as_number, as_text, labels, values, without_constant
from metrics.compounding import growth_law

__all__ = [
    "COMPOUNDING",
    "compounding",
    "compounding_table",
    "cost",
    "cost_table",
    "growth_table",
    "last_errors",
    "return_table",
    "returns",
]

COMPOUNDING = [
    "task",
    "generator",
    "variant",
    "algorithm",
    "seed",
    "horizon",
    "median",
    "mean",
    "floor",
    "alive",
    "closed",
    "actions",
    "chaos",
    "still",
    "q10",
    "q90",
    "local",
    "capped",
    "lived",
]
HORIZONS = (1, 2, 5, 10, 20)


def compounding(results: Results) -> pd.DataFrame:
    """One row per cell, seed, kind of actions and horizon; compounding.csv is its COMPOUNDING columns."""
    quantities = [name for name in COMPOUNDING if name not in (*LABELS, "seed", "horizon", "actions")]
    rows = results.group("compounding/")
    rows = rows[rows["metric"].str.count("/") == 2]
    parts = rows["metric"].str.split("/", expand=True, n=2).reindex(columns=range(3))
    rows = rows.assign(actions=parts[0], quantity=parts[1], horizon=pd.to_numeric(parts[2]).astype("Int64"))
    index = ["cell_id", *LABELS, "seed", "actions", "horizon"]
    wide = rows.pivot(index=index, columns="quantity", values="value").reindex(columns=quantities).reset_index()
    return wide.rename_axis(columns=None).sort_values(
        ["task", "generator", "variant", "algorithm", "actions", "seed", "horizon"], ignore_index=True
    )


def compounding_table(results: Results) -> Table:
    """Median error at a few horizons, one row per cell and kind of error."""
    frame = compounding(results)
    rows = []
    excluded = results.group("compounding/").query("metric == 'starts_excluded'").groupby("cell_id")["value"].mean()
    kinds = [
        ("open loop, policy actions", "policy", "median"),
        ("closed loop, policy actions", "policy", "closed"),
        ("open loop, logged actions", "logged", "median"),
    ]
    longest = int(frame["horizon"].max()) if len(frame) else 0
    shown = [h for h in HORIZONS if h < longest] + [longest]
    for cell in results.cells:
        own = frame[frame["cell_id"] == cell.cell_id]
        for kind, actions, quantity in kinds:
            by_horizon = own[own["actions"] == actions].groupby("horizon")[quantity].median()
            if by_horizon.notna().any():
                errors = [as_number(by_horizon.get(h, math.nan), "{:.3g}") for h in shown]
                rows.append(
                    [
                        *labels(results, cell),
                        as_text(cell.generator),
                        as_text(kind),
                        *errors,
                        as_number(excluded.get(cell.cell_id, math.nan), "{:.1%}"),
                    ]
                )
    caption = (
        "RMSE of generated states in standard deviations of the data, median over rollouts, then seeds. Open loop: "
        "against the generated actions replayed in the true simulator; closed loop: against the policy's own "
        "roll-out from the same start. — : no rollout is left at that step, or not defined. Starts excluded: "
        "share of held-out steps that cannot be a start, because their simulator state is not known exactly."
    )
    head = ["task", "algorithm", "variant", "generator", "error", *(f"h = {h}" for h in shown), "starts excluded"]
    return without_constant(Table("compounding", "Compounding error", caption, head, rows), "variant")


def growth_table(results: Results) -> Table:
    """How the open-loop error grows, and what else a curve of medians does not show; one row per cell and actions."""
    frame = compounding(results)
    rows = []
    leaked = results.group("compounding/").query("metric == 'leakage'").groupby("cell_id")["value"].median()
    for cell in results.cells:
        for actions in ("policy", "logged"):
            own = frame[(frame["cell_id"] == cell.cell_id) & (frame["actions"] == actions)]
            if not own["median"].notna().any():
                continue
            curve = own.groupby("horizon")["median"].median().sort_index()
            law = growth_law(torch.tensor(curve.to_numpy(), dtype=torch.float64))
            last = own[own["horizon"] == own["horizon"].max()]
            better = "—" if law.exponent.isnan() else "power" if law.power_is_better else "exponential"
            rows.append(
                [
                    *labels(results, cell),
                    as_text(cell.generator),
                    as_text(actions),
                    as_number(law.exponent.item(), "{:.2f}"),
                    as_number(law.rate.item(), "{:.3f}"),
                    as_text(better),
                    as_number(own["local"].dropna().median(), "{:.3g}"),
                    as_number(leaked.get(cell.cell_id, math.nan) if actions == "logged" else math.nan, "{:.3g}"),
                    as_number(own["capped"].mean(), "{:.1%}"),
                    as_number(last["alive"].mean(), "{:.0%}"),
                    as_number(last["lived"].mean(), "{:.0%}"),
                ]
            )
    caption = (
        "Growth of the median open-loop error before it saturates, as a power h^b and as an exponential exp(lambda h); "
        "the law with the smaller residual is named, a dash means fewer than four steps to fit. One step: error of a "
        "single step from the generated states. Leakage: how far states move when only later actions are replaced. "
        "Capped: share of errors cut to the diameter of the data. Alive: share of rollouts that have not ended at the "
        "last step, generated and in the simulator."
    )
    head = [
        *("task", "algorithm", "variant", "generator", "actions", "b", "lambda", "better law"),
        *("one step", "leakage", "capped", "alive", "alive in the simulator"),
    ]
    return without_constant(Table("growth", "How the error grows", caption, head, rows), "variant")


def returns(results: Results) -> pd.DataFrame:
    """returns.csv: one row per cell, seed, quantity and horizon; quantities without one have none."""
    names = "returns|distance|filter|values|bound"
    rows = results.records[results.records["metric"].str.fullmatch(rf"(?:{names})/[a-z_]+(?:/\d+)?")]
    parts = rows["metric"].str.extract(r"^(?P<metric>.+?)(?:/(?P<horizon>\d+))?$")
    table = rows[[*LABELS, "seed", "value"]].assign(
        metric=parts["metric"], horizon=pd.to_numeric(parts["horizon"]).astype("Int64")
    )
    columns = ["task", "generator", "variant", "algorithm", "seed", "metric", "horizon", "value"]
    return table.sort_values(columns[:-1], ignore_index=True)[columns]


def return_table(results: Results) -> Table:
    """What rollouts of full length promise, what they are worth, and where the difference comes from."""
    records = results.records[results.records["metric"].str.match(r"returns/|filter/|distance/")]
    value = records.groupby(["cell_id", "metric"])["value"].mean()
    parts = ("made", "lived", "gap", "reward", "dynamics", "termination", "feedback", "unsplit")
    sides = ("true_kept", "true_dropped", "rank_correlation")
    rows = []
    for cell in results.cells:
        if (cell.cell_id, "returns/used") not in value.index:
            continue
        own = value[cell.cell_id]
        last = max(int(name.rpartition("/")[2]) for name in own.index if name.startswith("returns/gap/"))
        numbers = [own.get(f"returns/{part}/{last}", math.nan) for part in parts]
        numbers += [own.get(f"filter/{side}", math.nan) for side in sides]
        numbers += [own.get(f"distance/energy{end}/{last}", math.nan) for end in ("", "_floor")]
        rows.append([*labels(results, cell), as_text(cell.generator), *(as_number(x, "{:.3g}") for x in numbers)])
    caption = (
        "Sums of rewards over the longest horizon, mean over rollouts and seeds. Promised: by the generator; lived: by "
        "the policy in the simulator from the same starts; the gap is their difference and the sum of its parts. "
        "Reward: generated rewards against one true step from the generated states. Dynamics: generated against "
        "replayed states. Termination: false and missed ends. Feedback: actions replayed blindly against the policy "
        "that sees where it is. Unsplit: reward and dynamics where the generated state determines none of the "
        "simulator. Kept, dropped: true return of the rollouts on either side of the reward filter, and the rank "
        "correlation of promised and true return. Energy distance: between generated states and lived ones at the last "
        "step; floor: between two halves of the lived ones."
    )
    head = [
        *("task", "algorithm", "variant", "generator", "promised", "lived", "gap"),
        *("reward", "dynamics", "termination", "feedback", "unsplit", "kept", "dropped", "rank correlation"),
        *("energy distance", "its floor"),
    ]
    return without_constant(Table("returns", "Return gap", caption, head, rows), "variant")


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
    columns = {
        "seconds in all": ("total_seconds", 1.0),
        "updates/s": ("updates_per_second", 1.0),
        "fit of models, s": ("model_seconds", 1.0),
        "the same, shared": ("model_seconds_shared", 1.0),
        "generate, s per 1000 rows": ("generate_seconds_per_transition", 1000.0),
        "network evaluations per row": ("evaluations_per_transition", 1.0),
        "MFLOP per row": ("flops_per_transition", 1e-6),
        "peak memory, MiB": ("peak_memory_mib", 1.0),
    }
    rows = []
    for cell in results.cells:
        if cell.cell_id in frame.index:
            own = dict(zip(frame.columns, values(frame.loc[cell.cell_id]), strict=True))
            numbers = [as_number(factor * own.get(name, math.nan)) for name, factor in columns.values()]
            rows.append([*labels(results, cell), as_text(cell.generator), *numbers])
    caption = (
        "Mean over seeds; seeds that ran together in one program share one measurement. Fit of models: seconds all "
        "pretrained models of the cell once took, whenever that was; shared: each of them divided by the number of "
        "cells of this folder that use it. Rows are generated transitions, those that were masked included. Peak "
        "memory: of the device, on a CPU of the cell's process; MiB = 2^20 bytes."
    )
    head = ["task", "algorithm", "variant", "generator", *columns]
    return without_constant(Table("cost", "Cost", caption, head, rows), "variant")


def last_errors(results: Results) -> pd.Series:
    """Median open-loop error on policy actions at the last step where it is defined, by cell."""
    rows = compounding(results).query("actions == 'policy'").dropna(subset="median")
    by_step = rows.groupby(["cell_id", "horizon"])["median"].median().reset_index()
    return by_step.groupby("cell_id")["median"].last()


def _shared_fits(results: Results) -> dict[str, float]:
    """Seconds of model fits by cell, each divided among its users; without cells that do not name theirs."""
    used = {
        cell.cell_id: {key: model["seconds"] for run in cell.runs for key, model in run.get("models", {}).items()}
        for cell in results.cells
        if any("models" in run for run in cell.runs)
    }
    users = Counter(key for models in used.values() for key in models)
    return {cell_id: sum((s / users[key] for key, s in own.items()), 0.0) for cell_id, own in used.items()}
