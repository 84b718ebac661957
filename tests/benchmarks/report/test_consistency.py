"""From records to consistency.csv and its two tables."""

from pathlib import Path

from benchmarks.report.consistency import consistency, consistency_table, shift_table
from benchmarks.report.results import collect
from benchmarks.spec import Method, RunSpec, Settings
from benchmarks.store import Record, ResultStore
from generators.none import RealOnly

VALUES = {
    "consistency/distance": 0.1,
    "consistency/kl": 2.0,
    "behaviour/excess/made": 3.0,
    "behaviour/excess/lived": 4.0,
    "behaviour/nearest/heldout": 0.5,
    "behaviour/nearest/made": 1.0,
    "behaviour/nearest/lived": 0.75,
    "behaviour/knn_kl/heldout": 0.25,
    "behaviour/knn_kl/made": 5.25,
    "behaviour/knn_kl/lived": 6.25,
    "compounding/policy/local/1": 0.01,
    "compounding/policy/local/2": 0.03,
}
ROW = ["0.1", "2", "0.02", "0.02", "3", "4", "2", "1.5", "5", "6"]  # energy is not defined anywhere: no column


def fill(folder: Path) -> ResultStore:
    store = ResultStore(folder)
    for task in ("local/hopper-medium-replay", "d4rl/walker2d-medium-replay-v2", "local/maze2d-umaze"):
        cell = RunSpec(task, Method("mopo", RealOnly()), Method("bc", RealOnly()), Settings(), (0, 1))
        records = [
            Record(seed, step, f"generate/residual/{number}", 0.01 * number * (1 + seed) * (step == 300) * 2 / 3)
            for seed in (0, 1)
            for step in (100, 300)
            for number in (1, 2)
        ]
        sign = [1 - 0.5, 1 + 0.5]
        records += [Record(seed, 300, name, x * sign[seed]) for seed in (0, 1) for name, x in VALUES.items()]
        store.finish(cell, {"seeds": [0, 1], "status": "ok"}, records)
    store.finish(
        RunSpec("toy/linear", Method("none", RealOnly()), Method("bc", RealOnly()), Settings(), (0,)),
        {"seeds": [0], "status": "ok"},
        [Record(0, 300, "return", 1.0)],
    )
    return store


def test_one_row_per_cell_with_means_over_seeds_and_multiples_of_unseen_rows(tmp_path: Path) -> None:
    table = consistency_table(collect(fill(tmp_path)))
    assert [[entry.text for entry in row[3:]] for row in table.rows] == [ROW] * 3


def test_types_of_datasets_are_put_together(tmp_path: Path) -> None:
    table = shift_table(collect(fill(tmp_path)))
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["maze2d", "mopo", "1", *ROW],
        ["medium-replay", "mopo", "2", *ROW],
    ]


def test_the_csv_has_every_seed_and_the_last_round(tmp_path: Path) -> None:
    frame = consistency(collect(fill(tmp_path)))
    assert list(frame) == ["task", "generator", "variant", "algorithm", "seed", "metric", "value"]
    own = frame[frame["task"] == "local/maze2d-umaze"].set_index(["metric", "seed"])["value"]
    assert own["consistency/kl"].tolist() == [1.0, 3.0]
    assert own["consistency/lag"].tolist() == [2 * 0.02 / 3, 2 * 2 * 0.02 / 3]
    assert len(own) == 2 * (len(VALUES) - 2 + 1)
