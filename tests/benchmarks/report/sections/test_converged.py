"""Validation errors on the cards of runs, compared between variants of equal data and generator."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.results import Results, collect
from benchmarks.report.sections.converged import converged, converged_table
from benchmarks.store import ResultStore


def folder(root: Path, build: Any, errors: dict[str, list[float | None]]) -> Results:
    """A cell of mopo per variant, whose fits have these errors; all share a reward model."""
    store = ResultStore(root)
    for place, (variant, own) in enumerate(errors.items()):
        spec = replace(build.spec("toy/linear", "mopo", 1, iterations=1 + place), variant=variant)
        kind = "models.diffusion.trajectory.TrajectoryDiffusionConfig"
        models = {f"{place}{n}": {"model": kind, "facts": {"validation": error}} for n, error in enumerate(own)}
        models["shared"] = {"model": "models.reward.RewardConfig", "facts": {"validation": 0.5}}
        models["older"] = {"model": "models.dynamics.DynamicsConfig", "facts": {}}
        store.finish(spec, {**build.provenance(1), "models": models}, [Record(0, 100, "return", 1.0)])
    return collect(store)


def test_errors_are_compared_with_the_lowest(build: Any, tmp_path: Path) -> None:
    results = folder(tmp_path, build, {"1/4": [0.3, 0.3], "1": [0.2, 0.21], "4": [0.2, 0.2]})
    table = converged(results).set_index("variant")
    assert table["model"].tolist() == ["TrajectoryDiffusion"] * 3  # equal models are not compared
    assert table["excess"].reindex(["1/4", "1", "4"]).tolist() == pytest.approx([0.5, 0.025, 0.0])
    made = converged_table(results)
    (row,) = made.rows
    shown = {head: entry.text for head, entry in zip(made.head, row, strict=True)}
    assert shown["validation, 1/4"] == "+50 %"
    assert shown["validation, 4"] == "+0 %"
    assert set(shown["converged"].split(", ")) == {"1", "4"}


def test_one_budget_is_no_comparison(build: Any, tmp_path: Path) -> None:
    assert converged(folder(tmp_path, build, {"1": [0.2, 0.3]})).empty


def test_a_fit_without_a_fact_is_left_out(build: Any, tmp_path: Path) -> None:
    results = folder(tmp_path, build, {"1": [0.2, None], "4": [0.1]})
    assert converged(results)["fits"].tolist() == [1, 1]
