"""Scaling and profile run in their quick forms, and a large dataset fits into the memory of a small machine."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.execution.provenance import peak_memory_mib
from benchmarks.report.style import draw, save
from benchmarks.speed import profile_cell, scaling
from benchmarks.speed.workloads import WORKLOADS, fresh, write_d4rl

CPU = torch.device("cpu")


def test_every_axis_is_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(workload: str, *, device: str, **settings: Any) -> dict[str, Any]:
        before = peak_memory_mib(torch.device(device))
        return {"start_mib": before, "peak_mib": before} | WORKLOADS[workload](torch.device(device), **settings)

    monkeypatch.setattr(scaling, "fresh", here)
    found = json.loads(json.dumps(scaling.measure(CPU, quick=True)))
    assert found["axes"].keys() == scaling.AXES.keys()
    for name, points in found["axes"].items():
        axis = scaling.AXES[name]
        assert [point[axis.setting] for point in points] == list(axis.quick)
        assert all(point["seconds"] > 0 and point["peak_mib"] > 0 for point in points)
    save(draw(scaling.figure, found), tmp_path, "scaling")
    assert (tmp_path / "scaling.png").stat().st_size > 20_000
    assert (tmp_path / "scaling.svg").exists()
    found["axes"].pop("jobs")
    draw(scaling.figure, found)


@pytest.mark.parametrize(
    ("part", "limit"), [(10, 800), pytest.param(1, 4096, marks=pytest.mark.slow)], ids=["a tenth", "two million rows"]
)
def test_memory_of_a_large_dataset(tmp_path: Path, part: int, limit: int) -> None:
    """Two million rows, ten seeds with half a million synthetic rows each: loaded, begun, a hundred updates.

    It takes 1.6 GiB, of which the ring has 0.5; imports, networks and optimisers are 0.5 GiB whatever the rows.
    """
    write_d4rl(tmp_path, 2_000_000 // part)
    ballast = torch.ones(limit * 2**18)  # of this process; a child's `ru_maxrss` would begin with it
    settings = {"seeds": 10, "buffer_rows": 500_000 // part, "updates": 25 if part == 1 else 1, "seconds": 0.0}
    found = fresh("updates", folder=str(tmp_path), **settings)
    assert found["start_mib"] < found["peak_mib"] < limit < ballast.nbytes / 2**20 + 1 < peak_memory_mib(CPU)


def test_a_workload_that_fails_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match=r"workload updates .*rows.* failed"):
        fresh("updates", rows=1)


def test_profile_counts_every_second_once() -> None:
    overrides = ['generators=["none"]', "seeds=[0]", "updates=4", "evaluate_every=2", "dataset_rows=1000"]
    found = profile_cell.profile("smoke", overrides, "cpu")
    assert found["shares"].keys() == {*profile_cell.WORK, *profile_cell.OVERHEAD}
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert min(found["seconds"].values()) > 0
    assert found["start_seconds"] > 0
    assert found["seconds"].keys() >= {"data", "update", "evaluate", "batches", "other"}
    assert all(found["shares"][name] > 0.05 for name in found["overhead_above_limit"])


def test_nested_activities_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(profile_cell.time, "perf_counter", lambda: now[0])
    watch = profile_cell.Stopwatch()
    now[0] += 1
    with watch("fit"):
        now[0] += 10
        with watch("checkpoints"):
            now[0] += 100
        now[0] += 1000
    assert watch.stop() == {"other": 1, "fit": 1010, "checkpoints": 100}
