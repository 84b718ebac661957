"""Signals that ask a process to stop: where that could tear something they wait until asked for."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SIGNALS", "Stopped", "asked", "deferred", "listening"]

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # Ctrl-C, two of schedulers, a terminal that was closed
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Stopped(BaseException):
    """The process was asked to stop. No `Exception`: whoever catches those has not been told to stop stopping."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, as shells have it; 75 (try again later) for a scheduler that wants the machine back."""
        return 130 if self.number == signal.SIGINT else 75


_asked: list[int] = []  # the first signal that came
_depth: list[None] = []  # one for each block of `deferred`


@contextmanager
def listening() -> Iterator[None]:
    """Inside, the first of SIGNALS raises `Stopped` in the main thread, and the next ones do nothing.

    What is ignored (`nohup`) stays ignored.
    """
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def asked() -> int | None:
    """The signal that has asked this process to stop, if one has."""
    return _asked[0] if _asked else None


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal raises nothing: the block looks at `asked`. One that nobody looked at raises behind it."""
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
