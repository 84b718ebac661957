"""Policy-guided diffusion: behaviour trajectories, guided towards the learning policy's actions during sampling.

Source: Jackson et al. 2024 (PGD, arXiv:2404.06356). We differ on purpose: DyDiff's network, a given start state by
default, rewards and ends of episodes as in `dydiff`, so that only the way of drawing differs; and the policy's density
is N(pi(s), 1) for every policy, as in PGD's code for deterministic ones.
"""

from dataclasses import dataclass
from math import pi, sin
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from generators.base import Box, FittedSequence, Generator
from generators.trajectory import Trajectory
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.trajectory import BehaviourDiffusionConfig
from models.reward import RewardConfig
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = ["PGD", "guidance"]


@configuration
class PGD(Generator):
    """Before every step of the sampler: a <- a + lambda_i grad_a log pi(a | s).

    With coefficient 0 and equal sampler and filter this is `trajectory`, number for number; it shares its model. Where
    the trajectory's start is not given (`model.given = "nothing"`), rollouts begin anywhere the model puts them.
    """

    rollouts: PositiveInt = 2_000  # B, start states of every refresh
    rollout_length: PositiveInt = 31  # L
    refresh_every: PositiveInt | None = 1000
    coefficient: NonNegativeFloat = 0.5  # c; more moves actions further and leaves the states behind
    box: Box = "obs_and_next"  # the training data's range, to which states are clipped
    sampler: Sampler = Sampler(steps=18)
    filter: Filter = Filter()
    model: BehaviourDiffusionConfig = BehaviourDiffusionConfig()
    reward: RewardConfig = RewardConfig()
    termination: TerminationConfig = TerminationConfig()  # where the environment's rule is not known

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": Trajectory.presets["smoke"],  # these share its model
        "small": {**Trajectory.presets["small"], "coefficient": 0.2, "sampler": {"steps": 9}},
        "free": {"model": {"given": "nothing", "base": "zero"}},
    }

    @property
    def keeps_start(self) -> bool:
        """Not where the model does not condition on a start."""
        return self.model.given == "start"

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        """The sequence model and the reward model that `trajectory` uses."""
        return _Fitted.fit(self, task, data, models)


@dataclass(frozen=True)
class _Fitted(FittedSequence):
    config: PGD

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """Steps beyond what a model without given start can make are not valid."""
        config = self.config

        def guide(obs: Tensor, action: Tensor, step: int) -> Tensor:
            """grad log N(a; pi(s), 1), with both inside the action box."""
            wanted = policy.act(obs.flatten(1, 2), None).clamp(-1, 1).view_as(action)
            return guidance(step, config.sampler.steps, config.coefficient) * (wanted - action.clamp(-1, 1))

        return self.drawn(start, length, rng, guide if config.coefficient else None)


def guidance(step: int, steps: int, coefficient: float) -> float:
    """lambda_i = c (1 - i/N + 0.3 sin(pi (i + 1) / N)), and 0 in the last step. Source: PGD's released code."""
    if step == steps - 1:
        return 0.0
    return coefficient * (1 - step / steps + 0.3 * sin(pi * (step + 1) / steps))
