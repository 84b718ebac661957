"""One cell of the matrix, as its data flows: task, dataset, generator, buffer, algorithm, evaluation, records."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.evaluate import evaluate_policy, evaluate_rollouts, start_states
from benchmarks.provenance import peak_memory_mib, provenance
from benchmarks.spec import RunSpec
from benchmarks.store import Record
from core.buffer import Buffer, Mixer
from core.data import Dataset
from core.progress import progress
from core.random import Streams
from generators.base import Generator
from models.cache import ModelCache
from tasks.base import Task

__all__ = ["run"]


def run(spec: RunSpec, task: Task, device: torch.device) -> tuple[list[Record], dict[str, Any]]:
    """Train and evaluate one cell, all its seeds in one program; returns its records and their provenance.

    Raises:
        DataError: the task's data cannot be had.
        FloatingPointError: a loss is no longer finite.
    """
    started, clock, rng = datetime.now(UTC), _Clock(device), Streams(spec.seeds, device=device)
    generator, algorithm, settings = spec.generator.config, spec.algorithm.config, spec.settings
    data, card = task.dataset()
    data = data.to(device)
    with clock("fit"):
        models = ModelCache(rng.fork("models"), shared=settings.shared_models)
        fitted = generator.fit(task, data, models, rng.fork("fit"))
    state = algorithm.init(data, rng.fork("init"))
    buffer = _buffer(spec, data, device)
    mixer = Mixer(data.train, buffer, settings.real_fraction, algorithm.batch_size)
    batches, noise, records = rng.fork("batches"), rng.fork("update"), _Records(spec.seeds)
    with progress(f"{spec.task} {spec.generator.name} {spec.algorithm.name}", settings.updates) as advance:
        for step in range(1, settings.updates + 1):
            if _refresh_due(step, generator):
                with clock("generate"):
                    here = rng.fork(f"generate/{step}")
                    start = start_states(data, generator.rollouts, here.fork("start"))
                    rollouts = fitted.generate(state.policy, start, generator.rollout_length, here)
                    buffer.add(*rollouts.transitions())
                    mixer.refresh()
            with clock("update"):
                losses = algorithm.update(state, mixer.batch(batches), noise)
            if step % settings.evaluate_every == 0 or step == settings.updates:
                with clock("evaluate"):
                    records.add(step, _finite(losses, spec.seeds, step))
                    records.add(step, evaluate_policy(task, state.policy, settings.episodes, rng.fork("evaluate")))
                advance(min(settings.evaluate_every, step % settings.evaluate_every or settings.evaluate_every))
    if generator.rollouts:
        with clock("fidelity"):
            records.add(step, evaluate_rollouts(task, data, fitted, state.policy, settings, rng.fork("fidelity")))
    costs = clock.costs(settings.updates) | {
        "generated_rows": float(buffer.written.double().mean()),
        "peak_memory_mib": peak_memory_mib(device),
    }
    records.add(step, ((f"cost/{name}", torch.full((len(spec.seeds),), value)) for name, value in costs.items()))
    origin = {
        **provenance(device),
        "seeds": list(spec.seeds),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(clock.total(), 3),
        "physics": task.simulator.physics,
        "dataset_sha256": data.sha256,
        "dataset": card,
    }
    return records.all, origin


class _Clock:
    """Wall-clock seconds by activity; waits for the device where an activity ends, except after single updates."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._start, self.seconds = device, time.perf_counter(), defaultdict[str, float](float)

    @contextmanager
    def __call__(self, activity: str) -> Iterator[None]:
        before = time.perf_counter()
        yield
        if self._device.type == "cuda" and activity != "update":
            torch.cuda.synchronize(self._device)
        self.seconds[activity] += time.perf_counter() - before

    def total(self) -> float:
        return time.perf_counter() - self._start

    def costs(self, updates: int) -> dict[str, float]:
        return {f"{activity}_seconds": spent for activity, spent in sorted(self.seconds.items())} | {
            "total_seconds": self.total(),
            "updates_per_second": updates / self.seconds["update"],
        }


class _Records:
    """Named values of all seeds, as records."""

    def __init__(self, seeds: tuple[int, ...]) -> None:
        self.seeds, self.all = seeds, list[Record]()

    def add(self, step: int, values: Iterator[tuple[str, Float[Tensor, " S"]]]) -> None:
        for metric, per_seed in values:
            self.all += (Record(seed, step, metric, x) for seed, x in zip(self.seeds, per_seed.tolist(), strict=True))


def _refresh_due(step: int, generator: Generator) -> bool:
    """Before the first update, then every `refresh_every` updates."""
    if not generator.rollouts:
        return False
    return step == 1 or (generator.refresh_every is not None and (step - 1) % generator.refresh_every == 0)


def _buffer(spec: RunSpec, data: Dataset, device: torch.device) -> Buffer:
    """A ring no larger than all that will ever be generated."""
    generator, settings = spec.generator.config, spec.settings
    refreshes = 1 if generator.refresh_every is None else -(-settings.updates // generator.refresh_every)
    rows = max(1, min(settings.buffer_rows, refreshes * generator.rollouts * generator.rollout_length))
    return Buffer(len(spec.seeds), rows, data.train.obs.shape[-1], data.train.action.shape[-1], device)


def _finite(losses: dict[str, Tensor], seeds: tuple[int, ...], step: int) -> Iterator[tuple[str, Tensor]]:
    for name, values in losses.items():
        bad = [
            seed
            for seed, value in zip(seeds, values.tolist(), strict=True)
            if value != value or abs(value) == float("inf")
        ]
        if bad:
            raise FloatingPointError(
                f"loss {name!r} must be finite, got {values.tolist()} for seeds {bad} at update {step}"
            )
        yield f"train/{name}", values
