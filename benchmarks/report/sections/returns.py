"""What rollouts promise, what they are worth in the simulator, and where the difference comes from."""

import math

import pandas as pd

from benchmarks.report.results import Results, at_end
from benchmarks.report.section import Section
from benchmarks.report.tables.table import Table, as_number, cell_table

__all__ = ["SECTION", "return_table", "returns"]

_COLUMNS = {  # of the table: record
    "generated": "returns/generated",
    "on-policy": "returns/on_policy",
    "gap": "returns/gap",
    "its error": "returns/gap_error",
    "reward": "returns/reward",
    "dynamics": "returns/dynamics",
    "termination": "returns/termination",
    "feedback": "returns/feedback",
    "unsplit": "returns/unsplit",
    "kept": "filter/true_kept",
    "dropped": "filter/true_dropped",
    "rank correlation": "filter/rank_correlation",
    "energy distance": "distance/energy",
    "its floor": "distance/energy_floor",
}


def returns(results: Results) -> pd.DataFrame:
    """returns.csv: one row per cell, seed, quantity and horizon; quantities without one have none."""
    rows = results.records[results.records["metric"].str.match("(?:returns|distance|filter|values|bound)/")]
    columns = ["task", "generator", "variant", "algorithm", "seed", "metric", "horizon", "value"]
    return rows.sort_values(columns[:-1], ignore_index=True)[columns]


def return_table(results: Results) -> Table:
    """One row per cell, at the longest horizon of its rollouts."""
    records = results.records[results.records["metric"].isin([*_COLUMNS.values(), "returns/used"])]
    longest = at_end(results, "returns/gap").groupby("cell_id")["horizon"].first()
    there = records["horizon"].isna() | (records["horizon"] == records["cell_id"].map(longest))
    means = records[there].groupby(["cell_id", "metric"])["value"].mean()
    rows = []
    for cell in results.cells:
        if (cell.cell_id, "returns/used") in means.index:
            own = means[cell.cell_id]
            numbers = [as_number(own.get(name, math.nan), "{:.3g}") for name in _COLUMNS.values()]
            rows.append((cell, [as_number(float(longest.get(cell.cell_id, math.nan)), "{:.0f}"), *numbers]))
    caption = (
        "Sums of rewards over the first `steps` steps, the longest horizon of the generator's rollouts, mean over "
        "rollouts and seeds. Generated: what the generator promises; on-policy: what the policy earns in the "
        "simulator from the same starts; the gap is their difference and the sum of its parts; its error: the "
        "standard error of one seed over the rollouts. Reward: generated rewards against one true step from the "
        "generated states. Dynamics: generated against replayed states. Termination: false and missed ends. Feedback:"
        " actions replayed open loop against the policy acting on the state it is in. Unsplit: reward and dynamics "
        "where the generated state determines none of the simulator. Kept, dropped: true return of the rollouts on "
        "either side of the reward filter, and the rank correlation of generated and true return. Energy distance: "
        "between generated and on-policy states at the last step; floor: between two halves of the on-policy ones."
    )
    return cell_table(results, "returns", "Return gap", caption, ["steps", *_COLUMNS], rows)


SECTION = Section("returns", "Return gap", "why", frames={"returns": returns}, tables=[return_table])
