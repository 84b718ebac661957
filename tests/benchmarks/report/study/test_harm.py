"""Precision and recall of a sign by hand, and a threshold that the first half teaches and the second half judges."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.report.results import Results
from benchmarks.report.sections.harm import harm, harm_table

Many = Callable[..., Results]
# `many` has changes 4 - 3 method - task, with intervals of about half a point: 17 of 24 cells are harmed


def blown_up(task: int, method: int, change: float) -> dict[tuple[str, int | None], float]:
    """The rule of thumb is 2; harm begins at 5."""
    return {("values/ratio", None): 6.0 - change if change < 0 else 3.0 + change / 10}


def test_thresholds_are_fitted_on_one_half_judged_on_the_other(many: Many) -> None:
    table = harm(many(blown_up)).set_index(["signature", "rule"]).loc["values blow up"]
    thumb = table.loc["thumb"]
    harmed = sum(4 - 3 * method - task < 0 for task in range(6) for method in range(4))
    assert thumb[["threshold", "cells", "shown", "harmed", "both"]].tolist() == [2, 24, 24, harmed, harmed]
    assert (thumb["precision"], thumb["recall"]) == pytest.approx((harmed / 24, 1))
    assert thumb["youden"] == pytest.approx(0)
    fitted = table.loc["fitted"]
    assert 3.4 < fitted["threshold"] < 7
    assert fitted["cells"] == 12
    assert (fitted["precision"], fitted["recall"], fitted["youden"]) == pytest.approx((1, 1, 1))
    second = table.loc["thumb, second half"]
    assert second["cells"] == 12
    assert second["precision"] < 1


def test_a_sign_that_says_nothing_has_no_threshold(many: Many) -> None:
    table = harm(many(lambda task, method, change: {("values/ratio", None): 3.0})).set_index("rule")
    assert table.loc["thumb", "youden"] == pytest.approx(0)
    assert math.isnan(table.loc["fitted", "threshold"])
    assert math.isnan(table.loc["fitted", "precision"])


def test_the_table_has_three_rows_per_signature(many: Many) -> None:
    table = harm_table(many(blown_up))
    assert [row[1].text for row in table.rows] == ["rule of thumb", "the same, second half", "fitted on the first half"]
    assert " of 24: what a sign that says nothing" in table.caption


def test_one_data_set_says_nothing(study: Any) -> None:
    study.task("toy/a", {f"m{k}": (-5.0, {("values/ratio", None): 3.0}) for k in range(5)})
    assert harm(study.results()).empty
