"""Quantities beside changes: one predicts perfectly, one not at all, one only tells tasks apart."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.report.results import Results
from benchmarks.report.sections.predictors import SECTION, predictor_table, predictors
from benchmarks.report.study.quantities import first_half, measured

Many = Callable[..., Results]


def planted(task: int, method: int, change: float) -> dict[tuple[str, int | None], float]:
    return {
        ("consistency/distance", None): -change,  # predicts
        ("consistency/kl", None): float(task),  # tells tasks apart, which differ in their changes
        ("values/ratio", None): float((7 * task + 5 * method) % 4),
        ("behaviour/nearest/generated", None): 2.0,
        ("behaviour/nearest/heldout", None): 1.0,  # never varies
    }


def test_what_predicts_is_found(many: Many) -> None:
    table = predictors(many(planted)).set_index(["quantity", "kind"])
    for kind in ("all", "within"):
        row = table.loc[("distance to the policy's actions", kind)]
        assert row[["correlation", "low", "high"]].tolist() == pytest.approx([-1, -1, -1])
        assert (row["cells"], row["clusters"]) == (24, 6)
    apart = table.loc[("KL to the policy", "all")]
    assert apart["correlation"] < 0
    assert math.isnan(table.loc[("KL to the policy", "within"), "correlation"])
    assert abs(table.loc[("value ratio", "within"), "correlation"]) < 0.8
    assert "distance to the data" not in {quantity for quantity, _ in table.index}


def test_the_table_names_the_best_first(many: Many) -> None:
    results = many(planted)
    first, *_ = predictor_table(results).rows
    assert first[0].text == "distance to the policy's actions"
    ((_, alt, _),) = SECTION.figures[0].pages(results)
    assert "distance to the policy's actions (−1.00)" in alt


def test_only_regimes_that_hold_are_looked_at(study: Any) -> None:
    for task in range(6):
        study.task(f"toy/task{task}", {f"m{k}": (-1.0 - k, {("values/ratio", None): 1.0 + k}) for k in range(4)})
    void = {"none": 0.0, "duplicate": 0.0, "simulator": -9.0}
    study.task("toy/void", {f"m{k}": (-1.0 - k, {("values/ratio", None): 9.0 - k}) for k in range(4)}, void)
    results = study.results()
    assert set(measured(results)["task"]) == {f"toy/task{task}" for task in range(6)}
    assert predictors(results)["correlation"].tolist() == pytest.approx([-1, -1])


def test_one_data_set_has_no_predictors(study: Any) -> None:
    study.task("toy/a", {f"m{k}": (1.0 * k - 9, {("values/ratio", None): 1.0 + k}) for k in range(9)})
    results = study.results()
    assert len(measured(results)) == 9
    assert predictors(results).empty
    assert not SECTION.figures[0].rows(results)


def test_parts_of_the_gap_are_in_units_of_the_tasks_return(study: Any) -> None:
    """A gap of 6 over 3 steps, where a step earns 4: half a step's return."""
    numbers = {("returns/gap", 3): -6.0, ("returns/reward", 3): 3.0, ("returns/on_policy", 3): 12.0}
    study.task("toy/a", {"mopo": (-1.0, numbers)})
    (row,) = measured(study.results()).to_dict("records")
    assert (row["return gap"], row["gap by reward"]) == pytest.approx((0.5, 0.25))


def test_halves_have_whole_data_sets(many: Many) -> None:
    data = measured(many(planted))["data"]
    first = first_half(data)
    assert data[first].nunique() == data[~first].nunique() == 3
    assert not set(data[first]) & set(data[~first])
