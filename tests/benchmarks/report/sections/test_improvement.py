"""Changes against real data only: the table's columns and order, the forest plot, what it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from benchmarks.report.results import Results, collect
from benchmarks.report.sections import improvement
from benchmarks.report.sections.improvement import change_table
from benchmarks.spec import Settings

NONE = [0.0] * 5
WINNER = [8.0, 9.0, 10.0, 11.0, 12.0]
NOISE = [9.0, -9.0, 3.0, -3.0, 5.0]
GAINS = {"none": NONE, "pgd": NOISE, "duplicate": NOISE, "mopo": WINNER, "simulator": [20.0] * 5}


def drawn(results: Results) -> tuple[str, Figure]:
    (plot,) = improvement.SECTION.figures
    ((_, alt, figure),) = plot.pages(results)
    return alt, figure


def test_a_row_says_change_p_wins_and_verdict(tmp_path: Path, build: Any) -> None:
    table = change_table(collect(build.planted(tmp_path, GAINS)))
    assert table.title == "Change against real data only"
    rows = {row[0].text: {name: entry.text for name, entry in zip(table.head, row, strict=True)} for row in table.rows}
    assert list(rows) == ["mopo", "pgd", "simulator (ceiling)", "duplicate"]
    assert {name: rows["mopo"][name] for name in table.head[4:]} == {
        "change, 95 % interval": "+10.0 [8.0, 12.0]",
        "seeds": "5",
        "p after Holm": "< 0.001",
        "wins": "98 %",
        "verdict": "helps",
        "seeds for 5 points": "4",
    }
    assert (rows["pgd"]["p after Holm"], rows["pgd"]["verdict"]) == ("1.000", "cannot be told apart")
    assert rows["simulator (ceiling)"]["p after Holm"] == "—"
    assert "P=" not in str(rows)


def test_a_pair_that_is_missing_says_why(tmp_path: Path, build: Any) -> None:
    store = build.planted(tmp_path, {"none": NONE})
    settings = Settings(updates=100, evaluate_every=100)
    cells = [replace(build.spec("toy/linear", name, 5), settings=settings) for name in ("none", "mopo")]
    store.plan("planted", cells)
    (row,) = change_table(collect(store)).rows
    assert [entry.text for entry in row[4:]] == ["missing", *["—"] * 5]


def test_the_forest_is_sorted_and_controls_stand_below(tmp_path: Path, build: Any) -> None:
    alt, figure = drawn(collect(build.planted(tmp_path, GAINS)))
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["mopo", "pgd", "simulator (ceiling)", "duplicate"]
    assert ax.get_xlabel() == "change in D4RL-normalized score"
    bars = [collection.get_segments()[0][:, 0] for collection in ax.collections]
    assert bars[0] == pytest.approx([8.037, 11.963], abs=1e-3)
    zero = [line for line in ax.lines if list(line.get_xdata()) == [0, 0]]
    assert len(zero) == 1
    seeds = [line for line in ax.lines if len(line.get_xdata()) == 5]
    assert [list(line.get_xdata()) for line in seeds] == [WINNER, NOISE, [20.0] * 5, NOISE]
    assert alt == (
        "Changes against real data only lie between +1.0 (pgd) and +10.0 (mopo); verdicts of 2 comparisons: 1 "
        "helps, 1 cannot be told apart."
    )


@pytest.mark.parametrize(("seeds", "hollow"), [(4, True), (5, False)])
def test_markers_are_hollow_below_five_seeds(tmp_path: Path, build: Any, seeds: int, hollow: bool) -> None:
    results = collect(build.planted(tmp_path, {"none": NONE, "mopo": WINNER[:seeds]}))
    _, figure = drawn(results)
    marker = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 1)
    assert (marker.get_markerfacecolor() != marker.get_markeredgecolor()) == hollow
    (plot,) = improvement.SECTION.figures
    assert ("Hollow" in plot.caption(results)) == hollow
    assert f"over {seeds} seeds" in plot.caption(results)


def test_panels_share_their_axis_where_the_unit_is_the_same(tmp_path: Path, build: Any) -> None:
    _, figure = drawn(collect(build.planted(tmp_path, GAINS, tasks=("toy/a", "toy/b"))))
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert [ax.get_title() for ax in figure.axes] == ["toy/a", "toy/b"]


def test_real_batches_have_no_changes(tmp_path: Path, build: Any) -> None:
    results = collect(build.planted(tmp_path, GAINS, real_fraction=1.0))
    assert change_table(results).rows == []
    (plot,) = improvement.SECTION.figures
    assert plot.rows(results) == []
