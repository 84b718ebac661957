"""Intervals over tasks: closed forms, what they must contain, and a bootstrap whose randomness is an argument."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from metrics import intervals
from metrics.intervals import (
    AGGREGATES,
    METHODS,
    improvement_interval,
    interval,
    profile_interval,
    stratified_bootstrap,
    t_interval,
)
from metrics.statistics import (
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def test_t_interval_is_the_textbook_one() -> None:
    low, high = t_interval(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert (high - 2).item() == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert (low + high).item() == pytest.approx(4)


def test_t_interval_covers_what_it_says() -> None:
    """2000 experiments: the standard error of the coverage is 0.5 points, we allow three of them."""
    low, high = t_interval(normal(2000, 5))
    assert ((low < 0) & (high > 0)).double().mean().item() == pytest.approx(0.95, abs=0.015)


def test_one_task_has_students_interval() -> None:
    """Of the mean, of the median of its one mean, of the shortfall; the IQM of three runs cuts none."""
    x = normal(6, 1) / 10
    textbook = torch.stack(t_interval(x[:, 0]))
    for name in ("mean", "median"):
        torch.testing.assert_close(torch.stack(interval(x, name)), textbook)
    low, high = interval(x, "optimality_gap")  # no run above 1
    torch.testing.assert_close(torch.stack([1 - high, 1 - low]), textbook)


def test_mean_of_tasks_has_welchs_interval() -> None:
    """By hand: standard error sqrt(sum s^2 / n) / tasks, freedom (sum s^2)^2 / sum (s^4 / (n - 1))."""
    scores = normal(4, 3) * torch.tensor([1.0, 5.0, 0.1])
    square = scores.var(0)
    freedom = square.sum() ** 2 / (square**2 / 3).sum()
    half = student.ppf(0.975, freedom) * (square.sum() / 4).sqrt().item() / 3
    low, high = interval(scores, "mean")
    assert (low.item(), high.item()) == pytest.approx((mean(scores).item() - half, mean(scores).item() + half))


def test_iqm_of_five_runs_by_hand() -> None:
    """1 2 3 4 9: 1.25 runs are cut at each end, of the four that are left whenever one is left out exactly one."""
    x = torch.tensor([3.0, 1.0, 9.0, 2.0, 4.0], dtype=torch.float64)[:, None]
    trimmed = (0.75 * 2 + 3 + 0.75 * 4) / 2.5
    without = np.array([3.5, 3.5, 3.0, 2.5, 2.5])
    variance = 4 / 5 * ((without - without.mean()) ** 2).sum()
    half = student.ppf(0.975, 2) * math.sqrt(variance)  # three runs are kept
    low, high = interval(x, "iqm")
    assert iqm(x) == trimmed == 3
    assert (low.item(), high.item()) == pytest.approx((3 - half, 3 + half))


def test_jackknife_leaves_out_one_run_of_its_task() -> None:
    """The IQM of what is left, where every task is repeated until all have equal numbers of runs again."""
    scores = normal(3, 4) + torch.tensor([0.0, 1.0, 2.0, 9.0])
    variance = torch.zeros(4, dtype=torch.float64)
    for task in range(4):
        without = []
        for run in range(3):
            columns = [scores[:, other].repeat(8) for other in range(4)]
            columns[task] = scores[torch.arange(3) != run, task].repeat(12)
            without.append(iqm(torch.stack(columns, 1)))
        variance[task] = torch.stack(without).var() * 4 / 3
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "_welch", lambda centre, parts, freedom: seen.append(parts) or (centre, centre))
        interval(scores, "iqm")
    torch.testing.assert_close(seen[0], variance)


def test_rounding_of_the_iqm_is_within_its_interval() -> None:
    """Runs that hardly vary at 0, 20 and 100: rliable's IQM is 32, the trimmed mean 30; the interval reaches both."""
    scores = torch.tensor([0.0, 20.0, 100.0], dtype=torch.float64) + 1e-3 * normal(3, 3)
    low, high = interval(scores, "iqm")
    assert iqm(scores).item() == pytest.approx(32, abs=0.01)
    assert (low.item(), high.item()) == pytest.approx((30, 32), abs=0.02)


