"""One cell of the matrix, as its data flows: task, dataset, generator, buffer, algorithm, evaluation, records."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from algorithms.base import CriticState, State
from benchmarks.evaluation.policy import evaluate_policy
from benchmarks.evaluation.rollouts import Values, evaluate_rollouts
from benchmarks.execution.collector import RecordCollector
from benchmarks.execution.costs import Clock, costs
from benchmarks.execution.divergence import DivergenceMonitor
from benchmarks.execution.provenance import inputs, provenance
from benchmarks.execution.resume import identity, resumable
from benchmarks.execution.updates import Stepper, capture_on, pays
from benchmarks.records import Record
from benchmarks.spec import RunSpec
from core.buffer import Buffer, Mixer
from core.data import Dataset, Trajectories
from core.policy import Policy
from core.progress import say
from core.random import Streams
from generators.base import Fitted, Generator, start_states
from models.cache import ModelCache, ModelConfig
from models.compiled import compiling
from models.flops import FlopCount
from tasks.base import Task

__all__ = ["as_in_cells", "model_cache", "run_cell"]


def as_in_cells(device: torch.device) -> None:
    """Set this process up for a cell: on a CPU one thread, and huge pages for tensors of 2 MiB and more.

    The C library takes memory for large tensors anew from the system each time. For CQL's critics, which see 30
    actions in every state, that is a quarter of an update with small pages (`benchmarks.speed.scaling`). PyTorch
    reads the variable once, when the first tensor is made; a value that is set already stays. Without effect outside
    Linux.
    """
    if device.type == "cpu":
        torch.set_num_threads(1)
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def run_cell(
    spec: RunSpec,
    task: Task,
    device: torch.device,
    folder: Path | None = None,
    observe: Callable[[list[Record]], None] | None = None,
    models_folder: Path | None = None,
) -> tuple[list[Record], dict[str, Any]]:
    """Train and evaluate all seeds of a cell in one program; returns its records and their provenance.

    Checkpoints are kept in `folder`, pretrained models in `models_folder` (None: the cache of this machine); `observe`
    is given records as they come in. Raises: DataError, Stopped.
    """
    clock = Clock(device)
    origin = provenance(device, task.options.imports)
    rng = Streams(spec.seeds, device=device)
    generator = spec.generator.config
    algorithm = spec.algorithm.config
    data, card = task.dataset()
    if card["contradictions"]:
        what = f"the data contradict the simulator: {'; '.join(card['contradictions'])}"
        say(f"{task.name}: {what}; `data verify {task.name}` looks at more rows")
    data = data.to(device)
    models = model_cache(spec, device, models_folder)
    with clock("fit"):
        fitted = generator.fit(task, data, models, rng.fork("fit"))
    state = algorithm.init(data, rng.fork("init"))
    buffer = _buffer(spec, data, device)
    share, regularise = spec.settings.real_fraction, spec.settings.regularise
    mixer = Mixer(algorithm.rows(data), buffer, share, algorithm.batch_size, regularise)
    update = Stepper(algorithm, state, mixer, rng.fork("batches"), rng.fork("update"), capture_on(device))
    records = RecordCollector(spec.seeds, observe)
    monitor = DivergenceMonitor(state, spec.seeds)
    generation = FlopCount(len(spec.seeds))
    parts = {"state": state, "buffer": buffer, "update": update, "records": records, "monitor": monitor, "clock": clock}
    parts |= {"generation": generation}
    training = resumable(spec, folder, identity(spec, data, origin, device), parts, records.any_going)
    with training as steps, compiling(pays(spec.algorithm.name, spec.settings.updates, spec.settings.compile, device)):
        for step in steps:
            if spec.refresh_due(step):
                with clock("generate"):
                    records.stop(step - 1, monitor.look(update.losses))
                    asked = generator, fitted, state.policy, data, rng.fork(f"generate/{step}")
                    rollouts = generation("call", _generate, *asked)
                    buffer.add(*rollouts.transitions())
                    mixer.refresh()
                records.add(step, rollouts.info.items(), "generate/")
            with clock("update"):
                losses = update()
            if spec.evaluation_due(step):
                with clock("evaluate"):
                    records.stop(step, monitor.look(losses))
                    records.add(step, losses.items(), "train/")
                    records.add(step, evaluate_policy(task, state.policy, spec.settings.episodes, rng.fork("evaluate")))
    if generator.rollouts != 0 and records.going:
        with clock("fidelity"):
            records.add(update.count, _fidelity(spec, task, data, fitted, state, rng.fork("fidelity")))
    records.add(update.count, costs(update, clock, buffer, models, generation, records), "cost/")
    return records.records, origin | inputs(spec.seeds, task, data, card, models.used) | clock.summary()


def model_cache(spec: RunSpec, device: torch.device, folder: Path | None = None) -> ModelCache:
    """Where the cell takes its pretrained models from."""

    def compiled(config: ModelConfig) -> bool:
        return pays(type(config).__name__, config.updates, spec.settings.compile, device)

    rng = Streams(spec.seeds, device=device).fork("models")
    return ModelCache(rng, folder, shared=spec.settings.shared_models, compiled=compiled)


def _buffer(spec: RunSpec, data: Dataset, device: torch.device) -> Buffer:
    """A ring no larger than all that can ever be drawn at once; copies of all training rows fit into it."""
    generator = spec.generator.config
    newest = spec.settings.buffer_refreshes
    refreshes = spec.refreshes if newest is None else min(newest, spec.refreshes)
    kept = spec.settings.buffer_rows if generator.rollouts is not None else len(data.train.obs)
    rows = max(1, min(kept, refreshes * generator.starts(data) * generator.rollout_length))
    dims = (data.train.obs.shape[-1], data.train.action.shape[-1])
    return Buffer(len(spec.seeds), rows, *dims, device, None if newest is None else refreshes)


def _generate(generator: Generator, fitted: Fitted, policy: Policy, data: Dataset, rng: Streams) -> Trajectories:
    """Rollouts from states of the training data, less what is not finite and what the generator's filter drops."""
    start = start_states(data, generator.starts(data), rng.fork("start"))
    rollouts = fitted.generate(policy, start, generator.rollout_length, rng).finite()
    return generator.filter.apply(rollouts, rng.fork("filter"))


def _fidelity(spec: RunSpec, task: Task, data: Dataset, fitted: Fitted, state: State, rng: Streams) -> Values:
    keep = spec.generator.config.filter
    critic = state.action_value if isinstance(state, CriticState) else None
    return evaluate_rollouts(task, data, fitted, state.policy, spec.settings, rng, keep=keep, critic=critic)
