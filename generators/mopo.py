"""MOPO: ensemble roll-outs, reward lowered where the ensemble is unsure (Yu et al. 2020, arXiv:2005.13239)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Generator
from generators.ensemble import Ensemble
from models.cache import ModelCache
from models.dynamics import DynamicsConfig, EnsembleDynamics
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = ["MOPO", "penalized", "uncertainty"]


@configuration
class MOPO(Generator):
    """The roll-outs of `ensemble`, with reward r - lambda u(s, a); with SAC replaced by whatever algorithm learns.

    By default u is measured in deviations of the data, and lambda u is a number of deviations of the reward: lambda
    then means the same in every task. `units = "environment"` is the paper's, whose lambda has to be tuned per task.
    """

    rollouts: PositiveInt = 10_000  # B, start states of every refresh
    rollout_length: PositiveInt = 5  # h
    refresh_every: PositiveInt | None = 1000
    penalty: NonNegativeFloat = 1.0  # lambda
    units: Literal["standard", "environment"] = "standard"
    dynamics: DynamicsConfig = DynamicsConfig()
    termination: TerminationConfig = TerminationConfig()  # where the environment's rule is not known

    on_policy = True

    presets: ClassVar[dict[str, dict[str, Any]]] = Ensemble.presets  # shares its models

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        """The ensemble that `ensemble` uses."""
        plain = Ensemble(dynamics=self.dynamics, termination=self.termination)
        return _Fitted(self, plain.fit(task, data, models, rng), models.get(self.dynamics, data))


@dataclass(frozen=True)
class _Fitted(ActionConditioned):
    config: MOPO
    plain: ActionConditioned
    model: EnsembleDynamics

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """The ensemble's rollouts with penalised rewards."""
        made = self.plain.generate(policy, start, length, rng)
        members = self.model.config.members  # all of them are evaluated for the penalty
        info = {name: (1 + members) * value for name, value in made.info.items()}
        return replace(made, reward=self._penalized(made), info=info)

    def imagine(self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"], rng: Streams) -> Trajectories:
        return self.plain.imagine(start, action, rng)

    def _penalized(self, made: Trajectories) -> Float[Tensor, "S B L"]:
        rows, _ = made.transitions()
        _, std = self.model.predict(rows.obs, rows.action)
        scale = self.model.output.scale[:, None] if self.config.units == "standard" else torch.ones(())
        doubt = uncertainty(std / scale).view_as(made.reward)
        unit = self.model.output.scale[..., -1:] if self.config.units == "standard" else torch.ones(())
        lowered = penalized(made.reward, doubt * unit, self.config.penalty)
        return lowered.where(made.valid, made.reward)


def penalized(reward: Float[Tensor, "S B L"], doubt: Float[Tensor, "S B L"], penalty: float) -> Float[Tensor, "S B L"]:
    """r - lambda u. Source: Yu et al. 2020, section 4.2."""
    return reward - penalty * doubt


def uncertainty(std: Float[Tensor, "S K B P"]) -> Float[Tensor, "S B"]:
    """u(s, a) = max_k |std_k| over all members, elites or not, reward included. Source: paper, practical algorithm."""
    return std.norm(dim=-1).amax(1)
