"""Downloads into the cache: fetched once, verified by checksum, and never left damaged."""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pooch
from filelock import FileLock

from core import files
from core.errors import DataError, in_one_line
from core.progress import progress, say, waiting
from tasks.hdf5 import damage

__all__ = ["ATTEMPTS", "BACKOFF", "fetch"]

ATTEMPTS = 3
BACKOFF = 1.0  # seconds before the second attempt; doubled before each further one
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 2**16


def fetch(url: str, path: Path, sha256: str | None = None) -> Path:
    """`path` with the content of `url`; one process downloads it while others wait, then they verify it.

    The checksum is `sha256` where it is known, else that of the first download, kept beside the file. A file that does
    not match it is moved to `.bad` and downloaded again; the new download must match it, too.

    Raises:
        DataError: names the URL, the rule that the download breaks, and where to put a copy by hand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with waiting(FileLock(path.with_name(f"{path.name}.lock"))):
        expected = sha256 or _recorded(path)
        if path.is_file():
            if (fault := _fault(path, expected)) is None:
                _record(path)
                return path
            path.replace(bad := path.with_name(f"{path.name}.bad"))
            say(f"{path}: {fault}; moved to {bad.name}, fetching it again")
        _download(url, path, expected)
        _record(path)
    return path


def _download(url: str, path: Path, sha256: str | None) -> None:
    for attempt in range(ATTEMPTS):
        time.sleep(attempt and BACKOFF * 2 ** (attempt - 1))
        try:
            with files.atomic(path) as part, _Bar(path.name) as bar:
                pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK, timeout=_TIMEOUT)(url, str(part), None)
                if (fault := _fault(part, sha256)) is not None:
                    raise DataError(fault)
            return
        except DataError as error:
            problem = str(error)
        except Exception as error:  # of any of the client's layers: requests, urllib3, http, idna, a proxy's
            problem = in_one_line(error)
        say(f"{url}: attempt {attempt + 1} of {ATTEMPTS} failed: {problem}")
    expected = f" with sha256 {sha256}" if sha256 else ""
    raise DataError(
        f"{path} is needed{expected} but {url} gave none after {ATTEMPTS} attempts: {problem}; "
        f"a copy fetched by hand can be put at {path}"
    )


def _fault(path: Path, expected: str | None) -> str | None:
    """The first rule of structure or checksum that the file breaks."""
    if (problem := damage(path)) is not None:
        return problem
    found = expected and files.sha256(path)
    return None if found == expected else f"must have sha256 {expected}, got {found}"


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _recorded(path: Path) -> str | None:
    record = _record_path(path)
    return record.read_text(encoding="utf-8").split()[0] if record.is_file() else None


def _record(path: Path) -> None:
    if not _record_path(path).is_file():
        files.write_text(_record_path(path), f"{files.sha256(path)}  {path.name}\n")


class _Bar:
    """Adapter from pooch's progress bar to ours: pooch sets `total`, then calls `update` for every chunk, in bytes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack = ExitStack()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._advance = self._stack.enter_context(progress(f"{self._name} (KiB)", total // 1024))

    def update(self, size: int) -> None:
        size = min(size, self._total - self._done)  # pooch counts a full chunk even for the last, shorter one
        self._done += size
        self._advance(size // 1024)

    def reset(self) -> None:
        """Pooch resets and refills the bar at the end; ours is full by then."""

    def close(self) -> None:
        self._stack.close()
