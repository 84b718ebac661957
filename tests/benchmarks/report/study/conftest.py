"""A small study: several tasks whose controls hold, methods with planted changes and planted quantities."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.results import Results, collect
from benchmarks.spec import Settings
from benchmarks.store import ResultStore

NONE = [20.0, 22.0, 24.0, 26.0, 28.0]
NOISE = [0.5, -0.5, 0.0, 0.3, -0.3]  # around the change of a cell, seed by seed
CONTROLS = {"none": 0.0, "duplicate": 0.0, "simulator": 10.0}
RUN = {
    "score_range": [5.0, 2005.0],
    "horizon": 1000,
    "dataset": {"return_mean": 205.0, "episodes": 9, "timeouts": 2, "rows": 5000},  # a score of 10
}
Cell = tuple[float, Mapping[tuple[str, int | None], float]]  # mean change, further records by metric and horizon


class Study:
    """Builds the folder; a task is a number, whose controls add CONTROLS unless `controls` says otherwise."""

    def __init__(self, build: Any, root: Path) -> None:
        self._build = build
        self.store = ResultStore(root)

    def task(
        self,
        name: str,
        methods: Mapping[str, Cell],
        controls: Mapping[str, float] = CONTROLS,
        **settings: Any,
    ) -> None:
        """Cells of one task and setting."""
        for generator, (change, numbers) in [*((k, (x, {})) for k, x in controls.items()), *methods.items()]:
            spec = self._build.spec(name, generator, 5)
            spec = replace(spec, settings=Settings(**{"updates": 100, "evaluate_every": 100, **settings}))
            spec = replace(spec, variant=", ".join(f"{key}={x}" for key, x in settings.items()) or "default")
            scores = [none + change + (noise if change else 0.0) for none, noise in zip(NONE, NOISE, strict=True)]
            made = {**self._build.provenance(5), **RUN}
            self.store.finish(spec, made, list(self._records(scores, numbers)))

    def results(self) -> Results:
        return collect(self.store)

    @staticmethod
    def _records(scores: Sequence[float], numbers: Mapping[tuple[str, int | None], float]) -> Iterator[Record]:
        for seed, score in enumerate(scores):
            yield Record(seed, 100, "return", 20 * score + 5)
            yield Record(seed, 100, "normalized_score", score)
            for (metric, horizon), value in numbers.items():
                yield Record(seed, 100, metric, value, horizon)


@pytest.fixture
def study(build: Any, tmp_path: Path) -> Study:
    return Study(build, tmp_path / "study")


@pytest.fixture
def many(study: Study) -> Callable[..., Results]:
    """Six tasks with four methods each; `numbers(task, method, change)` are a cell's further records."""

    def made(numbers: Callable[[int, int, float], Mapping[tuple[str, int | None], float]]) -> Results:
        for task in range(6):
            changes = [4.0 - 3 * method - task for method in range(4)]
            methods = {f"m{k}": (change, numbers(task, k, change)) for k, change in enumerate(changes)}
            study.task(f"toy/task{task}", methods)
        return study.results()

    return made
