"""The scripts that measure speed run, and compare equal things; their ratios are for people to read, not for a test."""

from pathlib import Path

import pytest
import torch

from benchmarks.perf import hotpaths, intervals, replay
from core import registry
from tasks.mujoco import Locomotion


def test_replay_is_compared_on_equal_states(monkeypatch: pytest.MonkeyPatch) -> None:
    found = replay.compare(rows=3, steps=4, repeats=1)
    assert found["states"] == "equal bit for bit"
    assert found["ratio_wall"] == found["gymnasium"]["wall"] / found["ours"]["wall"] > 0
    right = Locomotion.replay
    monkeypatch.setattr(Locomotion, "replay", lambda *given: right(*given) + 1e-15)
    with pytest.raises(RuntimeError, match="states must be equal, got a difference of 1"):
        replay.compare(rows=3, steps=4, repeats=1)


def test_intervals_can_be_timed_without_rliable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "find_spec", lambda _: None)
    found = intervals.compare(torch.device("cpu"), ["mean", "iqm"], reps=20, repeats=2)
    assert found["ours"]["wall"] > 0
    assert found["rliable"] is None
    matrices = intervals.scores(torch.device("cpu"))
    assert [tuple(x.shape) for x in matrices] == [(10, 12)] * 5
    low, high = intervals.ours(matrices, lambda x: x.mean((-2, -1)), 100, seed=0).unbind(1)
    assert (low < high).all()


def test_every_hot_path_is_timed_beside_the_reference(tmp_path: Path) -> None:
    paths = dict(hotpaths.hot_paths(tmp_path))
    assert {"generate dydiff", "update td3bc", "update dql", "bootstrap", "replay"} <= paths.keys()
    assert {f"update {name}" for name in registry.available("algorithms")} <= paths.keys()
    ratios = hotpaths.measure(repeats=1)
    assert ratios.keys() == paths.keys() and min(ratios.values()) > 0
