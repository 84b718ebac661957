"""The missing cells of a suite in its order, a few at a time; a cell that fails is recorded and the others still run.

On a CPU every cell is a process of its own with one thread: two cells side by side use two cores better than one cell
with two threads, and a number does not depend on how many cells ran at once.
"""

import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks.execution.cell import as_in_cells, run_cell
from benchmarks.execution.lease import Owner, acquire, holder
from benchmarks.execution.provenance import available_memory_mib, provenance
from benchmarks.execution.trackers import tracking
from benchmarks.records import DIVERGED
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from core.errors import DataError, SpecError
from core.interrupt import SIGNALS, Stopped, listening
from core.progress import Channel, relay, say, showing, watched
from tasks.base import fetch, load_task

__all__ = ["Engine", "Job", "Outcome", "local", "run_missing"]

RETRY = 5.0  # seconds between looks at the cells that other processes run


class Outcome(IntEnum):
    """Outcome of a job; also the exit code of its process."""

    DONE = 0
    FAILED = 17  # recorded; or a seed has diverged
    HELD = 18  # another process runs it


Engine = Callable[[list["Job"], ResultStore], int]  # runs these cells; returns how many failed


@dataclass(frozen=True)
class Job:
    """One cell with its missing seeds, ready to be sent to another process."""

    label: str
    spec: RunSpec
    root: Path
    device: torch.device
    data_dir: Path | None
    tracker: str | None = None
    models_folder: Path | None = None
    stall: float = 0.0  # seconds without a sign of life after which its process ends; 0: never

    def run(self) -> Outcome:
        """Run it here, unless another process does, and record what happened; a hang ends this process with code 1.

        Raises:
            Stopped: this process was asked to stop.
        """
        store = ResultStore(self.root)
        started = datetime.now(UTC)
        try:
            lease = acquire(store.lease(self.spec.cell_id))
            if isinstance(lease, Owner):
                time.sleep(RETRY)
                return Outcome.HELD
            with lease, self.watch():
                spec = replace(self.spec, seeds=store.missing(self.spec))
                if not spec.seeds:  # another process was quicker
                    return Outcome.DONE
                say(f"{self.label}: seeds {', '.join(map(str, spec.seeds))}")
                task = load_task(spec.task, spec.settings.data_options(self.data_dir))
                with tracking(self.tracker, self.label, spec, self.root) as observe:
                    records, origin = run_cell(
                        spec, task, self.device, store.checkpoint(spec.cell_id), observe, self.models_folder
                    )
                if not lease.held():
                    say(f"{self.label}: another process has taken over meanwhile, its results count")
                    return Outcome.HELD
                store.finish(spec, origin, records)
        except Exception as error:  # whatever a method or a file does, the other cells must run
            self.fail(store, started, traceback.format_exc())
            say(f"{self.label}: FAILED: {type(error).__name__}: {error}")
            return Outcome.FAILED
        diverged = [record for record in records if record.metric.startswith(DIVERGED)]
        for seed, step, metric, *_ in diverged:
            say(f"{self.label}: seed {seed} DIVERGED: {metric.removeprefix(DIVERGED)} is not finite at update {step}")
        say(f"{self.label}: done in {origin['seconds']:.0f} s")
        return Outcome.FAILED if diverged else Outcome.DONE

    def held(self) -> str:
        """Which other process runs it and is alive, in words; empty if none does."""
        owner, alive = holder(ResultStore(self.root).lease(self.spec.cell_id)) or (None, False)
        return f"is being run by {owner}" if alive else ""

    def fail(self, store: ResultStore, started: datetime, reason: str) -> str:
        """Record a failure of these seeds, if the disk can be written to; returns it in a line.

        It is a hang if the process has left its stack.
        """
        line = reason.splitlines()[0]
        if stack := store.take_stack(self.spec.cell_id):
            line = f"no sign of life for {self.stall / 60:.3g} min, so the cell's process was ended"
            reason = f"{stack}\n{line}\n"
        origin = {"seeds": list(self.spec.seeds), "started": started.isoformat(timespec="seconds")}
        try:
            store.fail(self.spec, provenance(self.device) | origin, reason)
        except OSError as error:
            say(f"{self.label}: the failure cannot be recorded: {error}")
        return line

    def watch(self) -> AbstractContextManager[None]:
        """Ends this process if the block hangs."""
        return watched(self.stall, ResultStore(self.root).stack(self.spec.cell_id))


def run_missing(
    specs: Iterable[RunSpec],
    store: ResultStore,
    device: torch.device,
    data_dir: Path | None,
    engine: Engine,
    tracker: str | None = None,
    models_folder: Path | None = None,
    stall: float = 0.0,
) -> int:
    """Run what is missing; returns how many cells failed or have a diverged seed.

    Cells that another process runs are waited for, and taken over if it dies. `tracker` is one of `trackers.TRACKERS`;
    it changes no number and cannot make a cell fail. `models_folder` takes the place of the cache of this machine.
    After `stall` seconds without a sign of life the process of a cell is ended, and the cell has failed; 0: never.
    """
    specs = list(specs)
    todo = []
    failed = 0
    for number, spec in enumerate(specs, 1):
        label = f"[{number}/{len(specs)}] {spec.label} ({spec.variant})"
        try:
            seeds = store.missing(spec)
        except DataError as error:
            failed += 1
            say(f"{label}: FAILED: {error}")
            continue
        if seeds:
            wanted = replace(spec, seeds=seeds)
            todo.append(Job(label, wanted, store.root, device, data_dir, tracker, models_folder, stall))
        else:
            say(f"{label}: already there")
    return failed + (engine(todo, store) if todo else 0)


