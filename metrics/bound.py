"""Bounds on the return gap, from one-step errors that add up and from the distance of the states themselves.

J = sum over t of gamma^t E r(s_t, a_t), the first L steps of the same policy from the same start in the true process
(states s_t ~ rho_t) and in the generated one (rho'_t); |r| <= r_max. As |E f - E' f| <= 2 max|f| TV, the gap is at most
2 r_max sum gamma^t TV(rho_t, rho'_t), where t = 0 is exact. Then there are two ways on:

- autoregressive: TV(rho_t, rho'_t) <= t eps_m, with eps_m the largest E TV(P(.|s, a), P'(.|s, a)) of a step;
- non-autoregressive: TV(rho_t, rho'_t) <= eps_d, if a model makes states of every t without going through the others.

TV is 1 between any two deterministic processes that differ, so measured bounds come in a second form: with the
1-Wasserstein distance W, rewards whose slope is at most `steepness`, and W(rho_{t+1}, rho'_{t+1}) <= `amplification`
W(rho_t, rho'_t) + eps_m.

Rewards are the true r(s, a) on both sides: a gap to compare with has no error of a reward model in it. A constant may
be taken off r, so r_max is half the distance between the largest and the smallest reward (0 is one of them if episodes
can end: whoever is dead is paid nothing).
"""

from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = [
    "Bounds",
    "accumulated",
    "autoregressive_bound",
    "break_even",
    "non_autoregressive_bound",
    "steepness",
    "tv_bounds",
    "wasserstein_bounds",
]


@dataclass(frozen=True)
class Bounds:
    """A measured gap |J - J'| and what is said of it, for the first h = 1..L steps, in units of reward.

    Three rows of a proof with measured numbers in it. A bound that meets `trivial` says nothing; one that lies below
    `gap` has an eps that was measured too small.
    """

    gap: Float[Tensor, "S L"]
    autoregressive: Float[Tensor, "S L"]
    non_autoregressive: Float[Tensor, "S L"]
    trivial: Float[Tensor, "S L"]  # all steps but the first as wrong as can be: 2 r_max sum of gamma^t


def autoregressive_bound(eps_m: float, gamma: float, horizon: int | None, r_max: float) -> float:
    """2 r_max eps_m sum of t gamma^t over t < horizon; without a horizon (None), 2 r_max eps_m gamma / (1 - gamma)^2.

    Raises:
        ValueError: a number is out of its range.
    """
    return 2 * r_max * _fraction("eps_m", eps_m) * _sums(gamma, horizon)[1]


def non_autoregressive_bound(eps_d: float, gamma: float, horizon: int | None, r_max: float) -> float:
    """2 r_max eps_d sum of gamma^t over 1 <= t < horizon; without one (None), 2 r_max eps_d gamma / (1 - gamma).

    Raises:
        ValueError: a number is out of its range.
    """
    return 2 * r_max * _fraction("eps_d", eps_d) * _sums(gamma, horizon)[0]


def break_even(gamma: float, horizon: int | None) -> float:
    """The eps_d / eps_m at which both bounds are equal; below it, the non-autoregressive one is smaller.

    Between horizon / 2 (short) and 1 / (1 - gamma). If eps_d grows with the horizon as fast, nothing is gained.

    Raises:
        ValueError: a number is out of its range, or the horizon is 1: both bounds are then 0.
    """
    if horizon == 1:
        raise ValueError("horizon must be at least 2 for the bounds to differ from 0, got 1")
    flat, growing = _sums(gamma, horizon)
    return growing / flat


def tv_bounds(
    gap: Float[Tensor, "S L"], eps_m: Float[Tensor, "S L"], eps_d: Float[Tensor, "S L"], gamma: float, r_max: float
) -> Bounds:
    """With what was measured of total variation: of one step, into state h, and between the states at h = 1..L.

    Errors are taken step by step (their sum in place of t times the largest, which is never smaller), and a distance
    is cut to 0..1. With estimates from below, such as those of `distinguishable`, these are not bounds but what the
    bounds would be if nothing had escaped the classifier.
    """
    paths = accumulated(eps_m, torch.ones_like(eps_m[:, 0]))
    return _bounds(gap, 2 * r_max * paths.clamp(0, 1), 2 * r_max * eps_d.clamp(0, 1), gamma, r_max)


