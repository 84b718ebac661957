"""Reward regression r(s, a, s') or r(s, a), for generators whose dynamics do not predict rewards."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from core.config import OpenUnit, configuration
from core.data import Dataset
from core.random import Streams
from models.cache import Facts, FitContext
from models.nn import MLP, Standardize
from models.training import EarlyStopped, fit_rows, split_rows

__all__ = ["RewardConfig", "RewardModel"]


@configuration
class RewardConfig(EarlyStopped):
    """Network and budget of the regression; patience is in epochs, as in DyDiff's code."""

    inputs: Literal["sas", "sa"] = "sas"  # "sa" is DyDiff's; ill-posed where reward is a speed
    hidden: tuple[PositiveInt, ...] = (256, 256)
    learning_rate: PositiveFloat = 3e-4
    batch_size: PositiveInt = 256
    validation: OpenUnit = 0.2
    validation_rows: PositiveInt = 5000
    patience: PositiveInt = 8  # DyDiff's: more than 7
    check_every: PositiveInt | None = None  # updates between checks; None: an epoch
    max_updates: PositiveInt = 50_000

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "RewardModel":
        return RewardModel(self, obs_dim, action_dim, rng)

    def fit(self, model: "RewardModel", data: Dataset, context: FitContext) -> Facts:
        """Least squares; the weights of the lowest validation error are kept."""
        rows = data.train
        x = model.inputs(rows.obs, rows.action, rows.next_obs)
        y = rows.reward[:, None]
        train, validation = split_rows(len(x), self.validation, self.validation_rows, context.rng.fork("split"))
        model.input.fit(x, train)
        model.output.fit(y, train)

        def error(chosen: Tensor) -> Float[Tensor, " S"]:
            index = chosen.flatten()
            shape = chosen.shape
            predicted = model.net(model.input(x[index].view(*shape, -1)))
            return (predicted - model.output(y[index].view(*shape, -1))).square().mean((-1, -2))

        return fit_rows(
            self, model, error, train, validation, batch_size=self.batch_size, context=context, label="reward model"
        )


class RewardModel(nn.Module):
    """One network per seed; inputs and outputs in environment units."""

    def __init__(self, config: RewardConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        self.with_next = config.inputs == "sas"
        width = obs_dim * (2 if self.with_next else 1) + action_dim
        self.net = MLP((len(rng.seeds),), [width, *config.hidden, 1], rng)
        self.input = Standardize(width, rng)
        self.output = Standardize(1, rng)

    def inputs(
        self, obs: Float[Tensor, "*SB O"], action: Float[Tensor, "*SB A"], next_obs: Float[Tensor, "*SB O"]
    ) -> Float[Tensor, "*SB F"]:
        return torch.cat([obs, action, next_obs] if self.with_next else [obs, action], -1)

    def forward(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"], next_obs: Float[Tensor, "S B O"]
    ) -> Float[Tensor, "S B"]:
        return self.output.inverse(self.net(self.input(self.inputs(obs, action, next_obs))))[..., 0]
