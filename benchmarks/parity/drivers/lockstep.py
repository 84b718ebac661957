"""A peer's first updates, written so that another program can repeat them: weights before and after, and the batches.

Every random number is the same one, because two programs draw in another order: normal draws are `NORMAL`, uniform ones
`UNIFORM`, integers `INTEGER`; or, where an update needs noise of many levels, they differ from row to row (`by_row`).
All is computed in double precision: in single precision roundings alone take two programs apart within some hundred
updates.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.parity.drivers import shims

__all__ = [
    "INTEGER",
    "NORMAL",
    "UNIFORM",
    "Lockstep",
    "by_row",
    "constant_draws",
    "double_precision",
    "draws_by_row",
    "linear",
    "spread",
    "toy_denoiser",
]

NORMAL = 0.3  # every draw of N(0, 1)
UNIFORM = 0.6  # ... of U(0, 1)
INTEGER = 2  # ... of 0 .. n-1, modulo n
_COLUMNS = ("obs", "action", "reward", "next_obs", "terminated")


class Lockstep:
    """Records `updates` updates of the networks that `networks()` returns by name."""

    def __init__(self, record: shims.Recorder, updates: int, networks: Callable[[], Mapping[str, nn.Module]]) -> None:
        self.record = record
        self.updates = updates
        self.networks = networks
        self.batches: list[list[np.ndarray]] = []
        self.start = self._weights("start")

    def batch(self, *columns: torch.Tensor) -> list[torch.Tensor]:
        """Of one update, in the order of a transition; returns it in double precision."""
        self.batches.append([column.numpy().copy() for column in columns])
        return [column.double() for column in columns]

    def finish(self, **more: np.ndarray) -> None:
        """Write everything, and what else is given. Raises Finished."""
        stacked = {name: np.stack(parts) for name, parts in zip(_COLUMNS, zip(*self.batches, strict=True), strict=True)}
        self.record.arrays("lockstep", **self.start, **self._weights("end"), **stacked, **more)
        raise shims.Finished

    def _weights(self, when: str) -> dict[str, np.ndarray]:
        found = self.networks().items()
        return {key: x for name, network in found for key, x in linear(f"{when}_{name}_", network).items()}


def linear(prefix: str, network: nn.Module) -> dict[str, np.ndarray]:
    """Copies of the weights [out, in] and biases of a network's linear layers, in their order."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    weights = {f"{prefix}weight{i}": layer.weight.detach().numpy().copy() for i, layer in enumerate(layers)}
    return weights | {f"{prefix}bias{i}": layer.bias.detach().numpy().copy() for i, layer in enumerate(layers)}


def constant_draws() -> None:
    """From here on torch and numpy's coin draw the constants."""

    def normal(*shape: Any, **given: Any) -> torch.Tensor:
        return torch.full(tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape, NORMAL)

    distributions: Any = torch.distributions.normal
    distributions._standard_normal = lambda shape, dtype, device: torch.full(tuple(shape), NORMAL)
    changed: dict[str, Any] = {
        "randn": normal,
        "randn_like": lambda x, **given: torch.full_like(x, NORMAL),
        "randint": lambda low, high, size, **given: torch.full(tuple(size), INTEGER % high),
    }
    for name, draw in changed.items():
        setattr(torch, name, draw)
    tensor: Any = torch.Tensor
    tensor.uniform_ = lambda self, low=0.0, high=1.0: self.fill_(low + UNIFORM * (high - low))
    coin: Any = np.random
    coin.uniform = lambda *given: UNIFORM


def spread(first: int, count: int) -> torch.Tensor:
    """Numbers `first` .. of a sequence that fills [0, 1) evenly, double precision."""
    golden = (5**0.5 - 1) / 2
    return (0.5 + golden * torch.arange(first, first + count, dtype=torch.float64)) % 1


def by_row(*shape: int) -> torch.Tensor:
    """Draws of N(0, 1) that differ along the first axis and no other, double precision."""
    column = torch.special.ndtri(spread(0, shape[0]))
    return column.view(-1, *[1] * (len(shape) - 1)).expand(shape).clone()


def draws_by_row() -> None:
    """From here on torch draws normal numbers `by_row`."""
    changed: dict[str, Any] = {
        "randn": lambda *shape, **given: by_row(*(shape if isinstance(shape[0], int) else shape[0])),
        "randn_like": lambda x, **given: by_row(*x.shape),
    }
    for name, draw in changed.items():
        setattr(torch, name, draw)


def double_precision(parts: Iterable[Any] = ()) -> None:
    """From here on numbers are of double precision, and so are the weights of those parts that are networks."""
    torch.set_default_dtype(torch.float64)
    tensor: Any = torch.Tensor
    tensor.float = torch.Tensor.double  # peers write masks so
    for part in parts:
        if isinstance(part, nn.Module):
            part.double()


def toy_denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Any smooth denoiser of rows [..., D], for samplers that are compared; `sigma` has the axes of x."""
    width = x.shape[-1]
    mixing = 0.2 * torch.arange(width * width, dtype=torch.float64).sin().view(width, width)
    share = 0.25 / (sigma.double() ** 2 + 0.25)
    mixed = torch.tanh((x.double() / (0.25 + sigma.double() ** 2).sqrt()) @ mixing)
    return (share * x.double() + (1 - share) * mixed).to(x.dtype)
