"""Inverse dynamics a(s, s'): which action led from one state to the next.

Source: Li et al. 2025 (DAWM, arXiv:2509.19538), which completes generated states with actions. We differ on purpose:
the network corrects a least-squares solution, so that linear dynamics without noise are inverted to rounding.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from core.config import OpenUnit, configuration
from core.data import Dataset
from core.random import Streams
from models.bitwise import affine
from models.cache import Facts, FitContext
from models.nn import MLP, Standardize
from models.training import EarlyStopped, fit_rows, split_rows

__all__ = ["InverseDynamics", "InverseDynamicsConfig"]

_RIDGE = 1e-8  # of the least squares, per row: constant and collinear columns then have a solution


@configuration
class InverseDynamicsConfig(EarlyStopped):
    """Network and budget of the regression."""

    hidden: tuple[PositiveInt, ...] = (256, 256)
    learning_rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 256
    validation: OpenUnit = 0.2
    validation_rows: PositiveInt = 5000
    patience: PositiveInt = 8
    check_every: PositiveInt | None = None  # updates between checks; None: an epoch
    max_updates: PositiveInt = 50_000

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "InverseDynamics":
        return InverseDynamics(self, obs_dim, action_dim, rng)

    def sizes(self, obs_dim: int, action_dim: int) -> list[int]:
        """Widths of the network's layers, input and output included."""
        return [2 * obs_dim, *self.hidden, action_dim]

    def flops(self, obs_dim: int, action_dim: int) -> int:
        """Of one row: two per multiply-add of the matrix products, those of the linear part included."""
        products = sum(fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes(obs_dim, action_dim)))
        return 2 * (products + 2 * obs_dim * action_dim)

    def fit(self, model: "InverseDynamics", data: Dataset, context: FitContext) -> Facts:
        """Least squares, then the network on what is left; the weights of the lowest validation error are kept."""
        x = torch.cat([data.train.obs, data.train.next_obs - data.train.obs], -1)
        y = data.train.action
        train, validation = split_rows(len(x), self.validation, self.validation_rows, context.rng.fork("split"))
        model.input.fit(x, train)
        for seed, chosen in enumerate(train):
            model.fit_linear(seed, x[chosen], y[chosen])

        def error(chosen: Tensor) -> Float[Tensor, " S"]:
            rows = x[chosen.flatten()].view(*chosen.shape, -1)
            taken = y[chosen.flatten()].view(*chosen.shape, -1)
            seen = model.input(rows)
            left = (taken - model.linear(seen)) / model.residual
            return (model.net(seen) - left).square().mean((-1, -2))

        return fit_rows(
            self, model, error, train, validation, batch_size=self.batch_size, context=context, label="inverse dynamics"
        )


class InverseDynamics(nn.Module):
    """One network per seed beside a linear map; inputs and outputs in environment units."""

    weight: Tensor
    bias: Tensor
    residual: Tensor

    def __init__(self, config: InverseDynamicsConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        seeds = len(rng.seeds)
        self.config = config
        self.net = MLP((seeds,), config.sizes(obs_dim, action_dim), rng)
        self.input = Standardize(2 * obs_dim, rng)
        self.register_buffer("weight", torch.zeros(seeds, 2 * obs_dim, action_dim, device=rng.device))
        self.register_buffer("bias", torch.zeros(seeds, 1, action_dim, device=rng.device))
        self.register_buffer(
            "residual", torch.ones(seeds, 1, action_dim, device=rng.device)
        )  # deviation of what is left

    def fit_linear(self, seed: int, x: Float[Tensor, "N F"], y: Float[Tensor, "N A"]) -> None:
        """The least squares of one seed's rows, in double precision, and the deviation of what they leave."""
        seen = (x.double() - self.input.mean[seed]) / self.input.scale[seed]
        middle = y.double().mean(0)
        ridge = _RIDGE * len(seen) * torch.eye(seen.shape[-1], dtype=seen.dtype, device=seen.device)
        solution = torch.linalg.solve(seen.T @ seen + ridge, seen.T @ (y.double() - middle))
        left = (y.double() - middle - seen @ solution).std(0)
        self.weight[seed] = solution.float()
        self.bias[seed] = middle.float()
        self.residual[seed] = left.float().clamp(min=1e-12)

    def linear(self, seen: Float[Tensor, "S B F"]) -> Float[Tensor, "S B A"]:
        """The least-squares action of standardised inputs."""
        return affine(self.bias, seen, self.weight)

    def forward(self, obs: Float[Tensor, "S B O"], next_obs: Float[Tensor, "S B O"]) -> Float[Tensor, "S B A"]:
        """The expected action, not clipped."""
        seen = self.input(torch.cat([obs, next_obs - obs], -1))
        return self.linear(seen) + self.residual * self.net(seen)
