"""Which cells are budgets of one generator, and their errors."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.compute.series import compute, horizons, series, whole_fits
from benchmarks.report.results import collect


def constant(flop: float, seed: int, h: int) -> float:
    return 0.5


def test_cells_that_differ_in_lengths_alone_are_budgets(tmp_path: Path, budgets: Any) -> None:
    found = series(collect(budgets.fill(tmp_path, {"ensemble": constant, "dydiff": constant})))
    assert [(own.generator, own.name, own.label) for own in found] == [
        ("dydiff", "", "dydiff"),
        ("ensemble", "", "ensemble"),
    ]
    assert [cell.variant for cell in found[0].cells] == ["x1", "x4", "x16", "x64"]
    assert found[0].flop.to_numpy().tolist() == [list(budgets.FLOP)] * 3


def test_presets_are_series_of_their_own(tmp_path: Path, budgets: Any) -> None:
    """What their variants have in common is their name."""
    found = series(collect(budgets.fill(tmp_path, {"dawm": constant, "dawm__dwm": constant})))
    assert [own.label for own in found] == ["dawm", "dawm [dwm]"]
    assert [len(own.cells) for own in found] == [4, 4]


def test_other_fields_make_no_budgets(tmp_path: Path, budgets: Any) -> None:
    """One cell each, as in all other folders; nor do updates of the algorithm."""
    store = budgets.fill(tmp_path, {"dydiff": constant}, flop=[1e10])
    store.finish(budgets.spec("dydiff", 1, 3, "rounds", rounds=7), {}, [Record(0, 9, "cost/model_flop", 2e10)])
    spec = budgets.spec("dydiff", 1, 3, "long")
    longer = replace(spec, settings=spec.settings.model_copy(update={"updates": 7}))
    store.finish(longer, {}, [Record(0, 9, "cost/model_flop", 3e10)])
    assert series(collect(store)) == []
    assert compute(collect(store)).empty
    assert horizons(collect(store)) == []


@pytest.mark.parametrize("flop", [[1e10], [1e10, 1e10], [0.0, 0.0]])
def test_one_compute_is_no_axis(tmp_path: Path, flop: list[float], budgets: Any) -> None:
    """Equal FLOP are one budget; without FLOP nothing is known."""
    assert series(collect(budgets.fill(tmp_path, {"dydiff": constant}, flop=flop))) == []


def test_steps_up_to_thirty_are_shown(tmp_path: Path, budgets: Any) -> None:
    for place, (last, shown) in enumerate([(50, [1, 10, 30]), (15, [1, 10, 15]), (4, [1, 4]), (1, [1])]):
        store = budgets.fill(tmp_path / str(place), {"dydiff": constant}, horizons=range(1, last + 1))
        assert horizons(collect(store)) == shown


def test_errors_have_the_interval_of_their_logarithms(tmp_path: Path, budgets: Any) -> None:
    """Errors of 1/e, 1 and e: mean 1, and t(0.975, 2) standard errors of one over the root of three."""
    store = budgets.fill(tmp_path, {"dydiff": lambda flop, seed, h: math.exp(seed - 1)})
    frame = compute(collect(store))
    assert len(frame) == 4 * 2 * 2
    half = 4.302652729911275 / math.sqrt(3)
    assert frame["error"].tolist() == pytest.approx([1.0] * len(frame))
    assert frame["low"].tolist() == pytest.approx([math.exp(-half)] * len(frame))
    assert frame["high"].tolist() == pytest.approx([math.exp(half)] * len(frame))
    assert frame["train_flop"].unique().tolist() == pytest.approx(list(budgets.FLOP))
    assert set(frame["transition_flop"]) == {1e6}


def test_only_whole_fits_make_a_line(tmp_path: Path, budgets: Any) -> None:
    """Seed 1 has an undefined error at one budget, and an error of 0 has no logarithm."""
    wrong = {(1.6e11, 1): math.nan, (1e10, 2): 0.0}
    store = budgets.fill(tmp_path, {"dydiff": lambda flop, seed, h: wrong.get((flop, seed), 0.5)}, seeds=4)
    results = collect(store)
    (own,) = series(results)
    flop, error = whole_fits(results, own, "policy", 10)
    assert list(error.index) == list(flop.index) == [0, 3]
    assert compute(results).query("actions == 'policy' and horizon == 10")["n"].tolist() == [3, 4, 3, 4]
