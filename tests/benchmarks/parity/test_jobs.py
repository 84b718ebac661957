import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.parity.jobs import Job, Outcome, run_all
from core.interrupt import Stopped

WRITE = "import sys; open(sys.argv[1] + '/made.txt', 'a').write('x')"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("one", [sys.executable, "-c", WRITE, "{folder}"], {"updates": 3}, {"checkout": "here"}, tmp_path)


def times(job: Job) -> int:
    return len((job.folder / "made.txt").read_text())


def test_what_has_finished_is_skipped(job: Job) -> None:
    assert run_all([job], 1) == {"one": "done"}
    assert run_all([replace(job, places={"checkout": "there"})], 1) == {"one": "kept"}
    assert times(job) == 1
    assert job.seconds >= 0


def test_another_request_begins_anew(job: Job) -> None:
    run_all([job], 1)
    (job.folder / "made.txt").write_text("of the first")
    other = replace(job, asked={"updates": 4})
    assert not other.finished
    assert run_all([other], 1) == {"one": "done"}
    assert times(job) == 1


def test_a_failure_tells_its_last_lines(job: Job) -> None:
    """And the others go on; the next attempt that succeeds forgets it."""
    code = "print('before'); raise SystemExit('no such thing')"
    failing = replace(job, name="failing", command=[sys.executable, "-c", code])
    assert run_all([failing, job], 2) == {"failing": "failed", "one": "done"}
    assert failing.failure == "exit code 1\nbefore\nno such thing"
    assert not failing.finished
    assert run_all([replace(failing, command=job.command)], 1) == {"failing": "done"}
    assert failing.failure is None


def test_what_a_job_makes_possible_is_next(job: Job) -> None:
    second, third = replace(job, name="two"), replace(job, name="three")
    order: list[str] = []

    def then(outcomes: Mapping[str, Outcome]) -> list[Job]:
        order[:] = outcomes
        return [third] if list(outcomes) == ["one"] else []

    assert run_all([job, second], 1, then=then) == dict.fromkeys(("one", "three", "two"), "done")
    assert order == ["one", "three", "two"]


def test_nothing_starts_after_the_deadline(job: Job) -> None:
    assert run_all([job], 1, minutes=0.0) == {"one": "waiting"}
    assert not job.folder.exists()


def test_a_running_job_is_stopped_at_the_deadline(job: Job) -> None:
    endless = replace(job, command=[sys.executable, "-c", "import time; time.sleep(600)"])
    assert run_all([endless], 1, minutes=0.01) == {"one": "waiting"}
    assert not endless.finished
    assert endless.failure is None


def test_seconds_before_a_stop_count(job: Job) -> None:
    patient = [sys.executable, "-c", "import sys, time; time.sleep(0 if sys.argv[1] == 'quick' else 600)"]
    assert run_all([replace(job, command=[*patient, "slow"])], 1, minutes=0.02) == {"one": "waiting"}
    stopped = json.loads((job.folder / "stopped.json").read_text())["seconds"]
    assert stopped >= 1.0
    assert run_all([replace(job, command=[*patient, "quick"])], 1) == {"one": "done"}
    assert job.seconds > stopped


def test_a_signal_ends_what_runs(job: Job) -> None:
    """No process is left behind; what was not finished is neither kept nor a failure."""
    code = "import os, sys, time; open(sys.argv[1] + '/pid', 'w').write(str(os.getpid())); time.sleep(600)"
    endless = replace(job, command=[sys.executable, "-c", code, "{folder}"])
    file = endless.folder / "pid"

    def ask() -> None:
        while not (file.is_file() and file.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(Stopped, match="SIGTERM"):
        run_all([endless], 1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
    assert not endless.finished
    assert endless.failure is None
