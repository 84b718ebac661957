"""From evaluations to scores by the rule, intervals and comparisons; what diverged seeds count."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.records import Record
from benchmarks.report import report, score_text
from benchmarks.report.aggregates import aggregate
from benchmarks.report.results import collect
from benchmarks.report.scores import comparisons, estimates, finals
from benchmarks.report.sections.scores import score_table
from benchmarks.report.tables.table import values
from benchmarks.report.verdict import verdicts
from benchmarks.spec import Settings
from benchmarks.store import ResultStore


def test_scores_follow_the_rule(store: ResultStore, build: Any) -> None:
    final = finals(collect(store))
    one = final.query("task == 'toy/linear' and generator == 'mopo' and seed == 2")
    assert one[["final", "last", "best", "unit"]].to_numpy().tolist() == [[20 + 2 + 25, 52, 52, "score"]]
    assert set(final.query("task == 'local/hopper-medium'")["unit"]) == {"return"}
    long = build.spec("toy/linear", "mopo", 1, "long", iterations=7)
    store.finish(long, {}, build.evaluations(1, 0.0, steps=12))
    rows = finals(collect(store))
    assert rows[rows["variant"] == "long"]["final"].item() == pytest.approx(
        sum(10 * step for step in range(2, 12)) / 10
    )


def test_intervals_and_improvement(store: ResultStore) -> None:
    results = collect(store)
    final = finals(results)
    mopo = next(cell.cell_id for cell in results.cells if (cell.task, cell.generator) == ("toy/linear", "mopo"))
    n, mean, _, high = values(estimates(final).loc[mopo])
    assert (n, mean) == (6, 47.5)
    assert high - mean == pytest.approx(2.5705818366147395 * 3.5**0.5 / 6**0.5)  # t(0.975, 5) s / sqrt(n)
    gain = comparisons(results).loc[mopo]
    assert values(gain[["n", "mean", "low", "high", "std", "better", "p"]]) == [6, 20, 20, 20, 0, 1, 0]  # paired
    total = aggregate(results).set_index(["generator", "metric"])
    assert values(total.loc[("mopo", "mean"), ["value", "n_seeds", "n_tasks"]]) == [47.5, 6, 1]
    assert total.loc[("mopo", "optimality_gap"), "value"] == pytest.approx(0.525)


def test_several_tasks_are_aggregated_on_common_seeds(store: ResultStore, build: Any) -> None:
    store.finish(build.spec("toy/other", "mopo", 5), {}, build.evaluations(5, 40.0))
    total = aggregate(collect(store)).set_index(["generator", "metric"]).loc["mopo"]
    assert values(total.loc["mean", ["value", "n_seeds", "n_tasks"]]) == [(47 + 67) / 2, 5, 2]
    assert (total["low"] < total["value"]).all()
    assert (total["value"] < total["high"]).all()


def test_intervals_over_tasks_are_those_of_the_method(store: ResultStore, build: Any) -> None:
    """Student's reach further than rliable's, around equal values; aggregate.csv and the table name the method."""
    store.finish(build.spec("toy/other", "mopo", 5), {}, build.evaluations(5, 40.0))
    found = {}
    for method in ("t", "bootstrap"):
        assert report(store, interval=method)
        total = pd.read_csv(store.root / "report" / "aggregate.csv").query("n_tasks == 2").set_index("metric")
        assert set(total["interval"]) == {method}
        found[method] = total
    wide, narrow = found["t"], found["bootstrap"]
    assert (wide["value"] == narrow["value"]).all()
    assert (wide["high"] - wide["low"] > narrow["high"] - narrow["low"]).all()
    assert "percentile bootstrap" in (store.root / "report" / "tables.md").read_text(encoding="utf-8")


def test_an_undefined_evaluation_leaves_no_score_and_is_named(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    undefined = [record if record.step < 300 else record._replace(value=None) for record in build.evaluations(1, 0.0)]
    store.finish(build.spec("toy/linear", "mopo", 1), {}, undefined)
    assert report(store) == [
        "undefined: toy/linear / mopo / bc, seed 0: no score, an evaluation that counts has no return"
    ]


@pytest.mark.parametrize(("noticed", "score"), [(100, 0.0), (300, 0.0), (400, 11.0)])
def test_a_diverged_seed_counts_with_zero_from_there_on(
    tmp_path: Path, build: Any, rows: Callable[[Path], list[dict[str, str]]], noticed: int, score: float
) -> None:
    """Evaluated after 100, 200, 300 and 400 updates: the rule takes the last two."""
    store = ResultStore(tmp_path)
    cell = build.spec("toy/linear", "mopo", 3)
    cell = replace(cell, settings=Settings(updates=400, evaluate_every=100))
    store.plan("smoke", [cell])
    records = [record._replace(step=record.step + 100) for record in build.evaluations(3, 0.0)]
    before = [record for record in records if record.seed != 2 or record.step < noticed]
    store.finish(cell, {}, [*before, Record(2, noticed, "diverged/critic", None)])
    assert report(store) == [f"diverged: toy/linear / mopo / bc, seed 2: critic is not finite at update {noticed}"]
    final = finals(collect(store)).set_index("seed")
    assert final["final"].tolist() == [25, 26, score]
    assert final["last"].tolist() == [30, 31, 0]
    assert "(n=3, 1 diverged)" in score_text(store)
    assert "diverged: training stopped being finite" in (tmp_path / "report" / "tables.md").read_text()
    (row,) = [row for row in rows(tmp_path / "report" / "scores.csv") if row["status"] == "diverged"]
    assert (row["seed"], row["step"], row["return"], row["normalized_score"]) == ("2", str(noticed), "", "")


def test_a_folder_of_diverged_seeds_can_be_reported(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    store.finish(build.spec("toy/linear", "mopo", 1), {}, [Record(0, 100, "diverged/critic", None)])
    assert report(store) == ["diverged: toy/linear / mopo / bc, seed 0: critic is not finite at update 100"]
    assert "diverged" in score_text(store)


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        ({"score_range": [0.0, 100.0]}, "0 ± 0 (n=2, 2 diverged)†"),  # the task has references: counts as 0
        ({"score_range": None}, "diverged"),
        ({}, "diverged"),  # an older run does not say, and no seed was ever evaluated
    ],
)
def test_the_task_decides_whether_it_has_references(
    tmp_path: Path, build: Any, run: dict[str, Any], shown: str
) -> None:
    """Not a score: every seed diverged before its first evaluation."""
    store = ResultStore(tmp_path)
    records = [Record(seed, 100, "diverged/critic", None) for seed in (0, 1)]
    store.finish(build.spec("toy/linear", "mopo", 2), run, records)
    results = collect(store)
    table = score_table(results)
    (row,) = table.rows
    assert row[-1].text == shown
    assert ("(return)" in table.head[-1]) == (run == {"score_range": None})
    assert set(finals(results)["unit"]) <= ({"score"} if run.get("score_range") else {"return"})


def test_without_references_a_diverged_seed_has_no_score(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    cell = build.spec("toy/linear", "mopo", 2)
    records = [record for record in build.evaluations(2, 0.0, scored=False) if record.seed == 0]
    store.finish(cell, {}, [*records, Record(1, 100, "diverged/critic", None)])
    assert report(store) == ["diverged: toy/linear / mopo / bc, seed 1: critic is not finite at update 100"]
    assert "(n=1/2, 1 diverged)" in score_text(store)


def test_comparisons_with_none(tmp_path: Path, build: Any) -> None:
    """Gains by hand; Holm's families are the algorithms: bc compares two pairs, iql one."""
    store = ResultStore(tmp_path)

    def finish(task: str, generator: str, algorithm: str, scores: list[float]) -> None:
        cell = build.spec(task, generator, len(scores), algorithm=algorithm)
        store.finish(cell, {}, [Record(s, 100, "normalized_score", score) for s, score in enumerate(scores)])

    for task, algorithm, gains in (("a", "bc", [1, 2, 3]), ("b", "bc", [9, 11, 10]), ("a", "iql", [1, 2, 3])):
        finish(f"toy/{task}", "none", algorithm, [0.0, 2.0, 4.0])
        finish(
            f"toy/{task}", "mopo", algorithm, [gain + none for gain, none in zip(gains, (0.0, 2.0, 4.0), strict=True)]
        )
    results = collect(store)
    found = verdicts(results).set_index(["task", "algorithm"])
    a, b, alone = (found.loc[key] for key in (("toy/a", "bc"), ("toy/b", "bc"), ("toy/a", "iql")))
    assert values(a[["n", "mean", "std"]]) == [3, 2, 1]
    assert a["better"] == pytest.approx(6.5 / 9)  # of 1, 4, 7 against 0, 2, 4: 1 + 2.5 + 3
    assert a["p"] == pytest.approx(0.0741799)  # t = 2 sqrt(3) with 2 degrees of freedom: 1 - sqrt(6/7)
    assert b["p"] == pytest.approx(0.0033, rel=0.02)
    assert (b["p_holm"], a["p_holm"]) == pytest.approx((2 * b["p"], a["p"]))
    assert alone["p_holm"] == alone["p"]


def test_comparisons_are_silent_without_partners(store: ResultStore, tmp_path: Path) -> None:
    results = collect(store)
    compared = verdicts(results)
    assert compared["p"].tolist() == compared["p_holm"].tolist()
    assert set(compared["task"]) == {"toy/linear", "local/hopper-medium"}
    nothing = collect(ResultStore(tmp_path / "empty"))
    assert comparisons(nothing).empty
