"""Shares and weights of rollouts that end, beside rollouts that are cut off."""

import torch

from core.random import Streams
from metrics.survival import censored_weights, survival


def rollouts(rows: int, steps: int, end: float, cut: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(valid, terminated, valid had none been cut off) of rollouts that end or are cut off with these chances."""
    rng = Streams((0, 1))
    ended = rng.uniform(rows, steps) < end
    whole = ended.long().cumsum(-1) - ended.long() == 0
    valid = whole & ((rng.uniform(rows, steps) < cut).long().cumsum(-1) == 0)
    valid[..., 0] = True
    return valid, ended & valid, whole


def test_without_cuts_it_is_the_share_of_valid_steps() -> None:
    valid, terminated, _ = rollouts(200, 12, 0.2, 0.0)
    valid[:, :50] = False  # these do not count
    share = valid[:, 50:].double().mean(1)
    assert torch.allclose(survival(valid, terminated), share)
    weight = censored_weights(valid, terminated)
    assert torch.allclose(weight[:, 50:], torch.full((), 1 / 150, dtype=torch.float64))
    assert (weight[:, :50] == 0).all()


def test_cuts_do_not_count_as_ends() -> None:
    """Within sampling error, the share that would have been there without them."""
    valid, terminated, whole = rollouts(20_000, 8, 0.1, 0.2)
    assert (valid.double().mean(1)[:, -1] < 0.15).all()
    assert torch.allclose(survival(valid, terminated), whole.double().mean(1), atol=0.02)


def test_weights_are_those_of_the_survivors_by_hand() -> None:
    """Rollout 0 ends at step 1, 1 is cut off behind it, 2 ends at step 2, 3 goes on."""
    valid = torch.tensor([[[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]], dtype=torch.bool)
    terminated = torch.tensor([[[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]], dtype=torch.bool)
    assert torch.allclose(survival(valid, terminated), torch.tensor([[1, 3 / 4, 3 / 8]]).double())
    expected = torch.tensor([[[1, 1, 1], [1, 0, 0], [1, 1.5, 1.5], [1, 1.5, 1.5]]]).double() / 4
    assert torch.allclose(censored_weights(valid, terminated), expected)


def test_where_nobody_is_followed_nothing_is_known() -> None:
    valid = torch.tensor([[[1, 0, 0], [1, 0, 0]], [[1, 1, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]], dtype=torch.bool)
    ended = torch.tensor([[[1, 0, 0], [0, 0, 0]], [[0, 1, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]], dtype=torch.bool)
    shares = survival(valid, ended)
    assert shares[0].isnan().tolist() == [False, False, True]
    assert shares[1].tolist() == [1, 0.5, 0]  # all have ended
    assert shares[2].isnan().all()
    known = censored_weights(valid, ended).isfinite()
    assert known[0].tolist() == [[True, False, False]] * 2
    assert known[1].all()
    assert not known[2].any()
