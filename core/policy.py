"""What generators, simulators and metrics know of an algorithm: it can act."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from core.random import Streams

__all__ = ["GaussianPolicy", "ImplicitPolicy", "Policy", "UniformPolicy"]


@runtime_checkable
class Policy(Protocol):
    """Maps observations in environment units to actions in [-1, 1]."""

    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        """`rng=None` asks for the greedy action."""


@runtime_checkable
class GaussianPolicy(Policy, Protocol):
    """A policy that squashes or clips Gaussian numbers into actions, each in its own dimension."""

    latent_limit: float  # numbers beyond +-latent_limit cannot be told apart by their actions

    def latent(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]
    ) -> tuple[Float64[Tensor, "S B A"], Float64[Tensor, "S B A"], Float64[Tensor, "S B A"]]:
        """(number behind the action, cut to +-latent_limit; mean and deviation of such numbers before the cut)."""


@runtime_checkable
class ImplicitPolicy(Policy, Protocol):
    """A policy that can be sampled from and nothing more."""

    def sample(self, obs: Float[Tensor, "S B O"], count: int, rng: Streams) -> Float[Tensor, "S n B A"]:
        """Independent actions for every state."""


@dataclass(frozen=True)
class UniformPolicy:
    """Uniformly random actions: D4RL's zero point. It has no greedy action, so it insists on `rng`."""

    action_dim: int

    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        """Uniform on [-1, 1] in every dimension."""
        if rng is None:
            raise ValueError("UniformPolicy.act needs rng: a uniformly random policy has no greedy action")
        return 2 * rng.uniform(obs.shape[1], self.action_dim) - 1

    def smoothed_log_prob(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"], std: float
    ) -> Float[Tensor, "S B"]:
        """Log-density of an action to which N(0, std^2 I) was added."""
        inside = [torch.special.ndtr((edge - action.double()) / std) for edge in (-1, 1)]
        return ((inside[1] - inside[0]) / 2).log().sum(-1)
