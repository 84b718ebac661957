"""What a suite will cost, timed on made-up data: every cell has an answer, and asking leaves nothing behind."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import run_bench
from benchmarks.execution.plan import needed_models
from benchmarks.probe import Probe, stand_in
from benchmarks.spec import RunSpec
from benchmarks.suite import cells, load_suite
from tasks.base import DataOptions, load_task

CPU = torch.device("cpu")
TINY_FITS = ("ensemble.dynamics.max_updates=40", "ensemble.rollouts=50", "dydiff.rollouts=20", "synther.rollouts=50")


def test_plan_answers_for_every_cell(
    elsewhere: Path, own_cache: Path, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench.main(["plan", "smoke", "--probe", "--device", "cpu", "--set", *tiny, "--seeds", "2"]) == 0
    text = capsys.readouterr().out
    assert "unknown" not in text
    assert text.count(" probe ") == 2
    assert "days of one CPU core" in text
    assert [*elsewhere.rglob("*"), *own_cache.rglob("*")] == []  # no results, no model, no data set


def test_without_a_probe_plan_says_how_to_know(
    elsewhere: Path, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench.main(["plan", "smoke", "--set", *tiny]) == 0
    assert capsys.readouterr().out.count("unknown (--probe)") == 2


def test_every_method_has_an_estimate(own_cache: Path) -> None:
    """On a task whose data are not here: neither fetched nor needed."""
    tasks = 'tasks=["d4rl/maze2d-umaze-v1"]'
    smoke = cells(load_suite("smoke", (tasks, "dataset_rows=100000", "seeds=[0]", "episodes=1", *TINY_FITS)))
    probe = Probe(smoke, CPU, budget=0.01)
    costs = {spec.generator.name: probe.cell(spec, 1) for spec in smoke}
    fits = [probe.fit(config, 1) for spec in smoke for config in needed_models(spec)]
    assert len(costs) > 8
    assert [name for name, cost in costs.items() if not (0 < cost.seconds < math.inf and cost.size > 0)] == []
    assert all(0 < cost.seconds < math.inf and cost.size > 0 for cost in fits)
    assert list(own_cache.rglob("*")) == []


def test_estimates_scale_with_the_budget(spec: RunSpec) -> None:
    """Without rollouts, twice the updates with twice the evaluations cost twice as much; nothing is timed again."""
    probe = Probe([spec], CPU, budget=0.01)
    longer = replace(spec, settings=spec.settings.model_copy(update={"updates": 2 * spec.settings.updates}))
    one, two = probe.cell(spec, 2), probe.cell(longer, 2)
    assert two.seconds == pytest.approx(2 * one.seconds)
    assert two.size == 2 * one.size


def test_fits_scale_with_their_updates(expand: Callable[..., list[RunSpec]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is timed takes a second: only the numbers of updates differ."""
    monkeypatch.setattr(Probe, "_timed", lambda probe, work: 1.0)
    costs = []
    for updates in (1000, 2000):
        spec = expand('generators=["ensemble"]', f"ensemble.dynamics.max_updates={updates}")[0]
        (model,) = needed_models(spec)
        costs.append(Probe([spec], CPU).fit(model, 2))
    assert costs[1].seconds == pytest.approx(2 * costs[0].seconds)
    assert costs[0].ends_early


def test_equal_work_is_timed_once(expand: Callable[..., list[RunSpec]], monkeypatch: pytest.MonkeyPatch) -> None:
    specs = expand('generators=["ensemble"]', "vary.real_fraction=[0.5]", 'tasks=["toy/linear"]')
    probe = Probe(specs, CPU, budget=0.01)
    first = [probe.cell(spec, 2) for spec in specs]
    monkeypatch.setattr(Probe, "_timed", lambda probe, work: pytest.fail("timed again"))
    assert [probe.cell(spec, 2) for spec in specs] == first


@pytest.mark.parametrize("name", ["toy/linear", "d4rl/maze2d-umaze-v1"])
def test_stand_in_data_have_the_tasks_dimensions(name: str) -> None:
    task = load_task(name, DataOptions())
    data = stand_in(task)
    assert data.train.obs.shape[1:] == (task.simulator.obs_dim,)
    assert data.train.action.shape[1:] == (task.simulator.action_dim,)
    assert data.episode.bincount().max() <= task.horizon
