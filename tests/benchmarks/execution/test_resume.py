"""A run that is stopped or killed goes on, and nobody can tell from its numbers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import run_bench
from benchmarks.execution import matrix
from benchmarks.execution.cell import run_cell
from benchmarks.execution.provenance import provenance
from benchmarks.records import Record
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core import checkpoint, registry
from core.interrupt import Stopped
from tasks.base import load_task

CPU = torch.device("cpu")
Numbers = Callable[[list[Record]], list[str]]
QUICK = ["updates=60", "evaluate_every=25", "fidelity_starts=8", "dataset_rows=2000", "episodes=2"]
SMALL = {
    "ensemble": ["dynamics.max_updates=40", "rollouts=50", "refresh_every=20"],
    "mopo": ["dynamics.max_updates=40", "rollouts=50", "refresh_every=20"],
    "synther": ["rollouts=100"],
}


def spec(generator: str, algorithm: str, *overrides: str) -> RunSpec:
    fields = [f"{generator}.{field}" for field in SMALL.get(generator, [])]
    methods = [f'generators=["{generator}"]', f'algorithms=["{algorithm}"]']
    (found,) = cells(load_suite("matrix-smoke", [*QUICK, *methods, *fields, *overrides]))
    return found


def run(wanted: RunSpec, folder: Path | None) -> list[Record]:
    task = load_task(wanted.task, wanted.settings.data_options(None))
    return run_cell(wanted, task, CPU, folder)[0]


def flop(records: list[Record]) -> dict[str, float | None]:
    """FLOP by metric and seed: the one cost that is the same in every run."""
    found = {f"{record.metric} {record.seed}": record.value for record in records if record.metric.endswith("_flop")}
    assert found
    return found


def stop_at(offers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At this moment to save, a signal has come."""
    left = iter(range(offers - 1, -1, -1))
    monkeypatch.setattr(checkpoint, "pending_signal", lambda: signal.SIGTERM if next(left) == 0 else None)


OFTEN = [("ensemble", "td3bc"), ("none", "dql")]  # the others with the slow tests
CELLS = [
    pytest.param(generator, algorithm, marks=[] if (generator, algorithm) in OFTEN else pytest.mark.slow)
    for generator in registry.available("generators")
    for algorithm in registry.available("algorithms")
]


@pytest.mark.parametrize(("generator", "algorithm"), CELLS)
def test_every_method_resumes_with_the_same_numbers(
    generator: str,
    algorithm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numbers: Numbers,
) -> None:
    """Stopped in the middle, between two evaluations; once more at the end, before the last records are made."""
    wanted = spec(generator, algorithm)
    whole = run(wanted, None)
    for moment in (37, 23):
        with pytest.raises(Stopped), monkeypatch.context() as patch:
            stop_at(moment, patch)
            run(wanted, tmp_path / "checkpoint")
    resumed = run(wanted, tmp_path / "checkpoint")
    assert len(numbers(whole)) >= 18
    assert numbers(resumed) == numbers(whole)
    assert flop(resumed) == flop(whole)


def test_a_cell_with_fresh_rollouts_only_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: Numbers
) -> None:
    """Stopped before the first rollouts, while one refresh is there, and when older ones are no longer drawn."""
    wanted = spec("ensemble", "td3bc", "coupling=fresh", "rollouts_from=10", "ensemble.refresh_every=9")
    whole = numbers(run(wanted, None))
    for moment in (6, 9, 20):
        with pytest.raises(Stopped), monkeypatch.context() as patch:
            stop_at(moment, patch)
            run(wanted, tmp_path / "checkpoint")
    assert numbers(run(wanted, tmp_path / "checkpoint")) == whole
    others = [
        spec("ensemble", "td3bc", "ensemble.refresh_every=9", key) for key in ("coupling=fresh", "coupling=combo")
    ]
    assert all(numbers(run(other, None)) != whole for other in others)


def test_a_trained_cell_is_only_evaluated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: Numbers
) -> None:
    wanted = spec("ensemble", "bc")
    whole = numbers(run(wanted, None))

    def killed(*arguments: Any, **options: Any) -> Any:
        raise Stopped(signal.SIGTERM)

    with pytest.raises(Stopped), monkeypatch.context() as patch:
        patch.setattr("benchmarks.execution.cell.evaluate_rollouts", killed)
        run(wanted, tmp_path)
    monkeypatch.setattr(type(wanted.algorithm.config), "update", lambda *arguments: pytest.fail("trained again"))
    assert numbers(run(wanted, tmp_path)) == whole


