"""What a generator is: a frozen dataclass that learns from a dataset, and what it learned, which makes rollouts."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from models.cache import ModelCache
from models.diffusion.trajectory import TrajectoryDiffusion
from models.reward import RewardModel
from tasks.base import Task

__all__ = [
    "ActionConditioned",
    "Box",
    "Fitted",
    "FittedSequence",
    "Generator",
    "RolloutCompleter",
    "per_seed",
    "start_states",
]

Box = Literal["obs_and_next", "obs", "none"]

_T = TypeVar("_T", bound="FittedSequence")


@runtime_checkable
class Fitted(Protocol):
    """What `fit` learned; there is no way to generate before fitting."""

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """Rollouts of `length` steps under `policy`, from the given observations where the method can."""


@runtime_checkable
class ActionConditioned(Fitted, Protocol):
    """A fitted generator that can also be given the actions, so that its dynamics can be judged alone."""

    def imagine(self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"], rng: Streams) -> Trajectories:
        """Rollouts that the model predicts under these actions."""


class Generator(ABC):
    """Base of every generator: a frozen dataclass whose fields are what a suite can set.

    The first three attributes must be fields or class attributes of every generator; the others have defaults, and a
    generator overrides them (by a field, a class attribute or a property) where they do not hold. What the properties
    declare is what tests/generators/test_contract.py holds a generator to.
    """

    rollouts: int | None  # start states of every call of generate; 0: real data only; None: as many as training rows
    rollout_length: int  # L
    refresh_every: int | None  # updates between calls of generate; None: once, before training

    filter: Filter = Filter()  # which rollouts of a call are learned from; the caller of `generate` applies it
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # fields by name of the preset

    @property
    def keeps_start(self) -> bool:
        """Whether rollouts begin in the start states that were passed to `generate`."""
        return True

    @property
    def models_termination(self) -> bool:
        """Whether ends of episodes are generated, not decided by the task's rule."""
        return False

    @property
    def causal(self) -> bool:
        """Whether imagined states depend on past actions only."""
        return True

    def starts(self, data: Dataset) -> int:
        """Start states of every call of `generate` on this data."""
        return len(data.train.obs) if self.rollouts is None else self.rollouts

    @abstractmethod
    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> Fitted:
        """Learn whatever is needed; pretrained models come from `models`."""


@dataclass(frozen=True)
class RolloutCompleter:
    """What a model of states and actions leaves open: bounds of the states, ends of episodes, rewards."""

    task: Task
    reward: RewardModel
    low: Float[Tensor, " O"]  # the box that states are clipped to
    high: Float[Tensor, " O"]
    test_clipped: bool  # whether the rule of termination sees clipped states, as in DyDiff's released code

    @classmethod
    def of(
        cls, task: Task, data: Dataset, reward: RewardModel, box: Box, *, test_clipped: bool = False
    ) -> "RolloutCompleter":
        """A box around the training data's observations, with the next ones (terminal states) or without."""
        seen = torch.cat([data.train.obs, data.train.next_obs]) if box == "obs_and_next" else data.train.obs
        low = seen.amin(0)
        high = seen.amax(0)
        if box == "none":
            low = torch.full_like(low, -torch.inf)
            high = torch.full_like(high, torch.inf)
        return cls(task, reward, low, high, test_clipped)

    def __call__(self, action: Float[Tensor, "S B L A"], obs: Float[Tensor, "S B L+1 O"]) -> Trajectories:
        """Rollouts cut where the task's rule says so, with rewards; `info` has the share of clipped state entries."""
        clipped = torch.cat([obs[:, :, :1], obs[:, :, 1:].clamp(self.low, self.high)], 2)
        tested = clipped if self.test_clipped else obs
        ended = self.task.simulator.terminated(tested[:, :, :-1], action, tested[:, :, 1:])
        steps = clipped[:, :, :-1].flatten(1, 2), action.flatten(1, 2), clipped[:, :, 1:].flatten(1, 2)
        made = Trajectories.until_terminated(action, clipped, self.reward(*steps).view_as(ended), ended)
        outside = (clipped != obs)[:, :, 1:].float().mean(-1).where(made.valid, 0.0).flatten(1).sum(1)
        return replace(made, info={"clipped": outside / made.valid.flatten(1).sum(1)})


@dataclass(frozen=True)
class FittedSequence(Fitted):
    """Base of what generators with a model of trajectories have learned."""

    config: Any  # with fields `model`, `reward`, `box` and `sampler`
    model: TrajectoryDiffusion
    complete: RolloutCompleter

    @classmethod
    def fit(cls: type[_T], config: Any, task: Task, data: Dataset, models: ModelCache) -> _T:
        model = models.get(config.model, data)
        return cls(config, model, RolloutCompleter.of(task, data, models.get(config.reward, data), config.box))

    def completed(self, action: Float[Tensor, "S B L A"], obs: Float[Tensor, "S B L+1 O"], length: int) -> Trajectories:
        """Rollouts with rewards and ends; `info` has the cost of a transition, for calls of `length` steps."""
        made = self.complete(action, obs)
        return replace(made, info=made.info | per_seed(made, **self.model.cost(self.config.sampler, length)))


def per_seed(made: Trajectories, **values: int | float) -> dict[str, Float[Tensor, " S"]]:
    """Numbers that are the same for all seeds, as `info`."""
    return {name: made.reward.new_full(made.reward.shape[:1], value) for name, value in values.items()}


def start_states(data: Dataset, rows: int, rng: Streams) -> Float[Tensor, "S B O"]:
    """States of the training data, drawn uniformly for every seed: where synthetic rollouts begin."""
    return data.train.obs[(rng.uniform64(rows) * len(data.train.obs)).long()]