def wasserstein_bounds(
    gap: Float[Tensor, "S L"],
    eps_m: Float[Tensor, "S L"],
    eps_d: Float[Tensor, "S L"],
    amplification: Float[Tensor, " S"],
    steepness: Float[Tensor, " S"],
    gamma: float,
    r_max: float,
) -> Bounds:
    """The same with distances in deviations of the data: no step counts for more than `steepness` times its distance.

    Args:
        gap: measured, signed or not.
        eps_m: error of one step, into state h, *from generated states*: `amplification` is then the simulator's. With
            errors from true states it would have to be the model's.
        eps_d: distance between the states at h. That of any coupling is one from above, as the mean closed-loop error.
        amplification: Lambda, by how much a step of the policy in the simulator pulls two states apart.
        steepness: of the reward of a policy step, per deviation.
        gamma: the discount of `gap`.
        r_max: see the module.

    Whoever ended is at no distance: the two speak of the rollouts that are left.
    """
    paths = accumulated(eps_m, amplification)
    slope = steepness[:, None]
    return _bounds(gap, slope * paths.clamp(min=0), slope * eps_d.clamp(min=0), gamma, r_max)


def accumulated(eps_m: Float[Tensor, "S L"], amplification: Float[Tensor, " S"]) -> Float[Tensor, "S L"]:
    """W_h = Lambda W_{h-1} + eps_h from W_0 = 0: eps (Lambda^h - 1) / (Lambda - 1) if eps is the same at all steps."""
    reached = torch.zeros_like(eps_m[:, 0], dtype=torch.float64)
    path = list[Tensor]()
    for eps in eps_m.double().unbind(-1):
        reached = amplification.double() * reached + eps
        path.append(reached)
    return torch.stack(path, -1)


def steepness(
    difference: Float[Tensor, "S B L"], distance: Float[Tensor, "S B L"], valid: Bool[Tensor, "S B L"]
) -> Float[Tensor, " S"]:
    """The largest |difference of rewards| / (distance of states) among pairs that count: a constant from below.

    NaN without a pair at a distance.
    """
    counts = valid & (distance > 0)
    ratio = (difference.double().abs() / distance.double()).where(counts, -inf).flatten(1).amax(1)
    return ratio.where(counts.flatten(1).any(1), torch.nan)


def _bounds(gap: Tensor, autoregressive: Tensor, non_autoregressive: Tensor, gamma: float, r_max: float) -> Bounds:
    """Sums over time of what states 1..L can contribute; the return of h steps ends with state h - 1."""
    _check("gamma", gamma, 0 < gamma <= 1, "above 0 and at most 1")
    worst = torch.full_like(gap, 2 * r_max, dtype=torch.float64)
    weight = gamma ** torch.arange(gap.shape[1], dtype=torch.float64, device=gap.device)

    def total(state: Tensor) -> Float[Tensor, "S L"]:
        earlier = state.double().minimum(worst).roll(1, -1)
        return torch.cat([torch.zeros_like(worst[:, :1]), (weight * earlier)[:, 1:]], -1).cumsum(-1)

    return Bounds(gap.abs().double(), total(autoregressive), total(non_autoregressive), total(worst))


def _sums(gamma: float, horizon: int | None) -> tuple[float, float]:
    """Over 1 <= t < horizon: (sum of gamma^t, sum of t gamma^t)."""
    if horizon is None:
        _check("gamma", gamma, 0 < gamma < 1, "strictly between 0 and 1 without a horizon")
        return gamma / (1 - gamma), gamma / (1 - gamma) ** 2
    _check("gamma", gamma, 0 < gamma <= 1, "above 0 and at most 1")
    _check("horizon", horizon, horizon >= 1, "at least 1 step, or None")
    weights = [gamma**t for t in range(1, horizon)]
    return float(sum(weights)), float(sum(t * weight for t, weight in enumerate(weights, 1)))


def _fraction(name: str, value: float) -> float:
    _check(name, value, 0 <= value <= 1, "between 0 and 1, a total variation distance")
    return value


def _check(name: str, value: float | int | None, inside: bool, rule: str) -> None:
    if not inside:
        raise ValueError(f"{name} must be {rule}, got {value}")
