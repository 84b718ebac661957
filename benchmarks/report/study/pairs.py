"""Differences between any two cells, paired by seed and judged as everything on the page is."""

import math
from collections.abc import Mapping

import pandas as pd
import torch

from benchmarks.report.results import Results
from benchmarks.report.scores import adjusted, estimates, paired_with
from benchmarks.report.verdict import MARGIN, verdict_of
from metrics.statistics import equivalence_test, paired_t_test

__all__ = ["COLUMNS", "judged_differences"]

COLUMNS = ["n", "mean", "low", "high", "p_holm", "p_equivalent", "verdict"]


def judged_differences(results: Results, pairs: Mapping[str, str], *, adjust: bool = True) -> pd.DataFrame:
    """By cell: n, mean and interval of its difference, and the verdict; p adjusted within the algorithm, over `pairs`.

    The rule is that of `verdict.RULE`, on these differences instead of those from generator none. Without `adjust`, for
    what is no candidate, p is not adjusted.
    """
    found = paired_with(results, pairs)
    table = estimates(found, "gain")
    algorithm = {cell.cell_id: cell.algorithm for cell in results.cells}
    for name in ("p_holm", "p_equivalent"):
        table[name] = math.nan
    for cell_id, own in found.groupby("cell_id"):
        gains = torch.tensor(own["gain"].to_numpy(), dtype=torch.float64)
        table.loc[cell_id, "p_holm"] = paired_t_test(gains).item()
        if (own["unit"] == "score").all():
            table.loc[cell_id, "p_equivalent"] = equivalence_test(gains, MARGIN).item()
    for name in ("p_holm", "p_equivalent") if adjust else ():
        table[name] = adjusted(table[name], table.index.to_series().map(algorithm))
    rows = zip(table["n"], table["mean"], table["p_holm"], table["p_equivalent"], strict=True)
    return table.assign(verdict=[verdict_of(*map(float, row)) for row in rows])[COLUMNS]
