"""The cells that are not there yet, a few at a time; a cell that fails is recorded and the others go on.

On a CPU every cell is a process of its own with one thread: two cells side by side use two cores better than one cell
with two threads, and a number does not depend on how many cells ran at once.
"""

import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks import runner
from benchmarks.planning import pretrained
from benchmarks.provenance import provenance
from benchmarks.spec import RunSpec
from benchmarks.store import DIVERGED, ResultStore
from benchmarks.trackers import tracking
from core.errors import DataError
from core.progress import Channel, relay, say, showing
from tasks.base import load_task

__all__ = ["run_missing"]


@dataclass(frozen=True)
class _Job:
    """One cell with the seeds it lacks, ready to be sent to another process."""

    label: str
    spec: RunSpec
    root: Path
    device: torch.device
    data_dir: Path | None
    tracker: str | None = None

    def run(self) -> bool:
        """Run it here and record what happened; False when it failed or a seed diverged."""
        store, started = ResultStore(self.root), datetime.now(UTC)
        say(f"{self.label}: seeds {', '.join(map(str, self.spec.seeds))}")
        try:
            task = load_task(self.spec.task, self.spec.settings.data_options(self.data_dir))
            with tracking(self.tracker, self.label, self.spec, self.root) as observe:
                records, origin = runner.run(self.spec, task, self.device, observe)
        except Exception as error:  # whatever a method or a file does, the other cells must go on
            self.fail(store, started, traceback.format_exc())
            say(f"{self.label}: FAILED: {type(error).__name__}: {error}")
            return False
        store.finish(self.spec, origin, records)
        diverged = [record for record in records if record.metric.startswith(DIVERGED)]
        for seed, step, metric, _ in diverged:
            say(f"{self.label}: seed {seed} DIVERGED: {metric.removeprefix(DIVERGED)} is not finite at update {step}")
        say(f"{self.label}: done in {origin['seconds']:.0f} s")
        return not diverged

    def fail(self, store: ResultStore, started: datetime, reason: str) -> None:
        """Record a failure of these seeds."""
        origin = {"seeds": list(self.spec.seeds), "started": started.isoformat(timespec="seconds")}
        store.fail(self.spec, provenance(self.device) | origin, reason)


def run_missing(
    specs: Iterable[RunSpec],
    store: ResultStore,
    device: torch.device,
    data_dir: Path | None,
    jobs: int = 1,
    tracker: str | None = None,
) -> int:
    """Run what is missing, `jobs` cells at a time; returns how many cells failed or have a diverged seed.

    `tracker` is one of `trackers.TRACKERS`; it changes no number and cannot make a cell fail.
    """
    specs, todo, failed = list(specs), [], 0
    for number, spec in enumerate(specs, 1):
        label = f"[{number}/{len(specs)}] {spec.task} {spec.generator.name} {spec.algorithm.name} ({spec.variant})"
        try:
            seeds = store.missing(spec)
        except DataError as error:
            failed += 1
            say(f"{label}: FAILED: {error}")
            continue
        if seeds:
            todo.append(_Job(label, replace(spec, seeds=seeds), store.root, device, data_dir, tracker))
        else:
            say(f"{label}: already there")
    if device.type == "cpu":
        torch.set_num_threads(1)
    if min(jobs, len(todo)) <= 1:
        return failed + sum(not job.run() for job in todo)
    return failed + _side_by_side(todo, store, jobs)


def _side_by_side(todo: list[_Job], store: ResultStore, jobs: int) -> int:
    context, environment = _context(), dict(os.environ)
    channel: Channel = context.SimpleQueue()
    waiting, failed, made = list(todo), 0, set[str]()
    running: dict[Any, tuple[BaseProcess, _Job, datetime]] = {}  # by sentinel
    with showing(channel):
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    job = waiting.pop(_next(waiting, [other for _, other, _ in running.values()], made))
                    process = context.Process(target=_work, args=(job, channel, environment), daemon=True)
                    process.start()
                    running[process.sentinel] = process, job, datetime.now(UTC)
                for sentinel in wait(list(running)):
                    process, job, started = running.pop(sentinel)
                    process.join()
                    made |= _makes(job)
                    failed += process.exitcode != 0
                    if process.exitcode not in (0, _FAILED):
                        job.fail(store, started, f"the cell's process ended with exit code {process.exitcode}\n")
                        say(f"{job.label}: FAILED: its process ended with exit code {process.exitcode}")
        finally:
            for process, *_ in running.values():
                process.terminate()
    return failed


def _next(waiting: list[_Job], running: list[_Job], made: set[str]) -> int:
    """The first job that has not to wait for what a running one is making; if there is none, the first."""
    in_the_making = {thing for job in running for thing in _makes(job)} - made
    return next((index for index, job in enumerate(waiting) if not _makes(job) & in_the_making), 0)


def _makes(job: _Job) -> set[str]:
    """What other jobs may want, too: the data of the task and pretrained models."""
    return {job.spec.task} | pretrained(job.spec)


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


_IMPORTS = [__name__, "tasks.mujoco", "torch._dynamo"]  # what takes seconds; optimisers want the last one
_FAILED = 17  # the exit code of a process that has recorded its cell's failure itself


def _work(job: _Job, channel: Channel, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)  # the server's is that of the first time it was needed
    threading.Thread(target=_follow_parent, daemon=True).start()
    relay(channel)
    if job.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        done = job.run()
    except KeyboardInterrupt:  # the parent has been told, too, and says so
        raise SystemExit(130) from None
    raise SystemExit(0 if done else _FAILED)


def _follow_parent() -> None:
    """End with the process that wanted the cell; it may be killed without a chance to say so."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(_FAILED)
