"""Workloads that are timed in a process of their own, since the peak memory of a process never falls.

`fresh("updates", rows=100_000)` runs `python -m benchmarks.speed.workloads updates '{"rows": 100000}'` and returns what
it prints: seconds, and MiB before the work and at the peak. Every process has one thread, as every cell of a matrix on
a CPU has.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from algorithms.td3bc import TD3BC
from benchmarks.execution import matrix
from benchmarks.execution.provenance import peak_memory_mib
from benchmarks.speed.timing import paced
from benchmarks.speed.training import random_rows, training
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core.random import Streams
from core.registry import build_method
from generators.base import start_states
from models.cache import ModelCache
from tasks.base import DataOptions, load_task

__all__ = ["WORKLOADS", "fresh", "write_d4rl"]

_ROOT = Path(__file__).resolve().parents[2]
_D4RL = "hopper-medium-expert-v2"
_CHUNK = 50_000  # rows of one generated batch


def fresh(workload: str, **settings: Any) -> dict[str, Any]:
    """What a workload says of itself, from a new process; its cache is empty and goes with it.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    with tempfile.TemporaryDirectory() as cache:
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.speed.workloads", workload, json.dumps(settings)],
            cwd=_ROOT,
            env=os.environ | {"ROLLOUTBENCH_CACHE": cache, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    if ran.returncode:
        raise RuntimeError(f"workload {workload} {settings} failed:\n{ran.stderr}")
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said


def write_d4rl(folder: Path, rows: int, dtype: str = "float32") -> None:
    """A file that passes for D4RL's hopper-medium-expert-v2, all keys included, with numbers out of thin air.

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


def _updates(
    device: torch.device,
    folder: str,
    seeds: int = 1,
    batch: int = 256,
    hidden: int = 256,
    buffer_rows: int = 1,
    updates: int = 10,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """A D4RL file is read, TD3+BC begins, the ring is filled, updates are timed. Seconds: per update of one seed."""
    started = time.perf_counter()
    data = load_task(f"d4rl/{_D4RL}", DataOptions(Path(folder))).dataset()[0].to(device)
    loaded = time.perf_counter() - started
    loaded_mib = peak_memory_mib(torch.device("cpu"))
    algorithm = TD3BC(batch_size=batch, hidden=(hidden, hidden))
    step, _, buffer = training(algorithm, data, seeds, device, buffer_rows=buffer_rows)
    rng = Streams(range(seeds), "rows", device)
    for first in range(0, buffer_rows, _CHUNK):
        count = min(_CHUNK, buffer_rows - first)
        rows = random_rows(count, rng)
        buffer.add(rows, torch.ones_like(rows.terminated))
    step(0)
    spent = paced(lambda: step(updates), device, seconds)
    return {"seconds": spent / (updates * seeds), "load_seconds": loaded, "load_mib": loaded_mib}


def _rollout(
    device: torch.device,
    length: int = 15,
    iterations: int = 1,
    rollouts: int = 100,
    preset: str = "small",
    seconds: float = 1.0,
) -> dict[str, Any]:
    """DyDiff's generation by models that are hardly fitted, which changes no time. Seconds: per transition."""
    few = {"max_updates": 10}
    fields = {"iterations": iterations, "model": {"updates": 5}, "reward": few, "dynamics": few}
    generator = build_method("generators", "dydiff", {"preset": preset, **fields})
    rng = Streams((0,), device=device)
    task = load_task("toy/linear", DataOptions(dataset_rows=4000))
    data = task.dataset()[0].to(device)
    fitted = generator.fit(task, data, ModelCache(rng.fork("models")), rng.fork("fit"))
    policy = build_method("algorithms", "td3bc", {}).init(data, rng.fork("policy")).policy
    start = start_states(data, rollouts, rng.fork("start"))

    def generate() -> object:
        return fitted.generate(policy, start, length, rng.fork("generate"))

    return {"seconds": paced(generate, device, seconds) / (rollouts * length)}


def _cells(device: torch.device, jobs: int, number: int = 4, updates: int = 400) -> dict[str, Any]:
    """Small cells of one matrix, `jobs` at a time. Seconds: per cell, start of their processes included.

    MiB: the most that one process took, times the processes there were; what they share is counted in each.
    """
    rates = [1e-3 / (1 + cell) for cell in range(number)]
    overrides = [f"updates={updates}", "seeds=[0]", 'generators=["none"]', f"vary.td3bc.learning_rate={rates}"]
    with tempfile.TemporaryDirectory() as folder:
        store = ResultStore(Path(folder))
        specs = cells(load_suite("smoke", overrides))
        started = time.perf_counter()
        if matrix.run_missing(specs, store, device, None, partial(matrix.local, jobs=jobs)):
            raise RuntimeError("a cell failed")
        spent = time.perf_counter() - started
        largest = max(run["peak_memory_mib"] for cell in store.runs() for run in cell)
    here = peak_memory_mib(torch.device("cpu")) if jobs > 1 else 0.0  # it waits for the others
    return {"seconds": spent / number, "peak_mib": largest * min(jobs, number) + here}


WORKLOADS: dict[str, Callable[..., dict[str, Any]]] = {"updates": _updates, "rollout": _rollout, "cells": _cells}


def main() -> None:
    """Run one workload here and print what it measured as one line of json."""
    workload = sys.argv[1]
    settings = json.loads(sys.argv[2])
    device = torch.device(settings.pop("device", "cpu"))
    if device.type == "cpu":
        torch.set_num_threads(1)
    before = peak_memory_mib(device)
    said = WORKLOADS[workload](device, **settings)
    print(json.dumps({"start_mib": before, "peak_mib": peak_memory_mib(device)} | said))


if __name__ == "__main__":
    main()
