"""Tables and figure of the compounding error."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.results import Results, collect
from benchmarks.report.sections.compounding import SECTION, compounding_table, growth_table
from benchmarks.store import ResultStore

(PLOT,) = SECTION.figures


def test_errors_are_shown_at_a_few_horizons(store: ResultStore) -> None:
    table = compounding_table(collect(store))
    assert table.head[-5:] == ["h = 1", "h = 2", "h = 5", "h = 6", "starts excluded"]
    assert [entry.text for entry in table.rows[0][-6:]] == [
        "open loop, policy actions",
        *("0.01", "0.02", "0.05", "0.06"),
        "300.0%",
    ]


def test_every_kind_of_error_has_its_row(store: ResultStore) -> None:
    kinds = [row[-6].text for row in compounding_table(collect(store)).rows]
    both = ["open loop, policy actions", "closed loop, policy actions", "open loop, logged actions"]
    assert kinds == 2 * both


def test_linear_growth_is_a_power_of_one(store: ResultStore) -> None:
    table = growth_table(collect(store))
    own = dict(zip(table.head, table.rows[0], strict=True))
    assert own["b"].text == "1.00"
    assert own["better law"].text == "power"


def test_leakage_is_shown_for_logged_actions_only(store: ResultStore) -> None:
    table = growth_table(collect(store))
    where = table.head.index("leakage")
    assert [row[where].text for row in table.rows] == ["—", "3"] * 2


def test_a_panel_for_every_kind_of_error(store: ResultStore, build: Any) -> None:
    store.finish(build.spec("toy/other", "mopo", 1), {}, [Record(0, 9, "compounding/policy/median", 0.1, 1)])
    ((_, _, figure),) = PLOT.pages(collect(store))
    assert len(figure.axes) == 3 * 3


def errors(root: Path, build: Any, **curves: list[float]) -> Results:
    """Cells of two seeds with these open-loop errors on the policy's actions, from h = 1 on."""
    store = ResultStore(root)
    for generator, curve in curves.items():
        records = [
            Record(seed, 9, f"compounding/policy/{quantity}", value, h)
            for seed in (0, 1)
            for h, error in enumerate(curve, 1)
            for quantity, value in (("median", error), ("floor", 1e-9 * h), ("still", 1.0))
        ]
        store.finish(build.spec("toy/linear", generator, 2), build.provenance(2), records)
    return collect(store)


def names(results: Results) -> list[str]:
    """Written in the only panel."""
    ((_, _, figure),) = PLOT.pages(results)
    return [text.get_text() for text in figure.axes[0].texts]


def test_equal_curves_have_one_name(tmp_path: Path, build: Any) -> None:
    results = errors(tmp_path, build, ensemble=[0.1, 0.2], mopo=[0.1005, 0.199], dydiff=[0.1, 0.21])
    assert sorted(names(results)) == ["dydiff", "ensemble = mopo"]
    assert "drawn over each other: ensemble = mopo." in PLOT.caption(results)


def test_single_transitions_are_a_marker_with_a_name(tmp_path: Path, build: Any) -> None:
    results = errors(tmp_path, build, synther=[0.3], dydiff=[0.1, 0.2])
    assert sorted(names(results)) == ["dydiff", "synther"]
    assert "A marker at h = 1: synther, of single transitions." in PLOT.caption(results)


def test_what_is_too_small_is_told_below_the_figure(tmp_path: Path, build: Any) -> None:
    results = errors(tmp_path, build, duplicate=[4e-8], simulator=[1e-7, 3e-6], dydiff=[0.1, 0.2])
    assert names(results) == ["dydiff"]
    told = (
        "Too small for the axes: replay floor, at most 2e−09; duplicate, at most 4e−08; "
        "simulator (ceiling), at most 3e−06."
    )
    assert PLOT.caption(results).endswith(told)


def test_floors_that_are_near_are_drawn(tmp_path: Path, build: Any) -> None:
    """Dotted, and in the legend."""
    results = errors(tmp_path, build, dydiff=[1e-8, 2e-8])
    ((_, _, figure),) = PLOT.pages(results)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["nothing moves", "replay floor"]
    assert "Too small" not in PLOT.caption(results)


def test_a_reader_who_sees_nothing_hears_the_errors(tmp_path: Path, build: Any) -> None:
    results = errors(tmp_path, build, synther=[0.3], mopo=[0.1, 0.4], dydiff=[0.1, 0.2], simulator=[1e-7, 1e-7])
    ((_, alt, _),) = PLOT.pages(results)
    assert alt == (
        "Error at the last step in standard deviations. linear, bc, open loop, policy actions: from 0.2 (dydiff) to "
        "0.4 (mopo)."
    )


def test_names_that_are_too_many_are_in_a_legend(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    for iterations in range(14):
        spec = build.spec("toy/linear", "dydiff", 1, f"M={iterations}", iterations)
        records = [Record(0, 9, "compounding/policy/median", 0.1 * h + 0.01 * iterations, h) for h in (1, 2)]
        store.finish(spec, build.provenance(1), records)
    ((_, _, figure),) = PLOT.pages(collect(store))
    assert list(figure.axes[0].texts) == []
    assert len(figure.legends[0].get_texts()) == 14


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_figure_is_written_three_ways(reported: tuple[Path, list[str]], suffix: str) -> None:
    assert (reported[0] / f"compounding.{suffix}").stat().st_size > 5000
