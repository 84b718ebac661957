"""Autoregressive roll-outs of a probabilistic MLP ensemble under the learning policy (G1).

Source: Janner et al. 2019 (MBPO, arXiv:1906.08253) for the branched roll-out, Yu et al. 2020 (MOPO, arXiv:2005.13239)
for the offline setting; without MOPO's penalty.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Generator, TerminationRule, per_seed, termination_rule
from models.cache import ModelCache
from models.dynamics import DynamicsConfig, EnsembleDynamics, rollout
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = ["Ensemble"]


@configuration
class Ensemble(Generator):
    """Each step: a ~ pi(s), then (s', r) from one elite drawn at random; ends by `termination_rule`.

    Preset `unrolled` tunes the members through their own roll-outs of 8 steps: the control for every model that learns
    from more than one step.
    """

    rollouts: PositiveInt = 10_000  # B, start states of every refresh
    rollout_length: PositiveInt = 5  # L
    refresh_every: PositiveInt | None = 1000
    dynamics: DynamicsConfig = DynamicsConfig()
    termination: TerminationConfig = TerminationConfig()  # where the environment's rule is not known

    on_policy = True

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {  # seconds on a CPU, for tests
            "rollouts": 500,
            "refresh_every": 200,
            "dynamics": {"members": 5, "elites": 3, "width": 64, "max_updates": 500, "check_every": 100},
            "termination": {"hidden": [64], "learning_rate": 1e-3, "max_updates": 200, "check_every": 100},
        },
        "small": {  # half a minute on a CPU
            "rollouts": 1000,
            "rollout_length": 10,
            "refresh_every": 500,
            "dynamics": {
                "members": 5,
                "elites": 3,
                "width": 100,
                "weight_decay": [2.5e-5, 5e-5, 1e-4],
                "max_updates": 1500,
                "check_every": 250,
            },
            "termination": {"hidden": [64, 64], "learning_rate": 1e-3, "max_updates": 1000},
        },
        "unrolled": {"dynamics": {"unroll": 8}},
    }

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        """One ensemble per seed, and a classifier of ends where the environment's rule is not known."""
        ended = termination_rule(task, data, models, self.termination)
        return _Fitted(ended, models.get(self.dynamics, data))


@dataclass(frozen=True)
class _Fitted(ActionConditioned):
    ended: TerminationRule
    model: EnsembleDynamics

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """The policy explores as it does in training; the model samples."""
        explore = rng.fork("policy")
        return self._rollout(lambda obs, step: policy.act(obs, explore).clamp(-1, 1), start, length, rng)

    def imagine(self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"], rng: Streams) -> Trajectories:
        return self._rollout(lambda obs, step: action[:, :, step], start, action.shape[2], rng)

    def _rollout(self, act: Callable[[Tensor, int], Tensor], start: Tensor, length: int, rng: Streams) -> Trajectories:
        noise = rng.fork("model")
        elites = self.model.pick()

        def draw(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
            return self.model.draw(obs, action, noise, elites=elites)

        made = rollout(draw, act, start, length, self.ended)
        dims = (start.shape[-1], made.action.shape[-1])
        return replace(made, info=per_seed(made, evaluations=1.0, flops=self.model.config.flops(*dims)))
