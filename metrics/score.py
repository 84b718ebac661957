"""D4RL's normalised score."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["episode_return", "normalized_score"]


def episode_return(reward: Float[Tensor, "S B L"], valid: Float[Tensor, "S B L"] | Tensor) -> Float[Tensor, "S B"]:
    """Undiscounted sum of the rewards that count."""
    return reward.where(valid, reward.new_zeros(())).sum(-1)


def normalized_score(returns: Float[Tensor, "*shape"], score_range: tuple[float, float]) -> Float[Tensor, "*shape"]:
    """100 (R - R_min) / (R_max - R_min). Affine: take standard deviations after it, never pass them through it."""
    low, high = score_range
    return 100 * (returns - low) / (high - low)
