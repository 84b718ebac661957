"""Closed forms of the point estimates and of the tests."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import nct, norm, trim_mean, ttest_1samp
from scipy.stats import t as student

from metrics.intervals import t_interval
from metrics.statistics import (
    equivalence_test,
    holm,
    iqm,
    mean,
    median,
    optimality_gap,
    paired_t_test,
    performance_profile,
    power,
    probability_of_improvement,
    seeds_needed,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


SCORES = torch.tensor([[0.0, 10.0, 200.0], [2.0, 30.0, 100.0]], dtype=torch.float64)  # task means 1, 20, 150


def test_point_estimates() -> None:
    assert mean(SCORES) == 57
    assert median(SCORES) == 20
    assert median(SCORES[:, :2]) == 10.5  # even: mean of the middle two, unlike torch
    assert iqm(SCORES) == (2 + 10 + 30 + 100) / 4  # six values: one is cut at each end
    assert optimality_gap(SCORES, 50.0) == 50 - (0 + 2 + 10 + 30 + 50 + 50) / 6


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 7, 10])
def test_iqm_is_scipys_trimmed_mean(runs: int) -> None:
    scores = normal(runs, 3, seed=runs)
    assert iqm(scores).item() == pytest.approx(trim_mean(scores.numpy(), 0.25, axis=None), abs=1e-12)


def test_leading_axes_are_independent() -> None:
    scores = normal(4, 5, 3)
    for statistic in (mean, median, iqm, optimality_gap):
        expected = torch.stack([statistic(one) for one in scores])
        torch.testing.assert_close(statistic(scores), expected, rtol=0, atol=1e-12)


def test_probability_of_improvement() -> None:
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]], dtype=torch.float64)
    y = torch.tensor([[2.0, 5.0], [0.0, 5.0], [1.0, 5.0]], dtype=torch.float64)
    assert probability_of_improvement(x, y).item() == pytest.approx(((1 + 0.5) / 3 + 1) / 2 / 2 + 0.5 / 2)
    assert probability_of_improvement(x, x) == 0.5
    assert probability_of_improvement(x + 9, y) == 1


def test_performance_profile() -> None:
    """By the definition, threshold by threshold; a score at the threshold is not above it."""
    thresholds = torch.tensor([-1.0, 0.0, 2.0, 10.0, 50.0, 200.0], dtype=torch.float64)
    assert performance_profile(SCORES, thresholds).tolist() == [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 0]
    many = normal(4, 5, 3)
    unordered = thresholds.flip(0) / 100
    expected = (many.unsqueeze(-1) > unordered).double().mean((-3, -2))
    torch.testing.assert_close(performance_profile(many, unordered), expected, rtol=0, atol=1e-12)


def test_paired_t_test_is_scipys() -> None:
    x = normal(3, 4, 6) + 0.5
    np.testing.assert_allclose(paired_t_test(x).numpy(), ttest_1samp(x.numpy(), 0, axis=-1).pvalue, rtol=1e-12)


def test_paired_t_test_agrees_with_its_interval() -> None:
    """p < 5 % where the 95 % interval does not contain zero."""
    x = normal(500, 4) + 0.8
    low, high = t_interval(x)
    assert torch.equal(paired_t_test(x) < 0.05, (low > 0) | (high < 0))


def test_paired_t_test_without_spread_or_without_pairs() -> None:
    x = torch.tensor([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert paired_t_test(x).tolist() == [0, 1]
    assert paired_t_test(x[:, :1]).isnan().all()


def test_equivalence_by_hand() -> None:
    """1, 2, 3: mean 2, error 1/sqrt(3), two degrees of freedom, where P(T > t) = 1/2 - t / (2 sqrt(2 + t^2))."""
    x = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [7.0, 8.0, 9.0]], dtype=torch.float64)
    t = torch.tensor([3.0, 3.0, -3.0], dtype=torch.float64) * 3**0.5  # margin 5: three inside, or outside, in errors
    torch.testing.assert_close(equivalence_test(x, 5.0), 0.5 - t / (2 * (2 + t**2).sqrt()))


def test_equivalence_is_the_larger_of_scipys_one_sided_tests() -> None:
    x = normal(3, 4, 6)
    above = ttest_1samp(x.numpy(), -0.7, axis=-1, alternative="greater").pvalue
    below = ttest_1samp(x.numpy(), 0.7, axis=-1, alternative="less").pvalue
    np.testing.assert_allclose(equivalence_test(x, 0.7).numpy(), np.maximum(above, below), rtol=1e-12)


def test_equivalence_agrees_with_its_interval() -> None:
    """p < 5 % where the 90 % interval lies within the margin."""
    x = normal(500, 6)
    half = student.ppf(0.95, 5) * x.std(-1) / 6**0.5
    within = (x.mean(-1) - half > -1) & (x.mean(-1) + half < 1)
    assert torch.equal(equivalence_test(x, 1.0) < 0.05, within)
    assert 0.1 < within.double().mean() < 0.9


def test_equivalence_keeps_its_promise_at_the_margin() -> None:
    """A mean that lies at the margin is called equivalent in 5 % of cases."""
    p = equivalence_test(normal(5000, 5) + 4, 4.0)
    assert (p < 0.05).double().mean().item() == pytest.approx(0.05, abs=0.01)


def test_equivalence_without_spread_or_without_pairs() -> None:
    x = torch.tensor([[2.0, 2.0], [5.0, 5.0], [-6.0, -6.0]], dtype=torch.float64)
    assert equivalence_test(x, 5.0).tolist() == [0, 0.5, 1]
    assert equivalence_test(x[:, :1], 5.0).isnan().all()


@pytest.mark.parametrize("margin", [0.0, -5.0, math.nan, math.inf])
def test_equivalence_refuses_a_margin_that_is_none(margin: float) -> None:
    with pytest.raises(ValueError, match="margin must be positive and finite, got"):
        equivalence_test(torch.zeros(3), margin)


def test_holm_by_hand() -> None:
    """Ordered: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04 = 0.04, which may not fall below the 0.06 before it."""
    p = torch.tensor([[0.01, 0.04, 0.03, 0.005], [0.9, 0.6, 0.5, 0.02]], dtype=torch.float64)
    expected = torch.tensor([[0.03, 0.06, 0.06, 0.02], [1.0, 1.0, 1.0, 0.08]], dtype=torch.float64)
    torch.testing.assert_close(holm(p), expected)
    assert holm(p[0, :1]) == p[0, :1]
    assert holm(p[0, :0]).shape == (0,)


def test_holm_keeps_its_promise() -> None:
    """Of 2000 families of 8 true null hypotheses about 5 % have a p below 5 %; without adjustment it is a third."""
    p = paired_t_test(normal(2000, 8, 5))
    assert (p < 0.05).any(-1).double().mean() > 0.28
    assert (holm(p) < 0.05).any(-1).double().mean().item() == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\], got"):
        holm(torch.tensor([0.5, wrong]))


@pytest.mark.parametrize(
    ("effect", "unpaired", "pairs"),
    [(0.2, 394, 199), (0.5, 64, 34), (0.8, 26, 15), (1.0, 17, 10), (2.0, 6, 5), (5.0, 3, 3), (1000.0, 2, 2)],
)
def test_seeds_needed_are_the_tabulated_ones(effect: float, unpaired: int, pairs: int) -> None:
    """Cohen's tables: 80 % power, two-sided 5 %. The scale of the scores and the sign do not matter."""
    assert seeds_needed(effect, 1.0, paired=False) == unpaired
    assert seeds_needed(-7 * effect, 7.0, paired=True) == pairs


