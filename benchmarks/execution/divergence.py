"""Seeds whose training stops being finite: detected where the host synchronises anyway, and frozen."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from algorithms.base import State

__all__ = ["DivergenceMonitor"]


class DivergenceMonitor:
    """Checks a state now and then, and keeps a copy of each seed at its last finite check.

    There is no limit on |Q| of its own: an error above 1.8e19 has no finite square in float32, so the losses show it.
    Values that grow and stay finite are a result like any other; `train/q` shows them.
    """

    def __init__(self, state: State, seeds: tuple[int, ...]) -> None:
        self._state = state
        self._seeds = seeds
        self._good = dict[str, Tensor]()
        self.diverged: dict[int, str] = {}  # seed -> the first of losses and state that was not finite
        self.look({})

    def state_dict(self) -> dict[str, Any]:
        """The last finite copy and the seeds that have diverged."""
        return {"good": self._good, "diverged": self.diverged}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, each tensor on its own device."""
        devices = {name: tensor.device for name, tensor in _tensors(self._state.state_dict(), len(self._seeds))}
        self._good = {name: tensor.to(devices[name]) for name, tensor in state["good"].items()}
        self.diverged = dict(state["diverged"])

    def look(self, losses: Mapping[str, Float[Tensor, " S"]]) -> dict[int, str]:
        """Seeds that have diverged since the last look, with the name of the tensor; synchronises.

        Seeds that have ever diverged are reset to their last finite copy, so that their policy returns finite actions.
        The other seeds are not touched.
        """
        tensors = dict(_tensors(self._state.state_dict(), len(self._seeds)))
        if not (named := {**losses, **tensors}):
            return {}
        finite = torch.stack([x.isfinite().reshape(len(x), -1).all(1) for x in named.values()], 1)
        new = {
            seed: next(name for name, fine in zip(named, row, strict=True) if not fine)
            for seed, row in zip(self._seeds, finite.tolist(), strict=True)
            if not all(row) and seed not in self.diverged
        }
        self.diverged |= new
        frozen = torch.tensor([seed in self.diverged for seed in self._seeds], device=finite.device)
        for name, tensor in tensors.items():
            if name not in self._good:  # optimisers create theirs in the first step
                self._good[name] = torch.zeros_like(tensor)
            tensor[frozen] = self._good[name][frozen]
            self._good[name].copy_(tensor)
        return new


def _tensors(tree: Any, seeds: int, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor with a seed axis in nested dictionaries and lists, by its path."""
    if isinstance(tree, Tensor):
        if tree.ndim and len(tree) == seeds:
            yield path, tree.detach()
        return
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in items:
        yield from _tensors(value, seeds, f"{path}/{key}" if path else str(key))
