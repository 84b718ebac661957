"""Distances between sets of states, against closed forms for Gaussians and against slow sums."""

from collections.abc import Callable
from math import erf, exp, pi, sqrt

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from core.random import Streams
from metrics.distribution import energy_distance, halves, sliced_wasserstein


def sliced(x: Tensor, y: Tensor, on_x: Tensor, on_y: Tensor, scale: Tensor) -> Tensor:
    return sliced_wasserstein(x, y, on_x, on_y, scale, Streams(range(len(x)), "directions"))


DISTANCES = [energy_distance, sliced]


def sets(rows: int, steps: int, dims: int, seeds: tuple[int, ...] = (0, 1)) -> tuple[Tensor, Tensor, Tensor]:
    """Two standard normal sets and the mask that takes everything."""
    rng = Streams(seeds, "sets")
    x = rng.fork("x").normal(rows, steps, dims)
    y = rng.fork("y").normal(rows, steps, dims)
    return x, y, torch.ones(len(seeds), rows, steps, dtype=torch.bool)


def some(seeds: tuple[int, ...], rows: int, steps: int) -> tuple[Tensor, Tensor]:
    rng = Streams(seeds, "masks")
    return rng.uniform(rows, steps) < 0.8, rng.uniform(rows, steps) < 0.5


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_energy_distance_of_shifted_gaussians(shift: float) -> None:
    """|N(m, 2)| has the mean 2/sqrt(pi) exp(-m^2/4) + m erf(m/2)."""
    x, y, on = sets(200, 1, 1, tuple(range(60)))
    expected = 2 * (2 / sqrt(pi) * exp(-(shift**2) / 4) + shift * erf(shift / 2)) - 4 / sqrt(pi)
    found = energy_distance(x, y + shift, on, on, torch.ones(1))
    assert found.mean().item() == pytest.approx(expected, rel=0.05)


def test_energy_distance_is_the_sum_over_pairs_of_different_rows() -> None:
    x, y, _ = sets(9, 2, 3)
    on_x, on_y = some((0, 1), 9, 2)
    scale = torch.tensor([1.0, 2.0, 0.0])
    found = energy_distance(x, y, on_x, on_y, scale)

    def mean(seed: int, step: int, a: Tensor, b: Tensor, on_a: Tensor, on_b: Tensor) -> float:
        rows = range(9)
        pairs = [(i, j) for i in rows for j in rows if i != j and on_a[seed, i, step] and on_b[seed, j, step]]
        apart = [((a[seed, i, step] - b[seed, j, step]) / scale)[:2] for i, j in pairs]
        return float(np.mean([float(d.square().mean().sqrt()) for d in apart]))

    for seed, step in np.ndindex(2, 2):
        cross, first, second = (
            mean(seed, step, *both) for both in ((x, y, on_x, on_y), (x, x, on_x, on_x), (y, y, on_y, on_y))
        )
        assert found[seed, step].item() == pytest.approx(2 * cross - first - second, rel=1e-4)


def test_energy_distance_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, on = sets(50, 2, 3)
    whole = energy_distance(x, y, on, on, torch.ones(3))
    monkeypatch.setattr("metrics.distribution._CHUNK", 700)
    assert torch.allclose(energy_distance(x, y, on, on, torch.ones(3)), whole, atol=1e-12)


