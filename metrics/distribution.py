"""Distance between the states of two sets of rollouts, step by step: generated ones and those the policy lives.

Rows of the two sets with the same number may share their start state. States are compared one step at a time and among
the rollouts that have not ended: that fewer of them survive is another metric's business.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core.random import Streams

__all__ = ["distinguishable", "energy_distance", "halves", "sliced_wasserstein"]

_Gauss = tuple[Tensor, Tensor, Tensor]  # mean [S, 1, F], Cholesky root of the covariance, log of the rows
_CHUNK = 2**22  # distances held at once
_RIDGE = 1e-3  # added to the classifier's covariances, in units of the pooled variance


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

    Too high a floor for sets that share their starts: there, compare the policy with a second life of its own.
    """
    even = obs.shape[1] // 2 * 2
    return obs[:, 0:even:2], obs[:, 1:even:2], valid[:, 0:even:2], valid[:, 1:even:2]


def distinguishable(
    model: Float[Tensor, "S B L F"],
    real: Float[Tensor, "S B L F"],
    model_valid: Bool[Tensor, "S B L"],
    real_valid: Bool[Tensor, "S B L"],
    folds: int = 5,
) -> Float[Tensor, "S L"]:
    """A lower estimate of the total variation distance: 2 acc - 1 of a classifier on rollouts it was not fitted to.

    What a Gaussian for either set (quadratic discriminant) can tell apart, at every step alone. All rows that are not
    valid are one more state, the end, so a difference in survival counts: a row to leave out must be masked in both.
    Rows of one number are held out together, for with shared starts a partner in the training set would give the answer
    away. Not cut at 0: where nothing can be told it scatters around it. NaN where either set has fewer than two
    rollouts per fold, or one that counts is not finite.

    No classifier proves the distance small: a deterministic simulator and a model that is off by a hair are at distance
    1, and this says 0.
    """
    return torch.stack([_told(*step, folds) for step in _steps(model, real, model_valid, real_valid)], -1)


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


def _told(x: Tensor, y: Tensor, on_x: Tensor, on_y: Tensor, folds: int) -> Float[Tensor, " S"]:
    fold = torch.arange(x.shape[1], device=x.device) % folds
    told = (~on_x).double().mean(1) - (~on_y).double().mean(1)  # the rollouts that have ended, if more of x have
    told = told.clamp(min=0)
    for held in range(folds):
        mean, scale, gauss_x, gauss_y = _discriminant(x, y, on_x & (fold != held), on_y & (fold != held))
        for rows, on, sign in ((x, on_x, 1), (y, on_y, -1)):
            z = (rows - mean) * scale
            odds = _log_density(z, *gauss_x) - _log_density(z, *gauss_y)
            told = told + sign * (on & (fold == held) & (odds > 0)).double().mean(1)
    enough = torch.minimum(on_x.sum(1), on_y.sum(1)) >= 2 * folds
    return told.where(enough & (x + y).isfinite().all(-1).all(-1), torch.nan)


def _discriminant(x: Tensor, y: Tensor, on_x: Tensor, on_y: Tensor) -> tuple[Tensor, Tensor, _Gauss, _Gauss]:
    """Pooled mean and 1 / deviation [S, 1, F], and either set's Gaussian in those units."""
    rows = torch.cat([x, y], 1)
    weight = torch.cat([on_x, on_y], 1).double()[..., None]
    total = weight.sum(1, keepdim=True)
    mean = (weight * rows).sum(1, keepdim=True) / total
    std = ((weight * (rows - mean).square()).sum(1, keepdim=True) / total).sqrt()
    scale = (1 / std).where(std > 0, 0.0)
    return mean, scale, _gauss((x - mean) * scale, on_x), _gauss((y - mean) * scale, on_y)


def _gauss(z: Float[Tensor, "S B F"], on: Bool[Tensor, "S B"]) -> _Gauss:
    weight = on.double()[..., None]
    count = weight.sum(1, keepdim=True)
    mean = (weight * z).sum(1, keepdim=True) / count
    centred = weight * (z - mean)
    covariance = centred.mT @ centred / count + _RIDGE * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    return mean, torch.linalg.cholesky_ex(covariance).L, count[:, 0, 0].log()


def _log_density(z: Float[Tensor, "S B F"], mean: Tensor, root: Tensor, log_count: Tensor) -> Float[Tensor, "S B"]:
    """Of a row and its set, up to a constant."""
    white = torch.linalg.solve_triangular(root, (z - mean).mT, upper=False)
    volume = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -white.square().sum(-2) / 2 + (log_count - volume)[:, None]