@pytest.mark.parametrize(
    "other", [{"commit": "another"}, {"threads": 99}, {"imports": {"field_envs": "another digest"}}], ids=str
)
def test_a_checkpoint_of_other_code_or_threads_is_not_used(
    other: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = spec("none", "bc")
    with pytest.raises(Stopped), monkeypatch.context() as patch:
        stop_at(30, patch)
        run(wanted, tmp_path)
    real = provenance
    monkeypatch.setattr("benchmarks.execution.cell.provenance", lambda *arguments: real(*arguments) | other)
    run(wanted, tmp_path)
    assert "belongs to other code" in capsys.readouterr().err


def launch(out: Path, generators: list[str], *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """With three algorithms each, in a process group of its own."""
    methods = [f"generators={generators}".replace("'", '"'), 'algorithms=["td3bc","bc","iql"]']
    fields = [f"{name}.{field}" for name in generators for field in SMALL.get(name, [])]
    command = [sys.executable, run_bench.__file__, "run", "matrix-smoke", "--out", str(out), *options]
    command += ["--set", *methods, *QUICK, *fields]
    return subprocess.Popen(
        command,
        env=os.environ | {"ROLLOUTBENCH_CHECKPOINT_SECONDS": "0.1"} | environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def tables(out: Path) -> dict[str, bytes]:
    """Every table but the one that holds seconds and memory."""
    return {path.name: path.read_bytes() for path in (out / "report").glob("*.csv") if path.name != "cost.csv"}


@pytest.mark.slow
def test_a_matrix_that_is_killed_again_and_again(tmp_path: Path) -> None:
    """Twelve cells, all processes at once, at fifty random moments: the tables are those of a quiet run."""
    generators = ["none", "ensemble", "synther", "dydiff"]
    kills = 50
    quiet = tmp_path / "quiet"
    killed = tmp_path / "killed"
    moments = random.Random(0)

    def start(out: Path) -> subprocess.Popen[bytes]:
        return launch(out, generators, "--jobs", "2", ROLLOUTBENCH_CACHE=str(tmp_path / f"cache of {out.name}"))

    assert start(quiet).wait() == 0
    while kills:
        process = start(killed)
        try:
            assert process.wait(timeout=moments.uniform(3, 9)) == 0
            for done in moments.sample(sorted(killed.glob("*/DONE")), len(generators)):  # some of it once more
                done.unlink()
                done.with_name("records.jsonl.gz").unlink()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills -= 1
    assert start(killed).wait() == 0
    assert len(list(killed.glob("*/DONE"))) == 3 * len(generators)
    assert tables(quiet).keys() >= {"scores.csv", "compounding.csv"}
    assert tables(killed) == tables(quiet)
    assert not list(killed.glob("*/checkpoint"))
    assert not list(killed.glob("*/LEASE*"))


@pytest.mark.slow
def test_two_launchers_share_the_work(tmp_path: Path) -> None:
    """Every cell is run once, and both end with the whole table."""
    out = tmp_path / "out"
    cache = str(tmp_path / "cache")
    both = [launch(out, ["ensemble"], "--jobs", "1", ROLLOUTBENCH_CACHE=cache) for _ in range(2)]
    said = [process.communicate(timeout=300)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(text.count(": done in ") for text in said) == 3
    cells_ = ResultStore(out).cells()
    assert len(cells_) == 3
    assert all(len(cell.runs) == 1 and cell.done == (0, 1) for cell in cells_)


def test_results_of_a_replaced_owner_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a process slept, another has taken its cell over."""
    store = ResultStore(tmp_path)
    wanted = spec("none", "bc")
    real = run_cell

    def asleep(*arguments: Any) -> Any:
        found = real(*arguments)
        owner = json.loads(store.lease(wanted.cell_id).read_text(encoding="utf-8"))
        store.lease(wanted.cell_id).write_text(json.dumps(owner | {"token": "theirs"}), encoding="utf-8")
        return found

    monkeypatch.setattr(matrix, "run_cell", asleep)
    assert matrix.Job("late", wanted, tmp_path, CPU, None).run() is matrix.Outcome.HELD
    assert store.cells() == []
    assert store.lease(wanted.cell_id).exists()


@pytest.mark.parametrize(
    ("number", "code", "jobs"), [(signal.SIGTERM, 75, "2"), (signal.SIGUSR1, 75, "1"), (signal.SIGINT, 130, "1")]
)
def test_a_signal_saves_what_is_running(number: int, code: int, jobs: str, tmp_path: Path) -> None:
    """A second one, while it is being saved, does no harm."""
    process = launch(tmp_path / "out", ["none"], "--jobs", jobs, ROLLOUTBENCH_CHECKPOINT_SECONDS="600")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*/LEASE")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    for _ in range(2):
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said.decode()
    assert b"the same command resumes" in said
    assert not list((tmp_path / "out").glob("*/LEASE"))
    assert not list((tmp_path / "out").glob("*/error.txt"))
