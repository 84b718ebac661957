"""Do two sides agree? Unpaired: the seeds of two programs have nothing in common but their numbers."""

from bisect import bisect_left
from collections.abc import Sequence
from math import exp, isfinite, log, nan, sqrt
from statistics import fmean, variance
from typing import Literal, NamedTuple

from scipy.stats import t, ttest_ind

__all__ = ["MARGINS", "Row", "Unit", "Welch", "deciding", "row", "welch"]

Unit = Literal["points", "ratio", "correlation"]
MARGINS: dict[Unit, float] = {"points": 5.0, "ratio": 1.1, "correlation": 0.05}  # a ratio within 1/1.1 .. 1.1
_LEVEL = 0.05
_MOST = 9999  # seeds that are looked at


class Welch(NamedTuple):
    """Difference of two means, y - x."""

    difference: float
    low: float  # of the 95 % interval
    high: float
    p_equivalent: float  # of two one-sided tests: that the difference lies outside of the margin


class Row(NamedTuple):
    """A line of the table."""

    what: str
    unit: Unit
    theirs: float  # mean
    theirs_std: float
    theirs_n: int
    ours: float
    ours_std: float
    ours_n: int
    difference: float  # ours - theirs; of a ratio: ours / theirs
    low: float
    high: float
    p_equivalent: float
    deciding: int | None  # seeds on each side that would show equivalence, see `deciding`; None: spread not known
    verdict: str


def welch(x: Sequence[float], y: Sequence[float], margin: float, level: float = _LEVEL) -> Welch:
    """Welch's interval for the mean of y less that of x, and the larger p of two one-sided tests at -margin, margin.

    Equivalence is shown at `level` if that p is below it, which is the same as an interval of 1 - 2 level inside of the
    margins. Two sides without any spread are their means; with fewer than two runs on a side nothing is known: NaN.
    Source: Welch 1947 (Biometrika 34, 28-35), Schuirmann 1987 (J. Pharmacokinet. Biopharm. 15, 657-680).
    """
    if min(len(x), len(y)) < 2:
        return Welch(fmean(y) - fmean(x) if x and y else nan, nan, nan, nan)
    difference = fmean(y) - fmean(x)
    if variance(x) == variance(y) == 0:
        return Welch(difference, difference, difference, float(abs(difference) >= margin))
    within = ttest_ind(y, x, equal_var=False).confidence_interval(1 - level)
    above = ttest_ind([value + margin for value in y], x, equal_var=False, alternative="greater").pvalue
    below = ttest_ind([value - margin for value in y], x, equal_var=False, alternative="less").pvalue
    return Welch(difference, float(within.low), float(within.high), float(max(above, below)))


def row(what: str, unit: Unit, theirs: Sequence[float], ours: Sequence[float]) -> Row:
    """Both sides and whether they are equivalent within the margin of the unit."""
    x, y = ([value for value in side if isfinite(value)] for side in (theirs, ours))
    if unit == "ratio":
        compared = [log(value) for value in x], [log(value) for value in y], log(MARGINS[unit])
    else:
        compared = x, y, MARGINS[unit]
    found, needed = welch(*compared), deciding(*compared)
    if unit == "ratio":
        found = Welch(exp(found.difference), exp(found.low), exp(found.high), found.p_equivalent)
    return Row(what, unit, *_mean_std(x), len(x), *_mean_std(y), len(y), *found, needed, _verdict(found, unit))


def deciding(x: Sequence[float], y: Sequence[float], margin: float, power: float = 0.8) -> int | None:
    """The fewest runs on each side with which two sides that are the same would be called equivalent, at that power.

    With the spread that was seen, which few runs know roughly. None: fewer than two runs on a side, or 10 000 runs do
    not do. Source: Julious 2004 (Stat. Med. 23, 1921-1986), the approximation with quantiles of Student's t.
    """
    if min(len(x), len(y)) < 2:
        return None
    error = sqrt(variance(x) + variance(y))  # of the difference of two means, times the root of n

    def shown(n: int) -> bool:
        quantiles = (float(t.ppf(level, 2 * n - 2)) for level in (1 - _LEVEL, (1 + power) / 2))
        return sum(quantiles) * error / sqrt(n) <= margin

    return bisect_left(range(_MOST + 1), True, lo=2, key=shown) if shown(_MOST) else None


def _mean_std(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values) if values else nan, sqrt(variance(values)) if len(values) > 1 else nan


def _verdict(found: Welch, unit: Unit) -> str:
    if not isfinite(found.p_equivalent):
        return "too few runs"
    if found.p_equivalent < _LEVEL:
        return "equivalent"
    nothing = 1.0 if unit == "ratio" else 0.0
    return "cannot be told apart" if found.low <= nothing <= found.high else "differs"
