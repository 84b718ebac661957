"""What a base algorithm is: a frozen dataclass that makes its networks and updates them from batches."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from core.data import Dataset, Transitions
from core.errors import DataError
from core.policy import Policy
from core.random import Streams
from models.nn import MLP, Standardize

__all__ = [
    "Algorithm",
    "CriticState",
    "RewardScale",
    "State",
    "StateDictMixin",
    "StepwiseAlgorithm",
    "TwinCriticMixin",
    "episode_returns",
    "reward_scale",
]

RewardScale = Literal["raw", "return_range"]  # "return_range": 1000 is the span of the training episodes' returns


@runtime_checkable
class State(Protocol):
    """Networks, targets and optimisers of all seeds."""

    policy: Policy

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during training: the tensors themselves, seeds first in each that has an axis."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, in a state that `init` has made."""


class TwinCriticMixin:
    """Values of several actions in every state, for a `State` with twin critics of normalised states."""

    critic: MLP
    normaliser: Standardize

    def value(
        self, critic: MLP, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S n B A"]
    ) -> Float[Tensor, "S 2 n B"]:
        """Both critics, for n actions in every state."""
        seeds, count, rows, _ = action.shape
        repeated = self.normaliser(obs)[:, None].expand(seeds, count, rows, obs.shape[-1])
        flat = torch.cat([repeated, action], -1).flatten(1, 2)
        return critic(flat[:, None])[..., 0].view(seeds, 2, count, rows)

    @torch.no_grad()
    def action_value(self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S B"]:
        """The smaller of both critics."""
        return self.value(self.critic, obs, action[:, None]).amin(1)[:, 0]


@runtime_checkable
class CriticState(State, Protocol):
    """A state with a critic."""

    def action_value(self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S B"]:
        """The critic's value of an action."""


class StateDictMixin:
    """Saves and restores the attributes named in `changing`: networks, optimisers, tensors, counters."""

    changing: ClassVar[tuple[str, ...]]

    def state_dict(self) -> dict[str, Any]:
        return {name: _state_of(getattr(self, name)) for name in self.changing}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.changing:
            part = getattr(self, name)
            if isinstance(part, Tensor):
                part.data.copy_(state[name])
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(state[name])
            else:
                setattr(self, name, state[name])


class Algorithm(ABC):
    """Base of every algorithm: a frozen dataclass whose fields are what a suite can set."""

    batch_size: int  # must be a field or a class attribute of every algorithm
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # fields by name of the preset

    def rows(self, data: Dataset) -> Transitions:
        """The real transitions that batches are drawn from."""
        return data.train

    @abstractmethod
    def init(self, data: Dataset, rng: Streams) -> Any:
        """A fresh `State` for every seed; normalisers use the real data, whatever is trained on later."""

    @abstractmethod
    def update(self, state: Any, batch: Transitions, rng: Streams) -> dict[str, Float[Tensor, " S"]]:
        """One gradient step on a batch of each seed; returns losses without synchronising."""


class StepwiseAlgorithm(Algorithm):
    """An algorithm whose `update` is `schedule`, which counts and chooses on the host, and `step`, work for the device.

    A GPU can then replay `step` as one graph for each of `schedule`'s answers. So `step` changes tensors in place, and
    nothing else; its losses are functions that `models.nn.descend` is given, so that they can be compiled.
    """

    def schedule(self, state: Any) -> Hashable:
        """Count the update, set learning rates; says which of its branches `step` takes."""
        return None

    @abstractmethod
    def step(self, state: Any, batch: Transitions, rng: Streams, due: Any) -> dict[str, Float[Tensor, " S"]]:
        """The update itself; `due` is what `schedule` said."""

    def update(self, state: Any, batch: Transitions, rng: Streams) -> dict[str, Float[Tensor, " S"]]:
        return self.step(state, batch, rng, self.schedule(state))


def episode_returns(data: Dataset) -> tuple[Float64[Tensor, " E"], Int[Tensor, " E"]]:
    """Undiscounted return and number of training rows of every training episode, in the order of the rows; on the CPU.

    An episode that the end of the file cut short counts with the rows it has.
    """
    number = data.episode.cpu()
    episode = number.diff(prepend=number[:1]).ne(0).cumsum(0)
    return episode.bincount(data.train.reward.cpu().double()), episode.bincount()


def reward_scale(name: str, reward: RewardScale, data: Dataset) -> float:
    """The factor of every reward, synthetic ones included: 1, or 1000 / (best - worst return of an episode).

    Raises:
        DataError: "return_range", and the training episodes all have the same return; `name` is the algorithm's.
    """
    if reward == "raw":
        return 1.0
    returns, _ = episode_returns(data)
    span = (returns.max() - returns.min()).item()
    if span == 0:
        raise DataError(f"{name}.reward='return_range' needs episodes of different returns, got {len(returns)} equal")
    return 1000 / span


def _state_of(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.detach()
    return part.state_dict() if hasattr(part, "state_dict") else part
