import math

import torch

from metrics.compounding import over_starts, standardized_error


def test_error_is_the_root_mean_square_of_standardised_differences() -> None:
    truth = torch.zeros(1, 1, 3, 2)
    model = torch.tensor([[[[0.0, 0.0], [3.0, 8.0], [6.0, 0.0]]]])
    error = standardized_error(model, truth, torch.tensor([1.0, 2.0]))
    assert torch.allclose(error, torch.tensor([[[math.sqrt(25 / 2), math.sqrt(36 / 2)]]]))


def test_a_dimension_that_never_moves_is_left_out() -> None:
    truth, model = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 0.0], [1.0, 5.0]]]])
    assert standardized_error(model, truth, torch.tensor([1.0, 0.0])).item() == 1


def test_median_and_mean_over_the_rollouts_that_are_left() -> None:
    error = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [9.0, 7.0], [4.0, 4.0]]])
    valid = torch.tensor([[[True, False], [True, False], [True, True], [True, False]]])
    median, mean, alive = over_starts(error, valid)
    assert median.tolist() == [[3, 7]] and mean.tolist() == [[4, 7]] and alive.tolist() == [[1, 0.25]]


def test_nothing_left_is_nan_not_zero() -> None:
    median, mean, alive = over_starts(torch.ones(1, 2, 1), torch.zeros(1, 2, 1, dtype=torch.bool))
    assert median.isnan().all() and mean.isnan().all() and alive.item() == 0


def test_one_lost_rollout_does_not_move_the_median() -> None:
    error = torch.tensor([[[1.0], [2.0], [float("inf")]]])
    assert over_starts(error, torch.ones(1, 3, 1, dtype=torch.bool))[0].item() == 2


def test_a_rollout_that_the_simulator_gave_up_on_is_infinitely_wrong_not_missing() -> None:
    error = torch.tensor([[[1.0], [torch.nan], [torch.nan]]])
    assert over_starts(error, torch.ones(1, 3, 1, dtype=torch.bool))[0].item() == float("inf")
