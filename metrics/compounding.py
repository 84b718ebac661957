"""Compounding error: how far generated states are from the true simulator's, step by step along a rollout."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["over_starts", "standardized_error"]


def standardized_error(
    model: Float[Tensor, "*S B T O"], truth: Float[Tensor, "*S B T O"], scale: Float[Tensor, " O"]
) -> Float[Tensor, "*S B T-1"]:
    """e(h) of every rollout: root mean square over the dimensions of s, each in units of its deviation in the data.

    A dimension that never moves in the data (scale 0) is left out. The common start, h = 0, is dropped.
    """
    moving = scale > 0
    return ((model - truth)[..., 1:, moving] / scale[moving]).square().mean(-1).sqrt()


def over_starts(
    error: Float[Tensor, "S B L"], valid: Bool[Tensor, "S B L"]
) -> tuple[Float[Tensor, "S L"], Float[Tensor, "S L"], Float[Tensor, "S L"]]:
    """(median, mean, share that counts) over the starts; NaN where no rollout is left.

    Where the simulator gave up on a state or an action, its answer is NaN and the error counts as infinite.
    """
    masked = error.double().where(~error.isnan(), torch.inf).where(valid, torch.nan)
    return _median(masked, valid), masked.nanmean(dim=1), valid.double().mean(1)


def _median(error: Float[Tensor, "S B L"], valid: Bool[Tensor, "S B L"]) -> Float[Tensor, "S L"]:
    """`torch.nanquantile` interpolates, and infinity minus infinity is not a number."""
    ordered, count = error.sort(1).values, valid.sum(1, keepdim=True)  # what does not count is NaN and sorts last
    low, high = (count - 1).clamp(min=0) // 2, (count // 2).clamp(max=error.shape[1] - 1)
    return ((ordered.gather(1, low) + ordered.gather(1, high)) / 2)[:, 0]
