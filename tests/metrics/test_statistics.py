"""Closed forms, coverage of the intervals, and randomness that is an argument."""

import math

import pytest
import torch
from scipy.stats import trim_mean

from metrics.statistics import (
    iqm,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
    stratified_bootstrap,
    t_interval,
    trimmed_t_interval,
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


def test_t_interval_is_the_textbook_one() -> None:
    low, high = t_interval(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert (high - 2).item() == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert (low + high).item() == pytest.approx(4)


def test_t_interval_covers_what_it_says() -> None:
    """2000 experiments: the standard error of the coverage is 0.5 points, we allow three of them."""
    low, high = t_interval(normal(2000, 5))
    assert ((low < 0) & (high > 0)).double().mean().item() == pytest.approx(0.95, abs=0.015)


def test_trimmed_t_interval_covers_about_what_it_says() -> None:
    """An approximation: 92.5 % with five runs, 93.8 % with ten, 93.6 % with twenty over 40 000 experiments."""
    for runs in (5, 10, 20):
        low, high = trimmed_t_interval(normal(2000, runs))
        assert ((low < 0) & (high > 0)).double().mean().item() == pytest.approx(0.935, abs=0.02), runs


def test_trimmed_t_interval_is_centred_on_the_iqm_and_plain_below_four_runs() -> None:
    x = normal(9)
    low, high = trimmed_t_interval(x)
    assert ((low + high) / 2).item() == pytest.approx(iqm(x[:, None]).item())
    torch.testing.assert_close(trimmed_t_interval(x[:3]), t_interval(x[:3]))


def test_one_run_has_no_interval() -> None:
    for interval in (
        t_interval(SCORES[:1, 0]),
        trimmed_t_interval(SCORES[:1, 0]),
        stratified_bootstrap(SCORES[:1], mean, 10, seeded()),
    ):
        assert all(bound.isnan() for bound in interval)


def test_bootstrap_agrees_with_the_normal_theory_of_a_mean() -> None:
    """Resampling has variance sum_t (n-1)/n s_t^2 / n / tasks^2; 40 000 repetitions give its ends to about 1 %."""
    scores = 50 + 8 * normal(10, 6)
    low, high = stratified_bootstrap(scores, mean, 40_000, seeded())
    std = (scores.var(0, correction=0).sum() / 10).sqrt() / 6
    assert ((high - low) / 2).item() == pytest.approx(1.96 * std.item(), rel=0.03)


def test_bootstrap_covers_with_many_runs_and_tasks() -> None:
    """Ten runs of nine tasks: the percentile interval covers 93.1 % (measured); 300 experiments, standard error 1.5."""
    inside = 0
    for experiment in range(300):
        low, high = stratified_bootstrap(normal(10, 9, seed=experiment), iqm, 500, seeded(experiment))
        inside += int(low < 0 < high)
    assert 0.885 < inside / 300 < 0.98


def test_bootstrap_resamples_within_tasks() -> None:
    """Tasks of very different level but no spread over runs: nothing is left to vary."""
    scores = torch.tensor([[0.0, 100.0, 1000.0]], dtype=torch.float64).expand(5, 3)
    for statistic in (mean, median, iqm, optimality_gap):
        low, high = stratified_bootstrap(scores, statistic, 100, seeded())
        assert low == high == statistic(scores)


def test_bootstrap_randomness_is_its_argument() -> None:
    scores, torch_state = normal(5, 4), torch.get_rng_state()
    first, again, other = (stratified_bootstrap(scores, iqm, 1000, seeded(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert torch.equal(torch_state, torch.get_rng_state())


def test_statistics_share_resamples_by_stacking() -> None:
    scores = normal(5, 4)
    low, high = stratified_bootstrap(scores, lambda x: torch.stack([mean(x), iqm(x)], -1), 1000, seeded())
    assert (low[1], high[1]) == stratified_bootstrap(scores, iqm, 1000, seeded())


def test_bootstrap_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="finite, got 1 that are not"):
        stratified_bootstrap(torch.tensor([[1.0, math.nan], [1.0, 2.0]]), mean, 10, seeded())