def local(todo: list[Job], store: ResultStore, *, jobs: int = 1) -> int:
    """Run cells on this machine, at most `jobs` at a time.

    Each has a process of its own, except one at a time that is not watched for a hang: this process then runs it. Data
    are fetched first, once for all cells that read them; where they cannot be had, these cells have failed.
    """
    here = _with_data(todo, store)
    failed = len(todo) - len(here)
    if not here:
        return failed
    apart = min(jobs, len(here)) > 1 or here[0].stall
    return failed + (_side_by_side(here, store, jobs) if apart else _one_by_one(here))


def _with_data(todo: list[Job], store: ResultStore) -> list[Job]:
    """The jobs whose data are here or can be fetched; of the others the reason is recorded and said once per task."""
    problems = dict[str, str | None]()
    for job in todo:
        if job.spec.task not in problems:
            problems[job.spec.task] = _fetching_problem(job)
        if reason := problems[job.spec.task]:
            job.fail(store, datetime.now(UTC), f"{reason}\n")
    for task, reason in problems.items():
        if reason:
            say(f"{sum(job.spec.task == task for job in todo)} cells of {task} FAILED: {reason}")
    return [job for job in todo if not problems[job.spec.task]]


def _fetching_problem(job: Job) -> str | None:
    try:
        fetch(job.spec.task, job.spec.settings.data_options(job.data_dir))
    except (DataError, SpecError, OSError) as error:
        return str(error)
    return None


class _Waiting(deque[Job]):
    """The jobs that are to be run, in order; those that another process runs are left for later."""

    def __init__(self, jobs: list[Job]) -> None:
        super().__init__(jobs)
        self._said = set[str]()
        self._look = 0.0

    def next(self) -> Job | None:
        """The first that nobody runs; None if there is none, and then for `RETRY` seconds without a look."""
        if time.monotonic() < self._look:
            return None
        for _ in range(len(self)):
            job = self.popleft()
            held = job.held()
            if not held:
                return job
            self.append(job)
            if job.label not in self._said:
                self._said.add(job.label)
                say(f"{job.label}: {held}")
        self._look = time.monotonic() + RETRY
        return None


def _one_by_one(todo: list[Job]) -> int:
    as_in_cells(todo[0].device)
    waiting = _Waiting(todo)
    failed = 0
    while waiting:
        job = waiting.next()
        if job is None:
            time.sleep(RETRY)
            continue
        outcome = job.run()
        failed += outcome is Outcome.FAILED
        if outcome is Outcome.HELD:
            waiting.append(job)
    return failed


def _side_by_side(todo: list[Job], store: ResultStore, jobs: int) -> int:
    """A process for each cell, no more at a time than memory has room for."""
    context = _context()
    environment = dict(os.environ)
    channel: Channel = context.Queue()
    waiting = _Waiting(todo)
    failed = 0
    running: dict[Any, tuple[BaseProcess, Job, datetime]] = {}  # by sentinel
    with showing(channel):
        try:
            while waiting or running:
                while waiting and len(running) < jobs and (job := waiting.next()):
                    if running and not _room(store):
                        waiting.appendleft(job)
                        break
                    process = context.Process(target=_work, args=(job, channel, environment), daemon=True)
                    process.start()
                    running[process.sentinel] = process, job, datetime.now(UTC)
                for sentinel in wait(list(running), _POLL if waiting else None):
                    process, job, started = running.pop(sentinel)
                    process.join()
                    failed += _failed(process.exitcode, job, store, started)
                    if process.exitcode == Outcome.HELD:
                        waiting.append(job)
        finally:
            for process, *_ in running.values():
                process.terminate()
            for process, *_ in running.values():
                process.join()
    return failed


def _failed(code: int | None, job: Job, store: ResultStore, started: datetime) -> bool:
    """Whether the cell of a process that ended with this exit code has failed."""
    if code in (Outcome.DONE, Outcome.HELD):
        return False
    if code in _STOPPED:  # the signal was sent to the cell alone
        raise Stopped(_STOPPED[code])
    if code != Outcome.FAILED:
        line = job.fail(store, started, f"the cell's process ended with exit code {code}\n")
        say(f"{job.label}: FAILED: {line}")
    return True


def _room(store: ResultStore) -> bool:
    """Whether one more cell fits into memory, as large as the largest so far."""
    largest = max((run.get("peak_memory_mib", 0.0) for cell in store.runs() for run in cell), default=0.0)
    return available_memory_mib() > (largest or _UNKNOWN_MIB)


def _context() -> Any:
    """New processes are forked from a server that has imported the slow modules once and done nothing else.

    Outside Linux every process imports for itself: Windows has no fork, and on macOS imported system libraries do not
    survive one.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTS)
    return context


_IMPORTS = [__name__, "tasks.simulators.locomotion", "torch._dynamo"]  # slow ones; optimisers import the last
_POLL = 1.0  # seconds between looks at whether memory has room for one more cell, and nobody else runs one
_STOPPED = {Stopped(number).exit_code: number for number in reversed(SIGNALS)}
_UNKNOWN_MIB = 1500.0  # of a cell, until one has finished


def _work(job: Job, channel: Channel, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)  # the server has the environment of its own start
    threading.Thread(target=_follow_parent, daemon=True).start()
    relay(channel)
    as_in_cells(job.device)
    try:
        with listening():
            code = int(job.run())
    except Stopped as stopped:  # the parent got the signal, too, and reports it
        code = stopped.exit_code
    raise SystemExit(code)


def _follow_parent() -> None:
    """End when the launcher ends; it may be killed without a chance to terminate its cells."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(Outcome.FAILED)
