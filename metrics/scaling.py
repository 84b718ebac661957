"""How an error falls with the compute of training: a power law per fit, and where one method overtakes another."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Lead", "exponents", "lead"]


@dataclass(frozen=True)
class Lead:
    """Which of two curves is lower at the largest compute that both have, and from where on; in FLOP."""

    first: float  # the range that both curves cover
    last: float
    below: bool  # whether the first curve is, at `last`
    since: float  # where it came to be so: the last point at which the curves meet; NaN: they do not meet
    share: float  # of the resamples, those of which `below` and whether curves meet are the same; NaN: below two fits
    low: float  # 95 % of the resamples that agree meet between these; NaN where curves do not meet
    high: float


def exponents(flop: Float[Tensor, "*#B budgets"], error: Float[Tensor, "*B budgets"]) -> Float[Tensor, "*B"]:
    """b of error = a FLOP^-b, by least squares in logarithms: half the error takes 2^(1/b) times the compute.

    NaN below two budgets.
    """
    x = flop.double().log()
    dx = x - x.mean(-1, keepdim=True)
    return -(dx * error.double().log()).sum(-1) / dx.square().sum(-1)


def lead(
    flop: Float[Tensor, " K"],
    error: Float[Tensor, "runs K"],
    other_flop: Float[Tensor, " J"],
    other_error: Float[Tensor, "others J"],
    *,
    reps: int,
    generator: torch.Generator,
) -> Lead | None:
    """Two curves of geometric means over fits, straight between their budgets in logarithms; None: no common range.

    FLOP ascend, errors are positive. Resampled are whole fits, of either method by itself, with all their budgets.
    """
    x, y = flop.double().log(), other_flop.double().log()
    low, high = max(x[0], y[0]), min(x[-1], y[-1])
    if not low < high:
        return None
    knots = torch.cat([x, y]).clamp(low, high).sort().values
    ours, theirs = _along(x, error.double().log(), knots), _along(y, other_error.double().log(), knots)
    below, since = _last_meeting(knots, ours.mean(0) - theirs.mean(0))
    drawn = _resampled(ours, reps, generator) - _resampled(theirs, reps, generator)
    again, where = _last_meeting(knots, drawn)
    alike = (again == below) & (where.isnan() == since.isnan())
    known = len(error) > 1 and len(other_error) > 1
    met = where[alike & ~where.isnan()]
    ends = met.quantile(torch.tensor([0.025, 0.975]).to(met)).exp().tolist() if known and len(met) else [torch.nan] * 2
    return Lead(
        low.exp().item(),
        high.exp().item(),
        bool(below),
        since.exp().item(),
        alike.double().mean().item() if known else torch.nan,
        *ends,
    )


def _along(x: Float[Tensor, " K"], y: Float[Tensor, "runs K"], at: Float[Tensor, " N"]) -> Float[Tensor, "runs N"]:
    """Linear between neighbours; `at` lies within x."""
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    return torch.lerp(y[:, right - 1], y[:, right], (at - x[right - 1]) / (x[right] - x[right - 1]))


def _resampled(values: Float[Tensor, "runs N"], reps: int, generator: torch.Generator) -> Float[Tensor, "reps N"]:
    """Means over as many runs, drawn with replacement."""
    return values[torch.randint(len(values), (reps, len(values)), generator=generator)].mean(1)


def _last_meeting(
    x: Float[Tensor, " N"], difference: Float[Tensor, "*R N"]
) -> tuple[Bool[Tensor, "*R"], Float[Tensor, "*R"]]:
    """Whether a piecewise linear difference ends below 0, and where its sign last changed; NaN where it never did."""
    sign = difference < 0
    changed = sign[..., 1:] != sign[..., :-1]
    before = difference[..., :-1]
    met = x[:-1] + x.diff() * before / (before - difference[..., 1:])
    last = torch.where(changed, met, -torch.inf).amax(-1)
    return sign[..., -1], last.where(changed.any(-1), torch.nan)
