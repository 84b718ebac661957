"""Bounds on the return gap: the formulas, the table of break-even points, and processes whose distances are known."""

import math

import pytest
import torch

from metrics.bound import (
    accumulated,
    autoregressive_bound,
    break_even,
    non_autoregressive_bound,
    steepness,
    tv_bounds,
    wasserstein_bounds,
)

BREAK_EVEN: dict[float, dict[int | None, float]] = {
    0.99: {5: 2.49, 32: 15.20, 100: 41.92, 1000: 99.96, None: 100},
    0.997: {5: 2.50, 32: 15.76, 100: 47.55, 1000: 281.07, None: 333.33},
}


@pytest.mark.parametrize("gamma", BREAK_EVEN)
@pytest.mark.parametrize("horizon", [5, 32, 100, 1000, None])
def test_break_even(gamma: float, horizon: int | None) -> None:
    assert break_even(gamma, horizon) == pytest.approx(BREAK_EVEN[gamma][horizon], abs=0.005)


def test_break_even_lies_between_half_the_horizon_and_the_discounts_own() -> None:
    assert break_even(1.0, 7) == pytest.approx(3.5)
    assert break_even(0.99, 10**4) == pytest.approx(1 / (1 - 0.99))
    below = [break_even(0.99, horizon) for horizon in (2, 20, 200, 2000)]
    assert below[0] == 1
    assert below == sorted(below)
    assert below[-1] < 100.01


def test_formulas_without_a_horizon_are_the_limit_of_those_with_one() -> None:
    assert autoregressive_bound(0.1, 0.9, None, 2.0) == pytest.approx(2 * 2 * 0.1 * 0.9 / 0.01)
    assert non_autoregressive_bound(0.1, 0.9, None, 2.0) == pytest.approx(2 * 2 * 0.1 * 9)
    for bound in (autoregressive_bound, non_autoregressive_bound):
        assert bound(0.1, 0.9, 2000, 2.0) == pytest.approx(bound(0.1, 0.9, None, 2.0))
        assert bound(0.1, 0.9, 1, 2.0) == 0  # the start is exact
    # ratio of the two: (1 - gamma) eps_d / eps_m
    ratio = non_autoregressive_bound(0.3, 0.9, None, 1.0) / autoregressive_bound(0.1, 0.9, None, 1.0)
    assert ratio == pytest.approx((1 - 0.9) * 0.3 / 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.2, 0.9, 5, 1.0), "eps_m must be between 0 and 1, a total variation distance, got 1.2"),
        ((0.1, 1.0, None, 1.0), "gamma must be strictly between 0 and 1 without a horizon, got 1.0"),
        ((0.1, 1.1, 5, 1.0), "gamma must be above 0 and at most 1, got 1.1"),
        ((0.1, 0.9, 0, 1.0), "horizon must be at least 1 step, or None, got 0"),
    ],
)
def test_numbers_out_of_range(arguments: tuple[float, float, int | None, float], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        autoregressive_bound(*arguments)


def test_break_even_of_a_single_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="horizon must be at least 2"):
        break_even(0.9, 1)


def test_measured_bounds_of_constant_errors_are_the_formulas() -> None:
    steps = 20
    flat = torch.ones(1, 20)
    found = tv_bounds(-3 * flat, 0.01 * flat, 0.2 * flat, 0.9, 2.0)
    for horizon in range(1, steps + 1):
        at = 0, horizon - 1
        assert found.autoregressive[at].item() == pytest.approx(autoregressive_bound(0.01, 0.9, horizon, 2.0), rel=1e-6)
        assert found.non_autoregressive[at].item() == pytest.approx(non_autoregressive_bound(0.2, 0.9, horizon, 2.0))
        assert found.trivial[at].item() == pytest.approx(non_autoregressive_bound(1.0, 0.9, horizon, 2.0))
    assert (found.gap == 3).all()


def test_bounds_are_cut_to_the_trivial_one_and_estimates_below_zero_to_zero() -> None:
    flat = torch.ones(2, 30)
    found = tv_bounds(flat, flat, -0.1 * flat, 0.99, 1.5)
    assert torch.equal(found.autoregressive, found.trivial)
    assert (found.non_autoregressive == 0).all()
    one = torch.ones(2)
    far = wasserstein_bounds(flat, flat, 100 * flat, 2 * one, one, 0.99, 1.5)
    assert torch.equal(far.non_autoregressive, far.trivial)
    assert (far.autoregressive <= far.trivial).all()


