"""From records to consistency.csv, its two tables, and the frontier of consistency and error."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.results import Results, collect
from benchmarks.report.sections.consistency import (
    SECTION,
    consistency,
    consistency_table,
    frontier,
    shift_table,
)
from benchmarks.spec import Method, RunSpec, Settings
from benchmarks.store import ResultStore
from generators.none import RealOnly

VALUES = {
    "consistency/distance": 0.1,
    "consistency/kl": 2.0,
    "behaviour/excess/generated": 3.0,
    "behaviour/excess/on_policy": 4.0,
    "behaviour/nearest/heldout": 0.5,
    "behaviour/nearest/generated": 1.0,
    "behaviour/nearest/on_policy": 0.75,
    "behaviour/knn_kl/heldout": 0.25,
    "behaviour/knn_kl/generated": 5.25,
    "behaviour/knn_kl/on_policy": 6.25,
}
LOCAL = {1: 0.01, 2: 0.03}
ROW = [0.1, 2, 0.02, 0.02, 3, 4, 2, 1.5, 5, 6]  # energy is not defined anywhere: no column


def fill(folder: Path) -> ResultStore:
    store = ResultStore(folder)
    for task in ("local/hopper-medium-replay", "d4rl/walker2d-medium-replay-v2", "local/maze2d-umaze"):
        cell = RunSpec(task, Method("mopo", RealOnly()), Method("bc", RealOnly()), Settings(), (0, 1))
        records = [
            Record(seed, step, "generate/lag", 0.02 * (1 + seed) * (step == 300) * 2 / 3)
            for seed in (0, 1)
            for step in (100, 300)
        ]
        sign = [1 - 0.5, 1 + 0.5]
        records += [Record(seed, 300, name, x * sign[seed]) for seed in (0, 1) for name, x in VALUES.items()]
        local = "compounding/policy/local"
        records += [Record(seed, 300, local, x * sign[seed], h) for seed in (0, 1) for h, x in LOCAL.items()]
        store.finish(cell, {"seeds": [0, 1], "status": "ok"}, records)
    store.finish(
        RunSpec("toy/linear", Method("none", RealOnly()), Method("bc", RealOnly()), Settings(), (0,)),
        {"seeds": [0], "status": "ok"},
        [Record(0, 300, "return", 1.0)],
    )
    return store


def test_one_row_per_cell_with_means_over_seeds(tmp_path: Path) -> None:
    table = consistency_table(collect(fill(tmp_path)))
    assert len(table.rows) == 3
    assert all([entry.value for entry in row[3:]] == pytest.approx(ROW) for row in table.rows)


def test_types_of_datasets_are_put_together(tmp_path: Path) -> None:
    table = shift_table(collect(fill(tmp_path)))
    assert [[entry.text for entry in row[:3]] for row in table.rows] == [
        ["maze2d", "mopo", "1"],
        ["medium-replay", "mopo", "2"],
    ]
    assert all([entry.value for entry in row[3:]] == pytest.approx(ROW) for row in table.rows)


def test_the_csv_has_every_seed_and_the_last_lag(tmp_path: Path) -> None:
    frame = consistency(collect(fill(tmp_path)))
    assert list(frame) == ["task", "generator", "variant", "algorithm", "seed", "metric", "value"]
    own = frame[frame["task"] == "local/maze2d-umaze"].set_index(["metric", "seed"])["value"]
    assert own["consistency/kl"].tolist() == [1.0, 3.0]
    assert own["generate/lag"].tolist() == [2 * 0.02 / 3, 2 * 2 * 0.02 / 3]
    assert len(own) == 2 * (len(VALUES) + 1)


@pytest.fixture
def three(tmp_path: Path, build: Any) -> Results:
    """A cell without rollouts, one of single transitions, and one whose rollouts end before the others'."""
    store = ResultStore(tmp_path)
    curves = {"none": {}, "synther": {1: 0.5}, "mopo": {1: 0.5, 2: 0.7}, "dydiff": {1: 0.5, 2: 0.7, 3: 0.9}}
    for generator, curve in curves.items():
        records = [
            *(Record(s, 100, "consistency/distance", 0.1 * (1 + s)) for s in (0, 1)),
            *(Record(s, 100, "compounding/policy/median", x + 0.2 * s, h) for h, x in curve.items() for s in (0, 1)),
        ]
        store.finish(build.spec("toy/linear", generator, 2), {}, records)
    return collect(store)


def test_the_frontier_has_rollouts_of_any_length(three: Results) -> None:
    points = frontier(three).set_index("generator")
    assert points["error"].to_dict() == pytest.approx({"mopo": 0.8, "dydiff": 1.0})
    assert points["distance"].tolist() == pytest.approx([0.15, 0.15])
    assert points.loc["mopo", ["error_low", "error_high", "n"]].tolist() == pytest.approx([0.7, 0.9, 2])


def test_the_frontier_is_drawn_and_said_in_words(three: Results) -> None:
    (plot,) = SECTION.figures
    ((name, alt, _),) = plot.pages(three)
    assert name == "frontier"
    assert "toy/linear, bc: the smallest error at the last step is 0.8 (mopo, actions 0.15 from the policy's)" in alt
    assert "Left out: synther, whose rollouts have one step." in plot.caption(three)


def test_types_with_one_cell_each_are_not_repeated(three: Results) -> None:
    assert len(consistency_table(three).rows) == 4
    assert shift_table(three).rows == []


def test_a_mean_over_fewer_cells_is_marked(tmp_path: Path) -> None:
    """Of two sets of a type pgd has run on one: its mean is not over what mopo's is."""
    store = fill(tmp_path)
    cell = RunSpec("local/hopper-medium-replay", Method("pgd", RealOnly()), Method("bc", RealOnly()), Settings(), (0,))
    store.finish(cell, {"seeds": [0], "status": "ok"}, [Record(0, 300, name, x) for name, x in VALUES.items()])
    cells = {(row[0].text, row[1].text): row[2].text for row in shift_table(collect(store)).rows}
    assert cells["medium-replay", "pgd"] == "1§ lacks 1"
    assert cells["medium-replay", "mopo"] == "2"
