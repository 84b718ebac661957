"""Trajectory diffusion: states and actions after a start state, from the distribution of the data.

Source: Janner et al. 2022 (Diffuser, arXiv:2205.09991), as a generator: no planning, no guidance. The learning policy
is not used, so this is what DyDiff's network does without DyDiff.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from generators.base import Box, FittedSequence, Generator
from generators.dydiff import DyDiff
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.trajectory import BehaviourDiffusionConfig, TrajectoryDiffusionConfig
from models.reward import RewardConfig
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = ["Trajectory"]

_SHARED = (
    "rollouts",
    "rollout_length",
    "refresh_every",
    "sampler",
    "model",
    "reward",
    "termination",
)  # with DyDiff's presets


@configuration
class Trajectory(Generator):
    """The defaults are DyDiff's network and settings, with the actions generated instead of imposed.

    Preset `dydiff_net` has the size of DyDiff's released network, `diffuser` what can be said of Diffuser in this core:
    its network, normaliser and in-painted start, with 19 evaluations (Diffuser: 20, of DDPM's cosine schedule).
    """

    rollouts: PositiveInt = 2_000  # B, start states of every refresh
    rollout_length: PositiveInt = 31  # L
    refresh_every: PositiveInt | None = 1000  # fresh samples of the same model
    box: Box = "obs_and_next"  # the training data's range, to which states are clipped
    sampler: Sampler = Sampler()
    filter: Filter = Filter(mode="softmax")
    model: BehaviourDiffusionConfig = BehaviourDiffusionConfig()
    reward: RewardConfig = RewardConfig()
    termination: TerminationConfig = TerminationConfig()  # where the environment's rule is not known

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {name: DyDiff.presets["smoke"][name] for name in _SHARED},
        "small": {  # actions are to be learned, too
            **{name: DyDiff.presets["small"][name] for name in _SHARED},
            "model": {**DyDiff.presets["small"]["model"], "updates": 1000},
        },
        "dydiff_net": {
            **{name: DyDiff.presets["faithful"][name] for name in ("rollouts", "rollout_length", "sampler")},
            "model": TrajectoryDiffusionConfig.presets["paper"],
        },
        "diffuser": {
            "sampler": {"method": "heun", "steps": 10, "churn": 4.0},
            "filter": {"mode": "none"},
            "model": {
                "base": "zero",
                "conditions": "inpaint",
                "denoiser": {"dim": 32, "multipliers": [1, 2, 4, 8]},
                "updates": 1_000_000,
                "learning_rate": 2e-4,
                "average_every": 10,
            },
        },
    }

    @property
    def keeps_start(self) -> bool:
        """Not where the model does not condition on a start."""
        return self.model.given == "start"

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        return _Fitted.fit(self, task, data, models)


@dataclass(frozen=True)
class _Fitted(FittedSequence):
    config: Trajectory

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """`policy` is not used."""
        return self.drawn(start, length, rng)
