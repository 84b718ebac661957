"""Signals that ask a process to stop: raised as `Stopped`, or deferred where a block must not be torn."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SIGNALS", "Stopped", "deferred", "listening", "pending_signal"]

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # Ctrl-C, two that schedulers send, a closed terminal
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Stopped(BaseException):
    """The process was asked to stop. Derives from BaseException so that `except Exception` does not swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, as in shells; 75 (try again later) after the signal of a scheduler."""
        return 130 if self.number == signal.SIGINT else 75


_asked: list[int] = []  # the first signal received
_depth: list[None] = []  # one entry for each block of `deferred`


@contextmanager
def listening() -> Iterator[None]:
    """Inside, the first of SIGNALS raises `Stopped` in the main thread; later ones are ignored.

    Signals that are ignored already (`nohup`) stay ignored.
    """
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def pending_signal() -> int | None:
    """The signal that has asked this process to stop, if any."""
    return _asked[0] if _asked else None


@contextmanager
def deferred() -> Iterator[None]:
    """Defers signals: poll `pending_signal()` inside; a signal still pending raises `Stopped` on exit."""
    _depth.append(None)
    try:
        yield
    finally:
        _depth.pop()
    if _asked and not _depth:
        raise Stopped(_asked[0])


def _handle(number: int, frame: FrameType | None) -> None:
    if not _asked:
        _asked.append(number)
        if not _depth:
            raise Stopped(number)
