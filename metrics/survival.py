"""Rollouts that end, and rollouts that are cut off: only of the former is it known that nothing follows.

A rollout ends at a step that is `terminated`. Where its valid steps stop without one, its generator made no more of
them (single transitions) or they were not finite; what would have come is unknown. Rollouts without a valid step do not
count.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["censored_weights", "survival"]


def survival(valid: Bool[Tensor, "S B L"], terminated: Bool[Tensor, "S B L"]) -> Float[Tensor, "S L"]:
    """Share of rollouts that have not ended before each step, from those followed until then; the first is 1.

    NaN where no rollout tells. Where none is cut off it is the share of valid steps.

    Source: Kaplan & Meier 1958 (Journal of the American Statistical Association 53, 457-481).
    """
    left = valid.sum(1).double()
    passed = 1 - (valid & terminated).sum(1) / left.where(left > 0, torch.nan)
    before = torch.cat([torch.ones_like(passed[:, :1]).where(left[:, :1] > 0, torch.nan), passed[:, :-1]], 1)
    share = before.nan_to_num(1.0).cumprod(1)
    return share.where((before.isnan().cumsum(1) == 0) | (share == 0), torch.nan)


def censored_weights(valid: Bool[Tensor, "S B L"], terminated: Bool[Tensor, "S B L"]) -> Float[Tensor, "S B L"]:
    """Weights of the rollouts in a mean at each step; 0 for those that were cut off before, whose weight others take.

    One that ended keeps its weight of then. NaN at steps where too few are followed for the weights to add up to 1.
    Where none is cut off, all that count have the same weight. Source: Efron 1967 (fifth Berkeley
    symposium, volume 4, 831-853), redistribution to the right.
    """
    left = valid.sum(1, keepdim=True).double()
    each = survival(valid, terminated)[:, None] / left  # of a rollout that is still valid
    last = (valid.sum(-1, keepdim=True) - 1).clamp(min=0)
    kept = each.expand(valid.shape).gather(-1, last).expand(valid.shape)  # from the step at which it ended
    ended = (valid & terminated).any(-1, keepdim=True)
    weight = torch.where(valid, each, torch.where(ended, kept, 0.0))
    return weight.where((weight.sum(1, keepdim=True) - 1).abs() < 1e-9, torch.nan)
