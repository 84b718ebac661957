"""Rank correlations over clusters, signs beside what followed them: closed forms and scipy's own."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from scipy.stats import t as student
from torch import Tensor

from benchmarks.report.study.association import (
    best_threshold,
    confusion,
    correlation,
    correlation_within,
    share_interval,
)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_correlation_is_spearmans() -> None:
    x = torch.randint(6, (40,), generator=rng()).double()  # with ties
    y = x + 3 * torch.randn(40, generator=rng(), dtype=torch.float64)
    found = correlation(x, y, torch.arange(40), rng())
    assert found.value == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert found.low < found.value < found.high
    assert (found.cells, found.clusters) == (40, 40)


def test_what_predicts_perfectly_has_no_width() -> None:
    x = torch.arange(12).double()
    found = correlation(x, -(x**3), torch.arange(12) // 2, rng())
    assert found[:3] == pytest.approx((-1, -1, -1))


def test_copies_inside_a_cluster_do_not_narrow_it() -> None:
    x, y = torch.randn(2, 20, generator=rng(), dtype=torch.float64)
    one = correlation(x, y, torch.arange(20), rng())
    copies = correlation(x.repeat(7), y.repeat(7), torch.arange(20).repeat(7), rng())
    assert copies[:3] == pytest.approx(one[:3])
    apart = correlation(x.repeat(7), y.repeat(7), torch.arange(140), rng())
    assert apart.high - apart.low < 0.6 * (one.high - one.low)


def test_clusters_of_any_size_are_drawn_whole() -> None:
    """One cluster of ten falls, five of two rise: drawn whole, either may win."""
    x = torch.arange(20).double()
    y = torch.cat([-x[:10], x[10:]])
    found = correlation(x, y, torch.tensor([0] * 10 + [1 + i // 2 for i in range(10)]), rng())
    assert found.clusters == 6
    assert found.high == pytest.approx(1)
    assert found.low < 0


@pytest.mark.parametrize("clusters", [1, 4])
def test_few_clusters_have_no_interval(clusters: int) -> None:
    x = torch.arange(20).double()
    for found in (
        correlation(x, x, torch.arange(20) % clusters, rng()),
        correlation_within(x, x, torch.arange(20) // 5, torch.arange(20) // 5 % clusters),
    ):
        assert found.value == pytest.approx(1)
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def test_within_groups_their_levels_do_not_count() -> None:
    """Simpson's paradox: in every group x harms, and groups with more x are the better ones."""
    group = torch.arange(6).repeat_interleave(5)
    x = 10.0 * group.double() + torch.arange(5).double().repeat(6)
    y = 20.0 * group.double() - torch.arange(5).double().repeat(6)
    assert correlation(x, y, group, rng()).value > 0.8
    assert correlation_within(x, y, group, group)[:3] == pytest.approx((-1, -1, -1))


def test_within_is_the_mean_over_clusters_by_hand() -> None:
    """Two groups of one cluster count as one; groups of three cells, or without spread, do not count."""
    rising, falling = numbers(1, 2, 3, 4), numbers(4, 3, 2, 1)
    signs = [rising, falling, rising, rising, rising, rising, rising]
    y = torch.cat([*signs, numbers(5, 5, 5, 5), numbers(3, 2, 1)])
    x = torch.cat([rising.repeat(8), numbers(1, 2, 3)])
    group = torch.cat([torch.arange(8).repeat_interleave(4), torch.tensor([8] * 3)])
    cluster = (group - 1).clamp(min=0)  # the first two are one
    found = correlation_within(x, y, group, cluster)
    assert found.value == pytest.approx((0 + 5) / 6)
    half = student.ppf(0.975, 5) * numbers(0, 1, 1, 1, 1, 1).std().item() / 6**0.5
    assert found[1:3] == pytest.approx((5 / 6 - half, 1.0))  # never above 1
    assert (found.cells, found.clusters) == (28, 6)


def test_precision_and_recall_by_hand() -> None:
    shown = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]).bool()
    harmed = torch.tensor([1, 1, 0, 1, 1, 0, 0, 0]).bool()
    found = confusion(shown, harmed)
    assert found == (3, 4, 2, 3)
    assert (found.precision, found.recall, found.youden) == pytest.approx((2 / 3, 1 / 2, 1 / 2 - 1 / 4))


def test_shares_of_nothing_are_not_defined() -> None:
    none = torch.zeros(3).bool()
    found = confusion(none, none)
    assert math.isnan(found.precision)
    assert math.isnan(found.recall)
    assert math.isnan(confusion(~none, ~none).youden)
    assert all(map(math.isnan, share_interval(0, 0)))


@pytest.mark.parametrize(("successes", "of"), [(0, 7), (3, 7), (7, 7), (30, 40)])
def test_ends_of_a_share_are_one_quantile_away(successes: int, of: int) -> None:
    low, high = share_interval(successes, of)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(successes / of - end) == pytest.approx(
                student.ppf(0.975, of - 1) * (end * (1 - end) / of) ** 0.5
            )
    assert low < successes / of or successes == 0
    assert 0 <= low < high <= 1


def test_a_threshold_is_found_between_the_kinds() -> None:
    x = numbers(1, 2, 3, 7, 8, 9)
    harmed = x > 5
    assert best_threshold(x, harmed, above=True, usual=2.0) == 5.0
    assert best_threshold(-x, harmed, above=False, usual=-2.0) == -5.0
    assert best_threshold(x, harmed, above=True, usual=6.5) == 6.5  # as good as 5


def test_no_threshold_where_nothing_can_be_told() -> None:
    x = numbers(1, 2, 3, 4)
    for harmed in (x > 9, x > 0, x < 2.5):  # none, all, the wrong side
        assert math.isnan(best_threshold(x, harmed, above=True, usual=2.0))