@pytest.mark.parametrize("runs", [2, 3, 4, 5, 10])
@pytest.mark.parametrize("tasks", [1, 2, 3, 12])
def test_intervals_contain_their_estimates(runs: int, tasks: int) -> None:
    scores = normal(200, runs, tasks) + torch.arange(tasks)
    for name, aggregate in AGGREGATES.items():
        low, high = interval(scores, name)
        assert ((low <= aggregate(scores)) & (aggregate(scores) <= high)).all(), name
        assert (low < high).all() or name == "optimality_gap"  # whose runs may all be above 1


def test_intervals_follow_units() -> None:
    """Scores in other units have the interval in other units; so there is no scale hidden in them."""
    scores = normal(5, 4) + torch.arange(4)
    for name in ("mean", "median", "iqm"):
        there = torch.stack(interval(scores, name))
        torch.testing.assert_close(torch.stack(interval(100 * scores - 7, name)), 100 * there - 7)
        torch.testing.assert_close(torch.stack(interval(-scores, name)), -there.flip(0))


def test_leading_axes_are_independent() -> None:
    scores = normal(4, 5, 3)
    for name in AGGREGATES:
        together = torch.stack(interval(scores, name), -1)
        torch.testing.assert_close(together, torch.stack([torch.stack(interval(one, name)) for one in scores]))


def test_nothing_varies_nothing_is_unsure() -> None:
    scores = torch.tensor([0.0, 0.25, 2.0], dtype=torch.float64).expand(5, 3)
    for name in ("mean", "median", "optimality_gap"):
        low, high = interval(scores, name)
        assert low == high
        assert low.item() == pytest.approx(AGGREGATES[name](scores).item())
    assert t_interval(scores.T[1]) == (0.25, 0.25)


def test_one_run_has_no_interval() -> None:
    scores = normal(1, 3)
    found = [interval(scores, name, method, generator=seeded()) for name in AGGREGATES for method in METHODS]
    found += [improvement_interval(scores, scores), profile_interval(scores, scores[0]), t_interval(scores[:, 0])]
    assert all(bound.isnan().all() for bounds in found for bound in bounds)


def test_no_run_has_no_interval() -> None:
    """Tasks without a common seed."""
    for method in METHODS:
        assert all(bound.isnan() for bound in interval(normal(0, 2), "mean", method, generator=seeded()))


def test_shares_stay_within_0_and_1_and_keep_a_width() -> None:
    """Even where every run beats every other one: with n runs of one task that is no proof of p = 1."""
    x = normal(200, 3, 2)
    for low, high in (improvement_interval(x, -x), improvement_interval(x, x - 100), profile_interval(x, x[0, 0])):
        assert (low >= 0).all()
        assert (high <= 1).all()
        assert (high - low > 0.1).all()
    low, high = improvement_interval(x, -x)
    assert ((low <= probability_of_improvement(x, -x)) & (probability_of_improvement(x, -x) <= high)).all()


def test_profile_interval_is_wilsons() -> None:
    """All p with |k / n - p| = q sqrt(p (1 - p) / n), whose roots are known."""
    n, share = 4 * 3, 5 / 12
    scores = torch.cat([torch.ones(5), torch.zeros(7)]).double().view(4, 3)
    q = student.ppf(0.975, 3 * 3)
    centre = (share + q**2 / 2 / n) / (1 + q**2 / n)
    half = q / (1 + q**2 / n) * math.sqrt(share * (1 - share) / n + q**2 / 4 / n**2)
    low, high = profile_interval(scores, torch.tensor([0.5], dtype=torch.float64))
    assert (low.item(), high.item()) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_improvement_of_equals_lies_around_a_half() -> None:
    """V(1/2) = (1 + (n - 1) 2 / 3) / (4 n^2) is the variance of Mann and Whitney's, (2 n + 1) / (12 n^2)."""
    x = normal(4, 2)
    low, high = improvement_interval(x, x)
    assert (low + high).item() == pytest.approx(1, abs=1e-12)
    upper = high.item()
    variance = upper * (1 - upper) * (1 + 3 * ((1 - upper) / (2 - upper) + upper / (1 + upper))) / 16 / 2
    assert upper - 0.5 == pytest.approx(student.ppf(0.975, 12) * math.sqrt(variance), abs=1e-9)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("method must be one of t, bootstrap, got 'normal'", {"method": "normal"}),
        ("method 'bootstrap' must be given a generator, got none", {"method": "bootstrap"}),
    ],
)
def test_methods_are_refused_by_name(message: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=message):
        interval(normal(3, 2), "iqm", **options)


