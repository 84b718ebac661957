"""Power laws of compute: closed forms of exponents, and crossings that were put where they must be found."""

import math

import pytest
import torch

from metrics.scaling import Lead, exponents, lead

FLOP = torch.tensor([1e10, 4e10, 1.6e11, 6.4e11], dtype=torch.float64)


def law(scale: float, exponent: float, flop: torch.Tensor = FLOP) -> torch.Tensor:
    return scale * flop**-exponent


def found(
    flop: torch.Tensor, error: torch.Tensor, other: torch.Tensor, others: torch.Tensor, reps: int = 2000
) -> Lead | None:
    return lead(flop, error, other, others, reps=reps, generator=torch.Generator().manual_seed(0))


def test_a_power_law_has_its_exponent() -> None:
    errors = torch.stack([law(3, 0.25), law(40, 0.5), law(1, 0.0), law(1, -0.1)])
    assert exponents(FLOP, errors).tolist() == pytest.approx([0.25, 0.5, 0.0, -0.1], abs=1e-12)


def test_every_fit_may_have_spent_its_own_compute() -> None:
    flop = torch.stack([FLOP, 3 * FLOP**1.1])
    assert exponents(flop, law(2, 0.3, flop)).tolist() == pytest.approx([0.3, 0.3])


def test_one_budget_has_no_exponent() -> None:
    assert exponents(FLOP[:1], law(1, 0.3)[:1]).isnan()


def test_a_crossing_is_where_both_laws_are_equal() -> None:
    """240 C^-0.5 = 1.5 C^-0.3 at C = (240 / 1.5)^5, which lies between two budgets."""
    meet = (240 / 1.5) ** 5
    assert FLOP[0] < meet < FLOP[-1]
    seen = found(FLOP, law(240, 0.5).expand(2, -1), FLOP, law(1.5, 0.3).expand(3, -1))
    assert seen is not None
    assert seen.below
    assert [seen.since, seen.low, seen.high] == pytest.approx([meet] * 3)
    assert seen.share == 1
    assert [seen.first, seen.last] == pytest.approx([1e10, 6.4e11])


def test_who_is_overtaken_ends_above() -> None:
    seen = found(FLOP, law(1.5, 0.3).expand(2, -1), FLOP, law(240, 0.5).expand(2, -1))
    assert seen is not None
    assert not seen.below
    assert seen.since == pytest.approx((240 / 1.5) ** 5)


def test_only_the_common_range_counts() -> None:
    """These laws meet at 3.2e9 FLOP, where only one of both curves has been: no crossing in range."""
    cheap = torch.tensor([1e9, 4e9, 1.6e10, 6.4e10], dtype=torch.float64)
    meet = 3.2e9
    error = law(1, 0.5).expand(2, -1) * meet**0.1
    seen = found(FLOP, error, cheap, law(1, 0.4, cheap).expand(2, -1))
    assert seen is not None
    assert seen.below
    assert math.isnan(seen.since)
    assert math.isnan(seen.low)
    assert [seen.first, seen.last] == pytest.approx([1e10, 6.4e10])


def test_curves_that_share_no_compute_are_not_compared() -> None:
    assert found(FLOP, law(1, 0.5).expand(2, -1), 1e3 * FLOP, law(1, 0.4).expand(2, -1)) is None


def test_the_last_of_several_crossings_is_named() -> None:
    """Differences in logarithms of +1, -1, +1, -1: they are 0 half-way between budgets."""
    log_error = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    seen = found(FLOP, log_error.exp().expand(2, -1), FLOP, torch.ones(2, 4, dtype=torch.float64))
    assert seen is not None
    assert seen.below
    assert seen.since == pytest.approx(3.2e11)


def test_the_share_counts_resamples_of_whole_fits() -> None:
    """One of two fits lies far above, the other a little below: only draws of the latter twice are below, 1 in 4."""
    error = torch.stack([law(2.0, 0.0), law(0.9, 0.0)])
    seen = found(FLOP, error, FLOP, torch.ones(1, 4, dtype=torch.float64).expand(2, -1), reps=20_000)
    assert seen is not None
    assert not seen.below
    assert seen.share == pytest.approx(0.75, abs=0.02)


def test_a_single_fit_says_nothing_about_others() -> None:
    seen = found(FLOP, law(240, 0.5)[None], FLOP, law(1.5, 0.3)[None])
    assert seen is not None
    assert seen.since == pytest.approx((240 / 1.5) ** 5)
    assert math.isnan(seen.share)
    assert math.isnan(seen.low)
