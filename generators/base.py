"""What a generator is: a frozen dataclass that learns from a dataset, and what it learned, which makes rollouts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from models.cache import ModelCache
from models.diffusion.trajectory import TrajectoryDiffusion
from models.reward import RewardModel
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = [
    "ActionConditioned",
    "Box",
    "Fitted",
    "FittedSequence",
    "Generator",
    "RolloutCompleter",
    "TerminationRule",
    "extended",
    "per_seed",
    "start_states",
    "termination_rule",
]

Box = Literal["obs_and_next", "obs", "none"]
TerminationRule = Callable[..., Bool[Tensor, "S *B"]]  # of obs and action [S, *B, F], and next_obs

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
    def on_policy(self) -> bool:
        """Whether every stored action is the learning policy's own in the state that is stored beside it."""
        return False

    @property
    def models_termination(self) -> bool:
        """Whether ends of episodes are generated, not decided by `termination_rule`."""
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

    ended: TerminationRule
    reward: RewardModel | None  # None: rewards are generated, too
    low: Float[Tensor, " O"]  # the box that states are clipped to
    high: Float[Tensor, " O"]
    test_clipped: bool  # whether the rule of termination sees clipped states, as in DyDiff's released code
    keeps_start: bool  # whether rollouts begin in given states, which are never clipped

    @classmethod
    def of(
        cls,
        ended: TerminationRule,
        data: Dataset,
        reward: RewardModel | None,
        box: Box,
        *,
        test_clipped: bool = False,
        keeps_start: bool = True,
    ) -> "RolloutCompleter":
        """A box around the training data's observations, with the next ones (terminal states) or without."""
        seen = torch.cat([data.train.obs, data.train.next_obs]) if box == "obs_and_next" else data.train.obs
        low = seen.amin(0)
        high = seen.amax(0)
        if box == "none":
            low = torch.full_like(low, -torch.inf)
            high = torch.full_like(high, torch.inf)
        return cls(ended, reward, low, high, test_clipped, keeps_start)

    def clip(self, obs: Float[Tensor, "*SB O"]) -> Float[Tensor, "*SB O"]:
        """Generated states moved into the box: what is stored, and hence what a policy or the next draw must be given.

        A state that is clipped after the policy has acted in it is stored beside the action of another state.
        """
        return obs.clamp(self.low, self.high)

    def clipped(self, obs: Float[Tensor, "S B T O"]) -> Float[Tensor, "S B T O"]:
        """Rollouts' states as they are stored: all of them clipped, but for a given start."""
        return torch.cat([obs[:, :, :1], self.clip(obs[:, :, 1:])], 2) if self.keeps_start else self.clip(obs)

    def __call__(
        self,
        action: Float[Tensor, "S B L A"],
        obs: Float[Tensor, "S B L+1 O"],
        reward: Float[Tensor, "S B L"] | None = None,
    ) -> Trajectories:
        """Rollouts cut where they have ended; `info` has the share of clipped state entries.

        `obs` are the states before clipping: the rule sees the state that a step led to as it was drawn. Without a
        given `reward` it is that of the reward model.
        """
        kept = self.clipped(obs)
        reached = kept if self.test_clipped else obs
        ended = self.ended(kept[:, :, :-1], action, reached[:, :, 1:])
        if self.reward is not None:
            steps = kept[:, :, :-1].flatten(1, 2), action.flatten(1, 2), kept[:, :, 1:].flatten(1, 2)
            reward = self.reward(*steps).view_as(ended)
        if reward is None:
            raise ValueError("reward must be given where there is no reward model, got None")
        made = Trajectories.until_terminated(action, kept, reward, ended)
        counted = pad(made.valid, (1, 0), value=not self.keeps_start)  # generated states that are stored
        outside = (kept != obs).float().mean(-1).where(counted, 0.0)
        return replace(made, info={"clipped": outside.flatten(1).sum(1) / counted.flatten(1).sum(1)})


@dataclass(frozen=True)
class FittedSequence(Fitted):
    """Base of what generators with a model of trajectories have learned."""

    config: Any  # with fields `model`, `reward`, `termination`, `box` and `sampler`
    model: TrajectoryDiffusion
    complete: RolloutCompleter

    @classmethod
    def fit(cls: type[_T], config: Any, task: Task, data: Dataset, models: ModelCache) -> _T:
        model = models.get(config.model, data)
        reward = models.get(config.reward, data)
        ended = termination_rule(task, data, models, config.termination)
        return cls(config, model, RolloutCompleter.of(ended, data, reward, config.box, keeps_start=config.keeps_start))

    def drawn(
        self,
        start: Float[Tensor, "S B O"],
        length: int,
        rng: Streams,
        guide: Callable[[Tensor, Tensor, int], Tensor] | None = None,
    ) -> Trajectories:
        """Rollouts whose actions are generated, too. Without a given start only the first block of them is valid."""
        own = length if self.config.keeps_start else min(length, self.model.block)
        sampler = self.config.sampler
        obs, action = self.model.sample(start, None, own, sampler, rng, guide=guide, clip=self.complete.clip)
        made = self.completed(action, obs, own)
        return replace(extended(made, length), info=made.info)

    def completed(self, action: Float[Tensor, "S B L A"], obs: Float[Tensor, "S B L+1 O"], length: int) -> Trajectories:
        """Rollouts of unclipped states, with rewards and ends; `info` has a transition's cost, in calls of `length`."""
        made = self.complete(action, obs)
        return replace(made, info=made.info | per_seed(made, **self.model.cost(self.config.sampler, length)))


def extended(made: Trajectories, length: int) -> Trajectories:
    """Rollouts of the requested length: the last row is repeated, and not valid."""
    missing = length - made.action.shape[2]
    return Trajectories(
        torch.cat([made.action, made.action[:, :, -1:].expand(-1, -1, missing, -1)], 2),
        torch.cat([made.obs, made.obs[:, :, -1:].expand(-1, -1, missing, -1)], 2),
        *(pad(x, (0, missing)) for x in (made.reward, made.terminated, made.valid)),
    )


def termination_rule(task: Task, data: Dataset, models: ModelCache, config: TerminationConfig) -> TerminationRule:
    """Which steps end a rollout: the environment's rule where it is known, else what the data's flags teach."""
    if task.simulator.has_termination_rule:
        return task.simulator.terminated
    learned: TerminationRule = models.get(config, data)
    return learned


def per_seed(made: Trajectories, **values: int | float) -> dict[str, Float[Tensor, " S"]]:
    """Numbers that are the same for all seeds, as `info`."""
    return {name: made.reward.new_full(made.reward.shape[:1], value) for name, value in values.items()}


def start_states(data: Dataset, rows: int, rng: Streams) -> Float[Tensor, "S B O"]:
    """States of the training data, drawn uniformly for every seed: where synthetic rollouts begin."""
    return data.train.obs[(rng.uniform64(rows) * len(data.train.obs)).long()]
