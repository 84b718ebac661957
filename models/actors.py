"""Policy networks, in environment units: deterministic, Gaussian, tanh-Gaussian, and a diffusion model over actions."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from core.data import Dataset
from core.random import Streams
from models.bitwise import mish, repeat_rows, softplus
from models.nn import MLP, Init, Standardize

__all__ = [
    "DeterministicActor",
    "DiffusionActor",
    "GaussianActor",
    "TanhGaussianActor",
    "gaussian_log_prob",
    "observation_normaliser",
    "reverse_chain",
    "tanh_log_det",
    "vp_betas",
]

_EDGE = 1 - 1e-6  # log_prob of a tanh-Gaussian takes actions beyond it to be there


class _Actor(nn.Module):
    """One network per seed, of normalised observations; `outputs` numbers for every dimension of the action."""

    outputs = 1

    def __init__(
        self, data: Dataset, hidden: tuple[int, ...], rng: Streams, *, epsilon: float = 1e-3, init: Init = "torch"
    ) -> None:
        super().__init__()
        sizes = [data.train.obs.shape[-1], *hidden, self.outputs * data.train.action.shape[-1]]
        self.normaliser = observation_normaliser(data, rng, epsilon)
        self.net = MLP((len(rng.seeds),), sizes, rng, init=init)


class DeterministicActor(_Actor):
    """a = tanh(f(s)): it explores nothing, so `rng` changes nothing."""

    def forward(self, obs: Float[Tensor, "S B O"], rng: Streams | None = None) -> Float[Tensor, "S B A"]:
        """Action with gradients."""
        return self.net(self.normaliser(obs)).tanh()

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        return self(obs)


class GaussianActor(_Actor):
    """a ~ N(tanh f(s), std^2), one std for all states, cut to the box; the greedy action is tanh f(s)."""

    latent_limit = 1.0

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
        super().__init__(data, hidden, rng, epsilon=epsilon, init=init)
        action_dim = data.train.action.shape[-1]
        self.free_log_std = nn.Parameter(torch.zeros(len(rng.seeds), 1, action_dim, device=rng.device))
        self.log_std = log_std

    def log_prob(self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S B"]:
        """Log-density of the Gaussian before it is cut, with gradients."""
        return gaussian_log_prob(action, *self.moments(obs))

    @torch.no_grad()
    def latent(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]
    ) -> tuple[Float64[Tensor, "S B A"], Float64[Tensor, "S B A"], Float64[Tensor, "S B A"]]:
        """The action itself, with the mean and deviation that it was drawn with before it was cut."""
        mean, log_std = self.moments(obs)
        limit = self.latent_limit
        return action.double().clamp(-limit, limit), mean.double(), log_std.double().exp()

    def moments(self, obs: Float[Tensor, "S B O"]) -> tuple[Float[Tensor, "S B A"], Float[Tensor, "S B A"]]:
        """(mean, log-deviation) of the Gaussian."""
        mean = self.net(self.normaliser(obs)).tanh()
        return mean, repeat_rows(self.free_log_std.clamp(*self.log_std), mean)

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        mean, log_std = self.moments(obs)
        return mean if rng is None else (mean + log_std.exp() * rng.normal(*mean.shape[1:])).clamp(-1, 1)


class TanhGaussianActor(_Actor):
    """a = tanh(u), u ~ N(mean(s), std(s)^2); the greedy action is tanh(mean).

    With `scaled`, the log-deviation is m f(s) + b with two more parameters per seed, first 1 and -1 (CORL's CQL).
    """

    outputs = 2
    latent_limit = (
        4.0  # 1 - tanh(4) is 7e-4: there the last bit of a float32 action is 1e-4 of u, beyond it soon all of u
    )

    def __init__(
        self,
        data: Dataset,
        hidden: tuple[int, ...],
        rng: Streams,
        *,
        epsilon: float = 1e-3,
        init: Init = "torch",
        log_std: tuple[float, float] = (-20.0, 2.0),
        scaled: bool = False,
    ) -> None:
        super().__init__(data, hidden, rng, epsilon=epsilon, init=init)
        self.log_std = log_std
        one = torch.ones(len(rng.seeds), 1, 1, device=rng.device)
        self.scale = nn.ParameterList([nn.Parameter(one), nn.Parameter(-one)] if scaled else [])  # m, b

    def moments(self, obs: Float[Tensor, "S B O"]) -> tuple[Float[Tensor, "S B A"], Float[Tensor, "S B A"]]:
        """(mean, log-deviation) of u."""
        mean, log_std = self.net(self.normaliser(obs)).chunk(2, -1)
        if self.scale:
            log_std = self.scale[0] * log_std + self.scale[1]
        return mean, log_std.clamp(*self.log_std)

    def forward(self, obs: Float[Tensor, "S B O"], rng: Streams | None = None) -> Float[Tensor, "S B A"]:
        """Reparameterised sample, or the greedy action without `rng`, with gradients."""
        mean, log_std = self.moments(obs)
        if rng is None:
            return mean.tanh()
        return (mean + log_std.exp() * rng.normal(*mean.shape[1:])).tanh()

    def sample_and_log_prob(
        self, obs: Float[Tensor, "S B O"], noise: Float[Tensor, "S n B A"]
    ) -> tuple[Float[Tensor, "S n B A"], Float[Tensor, "S n B"]]:
        """What standard normal `noise` leads to, and its log-density, with gradients; exact where tanh is one, too."""
        mean, log_std = (x[:, None] for x in self.moments(obs))
        u = mean + log_std.exp() * noise
        return u.tanh(), gaussian_log_prob(u, mean, log_std) - tanh_log_det(u)

    def log_prob(self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S B"]:
        """Log-density of any action, with gradients; finite, because |a| > 1 - 1e-6 is taken to be 1 - 1e-6."""
        u = action.clamp(-_EDGE, _EDGE).atanh()
        return gaussian_log_prob(u, *self.moments(obs)) - tanh_log_det(u)

    @torch.no_grad()
    def latent(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]
    ) -> tuple[Float64[Tensor, "S B A"], Float64[Tensor, "S B A"], Float64[Tensor, "S B A"]]:
        """(u, mean, deviation) of a = tanh(u)."""
        mean, log_std = self.moments(obs)
        limit = self.latent_limit
        u = action.double().clamp(-_EDGE, _EDGE).atanh()
        return u.clamp(-limit, limit), mean.double(), log_std.double().exp()

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        return self(obs, rng)


class DiffusionActor(nn.Module):
    """Actions as the end of a short reverse diffusion, given the state. Source: arXiv:2208.06193, section 3.

    The network predicts the noise in a noised action from that action, an embedding of the step, and the state.
    Step k = 0 is the least noisy one. `epsilon=None` leaves states as they are.
    """

    betas: Tensor
    kept: Tensor
    frequencies: Tensor

    def __init__(
        self,
        data: Dataset,
        hidden: tuple[int, ...],
        rng: Streams,
        *,
        steps: int = 5,
        beta_range: tuple[float, float] = (0.1, 10.0),
        epsilon: float | None = None,
        embedding: int = 16,
    ) -> None:
        super().__init__()
        copies = (len(rng.seeds),)
        self.action_dim = data.train.action.shape[-1]
        obs_dim = data.train.obs.shape[-1]
        self.normaliser = observation_normaliser(data, rng, epsilon)
        self.embed = MLP(copies, [embedding, 2 * embedding, embedding], rng, activation=mish)
        sizes = [self.action_dim + embedding + obs_dim, *hidden, self.action_dim]
        self.net = MLP(copies, sizes, rng, activation=mish)
        betas = vp_betas(steps, *beta_range).to(rng.device)
        self.register_buffer("betas", betas, persistent=False)
        self.register_buffer("kept", (1 - betas).cumprod(0), persistent=False)  # alpha-bar: the signal's variance
        frequencies = [math.exp(-math.log(1e4) * i / (embedding // 2 - 1)) for i in range(embedding // 2)]
        self.register_buffer(
            "frequencies", torch.tensor(frequencies, dtype=torch.float64, device=rng.device), persistent=False
        )

    def forward(
        self, noised: Float[Tensor, "S B A"], step: Int[Tensor, "S B"], obs: Float[Tensor, "S B O"]
    ) -> Float[Tensor, "S B A"]:
        """The noise in `noised`."""
        angle = step[..., None] * self.frequencies.to(obs.dtype)
        embedded = self.embed(torch.cat([angle.sin(), angle.cos()], -1))
        return self.net(torch.cat([noised, embedded, self.normaliser(obs)], -1))

    def noised(
        self, action: Float[Tensor, "S B A"], step: Int[Tensor, "S B"], noise: Float[Tensor, "S B A"]
    ) -> Float[Tensor, "S B A"]:
        """x_k = sqrt(alpha-bar_k) a + sqrt(1 - alpha-bar_k) noise."""
        kept = self.kept[step][..., None]
        return kept.sqrt() * action + (1 - kept).sqrt() * noise

    def reconstructed(
        self, noised: Float[Tensor, "S B A"], step: Int[Tensor, "S B"], noise: Float[Tensor, "S B A"]
    ) -> Float[Tensor, "S B A"]:
        """The action that `noised` came from if `noise` is in it, cut to the box."""
        kept = self.kept[step][..., None]
        return ((noised - (1 - kept).sqrt() * noise) / kept.sqrt()).clamp(-1, 1)

    def chain(self, obs: Float[Tensor, "S B O"], noise: Float[Tensor, "S K B A"]) -> Float[Tensor, "S B A"]:
        """The action to which these random numbers lead, with gradients through all steps."""

        def predict(noised: Tensor, k: int) -> Tensor:
            return self(noised, torch.full(obs.shape[:2], k, device=obs.device), obs)

        return reverse_chain(predict, noise, self.betas)

    def sample(self, obs: Float[Tensor, "S B O"], count: int, rng: Streams) -> Float[Tensor, "S n B A"]:
        """Independent actions for every state, with gradients."""
        seeds, rows, width = obs.shape
        noise = rng.normal(len(self.betas), count * rows, self.action_dim)
        repeated = obs[:, None].expand(seeds, count, rows, width).flatten(1, 2)
        return self.chain(repeated, noise).view(seeds, count, rows, self.action_dim)


def gaussian_log_prob(
    x: Float[Tensor, "*rows A"], mean: Float[Tensor, "*#rows A"], log_std: Float[Tensor, "*#rows A"]
) -> Float[Tensor, "*rows"]:
    """Density of N(mean, diag std^2) at x, its logarithm."""
    standard = (x - mean) * (-log_std).exp()
    return -(0.5 * standard.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def tanh_log_det(u: Float[Tensor, "*rows A"]) -> Float[Tensor, "*rows"]:
    """Sum of log (1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)): what a density loses by tanh; finite for any u."""
    return 2 * (math.log(2) - u - softplus(-2 * u)).sum(-1)


def vp_betas(steps: int, low: float, high: float) -> Float[Tensor, " K"]:
    """beta_k = 1 - exp(-low / K - (high - low) (2k + 1) / (2 K^2)), k = 0 .. K-1. Source: arXiv:2208.06193."""
    k = torch.arange(steps, dtype=torch.float64)
    return (1 - torch.exp(-low / steps - (high - low) * (2 * k + 1) / (2 * steps**2))).float()


def reverse_chain(
    predict: Callable[[Tensor, int], Tensor], noise: Float[Tensor, "S K B A"], betas: Float[Tensor, " K"]
) -> Float[Tensor, "S B A"]:
    """Ancestral sampling, x_0 cut to the box at every step. Source: Ho et al. 2020 (arXiv:2006.11239), eq. 6, 7, 15.

    `predict(x, k)` is the noise in x at step k. noise[:, 0] is where the chain starts, the others are added on the way;
    none is added by the last step.
    """
    kept = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones_like(kept[:1]), kept[:-1]])
    from_start = betas * before.sqrt() / (1 - kept)
    from_here = (1 - before) * (1 - betas).sqrt() / (1 - kept)
    deviation = (betas * (1 - before) / (1 - kept)).sqrt()
    x = noise[:, 0]
    steps = len(betas)
    for k in reversed(range(steps)):
        start = ((x - (1 - kept[k]).sqrt() * predict(x, k)) / kept[k].sqrt()).clamp(-1, 1)
        x = from_start[k] * start + from_here[k] * x
        if k > 0:
            x = x + deviation[k] * noise[:, steps - k]
    return x.clamp(-1, 1)


def observation_normaliser(data: Dataset, rng: Streams, epsilon: float | None) -> Standardize:
    """(s - mean) / (std + epsilon) with the statistics of the real training rows, the same for all seeds; None: s."""
    units = Standardize(data.obs_mean.shape[-1], rng)
    return units if epsilon is None else units.set(data.obs_mean, data.obs_std + epsilon)
