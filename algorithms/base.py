"""What a base algorithm is: a frozen dataclass that makes its networks and updates them from batches."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from core.data import Dataset, Transitions
from core.policy import Policy
from core.random import Streams

__all__ = ["Algorithm", "State"]


@runtime_checkable
class State(Protocol):
    """Networks, targets and optimisers of all seeds."""

    policy: Policy

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during training."""


@runtime_checkable
class Algorithm(Protocol):
    """Configuration and behaviour in one; its fields are what a suite can set."""

    batch_size: int

    def init(self, data: Dataset, rng: Streams) -> Any:
        """A fresh `State` for every seed; normalisers use the real data, whatever is trained on later."""

    def update(self, state: Any, batch: Transitions, rng: Streams) -> dict[str, Float[Tensor, " S"]]:
        """One gradient step on a batch of each seed; returns losses that nobody has waited for."""
