"""Tables and figure of the compounding error."""

from typing import Any

from benchmarks.report.results import collect
from benchmarks.report.sections.compounding import SECTION, compounding_table, growth_table
from benchmarks.store import Record, ResultStore


def test_errors_are_shown_at_a_few_horizons(store: ResultStore) -> None:
    table = compounding_table(collect(store))
    assert table.head[-5:] == ["h = 1", "h = 2", "h = 5", "h = 6", "starts excluded"]
    assert [entry.text for entry in table.rows[0][-6:]] == [
        "open loop, policy actions",
        *("0.01", "0.02", "0.05", "0.06"),
        "300.0%",
    ]


def test_every_kind_of_error_has_its_row(store: ResultStore) -> None:
    kinds = [row[-6].text for row in compounding_table(collect(store)).rows]
    both = ["open loop, policy actions", "closed loop, policy actions", "open loop, logged actions"]
    assert kinds == 2 * both


def test_linear_growth_is_a_power_of_one(store: ResultStore) -> None:
    table = growth_table(collect(store))
    own = dict(zip(table.head, table.rows[0], strict=True))
    assert own["b"].text == "1.00"
    assert own["better law"].text == "power"


def test_leakage_is_shown_for_logged_actions_only(store: ResultStore) -> None:
    table = growth_table(collect(store))
    where = table.head.index("leakage")
    assert [row[where].text for row in table.rows] == ["—", "3"] * 2


def test_a_panel_for_every_kind_of_error(store: ResultStore, build: Any) -> None:
    store.finish(build.spec("toy/other", "mopo", 1), {}, [Record(0, 9, "compounding/policy/median", 0.1, 1)])
    (plot,) = SECTION.figures
    ((_, _, figure),) = plot.pages(collect(store))
    assert len(figure.axes) == 3 * 3
