"""Cells side by side in processes of their own."""

import os
import platform
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import run_bench
from benchmarks.execution import matrix
from benchmarks.execution.lease import Lease, acquire
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite

CPU = torch.device("cpu")
QUICK = ["updates=40", "evaluate_every=20", "seeds=[0]", "fidelity_starts=8", "ensemble.dynamics.max_updates=40"]
DYING = """
import os
from generators.none import RealOnly

class Dying(RealOnly):
    "Takes its process with it, as the kernel does when memory is short."

    def fit(self, task, data, models, rng):
        os._exit(9)
"""
LARGE = """
import resource
import torch
from generators.none import RealOnly

class Large(RealOnly):
    "Makes a tensor of 16,384 pages of 4 KiB."

    def fit(self, task, data, models, rng):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        assert taken < 4096, f"{taken} pages"
        return super().fit(task, data, models, rng)
"""
HANGING = """
import time
from core.progress import say
from generators.none import RealOnly

class Hanging(RealOnly):
    "Waits for what never comes, as for a driver that has lost its GPU."

    def fit(self, task, data, models, rng):
        time.sleep(600)

class Slow(RealOnly):
    "Takes longer than a hang may, and says how far it is."

    def fit(self, task, data, models, rng):
        for part in range(40):
            time.sleep({seconds} / 20)
            say(f"part {{part}}")
        return super().fit(task, data, models, rng)
"""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
BEATING = """
import os
import threading
import time
from functools import partial
from pathlib import Path
from generators.none import RealOnly

class Beating(RealOnly):
    "Never ends, and shows that it is alive."

    def fit(self, task, data, models, rng):
        while True:
            Path({folder!r}, f"{{os.getpid()}}.beat").touch()
            time.sleep(0.05)
"""


def specs(*overrides: str) -> list[RunSpec]:
    return cells(load_suite("smoke", [*QUICK, *overrides]))


def test_numbers_do_not_depend_on_how_many_run_at_once(tmp_path: Path) -> None:
    stores = (ResultStore(tmp_path / "one"), ResultStore(tmp_path / "two"))
    wanted = specs('generators=["none","mopo"]')
    for jobs, store in enumerate(stores, 1):
        assert matrix.run_missing(wanted, store, CPU, None, partial(matrix.local, jobs=jobs)) == 0
    one, two = (
        [record for cell in store.cells() for record in cell.records if not record.metric.startswith("cost/")]
        for store in stores
    )
    assert len(one) > 100
    assert one == two


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(), reason="needs a system with huge pages"
)
def test_large_tensors_of_a_cell_are_on_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large_example.py").write_text(LARGE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    wanted = specs('generators=["large_example:Large", "none"]', "updates=20", "evaluate_every=20")
    assert matrix.run_missing(wanted, ResultStore(tmp_path), CPU, None, partial(matrix.local, jobs=2)) == 0


def test_a_held_cell_is_tried_again_after_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {"none": [matrix.Outcome.HELD, matrix.Outcome.DONE], "ensemble": [matrix.Outcome.FAILED]}
    tried = []

    def run(job: matrix.Job) -> matrix.Outcome:
        tried.append(job.label)
        return outcomes[job.label].pop(0)

    monkeypatch.setattr(matrix.Job, "run", run)
    jobs = [
        matrix.Job(spec.generator.name, spec, Path(), CPU, None) for spec in specs('generators=["none","ensemble"]')
    ]
    assert matrix.local(jobs, ResultStore(Path())) == 1
    assert tried == ["none", "ensemble", "none"]


