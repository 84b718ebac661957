from math import isnan, log, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from benchmarks.parity.compare import deciding, row, welch

X = [61.0, 64.5, 59.0, 63.0, 60.5]
Y = [62.0, 66.0, 58.5]


def test_welch_is_that_of_scipy() -> None:
    found = welch(X, Y, 5.0)
    oracle = ttest_ind(Y, X, equal_var=False).confidence_interval(0.95)
    assert found.difference == pytest.approx(62 + 1 / 6 - 61.6)
    assert (found.low, found.high) == pytest.approx(tuple(oracle))
    above = ttest_ind([y + 5 for y in Y], X, equal_var=False, alternative="greater").pvalue
    below = ttest_ind([y - 5 for y in Y], X, equal_var=False, alternative="less").pvalue
    assert found.p_equivalent == pytest.approx(max(above, below))


def test_equal_sides_have_students_interval() -> None:
    """Variance 1 and n = 2 on both sides: two degrees of freedom, standard error 1, t = 4.3027 at 97.5 %."""
    found = welch([0.0, sqrt(2)], [3.0, 3 + sqrt(2)], 5.0)
    assert (found.low, found.high) == pytest.approx((3 - 4.30265, 3 + 4.30265), abs=1e-4)
    assert found.p_equivalent == pytest.approx(0.5 - 1 / sqrt(6))  # Student's cdf with two degrees at -2


def test_equivalence_is_an_interval_inside_the_margin() -> None:
    """At p = 5 % the 90 % interval touches the margin."""
    margin = 2.0
    found = welch(X, [x + 0.3 for x in X], margin, level=0.1)
    assert (found.p_equivalent < 0.05) == (max(-found.low, found.high) < margin)
    assert found.p_equivalent == pytest.approx(welch([x + 0.3 for x in X], X, margin).p_equivalent)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([60.0, 60.2, 59.8], "equivalent"),
        ([80.0, 80.2, 79.8], "differs"),
        ([40.0, 90.0, 50.0], "cannot be told apart"),
        ([60.0], "too few runs"),
    ],
)
def test_verdicts(ours: list[float], verdict: str) -> None:
    assert row("score", "points", [60.1, 59.9, 60.0], ours).verdict == verdict


def test_ratios_are_compared_as_logarithms() -> None:
    theirs, ours = [1.0, 1.02, 0.98], [1.01, 1.03, 0.99]
    found = row("e(1)", "ratio", theirs, ours)
    oracle = welch([log(x) for x in theirs], [log(y) for y in ours], log(1.1))
    assert log(found.difference) == pytest.approx(oracle.difference)
    assert log(found.low) == pytest.approx(oracle.low)
    assert found.p_equivalent == oracle.p_equivalent
    assert found.verdict == "equivalent"


def test_sides_without_spread_are_their_means() -> None:
    assert welch([1.0, 1.0], [2.0, 2.0], 5.0) == (1, 1, 1, 0)
    assert welch([1.0, 1.0], [7.0, 7.0], 5.0).p_equivalent == 1
    assert isnan(welch([1.0], [1.0, 2.0], 5.0).low)


def test_as_many_seeds_tell_as_are_said_to() -> None:
    """Two equal sides with a deviation of 4 points are called equivalent in about 80 of 100 trials, not with half."""
    draws = np.random.default_rng(0).normal(60, 4, (2, 2000, 40))
    side = [60 - 4 / sqrt(2), 60 + 4 / sqrt(2)]  # whose deviation is 4
    needed = deciding(side, side, 5.0)
    assert needed is not None
    share = {n: _equivalent(draws[..., :n]) for n in (needed, needed // 2)}
    assert share[needed] == pytest.approx(0.8, abs=0.05)
    assert share[needed // 2] < 0.6
    assert deciding([60.0], side, 5.0) is None


def _equivalent(draws: NDArray[np.float64]) -> float:
    """Share of trials [2, T, n] in which both one-sided tests reject."""
    theirs, ours = draws
    above = ttest_ind(ours + 5, theirs, axis=-1, equal_var=False, alternative="greater").pvalue
    below = ttest_ind(ours - 5, theirs, axis=-1, equal_var=False, alternative="less").pvalue
    return float(np.mean(np.maximum(above, below) < 0.05))
