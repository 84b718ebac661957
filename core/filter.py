"""Keep the best rollouts: by rank, by a softmax over scores, or as DyDiff's released code does. For any generator.

Source: DyDiff's reward filter (hardmax, softmax; eta is the share that is kept).
"""

from dataclasses import replace
from itertools import pairwise
from math import floor
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveFloat
from torch import Tensor

from core.config import LeftOpenUnit, configuration
from core.data import Trajectories
from core.random import Streams

__all__ = ["Filter", "Mode", "keep_best", "keep_rate", "rollout_score"]

Mode = Literal["none", "hardmax", "softmax", "softmax_floor"]


@configuration
class Filter:
    """Which rollouts of a call of `generate` count; a field of every generator that filters."""

    mode: Mode = "none"
    share: LeftOpenUnit = 0.6  # eta
    temperature: PositiveFloat = 0.05  # tau_f, in deviations of the score
    discount: LeftOpenUnit = 0.99
    masked: bool = True  # score the steps before the end only; off: the model's rewards behind it too, as DyDiff's code

    def apply(self, rollouts: Trajectories, rng: Streams) -> Trajectories:
        """The same rollouts; no step of the others is valid. `info` then has the share `kept` of each tenth."""
        if self.mode == "none":
            return rollouts
        score = rollout_score(rollouts.reward, rollouts.valid, self.discount, masked=self.masked)
        kept = keep_best(score, self.share, self.mode, rng, temperature=self.temperature)
        info = rollouts.info | {"kept": keep_rate(score, kept)}
        return replace(rollouts, valid=rollouts.valid & kept[..., None], info=info)


def rollout_score(
    reward: Float[Tensor, "S B L"], valid: Bool[Tensor, "S B L"], discount: float = 0.99, *, masked: bool = True
) -> Float[Tensor, "S B"]:
    """Discounted sum of the rewards of valid steps. DyDiff's code has discount 1 and ignores termination.

    -inf, the worst of scores, without a valid step (nothing could be learned from it) or where the sum is not finite.
    """
    weight = discount ** torch.arange(reward.shape[-1], dtype=reward.dtype, device=reward.device)
    counted = reward.where(valid, torch.zeros_like(reward)) if masked else reward
    score = (weight * counted).sum(-1)
    return score.where(valid.any(-1) & score.isfinite(), torch.full_like(score, -torch.inf))


def keep_best(
    score: Float[Tensor, "S B"], share: float, mode: Mode, rng: Streams, *, temperature: float = 0.05
) -> Bool[Tensor, "S B"]:
    """Exactly int(share * B) rollouts of every seed, but at least one; all of them with mode `none`.

    Scores that are not finite rank last in every mode, and the others are compared as if those were not there.

    - hardmax: those of highest score; of equal ones the first.
    - softmax: drawn without replacement, with probabilities p ~ exp(z / temperature), z the score in deviations of its
      seed. The Gumbel-top-k trick (Kool et al. 2019, arXiv:1903.06059): temperature -> 0 is hardmax, -> inf uniform.
    - softmax_floor: the same after p <- (1 - 1e-6) p + 1e-6 / B, which DyDiff's released code adds (trainer.py:219).
      For bell-shaped scores at 0.05 one rollout holds almost all of p and the floor decides the rest: a uniform draw.
    """
    rows = score.shape[-1]
    if mode == "none":
        return torch.ones_like(score, dtype=torch.bool)
    value = score.double()
    usable = value.isfinite()
    if mode != "hardmax":
        count = usable.sum(-1, keepdim=True)
        mean = value.where(usable, 0.0).sum(-1, keepdim=True) / count
        std = ((value - mean).square().where(usable, 0.0).sum(-1, keepdim=True) / count).sqrt()
        logits = ((value - mean) / (std + 1e-6) / temperature).where(usable, -torch.inf)
        if mode == "softmax_floor":
            logits = ((1 - 1e-6) * logits.softmax(-1) + 1e-6 / count).log()
        value = logits - (-rng.uniform64(rows).clamp(min=1e-300).log()).log()  # plus Gumbel noise
    value = value.where(usable, -torch.inf)
    kept = max(floor(share * rows + 1e-9), 1)  # 0.29 * 100 is 28.999... in floating point
    best = value.argsort(stable=True, dim=-1, descending=True)[..., :kept]
    return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, best, True)


def keep_rate(score: Float[Tensor, "S B"], kept: Bool[Tensor, "S B"], bins: int = 10) -> Float[Tensor, "S bins"]:
    """Share that was kept among the rollouts of each rank: the best tenth first, and so on. NaN for an empty bin."""
    order = score.argsort(stable=True, dim=-1, descending=True)
    sorted_kept = kept.gather(-1, order).to(score.dtype)
    rows = score.shape[-1]
    edges = [round(i * rows / bins) for i in range(bins + 1)]
    return torch.stack([sorted_kept[:, low:high].mean(-1) for low, high in pairwise(edges)], -1)
