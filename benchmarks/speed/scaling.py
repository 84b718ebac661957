"""How time and memory of updates grow with the size of a job; every point is a process of its own with one thread.

TD3+BC of 2 x 256 units on a file in D4RL's layout, Hopper's dimensions; and CQL, whose tensors are large, with small
and with huge pages of memory. The peak memory of a process never falls, so `fresh` runs `updates` as `python -m
benchmarks.speed.scaling SETTINGS`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.execution.cell import as_in_cells
from benchmarks.execution.provenance import peak_memory_mib
from benchmarks.speed.harness import ACTION, OBS, Figure, Options, judged, paced, training
from core.data import Transitions
from core.random import Streams
from core.registry import build_method
from tasks.base import DataOptions, load_task

__all__ = ["figures", "fresh", "measure", "updates"]

CPU = torch.device("cpu")
_ROOT = Path(__file__).resolve().parents[2]
_D4RL = "hopper-medium-expert-v2"
_CHUNK = 50_000  # rows of one generated batch
VALUES = {  # of what is varied: as measured, and where only the script is tried
    "seeds": ((1, 2, 4, 8, 16), (1, 2)),
    "batch": ((64, 256, 1024, 4096), (64, 128)),
    "rows": ((10_000, 100_000, 1_000_000, 2_000_000), (2_000,)),
}
_QUICK = {"rows": 2_000, "hidden": 16, "count": 2, "seconds": 0.0}
_PAGES = {"rows": 10_000, "seeds": 5, "count": 1, "seconds": 10.0}
_LARGE = {"rows": 2_000_000, "seeds": 10, "buffer_rows": 500_000, "count": 25, "seconds": 0.0}


def measure(options: Options) -> dict[str, Any]:
    """By what is varied, a dictionary per value: seconds, and MiB before the work and at the peak."""
    found = {}
    for name, (values, few) in VALUES.items():
        settings = _QUICK if options.quick else {}
        found[name] = [
            {name: value, **fresh(**{**settings, name: value})} for value in (few if options.quick else values)
        ]
    small, huge = zip(*(_with_pages(_QUICK if options.quick else _PAGES) for _ in range(3)), strict=True)
    return {
        "axes": found,
        "large": None if options.quick else fresh(**_LARGE)["peak_mib"],
        "pages": {"small": small, "huge": huge},
    }


def _with_pages(settings: Mapping[str, Any]) -> list[float]:
    """Seconds of an update of CQL with small pages and with huge ones."""
    return [fresh({"THP_MEM_ALLOC_ENABLE": huge}, algorithm="cql", **settings)["seconds"] for huge in ("0", "1")]


def figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Lines of the table of figures."""
    for name, points in found["axes"].items():
        values, milliseconds, memory = (
            " / ".join(f"{number:,.{digits}f}" for number in numbers)
            for digits, numbers in (
                (0, [point[name] for point in points]),
                (1, [1e3 * point["seconds"] for point in points]),
                (0, [point["peak_mib"] for point in points]),
            )
        )
        yield Figure(f"TD3+BC update of one seed, 1 thread, {name} {values}", "", f"{milliseconds} ms; {memory} MiB")
    if pages := found.get("pages"):  # files of before have none
        times = [small / huge for small, huge in zip(pages["small"], pages["huge"], strict=True)]
        yield Figure(
            f"CQL update, {_PAGES['seeds']} seeds, 1 thread, large tensors on huge pages beside small ones",
            "",
            f"{median(times):.2f}x ({min(times):.2f}x to {max(times):.2f}x)",
        )
    if found["large"]:
        rows = f"{_LARGE['rows']:,} rows, {_LARGE['seeds']} seeds, {_LARGE['buffer_rows']:,} synthetic rows each"
        yield Figure(f"Memory, {rows}", "< 4,096 MiB", f"{found['large']:,.0f} MiB", met=judged(found["large"] < 4096))


def fresh(environment: Mapping[str, str] | None = None, /, **settings: Any) -> dict[str, Any]:
    """What `updates` says, and MiB before it and at the peak, from a new process with an empty cache.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    with tempfile.TemporaryDirectory() as cache:
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.speed.scaling", json.dumps(settings)],
            cwd=_ROOT,
            env=os.environ | {"ROLLOUTBENCH_CACHE": cache, "OMP_NUM_THREADS": "1", **(environment or {})},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    if ran.returncode:
        raise RuntimeError(f"updates with {settings} failed:\n{ran.stderr}")
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said


def _write_d4rl(folder: Path, rows: int, dtype: str = "float32") -> None:
    """A file that passes for D4RL's hopper-medium-expert-v2, all keys included, with random data.

    Episodes have 500 steps; every second one terminates. D4RL's own files are float32, or float64 (medium-replay).
    """
    rng = np.random.default_rng(0)
    steps = np.arange(rows) % 500
    with h5py.File(folder / f"{_D4RL}.hdf5", "w") as file:
        qpos = file.create_dataset("infos/qpos", (rows, 6), dtype)
        qvel = file.create_dataset("infos/qvel", (rows, 6), dtype)
        obs = file.create_dataset("observations", (rows, 11), dtype)
        after = file.create_dataset("next_observations", (rows, 11), dtype)
        for first in range(0, rows, _CHUNK):
            some = slice(first, min(first + _CHUNK, rows))
            count = some.stop - first
            qpos[some] = position = rng.normal(size=(count, 6)) * 0.1
            qvel[some] = velocity = rng.normal(size=(count, 6))
            obs[some] = seen = np.concatenate([position[:, 1:], velocity.clip(-10, 10)], 1)
            after[some] = seen + 0.1 * rng.normal(size=(count, 11))
        file["actions"] = rng.uniform(-1, 1, (rows, 3)).astype(dtype)
        file["rewards"] = rng.normal(size=rows).astype(dtype)
        file["infos/action_log_probs"] = rng.normal(size=rows).astype(dtype)
        last = steps == 499
        file["terminals"] = last & (np.arange(rows) // 500 % 2 == 0)
        file["timeouts"] = last & (np.arange(rows) // 500 % 2 == 1)


def updates(
    rows: int = 100_000,
    seeds: int = 1,
    batch: int = 256,
    hidden: int = 256,
    buffer_rows: int = 1,
    count: int = 10,
    seconds: float = 1.0,
    algorithm: str = "td3bc",
) -> dict[str, Any]:
    """A D4RL file is read, training begins, the ring is filled, updates are timed. Seconds: per update of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        _write_d4rl(Path(folder), rows)
        data, _ = load_task(f"d4rl/{_D4RL}", DataOptions(Path(folder))).dataset()
    method = build_method("algorithms", algorithm, {"batch_size": batch, "hidden": [hidden, hidden]})
    step, _, mixer, buffer = training(method, data, seeds, CPU, buffer_rows=buffer_rows)
    rng = Streams(range(seeds), "rows")
    for first in range(0, buffer_rows, _CHUNK):
        some = min(_CHUNK, buffer_rows - first)
        obs = rng.normal(some, OBS)
        action = 2 * rng.uniform(some, ACTION) - 1
        synthetic = Transitions(obs, action, rng.normal(some), obs.flip(1), rng.uniform(some) < 0.002)
        buffer.add(synthetic, torch.ones_like(synthetic.terminated))
    mixer.refresh()
    return {"seconds": paced(lambda: step(count), CPU, seconds) / (count * seeds)}


if __name__ == "__main__":
    as_in_cells(CPU)
    before = peak_memory_mib(CPU)
    said = updates(**json.loads(sys.argv[1]))
    print(json.dumps({**said, "start_mib": before, "peak_mib": peak_memory_mib(CPU)}))
