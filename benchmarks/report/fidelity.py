"""What the metrics inside the generated data say, and what it all cost: csv frames and tables."""

import math

import pandas as pd

from benchmarks.report.collect import LABELS, Results
from benchmarks.report.tables import Table, as_number, as_text, labels, values, without_constant

__all__ = ["COMPOUNDING", "compounding", "compounding_table", "cost", "cost_table"]

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
]
HORIZONS = (1, 2, 5, 10, 20)


def compounding(results: Results) -> pd.DataFrame:
    """One row per cell, seed, kind of actions and horizon; compounding.csv is its COMPOUNDING columns."""
    quantities = ["median", "mean", "floor", "alive", "closed", "chaos", "still"]
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
