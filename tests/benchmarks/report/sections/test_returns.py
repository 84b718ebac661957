"""From records to returns.csv and its table."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.results import Results, collect
from benchmarks.report.sections.returns import return_table, returns
from benchmarks.store import Record, ResultStore


@pytest.fixture
def results(tmp_path: Path, build: Any) -> Results:
    store = ResultStore(tmp_path)
    curves = {"returns/generated": 3.0, "returns/on_policy": 1.0, "returns/gap": 2.0, "distance/energy": 0.5}
    numbers = {"returns/used": 1.0, "filter/true_kept": 7.0, "values/ratio": 1.5}
    records = [
        *(Record(seed, 9, name, x * h, h) for seed in (0, 1) for name, x in curves.items() for h in (1, 2)),
        *(Record(seed, 9, name, x + seed) for seed in (0, 1) for name, x in numbers.items()),
    ]
    store.finish(build.spec("toy/linear", "mopo", 2), {}, records)
    store.finish(build.spec("toy/linear", "none", 2), {}, build.evaluations(2, 0.0))
    return collect(store)


def test_the_csv_has_a_row_for_every_horizon(results: Results) -> None:
    frame = returns(results)
    own = frame[(frame["metric"] == "returns/gap") & (frame["seed"] == 0)]
    assert own[["horizon", "value"]].to_numpy().tolist() == [[1, 2.0], [2, 4.0]]
    assert frame.loc[frame["metric"] == "filter/true_kept", "horizon"].isna().all()


def test_the_table_shows_the_longest_horizon(results: Results) -> None:
    table = return_table(results)
    (row,) = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    shown = {name: row[name].text for name in ("generated", "on-policy", "gap", "kept", "energy distance", "feedback")}
    assert shown == {
        "generated": "6",
        "on-policy": "2",
        "gap": "4",
        "kept": "7.5",
        "energy distance": "1",
        "feedback": "—",
    }


def test_the_horizon_is_the_last_that_rollouts_reach(tmp_path: Path, build: Any) -> None:
    """Single transitions have no value behind their first step."""
    store = ResultStore(tmp_path)
    curve = [Record(0, 9, "returns/gap", value, h) for h, value in ((1, -0.5), (2, math.nan))]
    store.finish(build.spec("toy/linear", "duplicate", 1), {}, [*curve, Record(0, 9, "returns/used", 1.0)])
    table = return_table(collect(store))
    (row,) = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert (row["steps"].text, row["gap"].text) == ("1", "−0.5")
