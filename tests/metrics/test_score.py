import torch

from metrics.score import episode_return, normalized_score


def test_reference_returns_are_0_and_100() -> None:
    assert normalized_score(torch.tensor([-20.0, 1580.0, 3180.0]), (-20.0, 3180.0)).tolist() == [0, 50, 100]


def test_return_counts_valid_steps_only() -> None:
    reward = torch.ones(1, 2, 4)
    valid = torch.tensor([[[True] * 4, [True, True, False, False]]])
    assert episode_return(reward, valid).tolist() == [[4, 2]]


def test_invalid_steps_may_hold_anything() -> None:
    reward = torch.tensor([[[1.0, torch.nan]]])
    assert episode_return(reward, torch.tensor([[[True, False]]])).item() == 1
