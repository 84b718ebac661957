"""What rollouts promise, what they are worth in the simulator, and where the difference comes from."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from benchmarks.report.results import CellView, Results, at_end, once
from benchmarks.report.section import Section
from benchmarks.report.tables.table import Table, as_number, cell_table, without_blank

__all__ = ["DETAILS", "SECTION", "part_table", "return_table", "returns"]

_PENALTY = "of it reward, by design"
_SHORT = {  # columns of the first table: record
    "generated": "returns/generated",
    "on-policy": "returns/on_policy",
    "gap": "returns/gap",
    "its standard error": "returns/gap_error",
    _PENALTY: "returns/reward",
    "rank correlation": "filter/rank_correlation",
}
_PARTS = {  # of the second
    "gap": "returns/gap",
    "reward": "returns/reward",
    "dynamics": "returns/dynamics",
    "termination": "returns/termination",
    "feedback": "returns/feedback",
    "unsplit": "returns/unsplit",
    "kept": "filter/true_kept",
    "dropped": "filter/true_dropped",
    "energy distance": "distance/energy",
    "its floor": "distance/energy_floor",
}


def returns(results: Results) -> pd.DataFrame:
    """returns.csv: one row per cell, seed, quantity and horizon; quantities without one have none."""
    rows = results.records[results.records["metric"].str.match("(?:returns|distance|filter|values|bound)/")]
    columns = ["task", "generator", "variant", "algorithm", "seed", "metric", "horizon", "value"]
    return rows.sort_values(columns[:-1], ignore_index=True)[columns]


def return_table(results: Results) -> Table:
    """One row per cell, at the last step of the generator's own rollouts: what it promises, and what that is worth."""
    horizons = sorted(set(_horizons(results).dropna().astype(int)))
    caption = (
        f"{_steps(horizons)} Generated: the sum of rewards that the generator promises; on-policy: what the policy "
        "earns in the simulator from the same starts in as many steps; gap: their difference, mean over rollouts and "
        "seeds, with the standard error of one seed over its rollouts. Rank correlation: of generated and true return, "
        "where a filter keeps rollouts by the former."
    )
    if penalised := sorted({cell.generator for cell in results.cells if _penalised(cell)}):
        caption += (
            f" By design {' and '.join(penalised)} take{'s' * (len(penalised) == 1)} a penalty off the reward: that "
            "part of the gap is no error."
        )
    return _table(results, "returns", "Promised and earned return", caption, _SHORT)


def part_table(results: Results) -> Table:
    """The same cells and steps: the parts of the gap, the filter's two sides, the distance of the states."""
    caption = (
        "The gap of the table of promised and earned return is the sum of its parts. Reward: generated rewards, less "
        "what one true step from the generated states pays. Dynamics: the same actions paid at generated states, less "
        "at replayed ones. Termination: steps counted behind a true end, less steps missed behind a false one. "
        "Feedback: actions replayed open loop, less the policy acting on the state it is in. Unsplit: reward and "
        "dynamics together, where the generated state determines none of the simulator. Kept, dropped: true return of "
        "the rollouts on either side of the reward filter. Energy distance: between generated and on-policy states at "
        "the last step; floor: between two halves of the on-policy ones."
    )
    return _table(results, "return_parts", "Parts of the return gap", caption, _PARTS)


def _table(results: Results, name: str, title: str, caption: str, columns: Mapping[str, str]) -> Table:
    """The steps, and the columns at the last of them, of every cell whose return gap was measured."""
    longest = _horizons(results)
    means = _means(results)
    rows = []
    for cell in results.cells:
        if (cell.cell_id, "returns/used") in means.index:
            own = means[cell.cell_id]
            shown = [
                math.nan if column == _PENALTY and not _penalised(cell) else own.get(metric, math.nan)
                for column, metric in columns.items()
            ]
            steps = as_number(float(longest.get(cell.cell_id, math.nan)), "{:.0f}")
            rows.append((cell, [steps, *(as_number(number) for number in shown)]))
    table = cell_table(results, name, title, caption, ["steps", *columns], rows)
    return replace(without_blank(table), data="returns")


@once
def _horizons(results: Results) -> pd.Series:
    """By cell, the last step at which its own rollouts have a return gap; behind it nobody knows what they promise."""
    return at_end(results, "returns/gap").groupby("cell_id")["horizon"].first()


@once
def _means(results: Results) -> pd.Series:
    """By cell and metric, the mean over seeds; of curves, at the cell's last step."""
    wanted = {*_SHORT.values(), *_PARTS.values(), "returns/used"}
    records = results.records[results.records["metric"].isin(wanted)]
    there = records["horizon"].isna() | (records["horizon"] == records["cell_id"].map(_horizons(results)))
    return records[there].groupby(["cell_id", "metric"])["value"].mean()


def _penalised(cell: CellView) -> bool:
    """Whether its generator takes something off the reward on purpose."""
    return bool(cell.spec["generator"].get("penalty"))


def _steps(horizons: list[int]) -> str:
    """Over how many steps returns are compared."""
    if len(horizons) == 1:
        return f"Returns of {horizons[0]} step{'s' * (horizons[0] != 1)}."
    return "Returns of as many steps as the generator's own rollouts have (column steps)."


SECTION = Section("returns", "Return gap", "why", frames={"returns": returns}, tables=[return_table])
DETAILS = Section("return-parts", "Return gap, part by part", "details", tables=[part_table])
