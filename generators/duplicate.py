"""Real rows once more: a control that adds rows and no information, so its scores must be those of real data only.

What a comparison shows between `none` and `duplicate` is the noise of the comparison, or a fault of the buffer. Not so
for an algorithm that learns from a part of the real rows (`bc.top_share` below 1): copies are of all of them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories, Transitions
from core.policy import Policy
from core.random import Streams
from generators.base import Fitted, Generator
from generators.synther import single_steps
from models.cache import ModelCache
from tasks.base import Task

__all__ = ["Duplicate"]


@configuration
class Duplicate(Generator):
    """Copies of training rows; by default every row once, for a part of them would be narrower data than all."""

    rollouts: PositiveInt | None = None  # rows of every call; None: as many as there are
    refresh_every: PositiveInt | None = None  # other rows, if anything

    rollout_length = 1
    keeps_start = False  # obs[:, :, 0] are those of the rows it copies
    models_termination = True  # ends of episodes are those of the data

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        return _Fitted(data.train)


@dataclass(frozen=True)
class _Fitted(Fitted):
    rows: Transitions

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """As many rows as start states were given, in random order: none a second time before all were there once."""
        order = rng.uniform64(len(self.rows.obs)).argsort(-1)
        chosen = order[:, torch.arange(start.shape[1], device=order.device) % order.shape[1]]
        return single_steps(self.rows.map(lambda x: x[chosen]), length)
