"""Exponents of known laws, and crossings that were put where they must be found."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.compute.laws import outcome, scaling
from benchmarks.report.results import Results, collect

MEET = (240 / 1.5) ** 5  # where 240 C^-0.5 = 1.5 C^-0.3


def steep(flop: float, seed: int, h: int) -> float:
    return 240 * (1 + 0.01 * seed) * flop**-0.5


def flat(flop: float, seed: int, h: int) -> float:
    return 1.5 * (1 + 0.01 * seed) * flop**-0.3


def row(results: Results, generator: str) -> dict[str, Any]:
    found = scaling(results).query("generator == @generator and actions == 'policy' and horizon == 10")
    (only,) = found.to_dict("records")
    return {str(name): value for name, value in only.items()}


def test_a_known_law_has_its_exponent(tmp_path: Path, budgets: Any) -> None:
    """Seeds differ by a factor, which no slope sees: the interval is a point."""
    own = row(collect(budgets.fill(tmp_path, {"dydiff": steep})), "dydiff")
    assert [own[name] for name in ("exponent", "low", "high", "last_exponent")] == pytest.approx([0.5] * 4)
    assert [own[name] for name in ("budgets", "fits", "flop_from", "flop_to")] == pytest.approx([4, 3, 1e10, 6.4e11])
    assert math.isnan(own["below"])


def test_the_interval_is_that_of_whole_fits(tmp_path: Path, budgets: Any) -> None:
    """Exponents of 0.2, 0.3 and 0.4: Student's t of three numbers."""
    own = row(collect(budgets.fill(tmp_path, {"dydiff": lambda c, seed, h: c ** -(0.2 + 0.1 * seed)})), "dydiff")
    half = 4.302652729911275 * 0.1 / math.sqrt(3)
    assert [own[name] for name in ("exponent", "low", "high")] == pytest.approx([0.3, 0.3 - half, 0.3 + half])


def test_a_curve_that_levels_off_shows_at_its_end(tmp_path: Path, budgets: Any) -> None:
    own = row(collect(budgets.fill(tmp_path, {"dydiff": lambda c, seed, h: max(c**-0.5, 2e-6)})), "dydiff")
    assert own["last_exponent"] < own["exponent"] < 0.5


def test_a_crossing_is_found(tmp_path: Path, budgets: Any) -> None:
    own = row(collect(budgets.fill(tmp_path, {"ensemble": flat, "dydiff": steep})), "dydiff")
    assert outcome(own) == "overtakes"
    assert own["crossing"] == pytest.approx(MEET)
    assert own["crossing_low"] < MEET < own["crossing_high"]
    assert own["share"] == 1


def test_the_ensemble_may_overtake(tmp_path: Path, budgets: Any) -> None:
    results = collect(budgets.fill(tmp_path, {"ensemble": steep, "dydiff": flat}))
    assert outcome(row(results, "dydiff")) == "is overtaken"
    assert outcome(row(results, "ensemble")) == ""


@pytest.mark.parametrize(("times", "says"), [(0.5, "stays below"), (2.0, "stays above")])
def test_parallel_curves_do_not_cross(tmp_path: Path, times: float, says: str, budgets: Any) -> None:
    laws = {"ensemble": flat, "dydiff": lambda c, seed, h: times * flat(c, seed, h)}
    own = row(collect(budgets.fill(tmp_path, laws)), "dydiff")
    assert outcome(own) == says
    assert math.isnan(own["crossing"])


def test_single_transitions_have_no_later_error(tmp_path: Path, budgets: Any) -> None:
    laws = {"ensemble": flat, "synther": lambda c, seed, h: 0.5 if h == 1 else math.nan}
    found = scaling(collect(budgets.fill(tmp_path, laws))).query("generator == 'synther'")
    assert found["horizon"].tolist() == [1, 1]
