"""Who runs a cell: one process at a time, on whichever machine; stale owners are detected and replaced.

A lease is a file that only one process can create. Its owner touches it every few seconds; an owner on another machine
is stale once the file is older than `STALE`, by the clock of the disk that holds it, and an owner on this machine as
soon as its process has ended. Nothing depends on file locks, which network file systems do not always have. Each lease
has a token: an owner whose lease was taken over finds another token and must discard its results.

`filelock.SoftFileLease` is no substitute: it counts the time that one waiting object has watched the file, so that
neither `status` nor a process started for one attempt can detect a stale owner elsewhere, and an empty file (its owner
was killed between creating and writing it) blocks the cell for good.
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

STALE = 120.0  # seconds without a heartbeat after which an owner on another machine is stale


@dataclass(frozen=True)
class Owner:
    """The process that holds a lease."""

    host: str
    machine: str  # boot and process namespace: where `pid` means something
    pid: int
    born: str  # start of the process, since pids are reused
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
        """False once another process has taken it over; check before writing results."""
        return _read(self._path) == self._owner

    def _beat(self) -> None:
        while not self._done.wait(STALE / 6) and self.held():
            with suppress(OSError):
                os.utime(self._path)


def acquire(path: Path) -> Lease | Owner:
    """The lease, or its owner if that is another process. The lease of a stale owner is taken over, with a message.

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
        if found is None:  # released meanwhile
            return acquire(path)
        owner, alive = found
        return owner if alive or not _take_over(path, owner, me) else Lease(path, me)
    return Lease(path, me)


def holder(path: Path) -> tuple[Owner, bool] | None:
    """The owner of the lease, and whether it is alive (not stale); None without a lease."""
    owner = _read(path)
    return None if owner is None else (owner, _alive(path, owner))


def _take_over(path: Path, stale: Owner, me: Owner) -> bool:
    """False where another process is quicker: a takeover marker ensures that one contender replaces the owner."""
    marker = path.with_name(f"{path.name}.{stale.token}")
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        if _age(marker) > STALE:  # left by a contender that was killed
            marker.unlink(missing_ok=True)
        return False
    try:
        if _read(path) != stale:
            return False
        write_json(path, asdict(me))
    finally:
        marker.unlink(missing_ok=True)
    say(f"{path.parent.name}: taken over from {stale}, which is dead")
    return True


def _alive(path: Path, owner: Owner) -> bool:
    if owner.machine == _machine():
        return _born(owner.pid) == owner.born
    with suppress(FileNotFoundError):
        return _age(path) <= STALE
    return False


def _age(path: Path) -> float:
    """Seconds since the file was touched, by the clock of its disk."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def _read(path: Path) -> Owner | None:
    """The owner; one that cannot be read (being written, or torn) is an unknown process on an unknown host."""
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
    """When the process started; empty if there is no such process."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except (FileNotFoundError, ProcessLookupError):
        pass
    if Path("/proc/self").exists():
        return ""
    try:  # not Linux: only that it runs can be found out
        os.kill(pid, 0)
    except PermissionError:
        return "alive"
    except OSError:
        return ""
    return "alive"
