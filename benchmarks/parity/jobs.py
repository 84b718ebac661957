"""Jobs: processes that leave files. A finished job is skipped, a failed one tells its last lines and stops no other.

FOLDER/job.json      what was asked for; another request begins anew
FOLDER/log.txt       what the process printed
FOLDER/done.json     written last: the seconds it took, those before it was stopped included
FOLDER/stopped.json  the seconds until it was stopped: the next attempt may go on from there
FOLDER/failed.json   exit code and last lines of the last attempt, until one succeeds
"""

import json
import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.files import write_json
from core.interrupt import Stopped, listening

__all__ = ["Job", "Outcome", "run_all"]

Outcome = Literal["done", "kept", "failed", "waiting"]
_ROOT = Path(__file__).resolve().parents[2]
_LAST = 15  # lines of a failed process that are kept
_GRACE = 60  # seconds after a request to stop
_POLL = 0.5  # seconds between looks at the deadline


@dataclass
class _Deadline:
    """A time of `time.monotonic`; a signal brings it forward to now."""

    at: float

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at


@dataclass(frozen=True)
class Job:
    """One process. Two jobs of equal `asked` do the same; `places` are paths, which change nothing."""

    name: str
    command: Sequence[str]  # "{job}" and "{folder}" stand for job.json and the job's folder
    asked: Mapping[str, Any]
    places: Mapping[str, Any]
    out: Path  # folder of all jobs

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def finished(self) -> bool:
        """Whether exactly this has been done."""
        return (self.folder / "done.json").is_file() and self._known()

    @property
    def seconds(self) -> float:
        return _seconds(self.folder / "done.json")

    @property
    def failure(self) -> str | None:
        """Exit code and last lines, if the last attempt failed."""
        file = self.folder / "failed.json"
        if not file.is_file() or not self._known():
            return None
        said = json.loads(file.read_text(encoding="utf-8"))
        return "\n".join([f"exit code {said['code']}", *said["lines"]])

    def run(self, deadline: _Deadline) -> Outcome:
        """Do it unless it is done; at the deadline the process is asked to stop."""
        if self.finished:
            return "kept"
        if deadline.passed:
            return "waiting"
        if not self._known():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "job.json", {"asked": self.asked, **self.asked, **self.places})
        started = time.monotonic()
        code = self._process(deadline)
        stopped = self.folder / "stopped.json"
        spent = time.monotonic() - started + (_seconds(stopped) if stopped.is_file() else 0.0)
        if code == 0:
            write_json(self.folder / "done.json", {"seconds": round(spent, 1)})
            (self.folder / "failed.json").unlink(missing_ok=True)
            return "done"
        if deadline.passed:
            write_json(stopped, {"seconds": round(spent, 1)})
            return "waiting"
        lines = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        write_json(self.folder / "failed.json", {"code": code, "lines": lines[-_LAST:]})
        return "failed"

    def _known(self) -> bool:
        file = self.folder / "job.json"
        if not file.is_file():
            return False
        return json.loads(file.read_text(encoding="utf-8"))["asked"] == json.loads(json.dumps(self.asked))

    def _process(self, deadline: _Deadline) -> int:
        """Its exit code. It has a session of its own: Ctrl-C reaches it through the deadline."""
        names = {"{job}": str(self.folder / "job.json"), "{folder}": str(self.folder)}
        command = [names.get(word, word) for word in self.command]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = os.environ | threads | {"PYTHONPATH": str(_ROOT)}
        with (self.folder / "log.txt").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, cwd=_ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            while not deadline.passed:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL)
            process.terminate()
            try:
                return process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()


def _seconds(file: Path) -> float:
    return float(json.loads(file.read_text(encoding="utf-8"))["seconds"])


def run_all(
    jobs: Iterable[Job],
    at_a_time: int,
    minutes: float | None = None,
    then: Callable[[Mapping[str, Outcome]], Iterable[Job]] = lambda outcomes: (),
) -> dict[str, Outcome]:
    """Run them in their order, so many at a time; says what became of each. After `minutes` no further one starts.

    Whenever one has ended, the jobs that `then` returns are next. Raises: Stopped, after those that run have ended.
    """
    deadline = _Deadline(time.monotonic() + (60 * minutes if minutes is not None else float("inf")))
    waiting = deque(jobs)
    running: dict[Future[Outcome], Job] = {}
    outcomes: dict[str, Outcome] = {}
    with listening(), ThreadPoolExecutor(at_a_time) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    job = waiting.popleft()
                    running[pool.submit(job.run, deadline)] = job
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    job = running.pop(future)
                    outcomes[job.name] = future.result()
                    took = f", {job.seconds:.0f} s" if outcomes[job.name] == "done" else ""
                    if outcomes[job.name] != "waiting":
                        print(f"{job.name}: {outcomes[job.name]}{took}", flush=True)
                waiting.extendleft(reversed(list(then(outcomes))))
        except Stopped:
            deadline.at = time.monotonic()
            raise
    return outcomes
