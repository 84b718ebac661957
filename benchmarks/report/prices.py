"""What a cell took to run, in seconds and in FLOP, and how many runs of generator `none` that is."""

import pandas as pd

from benchmarks.report.results import Results, once
from benchmarks.report.scores import partners

__all__ = ["flop_in_all", "flop_multiples", "price_multiples", "run_seconds"]

_PARTS = ("generate_seconds", "update_seconds", "model_seconds")


@once
def run_seconds(results: Results) -> pd.Series:
    """By cell, seconds of its generation and updates, all its seeds, and of its pretrained models, whoever fitted them.

    What a cell has no record of took no time, but its updates: a cell without these is not there. A record without a
    value leaves the sum undefined.
    """
    costs = results.group("cost/")
    parts = costs[costs["metric"].isin(_PARTS)]
    updated = parts.loc[parts["metric"] == "update_seconds", "cell_id"].unique()
    means = parts.groupby(["cell_id", "metric"])["value"].mean()
    seconds: pd.Series = means.groupby("cell_id").agg(lambda own: own.sum(skipna=False)).reindex(updated)
    return seconds


@once
def price_multiples(results: Results) -> pd.Series:
    """By cell, its seconds over those of generator `none` with equal settings, 1 for `none`; NaN where unknown."""
    return _multiples(results, run_seconds(results))


@once
def flop_in_all(results: Results) -> pd.Series:
    """By cell, FLOP of a seed: of its pretrained models, whoever fitted them, its generation and its updates.

    Mean over seeds. Cells without such records, which older versions did not write, are not there; a record without a
    value leaves the mean undefined.
    """
    spent = results.last("cost/total_flop").groupby("cell_id")["value"]
    mean: pd.Series = spent.agg(lambda own: own.mean(skipna=False))
    return mean


@once
def flop_multiples(results: Results) -> pd.Series:
    """`price_multiples` in FLOP."""
    return _multiples(results, flop_in_all(results))


def _multiples(results: Results, spent: pd.Series) -> pd.Series:
    partner = {cell.cell_id: cell.cell_id for cell in results.cells if cell.generator == "none"} | partners(results)
    return spent / spent.reindex(spent.index.map(partner)).to_numpy()
