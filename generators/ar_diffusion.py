"""Autoregressive diffusion: DyDiff's network as a one-step model, rolled out under the learning policy.

The control that separates what diffusion does from what redrawing a whole trajectory does. Source: Rigter et al. 2023
(PolyGRAD, arXiv:2312.08533) for the baseline; the network here is DyDiff's own on trajectories of two rows.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Box, FittedSequence, Generator
from generators.dydiff import DyDiff
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.trajectory import StepDiffusionConfig
from models.reward import RewardConfig
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = ["ARDiffusion"]

_SHARED = ("rollouts", "rollout_length", "refresh_every", "sampler", "reward", "termination")  # with DyDiff's presets


@configuration
class ARDiffusion(Generator):
    """Each step: a ~ pi(s), then s' by a whole run of the sampler.

    The default samples each step with as many evaluations as DyDiff spends on a whole trajectory, so it costs more;
    preset `flop_matched` spends per transition about what DyDiff's defaults do.
    """

    rollouts: PositiveInt = 2_000  # B, start states of every refresh
    rollout_length: PositiveInt = 31  # L
    refresh_every: PositiveInt | None = 1000
    box: Box = "obs_and_next"  # the training data's range, to which states are clipped
    sampler: Sampler = Sampler()
    filter: Filter = Filter(mode="softmax")
    model: StepDiffusionConfig = StepDiffusionConfig()
    reward: RewardConfig = RewardConfig()
    termination: TerminationConfig = TerminationConfig()  # where the environment's rule is not known

    on_policy = True

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            **{name: DyDiff.presets["smoke"][name] for name in _SHARED},
            "model": {"denoiser": {"dim": 8, "multipliers": [1, 2]}, "updates": 60, "batch_size": 64},
        },
        "small": {
            **{name: DyDiff.presets["small"][name] for name in _SHARED},
            "model": {
                "denoiser": {"dim": 32, "multipliers": [1], "blocks": 2},
                "updates": 500,
                "batch_size": 128,
                "learning_rate": 3e-3,
            },
        },
        "flop_matched": {"sampler": {"steps": 3}},
    }

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        """One step model and one reward model per seed."""
        return _Fitted.fit(self, task, data, models)


@dataclass(frozen=True)
class _Fitted(FittedSequence, ActionConditioned):
    config: ARDiffusion

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """The policy explores as it does in training; the model samples."""
        explore = rng.fork("policy")
        obs = [start]
        action = list[Tensor]()
        for step in range(length):
            state = self.complete.clip(obs[-1]) if step else start
            action.append(policy.act(state, explore).clamp(-1, 1))
            obs.append(self._next(state, action[-1], rng.fork(f"model/{step}")))
        return self.completed(torch.stack(action, 2), torch.stack(obs, 2), 1)

    def imagine(self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"], rng: Streams) -> Trajectories:
        obs, _ = self.model.sample(start, action, action.shape[2], self.config.sampler, rng, clip=self.complete.clip)
        return self.completed(action, obs, 1)

    def _next(self, obs: Tensor, action: Tensor, rng: Streams) -> Tensor:
        return self.model.sample(obs, action.unsqueeze(2), 1, self.config.sampler, rng)[0][:, :, 1]
