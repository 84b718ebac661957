"""Closed forms, coverage of the intervals, and randomness that is an argument."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import nct, norm, trim_mean, ttest_1samp
from scipy.stats import t as student

from metrics import statistics
from metrics.statistics import (
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


def test_trimmed_t_is_centred_on_the_iqm_and_plain_below_4_runs() -> None:
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


def collapsing(*shape: int, seed: int = 0) -> torch.Tensor:
    """Runs of which one in five learns nothing."""
    lost = torch.rand(*shape, generator=seeded(seed + 1), dtype=torch.float64) < 0.2
    return 80 + 5 * normal(*shape, seed=seed) - 60 * lost


def collapsing_iqm() -> float:
    """Of the distribution itself: its quartiles lie within the runs that do not collapse (to 1e-20)."""
    low = norm.ppf(0.05 / 0.8)
    high = norm.ppf(0.55 / 0.8)
    return float(80 - 5 * (norm.pdf(high) - norm.pdf(low)) * 0.8 / 0.5)


COVERAGE = {  # (scores, tasks): per cent for 3, 5, 10 runs of mean, of IQM; the table in METRICS.md
    ("normal", 1): ([95.1, 95.0, 95.1], [95.1, 92.7, 93.6]),
    ("normal", 3): ([82.8, 88.3, 92.6], [84.5, 91.1, 93.3]),
    ("normal", 5): ([85.0, 91.0, 93.2], [86.9, 92.0, 93.8]),
    ("normal", 12): ([88.8, 90.9, 94.4], [88.0, 91.5, 94.1]),
    ("collapsing", 1): ([69.1, 67.5, 88.8], [95.7, 93.7, 95.0]),
    ("collapsing", 3): ([82.2, 87.4, 92.0], [87.3, 88.8, 93.7]),
    ("collapsing", 5): ([83.0, 88.9, 92.7], [84.9, 91.7, 94.9]),
    ("collapsing", 12): ([87.2, 90.0, 93.2], [89.7, 92.1, 94.1]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tasks"), COVERAGE)
def test_coverage_is_what_we_say(kind: str, tasks: int) -> None:
    """1000 experiments, 20 000 of one task: three standard errors of both sides are at most 5 points and 1 point."""
    draw, truth = (normal, (0.0, 0.0)) if kind == "normal" else (collapsing, (68.0, collapsing_iqm()))
    target = torch.tensor(truth, dtype=torch.float64)
    for i, runs in enumerate((3, 5, 10)):
        if tasks == 1:
            x = draw(20_000, runs, seed=1000 + runs)
            low, high = (torch.stack(ends, -1) for ends in zip(t_interval(x), trimmed_t_interval(x), strict=True))
        else:
            found = [
                stratified_bootstrap(x, lambda s: torch.stack([mean(s), iqm(s)], -1), 500, seeded(experiment))
                for experiment, x in enumerate(draw(1000, runs, tasks, seed=1000 + runs))
            ]
            low, high = (torch.stack(ends) for ends in zip(*found, strict=True))
        seen = 100 * ((low <= target) & (target <= high)).double().mean(0)
        expected = [column[i] for column in COVERAGE[kind, tasks]]
        assert seen.tolist() == pytest.approx(expected, abs=1.0 if tasks == 1 else 5.0), runs


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


def test_bootstrap_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="finite, got 1 that are not"):
        stratified_bootstrap(torch.tensor([[1.0, math.nan], [1.0, 2.0]]), mean, 10, seeded())


def test_bootstrap_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = normal(5, 4)
    whole = stratified_bootstrap(scores, iqm, 999, seeded())
    monkeypatch.setattr(statistics, "_CHUNK", 100)
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


def test_performance_profile() -> None:
    """By the definition, threshold by threshold; a score at the threshold is not above it."""
    thresholds = torch.tensor([-1.0, 0.0, 2.0, 10.0, 50.0, 200.0], dtype=torch.float64)
    assert performance_profile(SCORES, thresholds).tolist() == [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 0]
    many = normal(4, 5, 3)
    unordered = thresholds.flip(0) / 100
    expected = (many.unsqueeze(-1) > unordered).double().mean((-3, -2))
    torch.testing.assert_close(performance_profile(many, unordered), expected, rtol=0, atol=1e-12)


def test_band_of_a_profile() -> None:
    """One task, threshold at the median: the share above it is binomial; 3 runs of 10 below or above at 95 %."""
    scores = torch.arange(10, dtype=torch.float64)[:, None]
    thresholds = torch.tensor([-1.0, 4.5, 9.0], dtype=torch.float64)
    low, high = stratified_bootstrap(scores, lambda x: performance_profile(x, thresholds), 4000, seeded())
    assert low.tolist() == pytest.approx([1, 0.2, 0])
    assert high.tolist() == pytest.approx([1, 0.8, 0])


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
