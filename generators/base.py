"""What a generator is: a frozen dataclass that learns from a dataset, and what it learned, which makes rollouts."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from core.data import Dataset, Trajectories
from core.policy import Policy
from core.random import Streams
from models.cache import ModelCache
from tasks.base import Task

__all__ = ["ActionConditioned", "Fitted", "Generator"]


@runtime_checkable
class Fitted(Protocol):
    """What `fit` learned; there is no way to generate before fitting."""

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """Rollouts of `length` steps under `policy`, from the given observations where the method can."""


@runtime_checkable
class ActionConditioned(Fitted, Protocol):
    """A fitted generator that can also be told the actions, so that its dynamics can be judged alone."""

    def imagine(self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"], rng: Streams) -> Trajectories:
        """What the model believes a given string of actions leads to."""


@runtime_checkable
class Generator(Protocol):
    """Configuration and behaviour in one; its fields are what a suite can set.

    Two more attributes say what is not as usual: `keeps_start = False`, first states are not those that were asked for;
    `models_termination = True`, ends of episodes are generated instead of decided by the task's rule.
    """

    rollouts: int  # start states of every call of generate; 0: real data only
    rollout_length: int  # L
    refresh_every: int | None  # updates between calls of generate; None: once, before training

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> Fitted:
        """Learn whatever is needed; pretrained models come from `models`."""
