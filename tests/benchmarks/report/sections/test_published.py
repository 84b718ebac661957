"""Published numbers stand beside ours where the data are the same, and only there."""

from pathlib import Path

import pytest

from benchmarks.records import Record
from benchmarks.report.results import collect
from benchmarks.report.sections.published import published_table
from benchmarks.spec import Method, RunSpec, Settings
from benchmarks.store import ResultStore
from generators.none import RealOnly


def test_rows_of_the_same_file_and_method(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for task in ("d4rl/hopper-medium-v2", "d4rl/hopper-medium-v1", "local/hopper-medium"):
        cell = RunSpec(task, Method("mopo", RealOnly()), Method("td3bc", RealOnly()), Settings(), (0, 1))
        records = [Record(seed, 20_000, "normalized_score", 50.0 + seed) for seed in (0, 1)]
        store.finish(cell, {"seeds": [0, 1], "status": "ok"}, records)
    rows = [[entry.text for entry in row] for row in published_table(collect(store)).rows]
    v1, v2 = ([row[1:] for row in rows if row[0] == f"d4rl/hopper-medium-{version}"] for version in ("v1", "v2"))
    assert len(rows) == len(v1) + len(v2)
    assert v1 == [["mopo + td3bc", "this run", "50.5 ± 6.4", "2", "ours"]]
    assert ["TD3+BC", "corl-team/CORL README.md", "60.4 (std 3.5)", "4", "last"] in v2
    assert {row[0] for row in v2} >= {"TD3+BC", "MOPO", "COMBO"}
    assert "CQL" not in {row[0] for row in v2}


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (Record(0, 20_000, "normalized_score", None), "—"),
        (Record(0, 20_000, "return", 7.0), "—"),  # no score, whatever was earned
        (Record(0, 100, "diverged/critic", None), "diverged"),
    ],
)
def test_a_cell_without_a_score_says_why(tmp_path: Path, record: Record, shown: str) -> None:
    store = ResultStore(tmp_path)
    method = Method("mopo", RealOnly())
    store.finish(RunSpec("d4rl/hopper-medium-v2", method, Method("bc", RealOnly()), Settings(), (0,)), {}, [record])
    ours = next(row for row in published_table(collect(store)).rows if row[2].text == "this run")
    assert [entry.text for entry in ours[3:5]] == [shown, "0"]