def test_a_held_cell_is_waited_for_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once who runs it, and no process starts before that one has ended."""
    said, runs = list[str](), list[str]()
    monkeypatch.setattr(matrix, "RETRY", 0.01)
    monkeypatch.setattr(matrix, "say", said.append)
    job = matrix.Job("it", specs('generators=["none"]')[0], tmp_path, CPU, None)
    lease = acquire(ResultStore(tmp_path).lease(job.spec.cell_id))
    assert isinstance(lease, Lease)
    threading.Timer(0.5, lease.__exit__, (None, None, None)).start()

    def run(job: matrix.Job) -> matrix.Outcome:
        runs.append(job.held())
        return matrix.Outcome.DONE

    monkeypatch.setattr(matrix.Job, "run", run)
    assert matrix.local([job], ResultStore(tmp_path)) == 0
    assert said == [f"it: is being run by process {os.getpid()} on {platform.node()}"]
    assert runs == [""]


def test_a_cell_held_elsewhere_is_waited_for(tmp_path: Path) -> None:
    """Two cells side by side, one of them held by this process for a while."""
    store = ResultStore(tmp_path)
    wanted = specs('generators=["none","duplicate"]', "updates=20", "evaluate_every=20")
    lease = acquire(store.lease(wanted[0].cell_id))
    assert isinstance(lease, Lease)
    timer = threading.Timer(3.0, lease.__exit__, (None, None, None))
    timer.start()
    assert matrix.run_missing(wanted, store, CPU, None, partial(matrix.local, jobs=2)) == 0
    assert [cell.done for cell in store.cells()] == [(0,), (0,)]


@pytest.mark.parametrize(("free", "at_once"), [(1e6, 2), (10.0, 1)])
def test_cells_start_as_far_as_memory_has_room(
    free: float, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One always does; a second needs what the largest before it took, or 1.5 GiB."""
    alive = [0]
    most = [0]
    start = matrix._context().Process.start

    def counted(process: Any) -> None:
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        start(process)

    def ended(real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            alive[0] -= 1
            return real(*arguments)

        return call

    monkeypatch.setattr(matrix._context().Process, "start", counted)
    monkeypatch.setattr(matrix, "_failed", ended(matrix._failed))
    monkeypatch.setattr(matrix, "available_memory_mib", lambda: free)
    wanted = specs('generators=["none","duplicate"]', "updates=20", "evaluate_every=20")
    assert matrix.run_missing(wanted, ResultStore(tmp_path), CPU, None, partial(matrix.local, jobs=2)) == 0
    assert most == [at_once]


def test_a_cell_whose_process_dies_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying_example.py").write_text(DYING, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    store = ResultStore(tmp_path / "out")
    wanted = specs('generators=["dying_example:Dying", "none"]')
    assert matrix.run_missing(wanted, store, CPU, None, partial(matrix.local, jobs=2)) == 1
    dead, alive = sorted(store.cells(), key=lambda cell: bool(cell.done))
    assert dead.error == "the cell's process ended with exit code 9\n"
    assert dead.runs[-1]["status"] == "failed"
    assert alive.done == (0,)


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_cell_that_hangs_is_ended_and_the_others_go_on(
    jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs its seconds: a healthy cell on a busy machine must not be slower than a hang."""
    stall = 4.0
    (tmp_path / "hanging_example.py").write_text(HANGING.format(seconds=stall), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    store = ResultStore(tmp_path / "out")
    names = ["hanging_example:Hanging", "none", "hanging_example:Slow"][: 3 if jobs > 1 else 2]
    wanted = specs(f"generators={names}", "updates=20", "evaluate_every=20")
    assert matrix.run_missing(wanted, store, CPU, None, partial(matrix.local, jobs=jobs), stall=stall) == 1
    hung, *others = sorted(store.cells(), key=lambda cell: bool(cell.done))
    assert [cell.done for cell in others] == [(0,)] * (len(names) - 1)
    assert hung.error is not None
    assert "hanging_example.py" in hung.error
    assert "in fit" in hung.error
    assert hung.error.splitlines()[-1] == "no sign of life for 0.0667 min, so the cell's process was ended"
    assert hung.runs[-1]["status"] == "failed"
    assert not list(store.root.glob("*/checkpoint/stack.txt"))


def test_cells_end_with_the_process_that_wanted_them(tmp_path: Path) -> None:
    """Killed, it has no chance to say so."""
    (tmp_path / "beating_example.py").write_text(BEATING.format(folder=str(tmp_path)), encoding="utf-8")
    command = ["run", "smoke", "--jobs", "2", "--out", str(tmp_path / "out")]
    wanted = ["--set", 'generators=["beating_example:Beating"]', 'algorithms=["td3bc", "bc"]']
    launcher = subprocess.Popen(
        [sys.executable, run_bench.__file__, *command, *wanted], env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    while len(beats := list(tmp_path.glob("*.beat"))) < 2:
        assert launcher.poll() is None
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    for _ in range(100):
        before = {beat: beat.stat().st_mtime_ns for beat in beats}
        time.sleep(0.2)  # four beats
        if before == {beat: beat.stat().st_mtime_ns for beat in beats}:
            return
    pytest.fail("cells still run 20 s after their launcher was killed")