def test_energy_distance_is_unbiased_also_with_shared_starts() -> None:
    """Two roll-outs of one policy from the same starts: equal distributions, and rows that resemble each other."""
    x, y, on = sets(12, 1, 2, tuple(range(2000)))
    start = Streams(range(2000), "start").normal(12, 1, 2)
    for a, b in ((x, y), (start + 0.3 * x, start + 0.3 * y)):
        found = energy_distance(a, b, on, on, torch.ones(2))
        assert abs(found.mean()) < 4 * found.std() / 2000**0.5
        assert 0.2 < (found < 0).double().mean() < 0.8


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_set_is_at_zero_from_itself(distance: Callable[..., Tensor]) -> None:
    x, _, on = sets(40, 3, 4)
    assert distance(x, x, on, on, torch.ones(4)).abs().max() == 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_order_of_the_rollouts_means_nothing(distance: Callable[..., Tensor]) -> None:
    x, y, _ = sets(40, 3, 4)
    on_x, on_y = some((0, 1), 40, 3)
    order = torch.arange(40).flip(0)
    there = (x, y, on_x, on_y)
    back = (y[:, order], x[:, order], on_y[:, order], on_x[:, order])
    assert torch.allclose(distance(*there, torch.ones(4)), distance(*back, torch.ones(4)), atol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_does_not_count_may_hold_anything(distance: Callable[..., Tensor]) -> None:
    x, y, on = sets(40, 2, 3)
    on = on.clone()
    on[:, 25:] = False
    few = distance(x[:, :25], y[:, :25], on[:, :25], on[:, :25], torch.ones(3))
    x[:, 25:] = torch.nan
    y[:, 25:] = torch.inf
    assert torch.allclose(distance(x, y, on, on, torch.ones(3)), few, atol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_units_are_deviations_of_dimensions_that_move(distance: Callable[..., Tensor]) -> None:
    x, y, on = sets(30, 2, 3)
    scale = torch.tensor([1.0, 4.0, 0.0])
    found = distance(x * torch.tensor([1.0, 4.0, 7.0]), y * torch.tensor([1.0, 4.0, 9.0]), on, on, scale)
    assert torch.allclose(found, distance(x[..., :2], y[..., :2], on, on, torch.ones(2)), atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_nothing_to_compare_is_nan_in_that_seed_and_step_alone(distance: Callable[..., Tensor]) -> None:
    x, y, on_x = sets(30, 3, 2)
    on_y = on_x.clone()
    on_y[0, 1:, 1] = False
    y[1, 4, 2] = torch.nan  # counts, and is not finite
    found = distance(x, y, on_x, on_y, torch.ones(2))
    assert found.isnan().tolist() == [[False, True, False], [False, False, True]]


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_seed_is_alone_in_its_numbers(distance: Callable[..., Tensor]) -> None:
    x, y, _ = sets(30, 2, 3, (0, 1))
    on_x, on_y = some((0, 1), 30, 2)
    both = distance(x[[1, 0]], y[[1, 0]], on_x[[1, 0]], on_y[[1, 0]], torch.ones(3))
    if distance is sliced:  # its directions belong to the seed
        both = sliced_wasserstein(x, y, on_x, on_y, torch.ones(3), Streams((1, 0), "directions"))
        one = sliced_wasserstein(x[:1], y[:1], on_x[:1], on_y[:1], torch.ones(3), Streams((1,), "directions"))
    else:
        one = distance(x[1:], y[1:], on_x[1:], on_y[1:], torch.ones(3))
    assert torch.allclose(both[:1], one, rtol=1e-12)


def test_sliced_distance_of_a_shifted_set_is_the_shift() -> None:
    """Along any axis the optimal plan is the shift itself, and the axes of a rotation see all of it."""
    x, _, on = sets(30, 2, 5)
    shift = torch.tensor([1.0, 0.0, -2.0, 3.0, 0.5])
    found = sliced(x, (x + shift).flip(1), on, on, torch.ones(5))
    assert torch.allclose(found, shift.double().square().mean().sqrt().expand(2, 2), atol=1e-5)


def test_sliced_distance_of_gaussians() -> None:
    """W2 of N(0, 1) and N(m, s^2) is sqrt(m^2 + (s - 1)^2)."""
    quantile = torch.from_numpy(norm.ppf((np.arange(4000) + 0.5) / 4000)).view(1, -1, 1, 1)
    on = torch.ones(1, 4000, 1, dtype=torch.bool)
    found = sliced(quantile, 0.5 + 2 * quantile, on, on, torch.ones(1))
    assert found.item() == pytest.approx(sqrt(0.5**2 + 1), rel=1e-3)


def test_sliced_distance_between_sets_of_different_size() -> None:
    """Every row of either set repeated until both have equally many."""
    x, y, on = sets(12, 1, 3)
    on_x = on.clone()
    on_y = on.clone()
    on_x[:, 8:] = False
    on_y[:, 6:] = False
    many_x = x[:, :8].repeat_interleave(3, 1)
    many_y = y[:, :6].repeat_interleave(4, 1)
    every = torch.ones(2, 24, 1, dtype=torch.bool)
    found = sliced(x, y, on_x, on_y, torch.ones(3))
    expected = sliced(many_x, many_y, every, every, torch.ones(3))
    assert torch.allclose(found, expected, rtol=1e-9)


def test_halves_are_every_other_rollout() -> None:
    obs = torch.arange(7.0).view(1, 7, 1, 1)
    valid = torch.ones(1, 7, 1, dtype=torch.bool)
    even, odd, on_even, on_odd = halves(obs, valid)
    assert even.flatten().tolist() == [0, 2, 4]
    assert odd.flatten().tolist() == [1, 3, 5]
    assert on_even.shape == on_odd.shape == (1, 3, 1)
