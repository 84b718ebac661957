"""SynthER: single transitions from a diffusion model of the data (Lu et al. 2023, arXiv:2303.06614).

It uses neither the policy nor start states: first states are generated, rollouts have one step.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories, Transitions
from core.policy import Policy
from core.random import Streams
from generators.base import Fitted, Generator, per_seed
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.transition import TransitionDiffusion, TransitionDiffusionConfig
from tasks.base import Task

__all__ = ["SynthER"]


@configuration
class SynthER(Generator):
    """Sample once, before training. The share of real data in a batch is the suite's `real_fraction`: SynthER's is 0.

    Preset `faithful` has the released code's settings (resmlp_denoiser.gin, with its small batch). By default we use a
    smaller network, model s' - s instead of s', and sample with 20 evaluations of a second-order solver instead of 255:
    on unit data its standard deviations are 4 % too large, the released sampler's 1 %.
    """

    rollouts: PositiveInt = 100_000  # rows; the paper's 5 million: preset `faithful`
    refresh_every: PositiveInt | None = None  # fresh rows of the same model, if anything
    chunk: PositiveInt = 10_000  # rows sampled at a time: memory
    sampler: Sampler = Sampler(steps=20)
    model: TransitionDiffusionConfig = TransitionDiffusionConfig()

    rollout_length = 1
    keeps_start = False  # obs[:, :, 0] are its own
    models_termination = True

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {  # seconds on a CPU, for tests
            "rollouts": 500,
            "model": {
                "denoiser": {"width": 64, "blocks": 3, "embedding": 32},
                "updates": 400,
                "learning_rate": 3e-3,
            },
        },
        "small": {  # a minute on a CPU
            "rollouts": 20_000,
            "model": {"denoiser": {"width": 128, "blocks": 4}, "updates": 2500, "learning_rate": 2e-3},
        },
        "faithful": {
            "rollouts": 5_000_000,
            "chunk": 100_000,
            "sampler": {"method": "heun", "steps": 128, "churn": 80.0},
            "model": {"denoiser": {"width": 2048}, "next_obs": "state", "updates": 100_000},
        },
    }

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        """One diffusion model per seed; it does not know how it will be sampled."""
        return _Fitted(self, models.get(self.model, data))


@dataclass(frozen=True)
class _Fitted(Fitted):
    config: SynthER
    model: TransitionDiffusion

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """As many rows as start states were given, of which nothing else is used; only the first step is valid."""
        made = list[Transitions]()
        rows = start.shape[1]
        for first in range(0, rows, self.config.chunk):
            here = rng.fork(f"chunk/{first}")
            made.append(self.model.sample(min(self.config.chunk, rows - first), self.config.sampler, here))
        steps = single_steps(Transitions(*(torch.cat(x, 1) for x in zip(*map(_tensors, made), strict=True))), length)
        evaluations = self.config.sampler.evaluations
        flops = self.config.model.denoiser.flops(self.model.features)
        return replace(steps, info=per_seed(steps, evaluations=evaluations, flops=evaluations * flops))


def single_steps(rows: Transitions, length: int) -> Trajectories:
    """Transitions as rollouts: one valid step each, the state it leads to is repeated."""
    first = torch.arange(length, device=rows.obs.device) == 0
    still = rows.next_obs.unsqueeze(-2).expand(*rows.next_obs.shape[:-1], length, -1)
    reward = rows.reward[..., None] * first
    return Trajectories(
        rows.action.unsqueeze(-2).repeat_interleave(length, -2),
        torch.cat([rows.obs.unsqueeze(-2), still], -2),
        reward,
        rows.terminated[..., None] & first,
        first.expand(reward.shape).clone(),
    )


def _tensors(rows: Transitions) -> tuple[Tensor, ...]:
    return tuple(vars(rows).values())
