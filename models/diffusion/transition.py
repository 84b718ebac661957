"""Diffusion over single transitions: the joint law of (s, a, s', r, d) in the data, with no condition at all.

Source: Lu et al. 2023 (SynthER, arXiv:2303.06614), with the noise levels of Karras et al. 2022.
"""

from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from core.buffer import pack, unpack
from core.config import LeftOpenUnit, OpenUnit, configuration
from core.data import Dataset, Transitions
from core.random import Streams
from models.cache import Facts, FitContext, ModelConfig
from models.diffusion.denoisers import ResidualMLPConfig
from models.diffusion.edm import Sampler, denoising_loss, precondition, training_sigma
from models.nn import Standardize
from models.training import train_averaged, unseen_loss

__all__ = ["TransitionDiffusion", "TransitionDiffusionConfig"]


@configuration
class TransitionDiffusionConfig(ModelConfig):
    """Network and budget. The optimiser's settings are SynthER's; its size and budget are in its preset `faithful`."""

    denoiser: ResidualMLPConfig = ResidualMLPConfig()
    next_obs: Literal["change", "state"] = "change"  # whether s' - s is modelled, or, as SynthER does, s' itself
    sigma_data: PositiveFloat = 1.0
    noise_mean: float = -1.2  # P_mean
    noise_std: PositiveFloat = 1.2  # P_std
    updates: PositiveInt = 20_000
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 3e-4
    beta2: OpenUnit = 0.99  # of Adam
    max_norm: PositiveFloat = 1.0  # of the gradient
    average: LeftOpenUnit = 0.995  # EMA of the weights ...
    average_every: PositiveInt = 10  # ... every so many updates
    epsilon: NonNegativeFloat = 1e-5  # added to deviations

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "TransitionDiffusion":
        return TransitionDiffusion(self, obs_dim, action_dim, rng)

    def fit(self, model: "TransitionDiffusion", data: Dataset, context: FitContext) -> Facts:
        """Denoise the training rows; the average of the weights is kept."""
        rows = model.rows(data.train)
        mean = rows.double().mean(0)
        std = rows.double().std(0) + self.epsilon
        mean[-1], std[-1] = 0, 1  # the flag of termination keeps its unit
        model.units.set(mean[None], std[None])

        def loss(
            batches: Streams, levels: Streams, noise: Streams, rows: Float[Tensor, "N D"] = rows
        ) -> Float[Tensor, " S"]:
            chosen = (batches.uniform64(self.batch_size) * len(rows)).long()
            clean = model.units(rows[chosen])
            sigma = training_sigma(self.batch_size, levels, self.noise_mean, self.noise_std)
            noisy = clean + sigma[..., None] * noise.normal(*clean.shape[1:])
            return denoising_loss(model.denoise(noisy, sigma), clean, sigma, self.sigma_data)

        labels = ("batches", "levels", "noise")
        train_averaged(
            model,
            loss,
            draws=[context.rng.fork(label) for label in labels],
            updates=self.updates,
            learning_rate=self.learning_rate,
            betas=(0.9, self.beta2),
            max_norm=self.max_norm,
            average=self.average,
            average_every=self.average_every,
            checkpoint=context.checkpoint,
            label="transition diffusion",
        )
        unseen = partial(loss, rows=model.rows(data.unseen().train))
        return unseen_loss(unseen, [context.rng.fork(f"unseen/{label}") for label in labels])


class TransitionDiffusion(nn.Module):
    """One denoiser per seed. Inputs and outputs in environment units; noise is added in standardised ones."""

    def __init__(self, config: TransitionDiffusionConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        self.config = config
        self.obs_dim = obs_dim
        self.action_dim = action_dim
        self.features = 2 * obs_dim + action_dim + 2
        self.net = config.denoiser.init(self.features, rng)
        self.units = Standardize(self.features, rng)

    def denoise(self, x: Float[Tensor, "S B D"], sigma: Float[Tensor, "S B"]) -> Float[Tensor, "S B D"]:
        """D(x; sigma), standardised units."""
        return precondition(self.net, x, sigma, self.config.sigma_data)

    @torch.no_grad()
    def sample(self, rows: int, sampler: Sampler, rng: Streams) -> Transitions:
        """That many rows for every seed; actions are clipped to [-1, 1], ends of episodes are flags above 1/2."""
        latent = rng.fork("latent").normal(rows, self.features)
        return self.transitions(self.units.inverse(sampler.sample(self.denoise, latent, rng.fork("sampler"))))

    def rows(self, transitions: Transitions) -> Float[Tensor, "N D"]:
        """Transitions as the rows that are modelled, environment units."""
        parts = torch.split(pack(transitions), [self.obs_dim, self.action_dim, self.obs_dim, 2], -1)
        obs, action, next_obs, ends = parts
        return torch.cat([obs, action, next_obs - obs if self.config.next_obs == "change" else next_obs, ends], -1)

    def transitions(self, rows: Float[Tensor, "*SB D"]) -> Transitions:
        """The inverse of `rows`, with actions clipped and ends decided."""
        obs, action, next_obs, ends = torch.split(rows, [self.obs_dim, self.action_dim, self.obs_dim, 2], -1)
        next_obs = obs + next_obs if self.config.next_obs == "change" else next_obs
        return unpack(torch.cat([obs, action.clamp(-1, 1), next_obs, ends], -1), self.obs_dim, self.action_dim)
