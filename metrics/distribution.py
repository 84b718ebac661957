"""Distance between the states of two sets of rollouts, step by step: generated and on-policy ones.

Rows of the two sets with the same number may share their start state. States are compared one step at a time and among
the rollouts that have not ended; how many survive is measured elsewhere.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core.random import Streams

__all__ = ["energy_distance", "halves", "sliced_wasserstein"]

_CHUNK = 2**22  # distances held at once


def energy_distance(
    model: Float[Tensor, "S B L O"],
    real: Float[Tensor, "S B L O"],
    model_valid: Bool[Tensor, "S B L"],
    real_valid: Bool[Tensor, "S B L"],
    scale: Float[Tensor, " O"],
) -> Float[Tensor, "S L"]:
    """2 E|x - y| - E|x - x'| - E|y - y'|, zero only for equal distributions; |.| is the error of `metrics.compounding`.

    So it is in deviations of the data: about delta^2 for a small shift delta, about 2 delta for a large one. The
    estimate is unbiased, hence as often below zero as above where the distributions are equal, and also if rows share
    their starts: pairs of one row are left out everywhere, so a set is at 0 from itself. Memory: a few million
    distances at a time. NaN where fewer than two rollouts of either set are left, or one that counts is not finite.

    Source: Szekely & Rizzo 2013 (Journal of Statistical Planning and Inference 143, 1249-1272), equation 2.
    """
    x = _standardized(model, scale)
    y = _standardized(real, scale)
    x = x / x.shape[-1] ** 0.5
    y = y / y.shape[-1] ** 0.5
    curve = []
    for a, b, on_a, on_b in _steps(x, y, model_valid, real_valid):
        cross = _apart(a, b, on_a, on_b)
        within = _apart(a, a, on_a, on_a) + _apart(b, b, on_b, on_b)
        curve.append(2 * cross - within)
    return torch.stack(curve, -1)


def sliced_wasserstein(
    model: Float[Tensor, "S B L O"],
    real: Float[Tensor, "S B L O"],
    model_valid: Bool[Tensor, "S B L"],
    real_valid: Bool[Tensor, "S B L"],
    scale: Float[Tensor, " O"],
    rng: Streams,
    rotations: int = 8,
) -> Float[Tensor, "S L"]:
    """Root mean square, over directions, of the 2-Wasserstein distance between the projected sets; exact for each.

    In deviations of the data: a shift by delta gives the root mean square of delta's entries, as an error does. The
    directions are the axes of random rotations, the same at every step. Finite sets are never at 0 from each other
    unless they are equal, so draw the same distance between two sets of real rollouts below it. NaN as above.

    Source: Bonneel et al. 2015 (Journal of Mathematical Imaging and Vision 51, 22-45), section 3; orthogonal directions
    as in Rowland et al. 2019 (AISTATS, "Orthogonal estimation of Wasserstein distances").
    """
    x = _standardized(model, scale)
    y = _standardized(real, scale)
    dims = x.shape[-1]
    axes = torch.linalg.qr(rng.normal(rotations, dims, dims).double()).Q.flatten(1, 2).mT.to(x.device)
    steps = _steps(x, y, model_valid, real_valid)
    return torch.stack([_squared(a @ axes, b @ axes, on_a, on_b).sqrt() for a, b, on_a, on_b in steps], -1)


def halves(
    obs: Float[Tensor, "S B L O"], valid: Bool[Tensor, "S B L"]
) -> tuple[Tensor, Tensor, Bool[Tensor, "S b L"], Bool[Tensor, "S b L"]]:
    """Two sets out of one, every other rollout: what a distance says of equal distributions and different starts.

    Too high a floor for sets that share their starts: there, compare the policy with other rollouts of its own.
    """
    even = obs.shape[1] // 2 * 2
    return obs[:, 0:even:2], obs[:, 1:even:2], valid[:, 0:even:2], valid[:, 1:even:2]


def _standardized(obs: Float[Tensor, "S B L O"], scale: Float[Tensor, " O"]) -> Float[Tensor, "S B L o"]:
    """In deviations, without the dimensions that never move."""
    moving = scale > 0
    return obs.double()[..., moving] / scale.double()[moving]


def _steps(x: Tensor, y: Tensor, on_x: Tensor, on_y: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """One step after the other: x [S, B, O], y, and the masks [S, B]; what does not count is 0."""
    for step in range(x.shape[2]):
        masks = on_x[:, :, step], on_y[:, :, step]
        a, b = (v[:, :, step].double().where(on[..., None], 0.0) for v, on in zip((x, y), masks, strict=True))
        yield a, b, *masks


def _apart(x: Float[Tensor, "S B O"], y: Float[Tensor, "S B O"], on_x: Tensor, on_y: Tensor) -> Float[Tensor, " S"]:
    """Mean distance between rows of different number; products, not differences, so off by up to 1e-8 |x|."""
    weight_x = on_x.double()
    weight_y = on_y.double()
    total = x.new_zeros(len(x))
    rows = max(1, _CHUNK // max(1, y.shape[0] * y.shape[1]))
    for first in range(0, x.shape[1], rows):
        part = slice(first, first + rows)
        apart = torch.cdist(x[:, part], y, compute_mode="use_mm_for_euclid_dist")
        same = apart.diagonal(first, 1, 2)
        total = total + (weight_x[:, part, None] * apart * weight_y[:, None]).sum((1, 2))
        total = total - (weight_x[:, part] * same * weight_y[:, part]).sum(1)
    return total / (weight_x.sum(1) * weight_y.sum(1) - (weight_x * weight_y).sum(1))


def _squared(
    x: Float[Tensor, "S B P"], y: Float[Tensor, "S C P"], on_x: Bool[Tensor, "S B"], on_y: Bool[Tensor, "S C"]
) -> Float[Tensor, " S"]:
    """Mean over P of the squared 2-Wasserstein distance: between the quantile functions, which are stairs."""
    (stairs_x, ends_x), (stairs_y, ends_y) = (_stairs(v, on) for v, on in ((x, on_x), (y, on_y)))
    ends = torch.cat([ends_x, ends_y], -1).sort(-1).values
    width = ends.diff(dim=-1, prepend=torch.zeros_like(ends[:, :1]))
    middle = ends - width / 2
    at = [
        (middle * on.sum(1, keepdim=True)).long().minimum(on.sum(1, keepdim=True) - 1).clamp(min=0)
        for on in (on_x, on_y)
    ]
    rows_x, rows_y = (index[..., None].expand(-1, -1, x.shape[-1]) for index in at)
    squared = (stairs_x.gather(1, rows_x) - stairs_y.gather(1, rows_y)).square().mean(-1)
    enough = torch.minimum(on_x.sum(1), on_y.sum(1)) >= 2
    return (width * squared).sum(-1).where(enough, torch.nan)


def _stairs(x: Float[Tensor, "S B P"], on: Bool[Tensor, "S B"]) -> tuple[Tensor, Tensor]:
    """Ascending values of every column, those that count first, and the probabilities at which their stairs end."""
    count = on.sum(1, keepdim=True)
    ends = torch.arange(1, x.shape[1] + 1, dtype=x.dtype, device=x.device).minimum(count) / count.clamp(min=1)
    return x.where(on[..., None], torch.inf).sort(1).values, ends
