"""BC: regression on the actions of the batch; what every offline method should beat.

It imitates all rows, synthetic ones included, whatever the setting `regularise` says, for it has no other term.

With `top_share` below one it is filtered or "percentile" BC (Chen et al. 2021, arXiv:2106.01345, section 5).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from algorithms.base import StateDictMixin, StepwiseAlgorithm, episode_returns
from core.config import LeftOpenUnit, configuration
from core.data import Dataset, Transitions
from core.random import Streams
from models.actors import DeterministicActor
from models.nn import Init, adam, descend

__all__ = ["BC"]


@configuration
class BC(StepwiseAlgorithm):
    """Defaults are the settings of CORL's BC, which are those of TD3+BC's actor."""

    top_share: LeftOpenUnit = 1.0  # share of the real rows that is learned from: those of the best episodes
    learning_rate: PositiveFloat = 3e-4
    batch_size: PositiveInt = 256
    hidden: tuple[PositiveInt, ...] = (256, 256)
    epsilon: NonNegativeFloat = 1e-3  # added to the deviation that normalises states
    weights: Init = "torch"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"hidden": [64, 64], "learning_rate": 1e-3},  # seconds on a CPU, for tests
        "filtered": {"top_share": 0.1},
    }

    def rows(self, data: Dataset) -> Transitions:
        """The training rows of the best episodes, in their old order.

        Episodes are taken by falling return (of two equal ones the earlier first) until the next would exceed
        `top_share` of all rows; the best one is always among them. Source: Decision Transformer's released code, which
        counts rows; others count episodes.
        """
        returns, rows = episode_returns(data)
        order = returns.argsort(descending=True, stable=True)
        taken = rows[order].cumsum(0) <= int(self.top_share * len(data.episode))
        taken[0] = True
        kept = torch.zeros(len(rows), dtype=torch.bool)
        kept[order[taken]] = True
        mask = kept.repeat_interleave(rows).to(data.train.obs.device)
        return data.train.map(lambda x: x[mask])

    def init(self, data: Dataset, rng: Streams) -> "_State":
        """A deterministic policy and its optimiser for all seeds."""
        actor = DeterministicActor(data, self.hidden, rng.fork("actor"), epsilon=self.epsilon, init=self.weights)
        return _State(actor, adam(actor.parameters(), self.learning_rate))

    def step(self, state: "_State", batch: Transitions, rng: Streams, due: None) -> dict[str, Float[Tensor, " S"]]:
        """One step on the mean of (pi(s) - a)^2 over rows and dimensions of the action."""
        return {"actor": descend(state.optimizer, self.loss, state, batch)}

    def loss(self, state: "_State", batch: Transitions) -> Float[Tensor, " S"]:
        return (state.policy(batch.obs) - batch.action).square().mean((-1, -2))


@dataclass
class _State(StateDictMixin):
    changing = ("policy", "optimizer")

    policy: DeterministicActor
    optimizer: torch.optim.Optimizer
