"""Bounds on the return gap: processes whose distances are known."""

import math

import pytest
import torch

from metrics.bound import Bounds, accumulated, steepness, wasserstein_bounds


def in_total_variation(
    gap: torch.Tensor, eps_m: torch.Tensor, eps_d: torch.Tensor, gamma: float, r_max: float
) -> Bounds:
    """That distance is Wasserstein's where any two states that differ are at 1: no step grows it."""
    one = torch.ones(len(gap), dtype=torch.float64)
    return wasserstein_bounds(gap, eps_m, eps_d, one, 2 * r_max * one, gamma, r_max)


def test_constant_errors_give_the_geometric_sums() -> None:
    steps = 20
    gamma = 0.9
    flat = torch.ones(1, steps)
    found = in_total_variation(-3 * flat, 0.01 * flat, 0.2 * flat, gamma, 2.0)
    for horizon in range(1, steps + 1):
        at = 0, horizon - 1
        growing = sum(step * gamma**step for step in range(1, horizon))
        constant = sum(gamma**step for step in range(1, horizon))
        assert found.autoregressive[at].item() == pytest.approx(2 * 2 * 0.01 * growing, rel=1e-6)
        assert found.non_autoregressive[at].item() == pytest.approx(2 * 2 * 0.2 * constant)
        assert found.trivial[at].item() == pytest.approx(2 * 2 * constant)
    assert (found.gap == 3).all()


@pytest.mark.parametrize("gamma", [0.0, 1.1])
def test_a_discount_out_of_range_is_refused(gamma: float) -> None:
    flat = torch.ones(1, 2)
    with pytest.raises(ValueError, match=f"gamma must be above 0 and at most 1, got {gamma}"):
        in_total_variation(flat, flat, flat, gamma, 1.0)


def test_bounds_lie_between_zero_and_the_trivial_one() -> None:
    flat = torch.ones(2, 30)
    found = in_total_variation(flat, flat, -0.1 * flat, 0.99, 1.5)
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
    found = in_total_variation(*(torch.stack(x, -1) for x in (gap, eps_m, eps_d)), gamma, r_max)
    slack = 1e-12
    assert (found.gap <= found.non_autoregressive + slack).all()
    assert found.gap[:, -1].min() > 0
    assert (found.non_autoregressive <= found.autoregressive + slack).all()
    assert (found.autoregressive <= found.trivial + slack).all()
    assert (found.autoregressive[:, 1:] < found.trivial[:, 1:]).all()


@pytest.mark.parametrize("growth", [0.8, 1.0, 1.3])
def test_the_bounds_are_met_by_a_linear_system(growth: float) -> None:
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
    found = in_total_variation(eps, gone, gone, 0.9, 1.0)
    assert found.autoregressive.isnan().tolist() == [[False, False, False, True, True]]
    assert found.non_autoregressive.isnan().tolist() == [[False, False, False, True, True]]
    assert found.trivial.isfinite().all()


def test_steepness_is_the_largest_ratio_that_counts() -> None:
    difference = torch.tensor([[[1.0, -6.0], [50.0, 3.0]]])
    distance = torch.tensor([[[1.0, 2.0], [1.0, 0.0]]])
    valid = torch.tensor([[[True, True], [False, True]]])
    assert steepness(difference, distance, valid).tolist() == [3]
    assert steepness(difference, distance, torch.zeros_like(valid)).isnan().all()
