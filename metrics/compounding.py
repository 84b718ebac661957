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
    """(median, mean, share that counts) over the starts; NaN where no rollout is left."""
    masked = error.double().where(valid, torch.nan)
    return masked.nanquantile(0.5, dim=1), masked.nanmean(dim=1), valid.double().mean(1)
