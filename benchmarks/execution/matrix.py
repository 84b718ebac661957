"""The cells that are not there yet, a few at a time; a cell that fails is recorded and the others go on.

On a CPU every cell is a process of its own with one thread: two cells side by side use two cores better than one cell
with two threads, and a number does not depend on how many cells ran at once.
"""

import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks.execution.cell import run_cell
from benchmarks.execution.lease import Lease, Owner, acquire
from benchmarks.execution.plan import pretrained
from benchmarks.execution.provenance import available_memory_mib, provenance
from benchmarks.execution.trackers import tracking
from benchmarks.spec import RunSpec
from benchmarks.store import DIVERGED, ResultStore
from core.errors import DataError
from core.interrupt import SIGNALS, Stopped, listening
from core.progress import Channel, relay, say, showing
from tasks.base import load_task

__all__ = ["Engine", "Job", "Outcome", "local", "run_missing"]


class Outcome(IntEnum):
    """What became of a cell; also the exit code of its process."""

    DONE = 0
    FAILED = 17  # recorded; or a seed has diverged
    HELD = 18  # another process has it


Engine = Callable[[list["Job"], ResultStore], int]  # runs these cells; returns how many failed


@dataclass(frozen=True)
class Job:
    """One cell with the seeds it lacks, ready to be sent to another process."""

    label: str
    spec: RunSpec
    root: Path
    device: torch.device
    data_dir: Path | None
    tracker: str | None = None

    def run(self) -> Outcome:
        """Run it here, unless somebody else does, and record what happened.

        Raises:
            Stopped: this process was asked to stop.
        """
        store = ResultStore(self.root)
        started = datetime.now(UTC)
        try:
            held = acquire(store.lease(self.spec.cell_id))
            if isinstance(held, Owner):
                say(f"{self.label}: is being run by {held}")
                return Outcome.HELD
            with held:
                return self._run(store, held, started)
        except Exception as error:  # whatever a method or a file does, the other cells must go on
            self.fail(store, started, traceback.format_exc())
            say(f"{self.label}: FAILED: {type(error).__name__}: {error}")
            return Outcome.FAILED

    def fail(self, store: ResultStore, started: datetime, reason: str) -> None:
        """Record a failure of these seeds, if the disk takes it."""
        origin = {"seeds": list(self.spec.seeds), "started": started.isoformat(timespec="seconds")}
        try:
            store.fail(self.spec, provenance(self.device) | origin, reason)
        except OSError as error:
            say(f"{self.label}: the failure cannot be recorded: {error}")

    def _run(self, store: ResultStore, lease: Lease, started: datetime) -> Outcome:
        seeds = store.missing(self.spec)
        if not seeds:  # somebody else was quicker
            return Outcome.DONE
        spec = replace(self.spec, seeds=seeds)
        say(f"{self.label}: seeds {', '.join(map(str, seeds))}")
        task = load_task(spec.task, spec.settings.data_options(self.data_dir))
        with tracking(self.tracker, self.label, spec, self.root) as observe:
            records, origin = run_cell(spec, task, self.device, store.checkpoint(spec.cell_id), observe)
        if not lease.held():
            say(f"{self.label}: another process has taken over meanwhile, its results count")
            return Outcome.HELD
        store.finish(spec, origin, records)
        diverged = [record for record in records if record.metric.startswith(DIVERGED)]
        for seed, step, metric, *_ in diverged:
            say(f"{self.label}: seed {seed} DIVERGED: {metric.removeprefix(DIVERGED)} is not finite at update {step}")
        say(f"{self.label}: done in {origin['seconds']:.0f} s")
        return Outcome.FAILED if diverged else Outcome.DONE


def run_missing(
    specs: Iterable[RunSpec],
    store: ResultStore,
    device: torch.device,
    data_dir: Path | None,
    engine: Engine,
    tracker: str | None = None,
) -> int:
    """Run what is missing; returns how many cells failed or have a diverged seed.

    Cells that another process is running are waited for, and taken over should it die. `tracker` is one of
    `trackers.TRACKERS`; it changes no number and cannot make a cell fail.
    """
    specs = list(specs)
    todo = []
    failed = 0
    for number, spec in enumerate(specs, 1):
        label = f"[{number}/{len(specs)}] {spec.task} {spec.generator.name} {spec.algorithm.name} ({spec.variant})"
        try:
            seeds = store.missing(spec)
        except DataError as error:
            failed += 1
            say(f"{label}: FAILED: {error}")
            continue
        if seeds:
            todo.append(Job(label, replace(spec, seeds=seeds), store.root, device, data_dir, tracker))
        else:
            say(f"{label}: already there")
    return failed + (engine(todo, store) if todo else 0)


def local(jobs: int) -> Engine:
    """This machine: at most `jobs` cells at a time, in this process where that is one."""

    def run(todo: list[Job], store: ResultStore) -> int:
        return _side_by_side(todo, store, jobs) if min(jobs, len(todo)) > 1 else _one_by_one(todo)

    return run


