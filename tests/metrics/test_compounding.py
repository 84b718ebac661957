import math

import numpy as np
import pytest
import torch

from metrics.compounding import data_diameter, growth_law, leakage, over_starts, standardized_error

ALL = torch.ones(1, 3, 1, dtype=torch.bool)


def test_error_is_the_rms_of_standardised_differences() -> None:
    truth = torch.zeros(1, 1, 2, 2)
    model = torch.tensor([[[[3.0, 8.0], [6.0, 0.0]]]])
    error = standardized_error(model, truth, torch.tensor([1.0, 2.0]))
    assert torch.allclose(error, torch.tensor([[[math.sqrt(25 / 2), math.sqrt(36 / 2)]]]))


def test_a_dimension_that_never_moves_is_left_out() -> None:
    truth = torch.zeros(1, 1, 1, 2)
    model = torch.tensor([[[[1.0, 5.0]]]])
    assert standardized_error(model, truth, torch.tensor([1.0, 0.0])).item() == 1


def test_the_diameter_is_the_error_between_opposite_corners() -> None:
    obs = torch.tensor([[0.0, 1.0, 7.0], [3.0, 9.0, 7.0], [1.0, 2.0, 7.0]])
    assert data_diameter(obs, torch.tensor([1.0, 2.0, 0.0])).item() == pytest.approx(math.sqrt((9 + 16) / 2))


def test_quantiles_and_mean_over_the_rollouts_that_are_left() -> None:
    error = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [9.0, 7.0], [4.0, 4.0]]])
    valid = torch.tensor([[[True, False], [True, False], [True, True], [True, False]]])
    found = over_starts(error, valid)
    assert found.median.tolist() == [[3, 7]]
    assert found.mean.tolist() == [[4, 7]]
    q10, q90 = np.quantile([1, 2, 9, 4], [0.1, 0.9])
    assert torch.allclose(found.q10, torch.tensor([[q10, 7.0]]).double())
    assert torch.allclose(found.q90, torch.tensor([[q90, 7.0]]).double())


def test_nothing_left_is_nan_not_zero() -> None:
    found = over_starts(torch.ones(1, 2, 1), torch.zeros(1, 2, 1, dtype=torch.bool), torch.tensor(5.0))
    assert all(getattr(found, name).isnan().all() for name in ("median", "mean", "q10", "q90", "capped"))


def test_one_lost_rollout_does_not_move_the_median() -> None:
    found = over_starts(torch.tensor([[[1.0], [2.0], [float("inf")]]]), ALL)
    assert found.median.item() == 2
    assert found.q90.item() == math.inf


def test_a_rollout_the_simulator_gave_up_is_infinitely_wrong() -> None:
    assert over_starts(torch.tensor([[[1.0], [torch.nan], [torch.nan]]]), ALL).median.item() == math.inf


def test_errors_above_the_cap_are_cut_and_counted() -> None:
    found = over_starts(torch.tensor([[[1.0], [8.0], [torch.nan]]]), ALL, torch.tensor(5.0))
    assert found.mean.item() == pytest.approx(11 / 3)
    assert found.q90.item() == 5
    assert found.capped.item() == pytest.approx(2 / 3)


def test_growth_laws_are_found_and_told_apart() -> None:
    step = torch.arange(1, 21, dtype=torch.float64)
    growth = growth_law(torch.stack([1e-3 * step**1.5, 1e-3 * (0.2 * step).exp()]))
    assert growth.exponent[0].item() == pytest.approx(1.5)
    assert growth.rate[1].item() == pytest.approx(0.2)
    assert growth.power_residual[0] < 1e-9
    assert growth.exponential_residual[1] < 1e-9
    assert growth.power_is_better.tolist() == [True, False]
    assert growth.points.tolist() == [20, 20]


def test_growth_is_fitted_before_the_error_saturates() -> None:
    step = torch.arange(1, 31, dtype=torch.float64)
    growth = growth_law((0.05 * step).clamp(max=1.0))
    assert growth.points.item() == 14
    assert growth.exponent.item() == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf, -1.0])
def test_growth_of_what_cannot_be_fitted_is_nan(bad: float) -> None:
    growth = growth_law(torch.tensor([0.1, 0.2, 0.3, bad, 0.4, 0.5, 0.6, 0.65]))
    assert growth.points.item() == 3
    assert growth.exponent.isnan()
    assert growth.rate.isnan()


def test_leakage_looks_at_the_past_only() -> None:
    obs = torch.zeros(1, 2, 6, 3)
    later = obs.clone()
    earlier = obs.clone()
    later[:, :, 4:] = 9.0
    earlier[:, 0, 2] = 4.0
    scale = torch.full((3,), 2.0)
    assert leakage(obs, later, scale, 3).item() == 0
    assert leakage(obs, earlier, scale, 3).item() == pytest.approx(2 / 6)
    with pytest.raises(ValueError, match="step must be between 1 and 5, got 6"):
        leakage(obs, later, scale, 6)
