"""Bounds on the return gap, from one-step errors that add up and from the distance of the states themselves.

J = sum over t of gamma^t E r(s_t, a_t), the first L steps of the same policy from the same start in the true process
(states s_t ~ rho_t) and in the generated one (rho'_t); |r| <= r_max, t = 0 is exact. With the 1-Wasserstein distance W
and rewards whose slope is at most `steepness`, the gap is at most sum gamma^t min(steepness W(rho_t, rho'_t), 2 r_max).
Then there are two ways on:

- autoregressive: W(rho_{t+1}, rho'_{t+1}) <= `amplification` W(rho_t, rho'_t) + eps_m, with eps_m the error of a step;
- non-autoregressive: W(rho_t, rho'_t) <= eps_d, if a model makes states of every t without going through the others.

(In total variation the same holds without a slope, but there any two deterministic processes that differ are at 1.)

Rewards are the true r(s, a) on both sides: a gap to compare with has no error of a reward model in it. A constant may
be taken off r, so r_max is half the distance between the largest and the smallest reward (0 is one of them if episodes
can end: after the end nothing is paid).
"""

from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Bounds", "accumulated", "steepness", "wasserstein_bounds"]


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


def wasserstein_bounds(
    gap: Float[Tensor, "S L"],
    eps_m: Float[Tensor, "S L"],
    eps_d: Float[Tensor, "S L"],
    amplification: Float[Tensor, " S"],
    steepness: Float[Tensor, " S"],
    gamma: float,
    r_max: float,
) -> Bounds:
    """Both bounds: no step counts for more than `steepness` times its distance, nor for more than 2 r_max.

    Args:
        gap: measured, signed or not.
        eps_m: error of one step, into state h, *from generated states*: `amplification` is then the simulator's. With
            errors from true states it would have to be the model's.
        eps_d: distance between the states at h. That of any coupling is one from above, as the mean closed-loop error.
        amplification: Lambda, by how much a step of the policy in the simulator pulls two states apart.
        steepness: of the reward of a policy step, per deviation.
        gamma: the discount of `gap`.
        r_max: see the module.

    Rollouts that ended are left out: distances are those of the rollouts that are left.

    Raises:
        ValueError: gamma is out of its range.
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must be above 0 and at most 1, got {gamma}")
    worst = torch.full_like(gap, 2 * r_max, dtype=torch.float64)
    weight = gamma ** torch.arange(gap.shape[1], dtype=torch.float64, device=gap.device)
    slope = steepness[:, None]

    def total(state: Tensor) -> Float[Tensor, "S L"]:
        """Sums over what states 1..L can contribute; the return of h steps ends with state h - 1."""
        earlier = state.double().minimum(worst).roll(1, -1)
        return torch.cat([torch.zeros_like(worst[:, :1]), (weight * earlier)[:, 1:]], -1).cumsum(-1)

    autoregressive = total(slope * accumulated(eps_m, amplification).clamp(min=0))
    non_autoregressive = total(slope * eps_d.clamp(min=0))
    return Bounds(gap.abs().double(), autoregressive, non_autoregressive, total(worst))


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
