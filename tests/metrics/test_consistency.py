"""Closed forms: Gaussians, points on a line, and policies that did or did not draw the actions."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from metrics.consistency import (
    SMOOTHING,
    action_distance,
    excess_cross_entropy,
    excess_energy,
    knn_kl,
    nearest,
    smoothed_kl,
)

ROWS = 20_000
WIDTH = 3
ALL = torch.ones(2, ROWS, dtype=torch.bool)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_smoothed_kl_is_that_of_gaussians() -> None:
    action = normal(2, 5, WIDTH)
    own = normal(2, 5, WIDTH, seed=1)
    gauss = [Independent(Normal(x.double(), SMOOTHING), 1) for x in (action, own)]
    expected = kl_divergence(*gauss).mean(1)
    torch.testing.assert_close(smoothed_kl(action, own, ALL[:, :5]), expected, rtol=1e-6, atol=0)
    assert (smoothed_kl(own, own, ALL[:, :5]) == 0).all()


def test_distance_of_a_constant_shift() -> None:
    own = normal(2, 5, WIDTH)
    moved = action_distance(own + torch.tensor([0.3, 0.0, -0.4]), own, ALL[:, :5])
    assert moved.tolist() == pytest.approx([(0.25 / 3) ** 0.5] * 2, rel=1e-6)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 0.0), (0.0, 2.0), (1.0, 0.5)])
def test_excess_cross_entropy_of_another_gaussian(shift: float, scale: float) -> None:
    """A ((scale^2 + shift^2) - 1) / 2; its standard error is at most .04 with 20 000 rows."""
    expected = WIDTH * (scale**2 + shift**2 - 1) / 2
    found = excess(shift + scale * normal(2, ROWS, WIDTH), 0.0, 1.0, 50.0)
    assert found.tolist() == pytest.approx([expected] * 2, abs=0.12)


def test_excess_cross_entropy_is_kl_plus_difference_of_entropies() -> None:
    """E_p[-log q] - H(q) = KL(p || q) + H(p) - H(q), here by torch.distributions."""
    p = Normal(torch.tensor(0.3), torch.tensor(0.6))
    q = Normal(torch.tensor(0.0), torch.tensor(1.0))
    expected = kl_divergence(p, q) + p.entropy() - q.entropy()
    assert excess(0.3 + 0.6 * normal(1, ROWS, 1), 0.0, 1.0, 50.0).item() == pytest.approx(expected.item(), abs=0.02)


@pytest.mark.parametrize("mean", [-30.0, -1.2, -0.9, 0.0, 0.4, 1.0, 8.0])
@pytest.mark.parametrize("std", [1e-9, 1e-4, 1e-3, 0.02, 0.5, 7.0])
def test_own_draws_have_no_excess_however_they_are_cut(mean: float, std: float) -> None:
    drawn = (mean + std * normal(1, ROWS, 1).double()).clamp(-1, 1)
    assert excess(drawn, mean, std, 1.0).item() == pytest.approx(0, abs=0.04)


def test_the_excess_of_a_cut_gaussian_is_a_divergence() -> None:
    """KL(p || q) + H(p) - H(q) over two bounds and the line between them, by quadrature."""
    line = torch.linspace(-1, 1, 200_001, dtype=torch.float64)

    def parts(mean: float, std: float) -> tuple[torch.Tensor, torch.Tensor]:
        gauss = Normal(torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64))
        edges = torch.stack([gauss.cdf(line[0]), 1 - gauss.cdf(line[-1])])
        return edges.log(), gauss.log_prob(line)

    def cross(p: tuple[torch.Tensor, torch.Tensor], q: tuple[torch.Tensor, torch.Tensor]) -> float:
        edges = -(p[0].exp() * q[0]).sum()
        return float(edges - torch.trapezoid(p[1].exp() * q[1], line))

    p = parts(0.7, 0.6)
    q = parts(-0.4, 0.9)
    drawn = (0.7 + 0.6 * normal(1, ROWS, 1).double()).clamp(-1, 1)
    assert excess(drawn, -0.4, 0.9, 1.0).item() == pytest.approx(cross(p, q) - cross(q, q), abs=0.03)


def test_an_action_beyond_a_far_tail_costs_finitely_many_nats() -> None:
    number = torch.tensor([[[1.0], [-1.0], [0.0]]])
    for mean in (-30.0, 30.0):
        for std in (1e-9, 1e-2, 1.0):
            each = torch.stack([excess(row[None, None], mean, std, 1.0) for row in number[0]])
            assert each.isfinite().all()
            assert each.max() > 100


def excess(number: torch.Tensor, mean: float, std: float, limit: float) -> torch.Tensor:
    own = (torch.full_like(number, value, dtype=torch.float64) for value in (mean, std))
    valid = torch.ones(number.shape[:2], dtype=torch.bool)
    return excess_cross_entropy(number, *own, limit, valid)


def test_excess_energy_of_samples_of_the_policy_itself_is_zero() -> None:
    """In one dimension E|x - x'| = 2 / sqrt(pi) for standard normals; the mean is at E|x| = sqrt(2 / pi)."""
    samples = normal(1, 64, 4000, 1)
    own = normal(1, 4000, 1, seed=1)
    far = torch.full((1, 4000, 1), 50.0)
    some = ALL[:1, :4000]
    assert excess_energy(own, samples, some).item() == pytest.approx(0, abs=0.05)
    middle = excess_energy(torch.zeros_like(own), samples, some).item()
    assert middle == pytest.approx(2 * (math.sqrt(2 / math.pi) - 2 / math.sqrt(math.pi)), abs=0.02)
    assert excess_energy(far, samples, some).item() == pytest.approx(2 * (50 - 2 / math.sqrt(math.pi)), abs=0.02)


