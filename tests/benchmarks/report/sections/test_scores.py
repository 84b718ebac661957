"""The table of scores: its rows and columns, bold, daggers, absent cells, and pieces for a terminal."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import score_text
from benchmarks.report.results import collect
from benchmarks.report.scores import rule
from benchmarks.report.sections import scores
from benchmarks.report.sections.scores import score_table, selection_table
from benchmarks.report.tables.table import Entry, Table
from benchmarks.store import ResultStore


def entries(table: Table) -> dict[tuple[str, str], Entry]:
    """By generator and column, of default variants."""
    rows = [row for row in table.rows if row[1].text == "default"]
    return {(row[0].text, name): entry for row in rows for name, entry in zip(table.head, row, strict=True)}


def test_marks(store: ResultStore, build: Any) -> None:
    """Bold is the verdict, fewer than five seeds have a dagger, one seed has no interval."""
    store.finish(build.spec("toy/alone", "mopo", 1), {}, build.evaluations(1, 30.0))
    results = collect(store)
    found = entries(score_table(results))
    assert found["mopo", "toy/linear"].text == "47.5 ± 2.0 (n=6)"
    assert found["mopo", "toy/linear"].bold
    assert not found["none", "toy/linear"].bold
    assert found["dydiff", "toy/linear"].text == "failed"
    assert found["mopo", "toy/alone"].text == "55.0 (n=1)†"
    assert found["none", "local/hopper-medium‡ (return)"].text == "178.5 ± 44.5 (n=2/3)†"
    caption = score_table(results).caption
    assert "D4RL's reference returns" in caption
    assert "mean of the last 10 evaluations, at 11,000 to 20,000 updates, 10 episodes each." in caption
    assert "oracle selection" in selection_table(results).caption
    assert "47.5 ± 2.0 (n=6)" in score_text(store)


def test_bold_is_the_verdict_not_the_highest_mean(tmp_path: Path, build: Any) -> None:
    gains = {"none": [0.0] * 5, "mopo": [9.0, -9.0, 30.0, -3.0, 5.0], "pgd": [2.0, 2.1, 2.2, 2.1, 2.0]}
    found = entries(score_table(collect(build.planted(tmp_path, gains))))
    assert [name for (name, column), entry in found.items() if column == "toy/linear" and entry.bold] == ["pgd"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"updates": 1000, "evaluate_every": 200, "episodes": 4},
            "mean of the evaluations at 800 and 1,000 updates, 4",
        ),
        ({"updates": 100, "episodes": 1}, "its evaluation at 100 updates, 1 episode."),
        ({"updates": 1500, "evaluate_every": 200}, "mean of the last 4 evaluations, at 1,000 to 1,500 updates,"),
    ],
)
def test_the_rule_names_its_evaluations(tmp_path: Path, build: Any, settings: dict[str, int], said: str) -> None:
    assert f"Score of a seed: {said}" in rule(collect(build.planted(tmp_path, {"none": [0.0]}, **settings)))


def test_the_rule_is_general_where_budgets_differ(tmp_path: Path, build: Any) -> None:
    build.planted(tmp_path, {"none": [0.0]}, updates=200)
    assert "the last half of them" in rule(collect(build.planted(tmp_path, {"none": [0.0]}, updates=300)))


def test_a_wide_table_is_printed_in_pieces(tmp_path: Path, build: Any) -> None:
    tasks = [f"toy/task-number-{place}" for place in range(6)]
    store = build.planted(tmp_path, {"none": [0.0] * 5, "mopo": [3.0, 3.1, 3.2, 3.1, 3.0]}, tasks=tasks)
    lines = score_text(store).partition("Do these comparisons")[0].splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("6 of 6 comparisons help, most mopo on toy/task-number-")
    assert sum("none " in line for line in lines) == 2


def test_seeds_stand_on_their_row_beside_real_data_only(tmp_path: Path, build: Any) -> None:
    results = collect(build.planted(tmp_path, {"none": [0.0] * 5, "mopo": [3.0] * 5, "simulator": [9.0] * 5}))
    (plot,) = scores.DETAILS.figures
    ((_, alt, figure),) = plot.pages(results)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["mopo", "simulator (ceiling)", "none"]
    assert alt == "Mean scores of 3 cells lie between 24.0 and 33.0, the highest that of simulator."
    (dashed,) = [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 2]
    assert list(dashed.get_xdata()) == [24, 24]
