"""Whether actions are those of a policy: of the one that learns, and of those that made the data.

A deterministic policy has no density. It is compared as N(pi(s), SMOOTHING^2 I): actions that differ by less count as
equal. Numbers are means over rows that count, in nats unless it says otherwise. Which of them suits which policy:
deterministic -> `smoothed_kl`, Gaussian -> `excess_cross_entropy`, only samples -> `excess_energy`.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = [
    "RESOLUTION",
    "SMOOTHING",
    "action_distance",
    "excess_cross_entropy",
    "excess_energy",
    "knn_kl",
    "masked_mean_or_nan",
    "nearest",
    "smoothed_kl",
]

SMOOTHING = 0.2  # in action units of [-1, 1]; the target noise of TD3
RESOLUTION = 1e-3  # of Gaussian numbers: what float32 actions still tell of them
_CHUNK = 2**22  # distances held at once


def masked_mean_or_nan(values: Float[Tensor, "S B"], valid: Bool[Tensor, "S B"]) -> Float[Tensor, " S"]:
    """NaN where no row counts."""
    return values.double().where(valid, torch.nan).nanmean(1)


def action_distance(
    action: Float[Tensor, "S B A"], own: Float[Tensor, "S B A"], valid: Bool[Tensor, "S B"]
) -> Float[Tensor, " S"]:
    """Root mean square over dimensions of the difference to the policy's `own` actions, mean over rows."""
    return masked_mean_or_nan((action - own).square().mean(-1).sqrt(), valid)


def smoothed_kl(
    action: Float[Tensor, "S B A"], own: Float[Tensor, "S B A"], valid: Bool[Tensor, "S B"]
) -> Float[Tensor, " S"]:
    """KL(N(a, SMOOTHING^2 I) || N(pi(s), SMOOTHING^2 I)) = |a - pi(s)|^2 / (2 SMOOTHING^2)."""
    return masked_mean_or_nan((action - own).square().sum(-1) / (2 * SMOOTHING**2), valid)


def excess_cross_entropy(
    number: Float[Tensor, "S B A"],
    mean: Float[Tensor, "S B A"],
    std: Float[Tensor, "S B A"],
    limit: float,
    valid: Bool[Tensor, "S B"],
) -> Float[Tensor, " S"]:
    """E[-log pi(a | s)] - H(pi(. | s)) of a policy that makes actions of numbers u ~ N(mean, std^2), cut to +-limit.

    `number` is the u behind the generated action. At a limit, an action has the probability of all u beyond it, in
    between a density. Zero if the policy drew the actions, however far its mean lies outside; positive for actions it
    would hardly draw, down to -A/2 for a generator that always takes the mean.

    Deviations below RESOLUTION count as that in -log pi, whose mean over the policy's own draws stands for H.
    """
    number, mean, std = (x.double() for x in (number, mean, std))
    seen = std.clamp(min=RESOLUTION)
    norm = seen.log() + math.log(2 * math.pi) / 2
    below = -torch.special.log_ndtr((-limit - mean) / seen)
    above = -torch.special.log_ndtr((mean - limit) / seen)
    between = ((number - mean) / seen).square() / 2 + norm
    surprise = torch.where(number <= -limit, below, torch.where(number >= limit, above, between))

    low = (-limit - mean) / std
    high = (limit - mean) / std
    inside = torch.special.ndtr(high) - torch.special.ndtr(low)
    square = inside + low * _density(low) - high * _density(high)  # integral of z^2 from low to high
    cut = torch.special.ndtr(low) * below + torch.special.ndtr(-high) * above
    own = cut + inside * norm + (std / seen).square() * square / 2
    return masked_mean_or_nan((surprise - own).sum(-1), valid)


def excess_energy(
    action: Float[Tensor, "S B A"], samples: Float[Tensor, "S n B A"], valid: Bool[Tensor, "S B"]
) -> Float[Tensor, " S"]:
    """2 (E|a - x| - E|x - x'|), x and x' drawn by the policy in the same state; in units of actions.

    The energy distance between a and the policy, less what it would be, on average, if the policy had drawn a: zero
    then, about 2 |a - pi(s)| far away, and negative for a generator that always takes the middle.
    Source: Szekely & Rizzo 2013 (Journal of Statistical Planning and Inference 143, 1249-1272).
    """
    count = samples.shape[1]
    away = (action[:, None] - samples).norm(dim=-1).mean(1)
    apart = sum(
        ((samples - samples.roll(shift, 1)).norm(dim=-1).mean(1) for shift in range(1, count)), torch.zeros_like(away)
    )
    return masked_mean_or_nan(2 * (away - apart / (count - 1)), valid)


def nearest(rows: Float[Tensor, "S B F"], reference: Float[Tensor, "M F"], count: int = 1) -> Float[Tensor, "S B K"]:
    """Distances to the `count` nearest rows of the reference, ascending.

    Products, not differences, so off by up to 1e-7 of the rows' size; a few million at a time.
    """
    flat = rows.double().flatten(0, 1)
    known = reference.double()
    found = []
    rows_at_once = max(1, _CHUNK // max(1, len(known)))
    for first in range(0, len(flat), rows_at_once):
        apart = torch.cdist(flat[first : first + rows_at_once], known, compute_mode="use_mm_for_euclid_dist")
        found.append(apart.topk(count, -1, largest=False).values)
    return torch.cat(found).view(*rows.shape[:2], count)


def knn_kl(
    rows: Float[Tensor, "S B F"], reference: Float[Tensor, "M F"], valid: Bool[Tensor, "S B"], neighbour: int = 5
) -> Float[Tensor, " S"]:
    """KL(rows || reference) from distances to the k-th neighbour among its own kind, rho, and in the other set, nu.

    F E[log nu / rho] + log(M / (n - 1)) over n rows. Consistent, but biased downwards in many dimensions and blind
    to differences below the distance of neighbours: a cross-check beside a fitted density, to be read against the same
    number of rows that follow the reference. Rows that lie on each other are left out. NaN for too few rows.

    Source: Wang, Kulkarni & Verdu 2009 (IEEE Transactions on Information Theory 55, 2392-2405), equation 5.
    """
    estimates = []
    for own, on in zip(rows, valid, strict=True):
        kept = own[on][None]
        if kept.shape[1] <= neighbour + 1:
            estimates.append(torch.full((), torch.nan, dtype=torch.float64, device=rows.device))
            continue
        inside = nearest(kept, kept[0], neighbour + 1)[..., -1]  # the first neighbour is the row itself
        outside = nearest(kept, reference, neighbour)[..., -1]
        ratio = (outside / inside).log().where((inside > 0) & (outside > 0), torch.nan).nanmean()
        estimates.append(kept.shape[-1] * ratio + math.log(len(reference) / (kept.shape[1] - 1)))
    return torch.stack(estimates)


def _density(z: Tensor) -> Tensor:
    """Of a standard normal number."""
    return (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
