"""Distances over levels of data beside changes, and what a change costs: closed forms."""

from typing import Any

import pytest

from benchmarks.report.sections import bought as bought_section
from benchmarks.report.sections.bought import bought, bought_table
from benchmarks.report.sections.levels import SECTION, level_table, levels
from benchmarks.report.study.quantities import level

LEVELS = ("random", "medium-replay", "medium", "medium-expert", "expert")


def distances(generated: float) -> dict[tuple[str, int | None], float]:
    return {("behaviour/nearest/generated", None): generated, ("behaviour/nearest/heldout", None): 0.5}


def folder(study: Any, names: tuple[str, ...] = LEVELS) -> Any:
    """Distance and change both grow with the level of hopper; random data hold no regime."""
    for place, name in enumerate(names):
        methods = {kind: (-9.0 + 2 * place, distances(1.0 + place)) for kind in ("mopo", "pgd")}
        simulator = -9.0 if name == "random" else 10.0
        study.task(f"local/hopper-{name}", methods, {"none": 0.0, "duplicate": 0.0, "simulator": simulator})
    return study.results()


def test_distances_are_in_units_of_unseen_rows(study: Any) -> None:
    table = levels(folder(study)).query("generator == 'mopo'").set_index("level")
    assert table["nearest"].reindex(LEVELS).tolist() == pytest.approx([2, 4, 6, 8, 10])
    assert table["change"].reindex(LEVELS).tolist() == pytest.approx([-9, -7, -5, -3, -1])
    assert table["regime"].reindex(LEVELS).tolist() == ["fails", *["holds"] * 4]


def test_gains_that_go_with_distance_are_seen(study: Any) -> None:
    rows = [[entry.value for entry in row] for row in level_table(folder(study)).rows]
    assert [row[:2] for row in rows] == [[None, None]] * 2
    assert [row[2:] for row in rows] == [pytest.approx([1, 1, 10, 5]), pytest.approx([1, 1, 8, 4])]


def test_two_levels_are_no_row_of_levels(study: Any) -> None:
    results = folder(study, LEVELS[1:3])
    assert levels(results).empty
    assert not SECTION.figures[0].rows(results)


@pytest.mark.parametrize(
    ("task", "word"),
    [
        ("local/hopper-medium-replay", "medium-replay"),
        ("d4rl/walker2d-expert-v2", "expert"),
        ("local/maze2d-umaze", "maze2d"),
    ],
)
def test_levels_are_words_of_the_name(task: str, word: str) -> None:
    assert level(task) == word


def test_changes_stand_beside_their_price(study: Any) -> None:
    """One task costs 2 runs of none and another 4; a third, whose regime fails, does not count."""
    spent = {"toy/a": 2.0, "toy/b": 4.0, "toy/c": 90.0}
    for name, simulator in (("toy/a", 10.0), ("toy/b", 10.0), ("toy/c", -9.0)):
        seconds = {("cost/update_seconds", None): spent[name]}
        study.task(name, {"mopo": (-4.0, seconds)}, {"duplicate": 0.0, "simulator": simulator})
        study.task(name, {"none": (0.0, {("cost/update_seconds", None): 1.0})}, {})
    results = study.results()
    (row,) = bought(results).to_dict("records")
    assert (row["change"], row["regimes"]) == (pytest.approx(-4), 2)
    assert (row["seconds"], row["seconds_low"], row["seconds_high"]) == (3, 2, 4)
    (entries,) = bought_table(results).rows
    assert entries[-1].text == "3.0× [2.0 to 4.0×]"
    ((_, alt, _),) = bought_section.SECTION.figures[0].pages(results)
    assert alt == "The highest mean change is −4.0 (mopo for 3.0 runs of none)."


def test_one_regime_is_left_to_the_section_cost(study: Any) -> None:
    study.task("toy/a", {"mopo": (-4.0, {("cost/update_seconds", None): 3.0})})
    assert bought(study.results()).empty
