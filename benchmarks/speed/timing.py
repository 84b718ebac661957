"""Wall and processor time of a call, and the machine it ran on."""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

import torch

from benchmarks.execution.provenance import provenance

__all__ = ["Seconds", "machine", "paced", "timed"]

Result = TypeVar("Result")


class Seconds(NamedTuple):
    """How long a call took."""

    wall: float
    cpu: float  # of this process, all its threads

    @staticmethod
    def median(runs: Sequence["Seconds"]) -> "Seconds":
        """Of each of the two by itself."""
        return Seconds(median(run.wall for run in runs), median(run.cpu for run in runs))


def timed(call: Callable[[], Result]) -> tuple[Result, Seconds]:
    """The result and the time it took; a call that uses a GPU must wait for it."""
    wall = time.perf_counter()
    cpu = time.process_time()
    result = call()
    return result, Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def paced(call: Callable[[], object], device: torch.device, seconds: float, least: int = 3) -> float:
    """Median seconds of a call, the device's work included; repeated until `seconds` are over, after one to warm up."""

    def once() -> float:
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    once()
    runs = list[float]()
    ends = time.perf_counter() + seconds
    while len(runs) < least or time.perf_counter() < ends:
        runs.append(once())
    return median(runs)


def machine(device: torch.device) -> dict[str, Any]:
    """Versions, device, processor, threads."""
    return provenance(device) | {"processor": _processor()}


def _processor() -> str:
    """The model's name where Linux tells it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
