"""BC: regression on the actions of the batch, synthetic rows included; what every offline method should beat."""

from dataclasses import dataclass as plain_dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from core.config import STRICT, Count, NonNegative, Positive
from core.data import Dataset, Transitions
from core.random import Streams
from models.actors import DeterministicActor
from models.nn import Init, adam, descend

__all__ = ["BC"]


@dataclass(frozen=True, config=STRICT)
class BC:
    """Defaults are the settings of CORL's BC, which are those of TD3+BC's actor."""

    learning_rate: Positive = 3e-4
    batch_size: Count = 256
    hidden: tuple[Count, ...] = (256, 256)
    epsilon: NonNegative = 1e-3  # added to the deviation that normalises states
    weights: Init = "torch"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"hidden": [64, 64], "learning_rate": 1e-3},  # seconds on a CPU, for tests
    }

    def init(self, data: Dataset, rng: Streams) -> "_State":
        """A deterministic policy and its optimiser for all seeds."""
        actor = DeterministicActor(data, self.hidden, rng.fork("actor"), epsilon=self.epsilon, init=self.weights)
        return _State(actor, adam(actor.parameters(), self.learning_rate))

    def update(self, state: "_State", batch: Transitions, rng: Streams) -> dict[str, Float[Tensor, " S"]]:
        """One step on the mean of (pi(s) - a)^2 over rows and dimensions of the action."""
        loss = (state.policy(batch.obs) - batch.action).square().mean((-1, -2))
        descend(state.optimizer, loss)
        return {"actor": loss.detach()}


@plain_dataclass
class _State:
    policy: DeterministicActor
    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        return {"actor": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}
