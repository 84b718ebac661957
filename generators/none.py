"""Real data only: the baseline of every comparison."""

from jaxtyping import Float
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories
from core.policy import Policy
from core.random import Streams
from generators.base import Generator
from models.cache import ModelCache
from tasks.base import Task

__all__ = ["RealOnly"]


@configuration
class RealOnly(Generator):
    """Generates nothing, so every batch is real whatever `real_fraction` says."""

    rollouts = 0
    rollout_length = 1
    refresh_every = None

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "RealOnly":
        return self

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """An empty set of rollouts."""
        seeds, _, obs_dim = start.shape
        action = policy.act(start[:, :1], None)[:, :0, None].expand(seeds, 0, length, -1)
        empty = start.new_zeros(seeds, 0, length)
        return Trajectories(action, start.new_zeros(seeds, 0, length + 1, obs_dim), empty, empty.bool(), empty.bool())
