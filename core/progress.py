"""Progress bars on a terminal, plain lines elsewhere (logs, continuous integration); always on standard error.

Lines and bars are records of one logger. A worker process can `relay` its records; `showing` displays them here.
"""

import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Protocol, runtime_checkable

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

__all__ = ["Channel", "progress", "relay", "say", "showing"]

_PLAIN_INTERVAL = 15.0  # seconds between plain lines of one bar


@runtime_checkable
class Channel(Protocol):
    """A queue between processes."""

    def put_nowait(self, item: Any, /) -> None:
        """Send."""

    def get(self) -> Any:
        """Receive."""


def say(text: str) -> None:
    """One line for the reader, above any bar that is being drawn."""
    _logger.info(text)


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields `advance(steps)`; bars may be nested."""
    key = uuid.uuid4().hex

    def advance(steps: int | None) -> None:
        _logger.info(description, extra={"bar": (key, total, steps)})

    advance(0)
    try:
        yield advance
    finally:
        advance(None)


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


_view = _View()
_logger = logging.getLogger("rolloutbench")
_logger.setLevel(logging.INFO)
_logger.propagate = False
_logger.addHandler(_view)
