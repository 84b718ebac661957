"""What the metrics inside the generated data say, and what it all cost: csv frames and tables."""

import math

import pandas as pd
import torch

from benchmarks.report.collect import LABELS, Results
from benchmarks.report.tables import Table, as_number, as_text, labels, values, without_constant
from metrics.compounding import growth_law

__all__ = ["COMPOUNDING", "compounding", "compounding_table", "cost", "cost_table", "growth_table"]

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
    frame, rows = compounding(results), []
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
    frame, rows = compounding(results), []
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


def cost(results: Results) -> pd.DataFrame:
    """cost.csv: mean over seeds."""
    rows = results.group("cost/").groupby(["task", "generator", "variant", "algorithm", "metric"])["value"]
    return rows.mean().reset_index()


def cost_table(results: Results) -> Table:
    """One row per cell, one column per kind of cost."""
    frame = results.group("cost/").groupby(["cell_id", "metric"])["value"].mean().unstack()
    rows = [
        [
            *labels(results, cell),
            as_text(cell.generator),
            *(as_number(x) for x in values(frame.loc[cell.cell_id])),
        ]
        for cell in results.cells
        if cell.cell_id in frame.index
    ]
    head = ["task", "algorithm", "variant", "generator", *(str(name).replace("_", " ") for name in frame.columns)]
    caption = "Mean over seeds; seeds that ran together in one program share one measurement. mib: 2^20 bytes."
    return without_constant(Table("cost", "Cost", caption, head, rows), "variant")
