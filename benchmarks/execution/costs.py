"""What a cell has cost: seconds by activity, memory, generated rows, network evaluations, FLOP."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.execution.collector import RecordCollector
from benchmarks.execution.provenance import peak_memory_mib
from benchmarks.execution.updates import Stepper
from core.buffer import Buffer
from models.cache import ModelCache
from models.flops import FlopCount

__all__ = ["Clock", "costs"]

_PER_TRANSITION = ("evaluations", "flops")  # diagnostics of a generator that are costs


class Clock:
    """Wall-clock seconds by activity; synchronises where an activity ends, except after single updates.

    Neither the time between a kill and the next start counts nor what was done since the last checkpoint.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = defaultdict[str, float](float)
        self.started = datetime.now(UTC)
        self._start = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far and when the first run began."""
        return {"seconds": dict(self.seconds), "total": self.total(), "started": self.started.isoformat()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the seconds of a checkpoint."""
        self.seconds = defaultdict(float, state["seconds"])
        self.started = datetime.fromisoformat(state["started"])
        self._start = time.perf_counter() - state["total"]

    @contextmanager
    def __call__(self, activity: str) -> Iterator[None]:
        """Add the seconds of the block to those of an activity."""
        before = time.perf_counter()
        yield
        if self.device.type == "cuda" and activity != "update":
            torch.cuda.synchronize(self.device)
        self.seconds[activity] += time.perf_counter() - before

    def total(self) -> float:
        """Seconds since the run began, interruptions apart."""
        return time.perf_counter() - self._start

    def summary(self) -> dict[str, Any]:
        """When the run began, how long it took, and how much memory."""
        return {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(self.total(), 3),
            "peak_memory_mib": round(peak_memory_mib(self.device), 1),
        }


def costs(
    update: Stepper, clock: Clock, buffer: Buffer, models: ModelCache, generation: FlopCount, records: RecordCollector
) -> Iterator[tuple[str, Float[Tensor, " S"]]]:
    """Values of all seeds by name; what the seeds of a cell share is counted for each, but FLOP are each seed's own."""
    rows = float(buffer.written.double().mean())
    shared = {f"{activity}_seconds": spent for activity, spent in sorted(clock.seconds.items())} | {
        "total_seconds": clock.total(),
        "updates_per_second": update.count / clock.seconds["update"],
        "generated_rows": rows,
        "model_seconds": sum((model["seconds"] for model in models.used.values()), 0.0),
        "peak_memory_mib": peak_memory_mib(clock.device),
    }
    if rows:
        shared["generate_seconds_per_transition"] = clock.seconds["generate"] / (rows * len(records.seeds))
    for name, value in shared.items():
        yield name, torch.full((len(records.seeds),), value)
    flop = {"model": models.flop(), "generate": generation.tensor(), "update": update.flop()}
    for name, spent in (flop | {"total": sum(flop.values(), torch.zeros(()))}).items():
        yield f"{name}_flop", spent
    for name in _PER_TRANSITION:
        if (newest := records.newest(f"generate/{name}")) is not None:
            yield f"{name}_per_transition", newest
