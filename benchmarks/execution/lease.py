"""Who runs a cell: one process at a time, on whichever machine; whoever dies is noticed and followed.

A lease is a file that only one process can create. Its owner touches it every few seconds, so its age, by the clock of
the disk it lies on, says whether the owner lives; on the owner's own machine the process table says so at once. Nothing
depends on file locks, which network file systems do not always have. Each lease has a token: an owner that slept
through its own burial finds another one there, and keeps its results to itself.
"""

import json
import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

from core.files import write_json
from core.progress import say

__all__ = ["STALE", "Lease", "Owner", "acquire", "holder"]

STALE = 120.0  # seconds without a sign of life after which an owner on another machine counts as dead


@dataclass(frozen=True)
class Owner:
    """The process that holds a lease."""

    host: str
    machine: str  # boot and process namespace: where `pid` means something
    pid: int
    born: str  # start of the process: a pid is used again
    since: float  # seconds since 1970
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease:
    """Held from `acquire` until the end of its `with` block."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self._path = path
        self._owner = owner
        self._done = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self.held():
            self._path.unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether it is still this process's: to be asked before anything is written for good."""
        return _read(self._path) == self._owner

    def _beat(self) -> None:
        while not self._done.wait(STALE / 6) and self.held():
            with suppress(OSError):
                os.utime(self._path)


def acquire(path: Path) -> Lease | Owner:
    """The lease, or whoever has it. One whose owner is dead is taken over, which is said.

    Raises:
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    me = _me()
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(asdict(me), file)
    except FileExistsError:
        found = holder(path)
        if found is None:  # given back this very moment
            return acquire(path)
        owner, alive = found
        return owner if alive or not _take_over(path, owner, me) else Lease(path, me)
    return Lease(path, me)


def holder(path: Path) -> tuple[Owner, bool] | None:
    """Who holds the lease, and whether they live; None if nobody does."""
    owner = _read(path)
    return None if owner is None else (owner, _alive(path, owner))


def _take_over(path: Path, dead: Owner, me: Owner) -> bool:
    """False where another process is quicker. A second file makes sure that only one buries."""
    grave = path.with_name(f"{path.name}.{dead.token}")
    try:
        grave.touch(exist_ok=False)
    except FileExistsError:
        if _age(grave) > STALE:  # whoever was quicker has died over it
            grave.unlink(missing_ok=True)
        return False
    try:
        if _read(path) != dead:
            return False
        write_json(path, asdict(me))
    finally:
        grave.unlink(missing_ok=True)
    say(f"{path.parent.name}: taken over from {dead}, which is dead")
    return True


def _alive(path: Path, owner: Owner) -> bool:
    if owner.machine == _machine():
        return _born(owner.pid) == owner.born
    with suppress(FileNotFoundError):
        return _age(path) <= STALE
    return False


def _age(path: Path) -> float:
    """Seconds since it was touched, by the clock of its disk."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def _read(path: Path) -> Owner | None:
    """None where there is none. One that is being written, or torn, belongs to nobody that could be asked."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return Owner("an unknown host", "", 0, "", 0.0, "unknown")


def _me() -> Owner:
    pid = os.getpid()
    return Owner(platform.node(), _machine(), pid, _born(pid), time.time(), secrets.token_hex(8))


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return platform.node()


def _born(pid: int) -> str:
    """When the process started; empty if there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except (FileNotFoundError, ProcessLookupError):
        pass
    if Path("/proc/self").exists():
        return ""
    try:  # not Linux: alive is all that can be said
        os.kill(pid, 0)
    except PermissionError:
        return "alive"
    except OSError:
        return ""
    return "alive"
