"""Policy networks: a deterministic one and a tanh-Gaussian one, both in environment units."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.data import Dataset
from core.random import Streams
from models.nn import MLP, Init, Standardize

__all__ = ["DeterministicActor", "TanhGaussianActor", "observation_normaliser"]


class DeterministicActor(nn.Module):
    """a = tanh(f(s)): it explores nothing, so `rng` changes nothing."""

    def __init__(
        self, data: Dataset, hidden: tuple[int, ...], rng: Streams, *, epsilon: float = 1e-3, init: Init = "torch"
    ) -> None:
        super().__init__()
        sizes = [data.train.obs.shape[-1], *hidden, data.train.action.shape[-1]]
        self.normaliser = observation_normaliser(data, rng, epsilon)
        self.net = MLP((len(rng.seeds),), sizes, rng, init=init)

    def forward(self, obs: Float[Tensor, "S B O"], rng: Streams | None = None) -> Float[Tensor, "S B A"]:
        """Action with gradients."""
        return self.net(self.normaliser(obs)).tanh()

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        """Action without gradients."""
        return self(obs)


class TanhGaussianActor(nn.Module):
    """a = tanh(u), u ~ N(mean(s), std(s)^2); the greedy action is tanh(mean)."""

    def __init__(
        self,
        data: Dataset,
        hidden: tuple[int, ...],
        rng: Streams,
        *,
        epsilon: float = 1e-3,
        init: Init = "torch",
        log_std: tuple[float, float] = (-20.0, 2.0),
    ) -> None:
        super().__init__()
        sizes = [data.train.obs.shape[-1], *hidden, 2 * data.train.action.shape[-1]]
        self.normaliser = observation_normaliser(data, rng, epsilon)
        self.net = MLP((len(rng.seeds),), sizes, rng, init=init)
        self.log_std = log_std

    def forward(self, obs: Float[Tensor, "S B O"], rng: Streams | None = None) -> Float[Tensor, "S B A"]:
        """Reparameterised sample, or the greedy action without `rng`, with gradients."""
        mean, log_std = self.net(self.normaliser(obs)).chunk(2, -1)
        if rng is None:
            return mean.tanh()
        noise = rng.normal(*mean.shape[1:])
        return (mean + log_std.clamp(*self.log_std).exp() * noise).tanh()

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        """Action without gradients."""
        return self(obs, rng)


def observation_normaliser(data: Dataset, rng: Streams, epsilon: float) -> Standardize:
    """(s - mean) / (std + epsilon) with the statistics of the real training rows, the same for all seeds."""
    return Standardize(data.obs_mean.shape[-1], rng).set(data.obs_mean, data.obs_std + epsilon)
