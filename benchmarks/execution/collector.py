"""The records of a running cell: values of all seeds in, one record per seed that has not diverged out."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from benchmarks.records import DIVERGED, Record
from core.progress import sign_of_life

__all__ = ["RecordCollector"]


class RecordCollector:
    """Records so far, and the seeds that are still going; `observe` is given each step's as they come in."""

    def __init__(self, seeds: tuple[int, ...], observe: Callable[[list[Record]], None] | None = None) -> None:
        self.seeds = seeds
        self.going = set(seeds)
        self.records = list[Record]()
        self._observe = observe

    def state_dict(self) -> dict[str, Any]:
        """Records as their lines, so that a checkpoint holds texts and numbers only."""
        return {"lines": [record.line() for record in self.records], "going": sorted(self.going)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all records by those of a checkpoint."""
        self.records = [Record.parse(line) for line in state["lines"]]
        self.going = set(state["going"])

    def any_going(self) -> bool:
        """Whether a seed is left that has not diverged."""
        return bool(self.going)

    def newest(self, metric: str) -> Float64[Tensor, " S"] | None:
        """The last value of every seed; None if there never was one."""
        values = {record.seed: record.value for record in self.records if record.metric == metric}
        if not values:
            return None
        found = (values.get(seed) for seed in self.seeds)
        return torch.tensor([math.nan if value is None else value for value in found], dtype=torch.float64)

    def add(
        self, step: int, values: Iterable[tuple[str, Float[Tensor, " S"] | Float[Tensor, "S H"]]], prefix: str = ""
    ) -> None:
        """Values of all seeds by metric; a second axis is the horizon, counted from 1."""
        new = list[Record]()
        for metric, per_seed in values:  # each may be a long computation
            sign_of_life()
            curve = per_seed.ndim == 2
            columns = enumerate(per_seed.T.tolist(), 1) if curve else [(None, per_seed.tolist())]
            for horizon, column in columns:
                pairs = zip(self.seeds, column, strict=True)
                new += (Record(seed, step, prefix + metric, x, horizon) for seed, x in pairs if seed in self.going)
        self.records += new
        if self._observe is not None:
            self._observe(new)

    def stop(self, step: int, diverged: Mapping[int, str]) -> None:
        """Add the last record of seeds that have diverged, each with the name of its tensor."""
        self.records += (Record(seed, step, f"{DIVERGED}{tensor}", None) for seed, tensor in diverged.items())
        self.going -= diverged.keys()
