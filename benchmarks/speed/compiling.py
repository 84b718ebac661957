"""When torch.compile pays on a CPU, by method: python -m benchmarks.speed.compiling.

Updates of one seed with the default settings on Hopper's shape, on one thread, as a cell has it: as they are, and with
losses compiled, nothing taken from earlier runs (methods in one process share a kernel now and then). It pays from
(seconds of compiling) / (seconds saved per update) on; `benchmarks/execution/updates.py` keeps when it is done.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.speed.command import threads
from benchmarks.speed.inputs import ACTION, OBS, hopper_sized
from benchmarks.speed.timing import machine
from benchmarks.speed.training import training
from benchmarks.speed.turns import Figure
from core import registry
from core.data import Dataset
from core.files import write_json
from core.random import Streams
from core.registry import build_method
from models.cache import FitContext
from models.compiled import compiling
from models.diffusion.trajectory import TrajectoryDiffusionConfig
from models.diffusion.transition import TransitionDiffusionConfig
from models.dynamics import DynamicsConfig

__all__ = ["compare", "figures", "main"]

Updates = Callable[[int], None]  # makes so many


def contestants(data: Dataset) -> Iterator[tuple[str, Updates]]:
    """Every algorithm, and the fits of the larger models, by the names that `pays` knows."""
    for name in registry.available("algorithms"):
        yield name, _algorithm(name, data)
    yield "TrajectoryDiffusionConfig", _fit(TrajectoryDiffusionConfig(), data, "updates")
    yield "TransitionDiffusionConfig", _fit(TransitionDiffusionConfig(), data, "updates")
    yield "DynamicsConfig", _fit(DynamicsConfig(check_every=10**9), data, "max_updates")


def compare(rows: int, seconds: float, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Milliseconds of an update, as it is and compiled, seconds of compiling, and the update from which it pays.

    Updates are repeated for so many seconds.
    """
    found = []
    for name, update in contestants(hopper_sized(rows)):
        if only and name not in only:
            continue
        update(2)
        plain = _per_update(update, seconds)
        with compiling():
            started = time.perf_counter()
            update(2)
            compiling_took = time.perf_counter() - started
            compiled = _per_update(update, seconds)
        saved = plain - compiled
        cost = max(compiling_took - 2 * compiled, 0.0)
        found.append(
            {
                "name": name,
                "plain_ms": 1e3 * plain,
                "compiled_ms": 1e3 * compiled,
                "ratio": plain / compiled,
                "compiling_s": cost,
                "pays_from": cost / saved if saved > 0 else None,
            }
        )
    return found


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Lines of the table of figures."""
    return [
        Figure(
            f"torch.compile, {row['name']}, one seed on one thread",
            "",
            f"{row['ratio']:.2f}x; {row['compiling_s']:.0f} s, "
            + ("never pays" if row["pays_from"] is None else f"paid back after {row['pays_from']:,.0f} updates"),
        )
        for row in found["rows"]
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=(), help="names of methods and models")
    parser.add_argument("--out", type=Path, help="json file to write")
    parser.add_argument("--quick", action="store_true", help="one method, small data: does it run?")
    asked = parser.parse_args(arguments)
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    with threads(1):
        rows = compare(2000, 0.1, ["bc"]) if asked.quick else compare(100_000, 1.5, asked.only)
        print(tabulate(rows, headers="keys", floatfmt=".3g"))
        if asked.out:
            write_json(asked.out, {"machine": machine(torch.device("cpu")), "rows": rows})


def _algorithm(name: str, data: Dataset) -> Updates:
    step, *_ = training(build_method("algorithms", name, {}), data, 1, torch.device("cpu"))
    return step


def _fit(config: Any, data: Dataset, field: str) -> Updates:
    """A whole fit; what it does before the first update is subtracted nowhere, so counts must not be tiny."""

    def update(count: int) -> None:
        rng = Streams((0,))
        replace(config, **{field: count}).fit(config.init(OBS, ACTION, rng), data, FitContext(rng))

    return update


def _per_update(update: Updates, seconds: float) -> float:
    """Seconds of one, from two lengths, so that what is done once does not count."""
    started = time.perf_counter()
    update(4)
    count = max(int(seconds / max((time.perf_counter() - started) / 4, 1e-6)), 4)
    times = []
    for repeats in (count, 2 * count):
        started = time.perf_counter()
        update(repeats)
        times.append(time.perf_counter() - started)
    return max(times[1] - times[0], 1e-9) / count


if __name__ == "__main__":
    main()
