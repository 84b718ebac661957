"""What generators, simulators and metrics know of an algorithm: it can act."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from core.random import Streams

__all__ = ["Policy", "UniformPolicy"]


@runtime_checkable
class Policy(Protocol):
    """Maps observations in environment units to actions in [-1, 1]."""

    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        """`rng=None` asks for the greedy action."""


@dataclass(frozen=True)
class UniformPolicy:
    """Uniformly random actions: D4RL's zero point. It has no greedy action, so it insists on `rng`."""

    action_dim: int

    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        """Uniform on [-1, 1] in every dimension."""
        if rng is None:
            raise ValueError("UniformPolicy.act needs rng: a uniformly random policy has no greedy action")
        return 2 * rng.uniform(obs.shape[1], self.action_dim) - 1
