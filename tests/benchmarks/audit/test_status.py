"""Every state a cell can be in, in one folder."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import run_bench
from benchmarks.audit.status import describe
from benchmarks.execution.lease import Lease, Owner, acquire
from benchmarks.records import Record
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core.checkpoint import Checkpoint

RUN = {"seeds": [0, 1], "status": "ok"}


def folder(tmp_path: Path) -> tuple[ResultStore, dict[str, RunSpec]]:
    store = ResultStore(tmp_path / "out")
    specs = {spec.generator.name: spec for spec in cells(load_suite("smoke"))}
    store.plan("smoke", [spec for name, spec in specs.items() if name != "duplicate"])
    evaluations = [Record(seed, 200, "return", 1.0) for seed in (0, 1)]
    for name in ("none", "duplicate"):
        store.finish(specs[name], RUN, evaluations)
    store.finish(specs["mopo"], RUN, [*evaluations, Record(1, 150, "diverged/critic", None)])
    store.fail(specs["synther"], RUN, "Traceback\nValueError: it broke\n")
    Checkpoint(store.checkpoint(specs["pgd"].cell_id)).save(120, {})
    return store, specs


def test_every_state(tmp_path: Path) -> None:
    store, specs = folder(tmp_path)
    lease = acquire(store.lease(specs["ensemble"].cell_id))
    assert isinstance(lease, Lease)
    Checkpoint(store.checkpoint(specs["ensemble"].cell_id)).save(60, {})
    with lease:
        mine = Owner(**json.loads(store.lease(specs["ensemble"].cell_id).read_text(encoding="utf-8")))
        dead = replace(mine, born="long ago", pid=7, host="node7", since=time.time() - 600)
        store.lease(specs["dydiff"].cell_id).parent.mkdir()
        store.lease(specs["dydiff"].cell_id).write_text(json.dumps(asdict(dead)), encoding="utf-8")
        text, finished = describe(store)
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("toy/linear")}
    assert not finished
    assert len(lines) == len(specs)
    for name, said in {
        "none": "finished 2/2",
        "duplicate": "finished 2/2 not asked for by the last run",
        "mopo": "diverged 2/2 seed 1: critic at update 150",
        "synther": "failed 0/2 ValueError: it broke",
        "pgd": "interrupted 0/2 saved at update 120 of 200",
        "ensemble": f"running 0/2 {mine}, for 0 min; saved at update 60 of 200",
        "dydiff": "interrupted 0/2 process 7 on node7 has died",
        "oneshot": "missing 0/2",
    }.items():
        assert said in " ".join(lines[name].split())
    missing = len(specs) - 7
    assert text.endswith(f"2 finished, 1 running, 2 interrupted, {missing} missing, 1 failed, 1 diverged")


def test_the_command_ends_with_zero_when_all_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, specs = folder(tmp_path)
    assert run_bench.main(["status", str(store.root)]) == 1
    store.plan("smoke", [specs["none"]])
    for other in store.root.glob("toy*"):
        if "--none--" not in other.name:
            for path in sorted(other.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            other.rmdir()
    assert run_bench.main(["status", str(store.root)]) == 0
    assert capsys.readouterr().out.endswith("\n1 finished\n")
    assert run_bench.main(["status", str(tmp_path / "nowhere")]) == 2