def test_bootstrap_by_name_is_rliables() -> None:
    scores = normal(5, 4)
    assert interval(scores, "iqm", "bootstrap", generator=seeded(), reps=100) == stratified_bootstrap(
        scores, iqm, 100, seeded()
    )
    low, high = improvement_interval(scores, scores + 9, "bootstrap", generator=seeded(), reps=100)
    assert low == high == 0  # where every run loses, it is sure


def test_bootstrap_agrees_with_the_normal_theory_of_a_mean() -> None:
    """Resampling has variance sum_t (n-1)/n s_t^2 / n / tasks^2; 40 000 repetitions give its ends to about 1 %."""
    scores = 50 + 8 * normal(10, 6)
    low, high = stratified_bootstrap(scores, mean, 40_000, seeded())
    std = (scores.var(0, correction=0).sum() / 10).sqrt() / 6
    assert ((high - low) / 2).item() == pytest.approx(1.96 * std.item(), rel=0.03)


def test_bootstrap_resamples_within_tasks() -> None:
    """Tasks of very different level but no spread over runs: nothing is left to vary."""
    scores = torch.tensor([[0.0, 100.0, 1000.0]], dtype=torch.float64).expand(5, 3)
    for statistic in (mean, median, iqm, optimality_gap):
        low, high = stratified_bootstrap(scores, statistic, 100, seeded())
        assert low == high == statistic(scores)


def test_bootstrap_randomness_is_its_argument() -> None:
    scores = normal(5, 4)
    torch_state = torch.get_rng_state()
    first, again, other = (stratified_bootstrap(scores, iqm, 1000, seeded(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert torch.equal(torch_state, torch.get_rng_state())


def test_statistics_share_resamples_by_stacking() -> None:
    scores = normal(5, 4)
    low, high = stratified_bootstrap(scores, lambda x: torch.stack([mean(x), iqm(x)], -1), 1000, seeded())
    assert (low[1], high[1]) == stratified_bootstrap(scores, iqm, 1000, seeded())


def test_what_is_not_finite_is_refused() -> None:
    for method in METHODS:
        with pytest.raises(ValueError, match="finite, got 1 that are not"):
            interval(torch.tensor([[1.0, math.nan], [1.0, 2.0]]), "mean", method, generator=seeded())


def test_bootstrap_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = normal(5, 4)
    whole = stratified_bootstrap(scores, iqm, 999, seeded())
    monkeypatch.setattr(intervals, "_CHUNK", 100)
    assert stratified_bootstrap(scores, iqm, 999, seeded()) == whole


def test_bootstrap_takes_numpys_quantiles() -> None:
    """Of the resampled values themselves, which a statistic can write down on its way."""
    for reps in (1, 2, 40, 999):
        seen = []

        def noted(x: torch.Tensor, seen: list[torch.Tensor] = seen) -> torch.Tensor:
            seen.append(torch.stack([mean(x), iqm(x)], -1))
            return seen[-1]

        low, high = stratified_bootstrap(normal(5, 4), noted, reps, seeded())
        expected = np.quantile(torch.cat(seen).numpy(), [0.025, 0.975], axis=0)
        np.testing.assert_allclose(torch.stack([low, high]).numpy(), expected, rtol=1e-13)


def test_band_of_a_profile() -> None:
    """One task, threshold at the median: the share above it is binomial; 3 runs of 10 below or above at 95 %."""
    scores = torch.arange(10, dtype=torch.float64)[:, None]
    thresholds = torch.tensor([-1.0, 4.5, 9.0], dtype=torch.float64)
    low, high = stratified_bootstrap(scores, lambda x: performance_profile(x, thresholds), 4000, seeded())
    assert low.tolist() == pytest.approx([1, 0.2, 0])
    assert high.tolist() == pytest.approx([1, 0.8, 0])