def test_bounds_hold_for_markov_chains_and_in_order() -> None:
    """Six states, exact distributions: gap <= distance of the states <= sum of one-step errors <= trivial."""
    rng = torch.Generator().manual_seed(0)

    def chain() -> torch.Tensor:
        return torch.rand(4, 6, 6, generator=rng, dtype=torch.float64).softmax(-1)

    steps = 15
    gamma = 0.95
    r_max = 2.0
    true = chain()
    model = 0.97 * true + 0.03 * torch.eye(6, dtype=torch.float64).roll(1, 0)
    reward = r_max * (2 * torch.rand(4, 6, generator=rng, dtype=torch.float64) - 1)
    rho, other = (torch.eye(6, dtype=torch.float64)[:1].expand(4, 6) for _ in range(2))
    eps_m = []
    eps_d = []
    gap = []
    total = torch.zeros(4, dtype=torch.float64)
    for step in range(steps):
        total = total + gamma**step * ((rho - other) * reward).sum(-1)
        gap.append(total)
        eps_m.append((rho * (true - model).abs().sum(-1) / 2).sum(-1))
        rho, other = ((p[:, None] @ kernel)[:, 0] for p, kernel in ((rho, true), (other, model)))
        eps_d.append((rho - other).abs().sum(-1) / 2)
    found = tv_bounds(*(torch.stack(x, -1) for x in (gap, eps_m, eps_d)), gamma, r_max)
    slack = 1e-12
    assert (found.gap <= found.non_autoregressive + slack).all()
    assert found.gap[:, -1].min() > 0
    assert (found.non_autoregressive <= found.autoregressive + slack).all()
    assert (found.autoregressive <= found.trivial + slack).all()
    assert (found.autoregressive[:, 1:] < found.trivial[:, 1:]).all()


@pytest.mark.parametrize("growth", [0.8, 1.0, 1.3])
def test_the_second_form_is_met_by_a_linear_system(growth: float) -> None:
    """s' = g s and s' = g s + b, r = -k s, from one start: every inequality of the proof is an equality."""
    steps = 12
    push = 0.02
    slope = 0.5
    gamma = 0.9
    apart = 0.0
    curve = []
    for _ in range(steps):
        apart = growth * apart + push
        curve.append(apart)
    distance = torch.tensor([curve], dtype=torch.float64)
    closed = [push * ((growth**h - 1) / (growth - 1) if growth != 1 else h) for h in range(1, steps + 1)]
    assert torch.allclose(
        accumulated(torch.full((1, steps), push), torch.tensor([growth]))[0], torch.tensor(closed).double()
    )
    reached = torch.cat([torch.zeros(1, 1), distance[:, :-1]], -1)
    gap = (gamma ** torch.arange(steps).double() * -slope * reached).cumsum(-1)
    constants = torch.tensor([growth]), torch.tensor([slope])
    found = wasserstein_bounds(gap, torch.full((1, steps), push), distance, *constants, gamma, 100.0)
    assert torch.allclose(found.autoregressive, found.gap, rtol=1e-5)
    assert torch.allclose(found.non_autoregressive, found.gap, rtol=1e-5)


def test_constants_belong_to_their_seed() -> None:
    eps = torch.full((2, 6), 0.01)
    growth = torch.tensor([1.0, 2.0])
    slope = torch.tensor([3.0, 1.0])
    both = wasserstein_bounds(eps, eps, eps, growth, slope, 0.9, 1.0)
    one = wasserstein_bounds(eps[1:], eps[1:], eps[1:], growth[1:], slope[1:], 0.9, 1.0)
    assert torch.equal(both.autoregressive[1:], one.autoregressive)
    assert torch.equal(both.non_autoregressive[1:], one.non_autoregressive)
    assert both.non_autoregressive[0, -1].item() == pytest.approx(3 * both.non_autoregressive[1, -1].item())


def test_what_was_not_measured_leaves_no_bound_behind_it() -> None:
    eps = torch.full((1, 5), 0.01)
    gone = eps.clone()
    gone[0, 2] = math.nan  # the state after three steps: the return of four needs it
    found = tv_bounds(eps, gone, gone, 0.9, 1.0)
    assert found.autoregressive.isnan().tolist() == [[False, False, False, True, True]]
    assert found.non_autoregressive.isnan().tolist() == [[False, False, False, True, True]]
    assert found.trivial.isfinite().all()


def test_steepness_is_the_largest_ratio_that_counts() -> None:
    difference = torch.tensor([[[1.0, -6.0], [50.0, 3.0]]])
    distance = torch.tensor([[[1.0, 2.0], [1.0, 0.0]]])
    valid = torch.tensor([[[True, True], [False, True]]])
    assert steepness(difference, distance, valid).tolist() == [3]
    assert steepness(difference, distance, torch.zeros_like(valid)).isnan().all()
