"""Compounding error: how far generated states are from the true simulator's, step by step along a rollout."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Curves", "Growth", "data_diameter", "growth_law", "leakage", "over_starts", "standardized_error"]

SATURATED = 0.5 * 2**0.5  # half the distance of two unrelated states of the data, in deviations


@dataclass(frozen=True)
class Curves:
    """An error over the starts, at every step; NaN where no rollout is left."""

    median: Float[Tensor, "S L"]
    mean: Float[Tensor, "S L"]
    q10: Float[Tensor, "S L"]
    q90: Float[Tensor, "S L"]
    capped: Float[Tensor, "S L"]  # share of the rollouts whose error was cut to the cap


@dataclass(frozen=True)
class Growth:
    """Two laws for e(h), fitted to its logarithm by least squares before it saturates. NaN: fewer than four points."""

    exponent: Float[Tensor, "*S"]  # b of e = a h^b: 1 is an error that adds up, below 1 one that flattens
    rate: Float[Tensor, "*S"]  # lambda of e = a exp(lambda h), per step
    power_residual: Float[Tensor, "*S"]  # root mean square of what log e leaves unexplained
    exponential_residual: Float[Tensor, "*S"]
    points: Float[Tensor, "*S"]  # horizons that were used

    @property
    def power_is_better(self) -> Bool[Tensor, "*S"]:
        """Both laws have two parameters, so the smaller residual decides."""
        return self.power_residual <= self.exponential_residual


def standardized_error(
    model: Float[Tensor, "*N O"], truth: Float[Tensor, "*N O"], scale: Float[Tensor, " O"]
) -> Float[Tensor, "*N"]:
    """Root mean square over the dimensions of s, each in units of its deviation in the data.

    A dimension that never moves in the data (scale 0) is left out.
    """
    moving = scale > 0
    return ((model - truth)[..., moving] / scale[moving]).square().mean(-1).sqrt()


def data_diameter(obs: Float[Tensor, "N O"], scale: Float[Tensor, " O"]) -> Float[Tensor, ""]:
    """The error between opposite corners of the box around the data: no error that means anything is larger."""
    moving = scale > 0
    return ((obs.amax(0) - obs.amin(0))[moving] / scale[moving]).square().mean().sqrt()


def over_starts(
    error: Float[Tensor, "S B L"], valid: Bool[Tensor, "S B L"], cap: Float[Tensor, ""] | None = None
) -> Curves:
    """Quantiles and mean over the starts of what is valid, with errors above `cap` cut to it.

    Where the simulator gave up on a state or an action, its answer is NaN and the error counts as infinite.
    """
    known = error.double().where(~error.isnan(), torch.inf)
    over = torch.zeros_like(valid) if cap is None else valid & (known > cap)
    masked = (known if cap is None else known.clamp(max=cap)).where(valid, torch.nan)
    count, ordered = valid.sum(1), masked.sort(1).values  # what does not count is NaN and sorts last
    q10, median, q90 = (_quantile(ordered, count, share) for share in (0.1, 0.5, 0.9))
    capped = over.double().sum(1) / count.double().where(count > 0, torch.nan)
    return Curves(median, masked.nanmean(dim=1), q10, q90, capped)


def growth_law(error: Float[Tensor, "*S L"], saturated: float = SATURATED) -> Growth:
    """How e(h), h = 1..L, grows: by a power of h or exponentially.

    Used are the steps before the error first reaches `saturated` (in deviations of the data) or stops being positive
    and finite: behind that it no longer grows as the model's error does.
    """
    usable = (error > 0) & error.isfinite() & (error < saturated)
    used = (~usable).long().cumsum(-1) == 0
    step = torch.arange(1, error.shape[-1] + 1, dtype=torch.float64, device=error.device).expand(error.shape)
    log_error = error.double().log().where(used, 0.0)
    exponent, power = _line(step.log(), log_error, used)
    rate, exponential = _line(step, log_error, used)
    return Growth(exponent, rate, power, exponential, used.double().sum(-1))


def leakage(
    obs: Float[Tensor, "S B T O"], other: Float[Tensor, "S B T O"], scale: Float[Tensor, " O"], step: int
) -> Float[Tensor, " S"]:
    """How far states up to `step` moved when only the actions from `step` on were replaced; mean over steps and starts.

    In deviations of the data; 0 for a causal model. States of a model that looks ahead know what comes: under logged
    actions they have seen the answer.

    Raises:
        ValueError: there is no state between the start and `step`.
    """
    if not 0 < step < obs.shape[2]:
        raise ValueError(f"step must be between 1 and {obs.shape[2] - 1}, got {step}")
    return standardized_error(obs[:, :, 1 : step + 1], other[:, :, 1 : step + 1], scale).double().mean((1, 2))


def _quantile(ordered: Float[Tensor, "S B L"], count: Tensor, share: float) -> Float[Tensor, "S L"]:
    """Linear between the two nearest of the first `count`; `torch.nanquantile` makes NaN of two infinities."""
    at = (count - 1).clamp(min=0) * share
    low = at.floor().long()
    high = at.ceil().long()
    a = ordered.gather(1, low[:, None])[:, 0]
    b = ordered.gather(1, high[:, None])[:, 0]
    return torch.where(a == b, a, a + (b - a) * (at - low))


def _line(x: Tensor, y: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """(slope, root mean square residual) of the least-squares line through the used points."""
    weight = used.double()
    count = weight.sum(-1, keepdim=True)
    dx, dy = (v - (weight * v).sum(-1, keepdim=True) / count for v in (x, y))
    slope = (weight * dx * dy).sum(-1) / (weight * dx.square()).sum(-1)
    residual = ((weight * (dy - slope[..., None] * dx).square()).sum(-1) / count[..., 0]).sqrt()
    enough = count[..., 0] >= 4
    return slope.where(enough, torch.nan), residual.where(enough, torch.nan)