def _one_by_one(todo: list[Job]) -> int:
    """One cell after the other in this process: on a GPU, which one cell can fill."""
    if todo[0].device.type == "cpu":
        torch.set_num_threads(1)
    waiting = _Waiting(todo)
    failed = 0
    while waiting:
        job = waiting.pop([])
        if job is None:
            time.sleep(_POLL)
        elif (outcome := job.run()) is Outcome.HELD:
            waiting.again(job)
        else:
            failed += outcome is Outcome.FAILED
    return failed


def _side_by_side(todo: list[Job], store: ResultStore, jobs: int) -> int:
    """Processes of their own, at most `jobs` at a time and no more than memory has room for."""
    context = _context()
    environment = dict(os.environ)
    channel: Channel = context.SimpleQueue()
    waiting = _Waiting(todo)
    failed = 0
    running: dict[Any, tuple[BaseProcess, Job, datetime]] = {}  # by sentinel
    with showing(channel):
        try:
            while waiting or running:
                while waiting and len(running) < jobs and (not running or _room(store)):
                    if (job := waiting.pop([other for _, other, _ in running.values()])) is None:
                        break
                    process = context.Process(target=_work, args=(job, channel, environment), daemon=True)
                    process.start()
                    running[process.sentinel] = process, job, datetime.now(UTC)
                for sentinel in wait(list(running), _POLL if waiting else None):
                    process, job, started = running.pop(sentinel)
                    process.join()
                    failed += _ended(process.exitcode, job, store, started, waiting)
        finally:
            for process, *_ in running.values():
                process.terminate()
            for process, *_ in running.values():
                process.join()
    return failed


def _ended(code: int | None, job: Job, store: ResultStore, started: datetime, waiting: "_Waiting") -> bool:
    """Whether the cell failed; one that somebody else has waits again."""
    if code == Outcome.HELD:
        waiting.again(job)
    else:
        waiting.made(job)
    if code in (Outcome.DONE, Outcome.HELD):
        return False
    if code in _STOPPED:  # somebody has stopped the cell alone
        raise Stopped(_STOPPED[code])
    if code != Outcome.FAILED:
        job.fail(store, started, f"the cell's process ended with exit code {code}\n")
        say(f"{job.label}: FAILED: its process ended with exit code {code}")
    return True


class _Waiting:
    """Jobs that have not begun, in the order of the suite as far as they need not wait for each other."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = list(jobs)
        self._made = set[str]()
        self._held = dict[str, float]()

    def __len__(self) -> int:
        return len(self._jobs)

    def pop(self, running: Iterable[Job]) -> Job | None:
        """The first that has not to wait for what a running one is making; if there is none, the first.

        None if other processes have all that are left: time to wait.
        """
        now = time.monotonic()
        in_the_making = {thing for job in running for thing in _makes(job)} - self._made
        free = [job for job in self._jobs if self._held.get(job.label, now) <= now]
        if not free:
            return None
        job = next((job for job in free if not _makes(job) & in_the_making), free[0])
        self._jobs.remove(job)
        return job

    def again(self, job: Job) -> None:
        """It was found held: to be tried again after a while."""
        self._held[job.label] = time.monotonic() + _RETRY
        self._jobs.append(job)

    def made(self, job: Job) -> None:
        """It has ended, and what others may want is there."""
        self._made |= _makes(job)


def _makes(job: Job) -> set[str]:
    """What other jobs may want, too: the data of the task and pretrained models."""
    return {job.spec.task} | pretrained(job.spec)


def _room(store: ResultStore) -> bool:
    """Whether one more cell fits into memory, as large as the largest so far."""
    largest = max((run.get("peak_memory_mib", 0.0) for cell in store.runs() for run in cell), default=0.0)
    return available_memory_mib() > (largest or _UNKNOWN_MIB)


def _context() -> Any:
    """New processes are copies of a server that has imported everything once, but has done nothing else.

    Elsewhere than on Linux every process imports for itself: there is no such server on Windows, and on macOS system
    libraries that have been imported do not outlive a fork.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTS)
    return context


_IMPORTS = [
    __name__,
    "tasks.simulators.locomotion",
    "torch._dynamo",
]  # what takes seconds; optimisers want the last one
_POLL, _RETRY = 1.0, 10.0  # seconds: between looks at what may start, and before asking again for a held cell
_STOPPED = {Stopped(number).exit_code: number for number in reversed(SIGNALS)}
_UNKNOWN_MIB = 1500.0  # of a cell, until one has finished


def _work(job: Job, channel: Channel, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)  # the server's is that of the first time it was needed
    threading.Thread(target=_follow_parent, daemon=True).start()
    relay(channel)
    if job.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        with listening():
            code = int(job.run())
    except Stopped as stopped:  # the parent has been told, too, and says so
        code = stopped.exit_code
    raise SystemExit(code)


def _follow_parent() -> None:
    """End with the process that wanted the cell; it may be killed without a chance to say so."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(Outcome.FAILED)
