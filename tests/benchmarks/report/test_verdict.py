"""Planted changes get their verdicts: winners, losers, ties, noise, few seeds, returns, real batches only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.report.results import collect
from benchmarks.report.scores import comparisons
from benchmarks.report.tables.table import values
from benchmarks.report.verdict import WORDS, compares_scores, resolution, verdicts
from benchmarks.store import ResultStore
from metrics.statistics import power

NONE = [0.0] * 5
WINNER = [8.0, 9.0, 10.0, 11.0, 12.0]
LOSER = [-x for x in WINNER]
TIE = [0.5, -0.5, 0.0, 0.3, -0.3]
NOISE = [9.0, -9.0, 3.0, -3.0, 5.0]


def judged(folder: Path, build: Any, gains: dict[str, Sequence[float]], **more: Any) -> pd.DataFrame:
    return verdicts(collect(build.planted(folder, {"none": NONE, **gains}, **more))).set_index("generator")


def test_planted_changes_get_their_verdicts(tmp_path: Path, build: Any) -> None:
    found = judged(tmp_path, build, {"mopo": WINNER, "pgd": LOSER, "duplicate": TIE, "synther": NOISE})
    assert found["verdict"].to_dict() == {
        "mopo": "helps",
        "pgd": "hurts",
        "duplicate": "equivalent",
        "synther": "undecided",
    }
    assert WORDS["equivalent"] == "equivalent within 5 points"
    assert WORDS["undecided"] == "cannot be told apart"


@pytest.mark.parametrize("gain", [WINNER, LOSER, TIE])
def test_four_seeds_decide_nothing(tmp_path: Path, build: Any, gain: list[float]) -> None:
    (row,) = judged(tmp_path, build, {"mopo": gain[:4]}).to_dict("records")
    assert min(row["p_holm"], row["p_equivalent"]) < 0.05
    assert row["verdict"] == "undecided"


def test_a_small_change_that_is_seen_is_no_equivalence(tmp_path: Path, build: Any) -> None:
    (row,) = judged(tmp_path, build, {"mopo": [1.0, 1.1, 1.2, 1.1, 1.0]}).to_dict("records")
    assert (row["p_equivalent"] < 0.05, row["verdict"]) == (True, "helps")


def test_one_correction_decides(tmp_path: Path, build: Any) -> None:
    """p = 0.019 by itself; beside three others of the algorithm it is 0.07."""
    weak = [1.0, 6.0, 4.0, 9.0, 5.0]
    alone = judged(tmp_path / "alone", build, {"mopo": weak})
    beside = judged(tmp_path / "beside", build, {"mopo": weak, "pgd": NOISE, "synther": NOISE, "ensemble": NOISE})
    assert alone["verdict"]["mopo"] == "helps"
    assert beside["p"]["mopo"] == alone["p_holm"]["mopo"]
    assert beside["p_holm"]["mopo"] == pytest.approx(4 * alone["p_holm"]["mopo"])
    assert beside["verdict"]["mopo"] == "undecided"


def test_equivalence_is_corrected_as_difference_is(tmp_path: Path, build: Any) -> None:
    """t = 4.5 / (sqrt(0.17) / sqrt(5)) by itself, doubled beside another one that is no equivalence."""
    alone = judged(tmp_path / "alone", build, {"duplicate": TIE})
    beside = judged(tmp_path / "beside", build, {"duplicate": TIE, "mopo": WINNER})
    assert beside["p_equivalent"]["duplicate"] == pytest.approx(2 * alone["p_equivalent"]["duplicate"])
    assert beside["p_equivalent"]["mopo"] > 0.95


def test_the_ceiling_is_judged_outside_the_family(tmp_path: Path, build: Any) -> None:
    found = judged(tmp_path, build, {"simulator": WINNER, "mopo": WINNER, "duplicate": TIE})
    assert found["verdict"]["simulator"] == "helps"
    assert found["p_holm"]["mopo"] == pytest.approx(2 * found["p"]["simulator"])
    assert pd.isna(found["p_holm"]["simulator"])


def test_returns_are_not_equivalent_in_points(tmp_path: Path, build: Any) -> None:
    found = judged(tmp_path, build, {"mopo": WINNER, "duplicate": TIE}, scored=False)
    assert found["verdict"].to_dict() == {"mopo": "helps", "duplicate": "undecided"}
    assert found[["p_equivalent", "seeds_needed"]].isna().all(axis=None)
    assert resolution(found) == ""


def test_seeds_needed_are_those_with_enough_power(tmp_path: Path, build: Any) -> None:
    found = judged(tmp_path, build, {"mopo": NOISE, "duplicate": TIE})
    for needed, std in zip(found["seeds_needed"].astype(int), found["std"], strict=True):
        assert power(5.0, std, needed, paired=True) >= 0.8
        assert needed == 2 or power(5.0, std, needed - 1, paired=True) < 0.8
    assert resolution(found).startswith(
        "With the spread seen here, 10 seeds per cell would show a difference of 5 points with power 80 % (paired by "
        "seed, two-sided 5 %, without Holm's correction; median over 2 pairs; worst 18). The spread was estimated from "
        "5 seeds."
    )


def test_real_batches_compare_nothing(tmp_path: Path, build: Any) -> None:
    """All cells train the same policies; the scores are equal, and no equivalence."""
    results = collect(build.planted(tmp_path, {"none": NONE, "mopo": NONE}, real_fraction=1.0))
    assert not compares_scores(results)
    assert verdicts(results).empty
    assert comparisons(results).empty


def test_a_cell_with_real_batches_is_no_comparison(tmp_path: Path, build: Any) -> None:
    build.planted(tmp_path, {"none": NONE, "mopo": WINNER}, real_fraction=1.0)
    results = collect(build.planted(tmp_path, {"none": NONE, "mopo": WINNER}))
    assert compares_scores(results)
    assert len(results.cells) == 2 + 2
    assert verdicts(results)["verdict"].tolist() == ["helps"]


def test_planned_cells_tell_before_any_has_finished(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    assert compares_scores(collect(store))
    store.plan("planned", [build.spec("toy/linear", "none", 5)])
    assert compares_scores(collect(store))


def test_nothing_has_no_verdict(tmp_path: Path, build: Any) -> None:
    nothing = verdicts(collect(ResultStore(tmp_path)))
    assert nothing.empty
    assert resolution(nothing) == ""
    without = verdicts(collect(build.planted(tmp_path / "without", {"mopo": WINNER})))
    assert without.empty
    one = judged(tmp_path / "one", build, {"mopo": WINNER[:1]})
    assert one["verdict"].tolist() == ["undecided"]
    assert values(one[["p_equivalent", "seeds_needed"]].isna().all()) == [1, 1]