def test_seeds_needed_is_the_first_number_with_enough_power() -> None:
    for std in (0.5, 3.0, 20.0):
        for paired in (True, False):
            seeds = seeds_needed(5.0, std, paired=paired, chance=0.9, level=0.01)
            assert power(5.0, std, seeds, paired=paired, level=0.01) >= 0.9
            assert seeds == 2 or power(5.0, std, seeds - 1, paired=paired, level=0.01) < 0.9
    for hardly_any in (0.0, 1e-300, 1e-15, 0.001):
        assert seeds_needed(5.0, hardly_any, paired=True) == 2
    many = ((norm.ppf(0.975) + norm.ppf(0.8)) / 0.01) ** 2 + norm.ppf(0.975) ** 2 / 2  # known to hold for many seeds
    assert seeds_needed(0.01, 1.0, paired=True) == math.ceil(many) == 78491


def test_power_is_that_of_the_noncentral_t() -> None:
    for effect in (0.1, 1.0, 3.0):
        for seeds in (2, 5, 20):
            critical = student.ppf(0.975, seeds - 1)
            shift = effect * math.sqrt(seeds)
            tails = nct.sf(critical, seeds - 1, shift) + nct.cdf(-critical, seeds - 1, shift)
            assert power(effect, 1.0, seeds, paired=True) == pytest.approx(tails, abs=1e-12)


def test_power_by_simulation() -> None:
    """20 000 experiments of five pairs, difference 1.5 deviations: the standard error is 0.3 points."""
    seen = (paired_t_test(normal(20_000, 5) + 1.5) < 0.05).double().mean().item()
    assert power(1.5, 1.0, 5, paired=True) == pytest.approx(seen, abs=0.01)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("difference must be finite and not 0, got 0.0", (0.0, 1.0, 5)),
        ("difference must be finite and not 0, got nan", (math.nan, 1.0, 5)),
        ("std must be finite and at least 0, got -1.0", (1.0, -1.0, 5)),
        ("std must be finite and at least 0, got inf", (1.0, math.inf, 5)),
        ("seeds must be at least 2", (1.0, 1.0, 1)),
    ],
)
def test_power_refuses_what_makes_no_sense(message: str, arguments: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match=message):
        power(*arguments, paired=True)


def test_seeds_needed_refuses_a_chance_that_is_none() -> None:
    for chance in (0.05, 1.0, math.nan):
        with pytest.raises(ValueError, match="chance must lie in"):
            seeds_needed(1.0, 1.0, paired=True, chance=chance)
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\), got -0.5"):
        seeds_needed(1.0, 1.0, paired=True, level=-0.5)
