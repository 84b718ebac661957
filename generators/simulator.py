"""The simulator itself in the place of a model: the ceiling of what rollouts under the learning policy can give.

No source: an oracle to compare with. What a generator lacks to it is the price of its model's errors.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from pydantic import PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories
from core.errors import SpecError
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Generator, per_seed
from models.cache import ModelCache
from tasks.base import Task
from tasks.simulators.base import Simulator, replayed, simulate

__all__ = ["TrueSimulator"]


@configuration
class TrueSimulator(Generator):
    """True dynamics, rewards and ends under the learning policy, from states of the data; nothing is learned.

    A start whose observation determines no state of the simulator (Hopper and Walker2d clip velocities) begins in the
    state that the file has stored with it. Where there is none, the rollout is not valid.
    """

    rollouts: PositiveInt = 10_000  # B, start states of every refresh
    rollout_length: PositiveInt = 5  # L
    refresh_every: PositiveInt | None = 1000

    on_policy = True

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"rollouts": 500, "refresh_every": 200},  # as many as the ensemble's presets generate
        "small": {"rollouts": 1000, "rollout_length": 10, "refresh_every": 500},
    }

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        """Only remembers the stored states.

        Raises:
            SpecError: no training state is one that the task's simulator can be set to.
        """
        index = {row.tobytes(): at for at, row in enumerate(data.recorded_obs.numpy())}
        fitted = _Fitted(task.simulator, index, data.recorded_state)
        _, exact = fitted.state_at(data.train.obs)
        if not exact.any():
            rule = "simulator must be given a task whose simulator can be set to states of the data"
            raise SpecError(f"{rule}, got {task.name} ({task.simulator.physics}): 0 of {len(exact)} training states")
        return fitted


@dataclass(frozen=True)
class _Fitted(ActionConditioned):
    simulator: Simulator
    index: dict[bytes, int]  # row of `recorded_state` by the bytes of its observation
    recorded_state: Float64[Tensor, "R X"]

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """The policy explores as it does in training; `info` has the share of starts without an exact state."""
        state, exact = self.state_at(start)
        return _rollouts(simulate(self.simulator, policy, state, length, rng, greedy=False), start, exact)

    def imagine(self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"], rng: Streams) -> Trajectories:
        """Without process noise, for the simulator's replay has none."""
        state, exact = self.state_at(start)
        made = replayed(self.simulator, state, action)
        made = Trajectories.until_terminated(made.action, made.obs, made.reward, made.terminated)
        return _rollouts(made, start, exact)

    def state_at(self, obs: Float[Tensor, "*N O"]) -> tuple[Float64[Tensor, "*N X"], Bool[Tensor, "*N"]]:
        """The simulator's state, on the CPU, and whether it is known exactly."""
        state, exact = self.simulator.restore(obs)
        lost = (~exact).nonzero(as_tuple=True)
        seen = obs.cpu()[lost].numpy()
        row = torch.from_numpy(np.array([self.index.get(each.tobytes(), -1) for each in seen], dtype=np.int64))
        known = row >= 0
        at = tuple(axis[known] for axis in lost)
        state[at] = self.recorded_state[row[known]]
        exact[at] = True
        return state, exact


def _rollouts(made: Trajectories, start: Float[Tensor, "S B O"], exact: Bool[Tensor, "S B"]) -> Trajectories:
    """From the start states as they were given, the simulator's without rounding; not valid unless exact."""
    info = per_seed(made, evaluations=0.0, flops=0.0) | {"inexact": 1 - exact.to(start).mean(1)}
    obs = torch.cat([start[:, :, None], made.obs[:, :, 1:]], 2)
    return replace(made, obs=obs, valid=made.valid & exact.to(made.valid.device)[..., None], info=info)
