"""What a comparison with real data only says: helps, hurts, equivalent or undecided. One rule for the whole page."""

import math
from collections.abc import Collection, Hashable, Mapping
from typing import Any

import pandas as pd
import torch

from benchmarks.report.regime import left_out
from benchmarks.report.results import CEILING, Results, once
from benchmarks.report.scores import FEW_SEEDS, LEVEL, adjusted, comparisons, paired
from metrics.statistics import equivalence_test, seeds_needed

__all__ = ["MARGIN", "RULE", "WORDS", "compares_scores", "judged", "resolution", "verdict_of", "verdicts"]

MARGIN = 5.0  # points within which two scores are called equivalent
WORDS = {
    "helps": "helps",
    "hurts": "hurts",
    "equivalent": f"equivalent within {MARGIN:g} points",
    "undecided": "cannot be told apart",
}
RULE = (
    f"Verdict: helps or hurts with at least {FEW_SEEDS} seeds and p < {LEVEL} in a paired t-test, after Holm's "
    f"correction for all comparisons of the algorithm that count (those in regimes that do not hold are corrected by "
    f"themselves where another one holds); else equivalent with at least {FEW_SEEDS} seeds and p < {LEVEL} "
    f"in two one-sided tests that the change lies within {MARGIN:g} points, corrected in the same way; else it cannot "
    "be told apart."
)


@once
def verdicts(results: Results) -> pd.DataFrame:
    """improvements.csv: `comparisons`, and what each says; indexed by cell."""
    return judged(paired(results), comparisons(results), left_out(results))


def judged(pairs: pd.DataFrame, found: pd.DataFrame, void: Collection[str] = ()) -> pd.DataFrame:
    """What `compared(pairs)` says.

    p_holm: p adjusted within the algorithm, over all tasks, generators and variants that are compared; cells of `void`
    are a family of their own, so that what does not count weakens nothing that does; the ceiling is no candidate and
    has none. p_equivalent: two one-sided paired t-tests that the change lies within 5 points, adjusted in the same
    way; that of the ceiling is not adjusted. seeds_needed: for a difference of 5 points with power 80 %. Both
    are NaN for returns, in which a point has no meaning. verdict: helps, hurts, equivalent or undecided, by `RULE`.
    """
    points = found["unit"] == "score"
    tested = {
        cell_id: equivalence_test(torch.tensor(gains.to_numpy(), dtype=torch.float64), MARGIN).item()
        for cell_id, gains in pairs.groupby("cell_id")["gain"]
    }
    alone = pd.Series(tested, dtype="float64").reindex(found.index).where(points)
    candidates = found["generator"] != CEILING
    family = found["algorithm"].mask(found.index.isin(list(void)), found["algorithm"] + " (void)")
    p_holm = adjusted(found["p"].where(candidates), family)
    p_equivalent = adjusted(alone.where(candidates), family).where(candidates, alone)
    seeds = [
        seeds_needed(MARGIN, std, paired=True) if of_points and not math.isnan(std) else math.nan
        for std, of_points in zip(found["std"], points, strict=True)
    ]
    needed = pd.Series(seeds, found.index, dtype="float64")
    found = found.assign(p_holm=p_holm, p_equivalent=p_equivalent, seeds_needed=needed)
    return found.assign(verdict=[_verdict(row) for row in found.to_dict("records")])


def _verdict(row: Mapping[Hashable, Any]) -> str:
    """See RULE; the ceiling is judged by its own p."""
    p = float(row["p"] if row["generator"] == CEILING else row["p_holm"])
    return verdict_of(float(row["n"]), float(row["mean"]), p, float(row["p_equivalent"]))


def verdict_of(n: float, mean: float, p: float, p_equivalent: float) -> str:
    """The rule on the seeds of a difference, its mean and the two p, which may be NaN: then nothing is shown."""
    if n >= FEW_SEEDS and p < LEVEL:
        return "helps" if mean > 0 else "hurts"
    return "equivalent" if n >= FEW_SEEDS and p_equivalent < LEVEL else "undecided"


def compares_scores(results: Results) -> bool:
    """Whether any cell trains on synthetic rows: with real batches only all cells train the same policies.

    Of the finished cells; where none has finished, of the planned ones.
    """
    cells = [cell for cell in results.cells if cell.done] or results.cells
    return not cells or any(cell.mixes for cell in cells)


def resolution(found: pd.DataFrame) -> str:
    """One line under `verdicts`: how many seeds would show a difference of 5 points. Empty where there is no spread."""
    pairs = found.dropna(subset="seeds_needed")
    if pairs.empty:
        return ""
    needed = pairs["seeds_needed"]
    fewest, most = (int(count) for count in (pairs["n"].min(), pairs["n"].max()))
    return (
        f"With the spread seen here, {math.ceil(needed.median())} seeds per cell would show a difference of {MARGIN:g} "
        f"points with power 80 % (paired by seed, two-sided 5 %, without Holm's correction; median over {len(pairs)} "
        f"pair{'s' * (len(pairs) > 1)}; worst {needed.max():.0f}). The spread was estimated from {fewest}"
        f"{'' if fewest == most else f' to {most}'} seeds."
    )
