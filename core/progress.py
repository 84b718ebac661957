"""Progress bars on a terminal, plain lines elsewhere (logs, continuous integration); always on standard error.

A process that works for another one can `relay` what it would show; the other shows all of it in one view.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Channel", "progress", "relay", "say", "showing"]

_PLAIN_INTERVAL = 15.0  # seconds between plain lines of one task
_console = Console(stderr=True, highlight=False)
_live: list[Progress] = []  # a terminal can show one live display: nested bars share it
_relay: list["Channel"] = []  # where to, if not to this process's own standard error


@runtime_checkable
class Channel(Protocol):
    """A queue between processes."""

    def put(self, item: Any) -> None:
        """Send."""

    def get(self) -> Any:
        """Wait and receive."""


def say(text: str) -> None:
    """One line for the reader, above any bar that is being drawn."""
    if _relay:
        _relay[0].put(("say", text))
    elif _console.is_terminal:
        _console.print(text, markup=False)
    else:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields `advance(steps)`; bars may be nested."""
    if _relay:
        with _sent(_relay[0], description, total) as advance:
            yield advance
    elif _console.is_terminal:
        with _bar(description, total) as advance:
            yield advance
    else:
        yield _lines(description, total)


def relay(channel: Channel) -> None:
    """From now on this process shows nothing itself and sends it to `showing`."""
    _relay[:] = [channel]


@contextmanager
def showing(channel: Channel) -> Iterator[None]:
    """Show what other processes relay, until the end of the block."""
    thread = threading.Thread(target=_show, args=(channel,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        channel.put(("stop",))
        thread.join()


def _show(channel: Channel) -> None:
    bars: dict[object, tuple[ExitStack, Callable[[int], None]]] = {}
    while (message := channel.get())[0] != "stop":
        match message:
            case ("say", text):
                say(text)
            case ("open", key, description, total):
                stack = ExitStack()
                bars[key] = stack, stack.enter_context(progress(description, total))
            case ("advance", key, steps):
                bars[key][1](steps)
            case ("close", key):
                bars.pop(key)[0].close()
    for stack, _ in bars.values():  # of processes that died
        stack.close()


_keys = count()


@contextmanager
def _sent(channel: Channel, description: str, total: int) -> Iterator[Callable[[int], None]]:
    key = (threading.get_native_id(), next(_keys))
    channel.put(("open", key, description, total))
    try:
        yield lambda steps: channel.put(("advance", key, steps))
    finally:
        channel.put(("close", key))


@contextmanager
def _bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    if not _live:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        _live.append(Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=_console, transient=True))
        _live[0].start()
    display = _live[0]
    task = display.add_task(description, total=total)
    try:
        yield lambda steps: display.advance(task, steps)
    finally:
        display.remove_task(task)
        if not display.tasks:
            _live.remove(display)
            display.stop()


def _lines(description: str, total: int) -> Callable[[int], None]:
    start = last = time.monotonic()
    done = 0

    def advance(steps: int) -> None:
        nonlocal last, done
        done += steps
        now = time.monotonic()
        if now - last >= _PLAIN_INTERVAL:
            last = now
            say(f"{description}: {done}/{total} after {now - start:.0f} s")

    return advance
