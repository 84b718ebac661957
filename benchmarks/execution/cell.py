"""One cell of the matrix, as its data flows: task, dataset, generator, buffer, algorithm, evaluation, records."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from algorithms.base import real_rows
from benchmarks.evaluation.policy import evaluate_policy
from benchmarks.evaluation.rollouts import evaluate_rollouts
from benchmarks.execution.divergence import DivergenceMonitor
from benchmarks.execution.provenance import peak_memory_mib, provenance
from benchmarks.execution.updates import Stepper, cuda_graph, pays
from benchmarks.spec import RunSpec
from benchmarks.store import DIVERGED, Record
from core.buffer import Buffer, Mixer
from core.checkpoint import Checkpoint, Stateful, load_all, state_of
from core.data import Dataset, Trajectories
from core.files import canonical_json
from core.filter import Filter
from core.interrupt import deferred
from core.policy import Policy
from core.progress import progress, say
from core.random import Streams
from generators.base import Fitted, Generator, start_states
from models.cache import ModelCache, ModelConfig
from models.compiled import compiling
from tasks.base import Task

__all__ = ["model_cache", "run"]


def run(
    spec: RunSpec,
    task: Task,
    device: torch.device,
    folder: Path | None = None,
    observe: Callable[[list[Record]], None] | None = None,
) -> tuple[list[Record], dict[str, Any]]:
    """Train and evaluate one cell, all its seeds in one program; returns its records and their provenance.

    The last record of a seed that diverges says so; the others go on. Checkpoints are kept in `folder`, and a run that
    finds one of its own goes on from there: its numbers are those of a run that was never killed. `observe` is told
    records as they come in.

    Raises:
        DataError: the task's data cannot be had.
        Stopped: the process was asked to stop; a checkpoint has been written.
    """
    clock = _Clock(device)
    rng = Streams(spec.seeds, device=device)
    generator = spec.generator.config
    algorithm = spec.algorithm.config
    settings = spec.settings
    data, card = task.dataset()
    data = data.to(device)
    with clock("fit"):
        models = model_cache(spec, device)
        fitted = generator.fit(task, data, models, rng.fork("fit"))
    state = algorithm.init(data, rng.fork("init"))
    buffer = _buffer(spec, data, device)
    mixer = Mixer(real_rows(algorithm, data), buffer, settings.real_fraction, algorithm.batch_size)
    batches = rng.fork("batches")
    noise = rng.fork("update")
    records = _Records(spec.seeds, observe)
    watch = DivergenceMonitor(state, spec.seeds)
    losses = dict[str, Tensor]()
    update = Stepper(algorithm, state, mixer, batches, noise, cuda_graph if device.type == "cuda" else None)
    compiled = pays(spec.algorithm.name, settings.updates, settings.compile, device)
    origin = provenance(device)
    checkpoint = Checkpoint(folder, _identity(spec, data, origin, device))
    parts: dict[str, Stateful] = {"state": state, "buffer": buffer, "batches": batches, "noise": noise}
    parts |= {"records": records, "watch": watch, "clock": clock}

    def snapshot() -> dict[str, Any]:
        return state_of(parts) | {"losses": losses}

    label = f"{spec.task} {spec.generator.name} {spec.algorithm.name}"
    done, found = checkpoint.load() or (0, None)
    if found:
        say(f"{label}: goes on from update {done}")
        load_all(parts, found)
        losses = {name: loss.to(device) for name, loss in found["losses"].items()}
        mixer.refresh()
    with progress(label, settings.updates) as advance, deferred(), compiling(compiled):
        advance(step := done)
        for step in range(done + 1, settings.updates + 1 if records.going else 0):
            if _refresh_due(step, generator):
                with clock("generate"):
                    records.stop(step - 1, watch.look(losses))
                    here = rng.fork(f"generate/{step}")
                    rollouts = _generate(generator, fitted, state.policy, data, here)
                    buffer.add(*rollouts.transitions())
                    mixer.refresh()
                records.add(step, ((f"generate/{name}", value) for name, value in rollouts.info.items()))
            with clock("update"):
                losses = update()
            if step % settings.evaluate_every == 0 or step == settings.updates:
                with clock("evaluate"):
                    records.stop(step, watch.look(losses))
                    records.add(step, ((f"train/{name}", values) for name, values in losses.items()))
                    records.add(step, evaluate_policy(task, state.policy, settings.episodes, rng.fork("evaluate")))
                advance(min(settings.evaluate_every, step % settings.evaluate_every or settings.evaluate_every))
                if not records.going:
                    break
            checkpoint.offer(step, snapshot)
        if step > done:
            checkpoint.save(step, snapshot())
    if generator.rollouts and records.going:
        with clock("fidelity"):
            here = rng.fork("fidelity")
            keep = _filter(generator)
            critic = getattr(state, "action_value", None)
            judged = evaluate_rollouts(task, data, fitted, state.policy, settings, here, keep=keep, critic=critic)
            records.add(step, judged)
    generated = float(buffer.written.double().mean())
    costs = clock.costs(step) | {
        "generated_rows": generated,
        "model_seconds": sum((model["seconds"] for model in models.used.values()), 0.0),
        "peak_memory_mib": peak_memory_mib(device),
    }
    if generated:
        costs["generate_seconds_per_transition"] = clock.seconds["generate"] / (generated * len(spec.seeds))
    records.add(step, ((f"cost/{name}", torch.full((len(spec.seeds),), value)) for name, value in costs.items()))
    for name in ("evaluations", "flops"):
        if (cost := records.last(f"generate/{name}")) is not None:
            records.add(step, [(f"cost/{name}_per_transition", cost)])
    origin |= {
        "seeds": list(spec.seeds),
        "started": clock.started.isoformat(timespec="seconds"),
        "seconds": round(clock.total(), 3),
        "peak_memory_mib": round(costs["peak_memory_mib"], 1),
        "physics": task.simulator.physics,
        "dataset_sha256": data.sha256,
        "dataset": card,
        "models": models.used,
    }
    return records.all, origin


def model_cache(spec: RunSpec, device: torch.device) -> ModelCache:
    """Where the cell takes its pretrained models from."""

    def compiled(config: ModelConfig) -> bool:
        return pays(type(config).__name__, getattr(config, "updates", 0), spec.settings.compile, device)

    rng = Streams(spec.seeds, device=device).fork("models")
    return ModelCache(rng, shared=spec.settings.shared_models, compiled=compiled)


class _Clock:
    """Wall-clock seconds by activity; waits for the device where an activity ends, except after single updates.

    Time between a kill and the next start does not count, nor what was done since the last checkpoint.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = time.perf_counter()
        self.seconds = defaultdict[str, float](float)
        self.started = datetime.now(UTC)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": dict(self.seconds), "total": self.total(), "started": self.started.isoformat()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seconds = defaultdict(float, state["seconds"])
        self._start = time.perf_counter() - state["total"]
        self.started = datetime.fromisoformat(state["started"])

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
    """Named values of all seeds, as records; none of a seed that has stopped."""

    def __init__(self, seeds: tuple[int, ...], observe: Callable[[list[Record]], None] | None) -> None:
        self.seeds = seeds
        self.going = set(seeds)
        self.all = list[Record]()
        self._observe = observe

    def state_dict(self) -> dict[str, Any]:
        return {"lines": [record.line() for record in self.all], "going": sorted(self.going)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.all = [Record.parse(line) for line in state["lines"]]
        self.going = set(state["going"])

    def last(self, metric: str) -> Float64[Tensor, " S"] | None:
        """The newest value of every seed; None if there never was one."""
        newest = {record.seed: record.value for record in self.all if record.metric == metric}
        values = [newest.get(seed) for seed in self.seeds]
        return torch.tensor([math.nan if x is None else x for x in values], dtype=torch.float64) if newest else None

    def add(self, step: int, values: Iterable[tuple[str, Float[Tensor, " S"] | Float[Tensor, "S H"]]]) -> None:
        """Values of all seeds by metric; a second axis is the horizon, counted from 1."""
        new = list[Record]()
        for metric, per_seed in values:
            curves = per_seed.ndim == 2
            columns = enumerate(per_seed.T.tolist(), 1) if curves else [(None, per_seed.tolist())]
            for horizon, column in columns:
                pairs = zip(self.seeds, column, strict=True)
                new += (Record(seed, step, metric, x, horizon) for seed, x in pairs if seed in self.going)
        self.all += new
        if self._observe is not None:
            self._observe(new)

    def stop(self, step: int, diverged: dict[int, str]) -> None:
        """The last record of these seeds; of each the tensor is named."""
        self.all += (Record(seed, step, f"{DIVERGED}{tensor}", None) for seed, tensor in diverged.items())
        self.going -= diverged.keys()


def _generate(generator: Generator, fitted: Fitted, policy: Policy, data: Dataset, rng: Streams) -> Trajectories:
    """Rollouts from states of the training data, less what is not finite and what the generator's filter drops."""
    start = start_states(data, generator.rollouts, rng.fork("start"), getattr(fitted, "start_rows", None))
    rollouts = fitted.generate(policy, start, generator.rollout_length, rng).finite()
    return _filter(generator).apply(rollouts, rng.fork("filter"))


def _filter(generator: Generator) -> Filter:
    chosen: Filter = getattr(generator, "filter", Filter())
    return chosen


def _identity(spec: RunSpec, data: Dataset, origin: Mapping[str, Any], device: torch.device) -> str:
    """What a checkpoint must have in common with the run that goes on from it: all that moves a number."""
    code = [origin["commit"], origin["diff_sha256"], origin["versions"], device.type]
    return canonical_json([spec.describe(), list(spec.seeds), data.sha256, *code])


def _refresh_due(step: int, generator: Generator) -> bool:
    """Before the first update, then every `refresh_every` updates."""
    if not generator.rollouts:
        return False
    return step == 1 or (generator.refresh_every is not None and (step - 1) % generator.refresh_every == 0)


def _buffer(spec: RunSpec, data: Dataset, device: torch.device) -> Buffer:
    """A ring no larger than all that will ever be generated."""
    generator = spec.generator.config
    settings = spec.settings
    refreshes = 1 if generator.refresh_every is None else -(-settings.updates // generator.refresh_every)
    rows = max(1, min(settings.buffer_rows, refreshes * generator.rollouts * generator.rollout_length))
    return Buffer(len(spec.seeds), rows, data.train.obs.shape[-1], data.train.action.shape[-1], device)
