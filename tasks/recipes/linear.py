"""The toy's behaviour policy: linear, with Gaussian action noise."""

from dataclasses import dataclass, replace
from math import log, pi

from jaxtyping import Float
from torch import Tensor

from core.random import Streams

__all__ = ["LinearPolicy"]


@dataclass(frozen=True)
class LinearPolicy:
    """a = clip(W (s - mean) / std + sigma N(0, I), -1, 1), for P policies at once: policy p acts in row p of a batch.

    The clipped action has no density where a bound was hit. The density that we record is that of the Gaussian before
    clipping, at the number that was drawn, as D4RL stores the log-probability of the action that was sampled. It
    differs from the density at the stored action on rows with a clipped action only: those with |action| exactly 1.
    """

    weight: Float[Tensor, "P A O"]
    mean: Float[Tensor, "P O"]
    std: Float[Tensor, "P O"]
    sigma: float = 0.0  # standard deviation of the action noise in every dimension

    def act(self, obs: Float[Tensor, "P B O"], rng: Streams | None) -> Float[Tensor, "P B A"]:
        """Greedy without `rng`; otherwise one stream for every policy."""
        return self.centre(obs).clamp(-1, 1) if rng is None or not self.sigma else self.sample(obs, rng)[0]

    def sample(self, obs: Float[Tensor, "P B O"], rng: Streams) -> tuple[Float[Tensor, "P B A"], Float[Tensor, "P B"]]:
        """Clipped actions, and the log-density of the draws they were clipped from."""
        centre = self.centre(obs)
        drawn = centre + self.sigma * rng.normal(*centre.shape[1:])
        return drawn.clamp(-1, 1), self._log_density(drawn - centre)

    def smoothed_log_prob(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"], std: float
    ) -> Float[Tensor, "S B"]:
        """Log-density of a clipped action to which N(0, std^2 I) was added, for a single policy.

        That of N(clip(centre), (sigma^2 + std^2) I): exact where nothing is clipped, and close where sigma is small
        beside std.
        """
        wide = replace(self, sigma=(self.sigma**2 + std**2) ** 0.5)
        return wide._log_density(action - self.centre(obs).clamp(-1, 1))

    def centre(self, obs: Float[Tensor, "P B O"]) -> Float[Tensor, "P B A"]:
        """The action before noise and clipping; far outside [-1, 1] where a policy is nearly bang-bang."""
        mean, std, weight = (x.to(obs.device) for x in (self.mean, self.std, self.weight))
        return ((obs - mean.unsqueeze(1)) / std.unsqueeze(1)) @ weight.mT

    def _log_density(self, residual: Float[Tensor, "P B A"]) -> Float[Tensor, "P B"]:
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive for an action to have a density, got {self.sigma}")
        normaliser = residual.shape[-1] * (log(self.sigma) + log(2 * pi) / 2)
        return -(residual / self.sigma).square().sum(-1) / 2 - normaliser
