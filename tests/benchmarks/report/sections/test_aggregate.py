"""Figures over all tasks: aggregates, profiles and the probability of improvement."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from benchmarks.report.results import Results, collect
from benchmarks.report.sections import aggregate, improvement
from benchmarks.store import ResultStore


def figures(results: Results) -> dict[str, Figure]:
    plots = (*aggregate.SECTION.figures, *improvement.SECTION.figures)
    return {name: figure for plot in plots for name, figure in plot.pages(results)}


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
        "aggregate": 4,
        "profiles": 1,
        "improvement": 1,
    }


def test_improvement_is_the_mean_over_tasks(drawn: dict[str, Figure]) -> None:
    (value,) = drawn["improvement"].axes[0].collections
    assert value.get_segments()[0][:, 0] == pytest.approx([0.75, 0.75])


def test_profiles_are_shares_of_all_runs(drawn: dict[str, Figure]) -> None:
    none, mopo = (line.get_ydata() for line in drawn["profiles"].axes[0].lines)
    assert (none[0], mopo[0]) == (0.8, 0.9)
    assert max(mopo - none) == 0.5
    assert min(mopo - none) == 0


def test_one_task_has_no_figures_over_tasks(store: ResultStore) -> None:
    assert figures(collect(store)) == {}
