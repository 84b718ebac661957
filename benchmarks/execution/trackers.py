"""Trackers that only look on: they are told the numbers of a running cell, and nothing they do reaches it."""

import os
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, runtime_checkable

from benchmarks.spec import RunSpec
from benchmarks.store import Record
from core.errors import SpecError, unknown
from core.progress import say

__all__ = ["TRACKERS", "Observe", "Tracker", "observed", "require_tracker", "tracking"]

Observe = Callable[[list[Record]], None]  # records of one step

ROOM = 1000  # messages that may wait for a tracker
PATIENCE = 5.0  # seconds that a cell waits at its end for what is still to be sent


@runtime_checkable
class Tracker(Protocol):
    """What shows numbers while they come in."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values by name, at a number of gradient updates that never falls."""

    def close(self) -> None:
        """Send what is left."""


class TensorBoard:
    """Event files of one cell in a folder of its own."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / spec.cell_id))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """One run of the project "rolloutbench" per cell; without $WANDB_MODE nothing leaves this machine."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project="rolloutbench",
            name=spec.cell_id,
            config={**spec.describe(), "seeds": list(spec.seeds), "variant": spec.variant},
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE") or "offline",
            reinit="create_new",  # the run of an earlier cell may hang
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[RunSpec, Path], Tracker]] = {"tensorboard": TensorBoard, "wandb": Wandb}


def require_tracker(name: str) -> None:
    """Check that a tracker can be had; its package has the name of the tracker, and so has the extra.

    Raises:
        SpecError: no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    if find_spec(name) is None:
        raise SpecError(f"--tracker {name} needs the package {name}: pip install rolloutbench[{name}]")


@contextmanager
def tracking(name: str | None, label: str, spec: RunSpec, root: Path) -> Iterator[Observe | None]:
    """The observer that tells a tracker of this cell what happens, with its files in `root`/tracker; None without."""
    if name is None:
        yield None
    else:
        kind = TRACKERS[name]
        with observed(f"{label}: tracker {name}", lambda: kind(spec, root / "tracker")) as observe:
            yield observe


@contextmanager
def observed(label: str, start: Callable[[], Tracker]) -> Iterator[Observe]:
    """An observer that never raises nor waits; `start` and all it makes run in a thread of their own.

    A tracker that raises, that falls `ROOM` messages behind, or that has not closed `PATIENCE` seconds after the end of
    the block is given up with one line that begins with `label`.
    """
    follower = _Follower(label, start)
    try:
        yield follower.tell
    finally:
        follower.close()


class _Follower:
    def __init__(self, label: str, start: Callable[[], Tracker]) -> None:
        self._label = label
        self._start = start
        self._lost = False
        self._lock = threading.Lock()
        self._waiting = queue.Queue[list[Record] | None](ROOM)  # None: that was all
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def tell(self, records: list[Record] | None) -> None:
        if not self._lost:
            try:
                self._waiting.put_nowait(records)
            except queue.Full:
                self._give_up(f"it is {ROOM} messages behind")

    def close(self) -> None:
        self.tell(None)
        if not self._lost:
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                self._give_up(f"it has not closed within {PATIENCE:g} s")

    def _work(self) -> None:
        try:
            tracker = self._start()
            while not self._lost and (records := self._waiting.get()) is not None:
                if records:
                    tracker.log(records[0].step, _values(records))
            tracker.close()
        except BaseException as error:  # SystemExit, too: some packages leave that way, and it would end here unseen
            self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, problem: str) -> None:
        with self._lock:
            first = not self._lost
            self._lost = True
        if first:
            say(f"{self._label} is given up, the run goes on: {problem}")


def _values(records: list[Record]) -> dict[str, float]:
    """Every metric's mean over seeds under its name, and each seed's value under `seed<N>/<metric>`."""
    by_metric = defaultdict[str, list[float]](list)
    values = {}
    for seed, _, metric, value, _ in records:
        if value is not None:
            by_metric[metric].append(value)
            values[f"seed{seed}/{metric}"] = value
    return {metric: fmean(found) for metric, found in by_metric.items()} | values
