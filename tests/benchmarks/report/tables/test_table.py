"""What the entries of a table hold."""

import math

from benchmarks.report.tables.table import Entry, Table, as_estimate, as_interval, as_number


def test_columns_of_numbers_are_told_from_text() -> None:
    rows = [[Entry("a"), as_number(1.0), Entry("—", value=-math.inf)], [Entry("b"), as_number(math.nan), Entry("x")]]
    table = Table("t", "title", "caption", ["task", "number", "mixed"], rows)
    assert [table.numeric(i) for i in range(3)] == [False, True, False]


def test_entries_sort_by_their_number() -> None:
    entries = [as_estimate(2.0, 1.0, 3.0), as_interval(0.0, 4.0, 3.0), as_number(math.nan), as_interval(math.nan, 1.0)]
    assert [entry.value for entry in entries] == [2.0, 3.0, -math.inf, 1.0]


def test_what_is_not_defined_is_left_out() -> None:
    assert as_estimate(2.0, math.nan, math.nan, mark=" (n=1)†").text == "2.00 (n=1)†"
    assert as_interval(math.nan, math.nan, 2.0, sign=True).text == "+2.00"
    assert as_interval(math.nan, math.nan).text == as_estimate(math.nan, 0.0, 1.0).text == "—"