def test_rows_that_do_not_count_change_nothing() -> None:
    own = normal(2, 6, WIDTH)
    samples = normal(2, 8, 6, WIDTH, seed=2)
    broken = own.clone()
    broken[:, 4:] = torch.nan
    valid = torch.tensor([True] * 4 + [False] * 2).expand(2, 6)
    for metric, rest in ((smoothed_kl, (own * 0,)), (action_distance, (own * 0,)), (excess_energy, (samples,))):
        cut = [x[..., :4, :] for x in rest]
        torch.testing.assert_close(metric(broken, *rest, valid), metric(own[:, :4], *cut, ALL[:, :4]))  # type: ignore[operator]
    assert smoothed_kl(own, own, ~ALL[:, :6]).isnan().all()


def test_nearest_counts_neighbours() -> None:
    line = torch.arange(5.0)[:, None]
    rows = torch.tensor([[[0.2], [3.0]]])
    torch.testing.assert_close(nearest(rows, line, 2)[0].tolist(), [[0.2, 0.8], [0.0, 1.0]], rtol=0, atol=1e-7)
    assert nearest(rows, line).shape == (1, 2, 1)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 1.0), (0.0, 0.5)])
def test_neighbours_estimate_the_kl_of_gaussians(shift: float, scale: float) -> None:
    """Two dimensions, 2000 against 20 000 rows: within 0.1 nats (measured: bias below .05, deviation .03)."""
    p = Independent(Normal(torch.full((2,), shift), torch.full((2,), scale)), 1)
    q = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    rows = shift + scale * normal(2, 2000, 2)
    found = knn_kl(rows, normal(20_000, 2, seed=3), ALL[:, :2000])
    assert found.tolist() == pytest.approx([kl_divergence(p, q).item()] * 2, abs=0.1)


def test_rows_that_occur_twice_are_no_neighbours_at_distance_0() -> None:
    """A set in which every row stands eight times has no k-th neighbour to measure by; a few copies change little."""
    rows = normal(2, 2000, 2)
    reference = normal(20_000, 2, seed=3)
    few = torch.cat([rows[:, :1900], rows[:, :100]], 1)
    plain, copied = (knn_kl(x, reference, ALL[:, :2000]) for x in (rows, few))
    assert torch.allclose(plain, copied, atol=0.1)
    assert knn_kl(rows[:, :50].repeat(1, 8, 1), reference, ALL[:, :400]).isnan().all()


def test_neighbours_need_company() -> None:
    assert knn_kl(normal(2, 6, 2), normal(50, 2), ALL[:, :6]).isnan().all()
