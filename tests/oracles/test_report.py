"""aggregate.csv recomputed from scores.csv with pandas and rliable alone; run by `make oracles` only."""

from pathlib import Path

import pandas as pd
import pytest

import run_bench

pytestmark = pytest.mark.oracle

REFERENCE = Path(run_bench.__file__).parent / "results" / "reference"


@pytest.mark.parametrize("folder", sorted(path.parents[1].name for path in REFERENCE.glob("*/report/scores.csv")))
def test_aggregates_follow_from_the_scores(folder: str) -> None:
    from rliable import metrics

    report = REFERENCE / folder / "report"
    scores, kept = (pd.read_csv(report / f"{name}.csv") for name in ("scores", "aggregate"))
    assert (scores["status"] == "ok").all()
    runs = scores.sort_values("step").groupby(["generator", "algorithm", "variant", "seed", "task"])["normalized_score"]
    final = runs.apply(lambda x: x.tail(10 if len(x) >= 10 else max(1, len(x) // 2)).mean()).unstack("task")
    expected = {}
    for key, matrix in final.groupby(level=[0, 1, 2]):
        x = matrix.dropna(axis=1, how="all").dropna().to_numpy()
        expected |= {
            (*key, name): getattr(metrics, f"aggregate_{name}")(x / 100 if name == "optimality_gap" else x)
            for name in ("mean", "median", "iqm", "optimality_gap")
        }
    found = kept.set_index(["generator", "algorithm", "variant", "metric"])["value"].to_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9), key
