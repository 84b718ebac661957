"""From records to returns.csv and its table."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.results import Results, collect
from benchmarks.report.sections.returns import part_table, return_table, returns
from benchmarks.report.tables.table import Table
from benchmarks.spec import Method, RunSpec, Settings
from benchmarks.store import ResultStore
from generators.mopo import MOPO
from generators.none import RealOnly


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


def shown(table: Table) -> dict[str, float | str | None]:
    """The only row, by column, without the cell's labels."""
    (row,) = table.rows
    return {name: entry.value for name, entry in zip(table.head[3:], row[3:], strict=True)}


def test_the_tables_show_the_longest_horizon(results: Results) -> None:
    """Columns that nothing fills are left out."""
    assert shown(return_table(results)) == {"steps": 2, "generated": 6, "on-policy": 2, "gap": 4}
    assert shown(part_table(results)) == {"steps": 2, "gap": 4, "kept": 7.5, "energy distance": 1}
    assert "Returns of 2 steps." in return_table(results).caption


def test_the_horizon_is_the_last_that_rollouts_reach(tmp_path: Path, build: Any) -> None:
    """Single transitions have no value behind their first step."""
    store = ResultStore(tmp_path)
    curve = [Record(0, 9, "returns/gap", value, h) for h, value in ((1, -0.5), (2, math.nan))]
    store.finish(build.spec("toy/linear", "duplicate", 1), {}, [*curve, Record(0, 9, "returns/used", 1.0)])
    table = return_table(collect(store))
    assert shown(table) == {"steps": 1, "gap": -0.5}
    assert "Returns of 1 step." in table.caption


@pytest.mark.parametrize(("penalty", "columns"), [(1.0, ["of it reward, by design"]), (0.0, [])])
def test_a_penalty_is_said_to_be_by_design(tmp_path: Path, penalty: float, columns: list[str]) -> None:
    store = ResultStore(tmp_path)
    cell = RunSpec("toy/linear", Method("mopo", MOPO(penalty=penalty)), Method("bc", RealOnly()), Settings(), (0,))
    names = ("returns/generated", "returns/gap", "returns/reward")
    store.finish(cell, {}, [Record(0, 9, "returns/used", 1.0), *(Record(0, 9, name, -2.0, 1) for name in names)])
    table = return_table(collect(store))
    assert [name for name in table.head if "design" in name] == columns
    assert ("By design mopo takes a penalty off the reward" in table.caption) == bool(columns)
