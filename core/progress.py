"""Progress bars on a terminal, plain lines elsewhere (logs, continuous integration); always on standard error.

Lines and bars are records of one logger. A worker process can `relay` its records; `showing` displays them here.
They are also signs of life: a process that is `watched` and gives none for too long is ended.
"""

import faulthandler
import logging
import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from filelock import BaseFileLock, Timeout
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Channel", "drop_output", "progress", "relay", "say", "showing", "sign_of_life", "waiting", "watched"]

_PLAIN_INTERVAL = 15.0  # seconds between plain lines of one bar
_WAIT = 1.0  # seconds between signs of life of a process that waits for another one


@runtime_checkable
class Channel(Protocol):
    """A queue between processes."""

    def put_nowait(self, item: Any, /) -> None:
        """Send."""

    def get(self) -> Any:
        """Receive."""


def say(text: str) -> None:
    """One line for the reader, above any bar that is being drawn."""
    sign_of_life()
    _logger.info(text)


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields `advance(steps)`; bars may be nested."""
    key = uuid.uuid4().hex

    def advance(steps: int | None) -> None:
        sign_of_life()
        _logger.info(description, extra={"bar": (key, total, steps)})

    advance(0)
    try:
        yield advance
    finally:
        advance(None)


@contextmanager
def watched(seconds: float, stack: Path) -> Iterator[None]:
    """End this process, with exit code 1, once it has given no sign of life for so many seconds; 0: never.

    The file then says where every thread was. Only what the thread that enters the block says, counts or does is a sign
    of life: a heartbeat goes on beside a hang. The timer is faulthandler's, in C: what never returns to Python cannot
    stop it. A process that is suspended for so long counts as hanging.
    """
    if not seconds:
        yield
        return
    global _watch
    stack.parent.mkdir(parents=True, exist_ok=True)
    with stack.open("w", encoding="utf-8") as file:
        _watch = _Watch(seconds, file)
        try:
            yield
        finally:
            _watch = None
            faulthandler.cancel_dump_traceback_later()
    stack.unlink(missing_ok=True)


def sign_of_life() -> None:
    """A sign of life, for whatever repeats between lines and bars; costs no more than a look at the clock."""
    if _watch is not None:
        _watch.renew()


@contextmanager
def waiting(lock: BaseFileLock) -> Iterator[None]:
    """Hold a lock; waiting for it is no hang: whoever holds it is watched by itself."""
    while not lock.is_locked:
        sign_of_life()
        with suppress(Timeout):
            lock.acquire(timeout=_WAIT)
    try:
        yield
    finally:
        lock.release()


class _Watch:
    """A timer that every sign of life sets anew, at most ten times in its span."""

    def __init__(self, seconds: float, file: IO[str]) -> None:
        self._seconds = seconds
        self._file = file
        self._thread = threading.get_ident()
        self._renewed = -math.inf
        self.renew()

    def renew(self) -> None:
        now = time.monotonic()
        if threading.get_ident() == self._thread and now - self._renewed >= self._seconds / 10:
            self._renewed = now
            faulthandler.dump_traceback_later(1.1 * self._seconds, exit=True, file=self._file)


def relay(channel: Channel) -> None:
    """From now on this process displays nothing itself and sends it to `showing`."""
    _logger.handlers[:] = [QueueHandler(channel)]


@contextmanager
def showing(channel: Channel) -> Iterator[None]:
    """Display what other processes relay, until the end of the block."""
    listener = QueueListener(channel, _view)
    before = set(_view.bars)
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        for key in _view.bars.keys() - before:  # of processes that were killed
            _view.close_bar(key)


def drop_output() -> None:
    """Send what is left to be printed nowhere; else Python complains when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


class _View(logging.Handler):
    """Displays records in this process; a terminal can show one live display, so all bars share it."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self.display = Progress(*columns, *times, console=self.console, transient=True)
        self.bars = dict[str, TaskID]()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        match getattr(record, "bar", None):
            case None:
                self._line(text)
            case key, _, None:
                self.close_bar(key)
            case key, total, steps:
                if key not in self.bars:
                    self.bars[key] = self.display.add_task(text, total=total, shown=time.monotonic())
                self.display.advance(self.bars[key], steps)
                if self.console.is_terminal:
                    self.display.start()
                elif steps:
                    self._plain(self.bars[key])

    def close_bar(self, key: str) -> None:
        self.display.remove_task(self.bars.pop(key))
        if not self.bars and self.display.live.is_started:
            self.display.stop()

    def _line(self, text: str) -> None:
        if self.console.is_terminal:
            self.console.print(text, markup=False)
            return
        with suppress(BrokenPipeError):  # `2>&1 | head`: nobody reads on, and what runs is not to fail for it
            print(text, file=sys.stderr, flush=True)

    def _plain(self, bar: TaskID) -> None:
        (task,) = (task for task in self.display.tasks if task.id == bar)
        now = time.monotonic()
        if now - task.fields["shown"] >= _PLAIN_INTERVAL:
            self.display.update(bar, shown=now)
            self._line(f"{task.description}: {task.completed}/{task.total} after {task.elapsed:.0f} s")


_watch: _Watch | None = None  # of this process
_view = _View()
_logger = logging.getLogger("rolloutbench")
_logger.setLevel(logging.INFO)
_logger.propagate = False
_logger.addHandler(_view)
