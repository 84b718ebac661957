"""Figures over all tasks: aggregates, profiles and the probability of improvement."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from benchmarks.report.results import Results, collect
from benchmarks.report.sections import aggregate, improvement
from benchmarks.store import ResultStore


def figures(results: Results) -> dict[str, Figure]:
    sections = (aggregate.SECTION, aggregate.DETAILS, improvement.DETAILS)
    plots = [plot for section in sections for plot in section.figures]
    return {name: figure for plot in plots for name, _, figure in plot.pages(results)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, build: Any) -> dict[str, Figure]:
    """mopo beats none on every run of one task and on half of the pairs of the other."""
    store = ResultStore(tmp_path_factory.mktemp("two"))
    specs = [build.spec(task, name, 5) for task in ("toy/linear", "local/hopper-medium") for name in ("none", "mopo")]
    for spec in specs:
        level = 100.0 if (spec.task, spec.generator.name) == ("toy/linear", "mopo") else 0.0
        store.finish(spec, build.provenance(5), build.evaluations(5, level))
    store.plan("two", specs)
    return figures(collect(store))


def test_every_figure_has_its_panels(drawn: dict[str, Figure]) -> None:
    assert {name: len(figure.axes) for name, figure in drawn.items()} == {
        "aggregate": 2,
        "aggregate_others": 2,
        "profiles": 1,
        "wins": 1,
    }


def test_wins_are_the_mean_over_tasks(drawn: dict[str, Figure]) -> None:
    (value,) = drawn["wins"].axes[0].collections
    assert value.get_segments()[0][:, 0] == pytest.approx([75, 75])
    (bar,) = drawn["wins"].axes[0].patches
    assert bar.get_hatch() is None


def test_wins_of_few_seeds_are_hatched(tmp_path: Path, build: Any) -> None:
    done = {(name, task): range(4) for name in ("none", "mopo") for task in "ab"}
    (bar,) = figures(written(tmp_path, build, done))["wins"].axes[0].patches
    assert bar.get_hatch()


def test_profiles_are_shares_of_all_runs(drawn: dict[str, Figure]) -> None:
    none, mopo = (line.get_ydata() for line in drawn["profiles"].axes[0].lines)
    assert (none[0], mopo[0]) == (0.8, 0.9)
    assert max(mopo - none) == 0.5
    assert min(mopo - none) == 0


def test_one_task_has_nothing_over_tasks(store: ResultStore) -> None:
    assert figures(collect(store)) == {}
    assert aggregate.aggregate_table(collect(store)).rows == []
    assert aggregate.other_table(collect(store)).rows == []


def test_real_batches_have_nothing_over_tasks(tmp_path: Path, build: Any) -> None:
    gains = {"none": [0.0] * 5, "mopo": [0.0] * 5}
    results = collect(build.planted(tmp_path, gains, tasks=("toy/a", "toy/b"), real_fraction=1.0))
    assert figures(results) == {}
    assert aggregate.aggregate_table(results).rows == []


def written(folder: Path, build: Any, seeds: dict[tuple[str, str], Iterable[int]]) -> Results:
    """The seeds of some generators (first) on some tasks of toy/ (second) that have finished."""
    store = ResultStore(folder)
    for (generator, task), done in seeds.items():
        spec = replace(build.spec(f"toy/{task}", generator, 6), seeds=tuple(done))
        store.finish(spec, {}, [record for record in build.evaluations(6, 0.0) if record.seed in spec.seeds])
    return collect(store)


def test_without_a_whole_row_of_tasks_nothing_is_drawn(tmp_path: Path, build: Any) -> None:
    results = written(tmp_path, build, {("none", "a"): [0], ("none", "b"): [1]})
    assert figures(results) == {}
    assert [entry.text for entry in aggregate.aggregate_table(results).rows[0]][-2:] == ["0", "2"]


def test_pairs_without_a_common_seed_are_not_drawn(tmp_path: Path, build: Any) -> None:
    done = {("none", "a"): [0, 1], ("none", "b"): [0, 1], ("mopo", "a"): [0], ("mopo", "b"): [1]}
    assert set(figures(written(tmp_path, build, done))) == {"aggregate", "aggregate_others", "profiles"}


def test_as_many_tasks_are_not_the_same_tasks(tmp_path: Path, build: Any) -> None:
    """none on a and b, mopo on a and c, dydiff on all three: only dydiff is drawn, the others' lacks are named."""
    tasks = {"none": "ab", "mopo": "ac", "dydiff": "abc"}
    results = written(tmp_path, build, {(name, task): range(5) for name, own in tasks.items() for task in own})
    table = aggregate.aggregate_table(results)
    assert {row[2].text: row[-1].text for row in table.rows} == {
        "none": "2§ without toy/c",
        "mopo": "2§ without toy/b",
        "dydiff": "3",
    }
    assert "§ lacks tasks" in table.caption
    drawn = figures(results)
    assert [label.get_text() for label in drawn["aggregate"].axes[0].get_yticklabels()] == ["dydiff"]
    assert len(drawn["profiles"].axes[0].lines) == 1
    assert [text.get_text() for text in drawn["profiles"].legends[0].get_texts()] == ["dydiff"]


def test_who_has_no_common_seed_pushes_nobody_out(tmp_path: Path, build: Any) -> None:
    done = {("none", "a"): range(5), ("none", "b"): range(5), ("mopo", "a"): [0, 1], ("mopo", "b"): [2, 3]}
    bars = figures(written(tmp_path, build, done))["aggregate"].axes[0]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["none"]
