"""One number of decimals a column, and what all rows share said once."""

import math

import pytest

from benchmarks.report.tables.settle import decimals, settled
from benchmarks.report.tables.table import Entry, Table, as_estimate, as_interval, as_number


def column(*entries: Entry) -> list[str]:
    """The texts of a column once it is settled."""
    table = settled(Table("t", "title", "caption", ["number"], [[entry] for entry in entries]))
    return [row[0].text for row in table.rows]


@pytest.mark.parametrize(
    ("sizes", "spec"),
    [
        ([2345.6, 1999.0], "z,.0f"),
        ([17.6, 8.3, 23.9], "z,.1f"),
        ([1.3, 0.2, 2.5], "z,.2f"),
        ([0.482, 0.7, 8.4e-08], "z,.3f"),
        ([0.0123], "z,.4f"),
        ([0.00123], "z,.4f"),
        ([0.0005, 0.0002], "z.2e"),
        ([0.0, 0.0, 17.0], "z,.1f"),
        ([28.0, 14.0, 9e-15, 8e-15, 7e-15, 6e-15], "z,.1f"),  # rounding does not count
        ([0.0], "z,.0f"),
    ],
)
def test_decimals_show_three_figures_of_the_median(sizes: list[float], spec: str) -> None:
    assert decimals(sizes) == spec


def test_a_column_has_one_number_of_decimals() -> None:
    scores = [as_estimate(-8.132, -11.55, -4.71), as_estimate(10.9, -0.8, 22.6), as_number(0.04), as_number(math.nan)]
    assert column(*scores) == ["−8.13 ± 3.42", "10.90 ± 11.70", "0.04", "—"]
    assert column(as_interval(-1.0, 12.25), as_interval(15.0, 19.0, 17.25)) == ["[−1.0, 12.2]", "17.2 [15.0, 19.0]"]


def test_no_number_but_zero_is_shown_as_zero() -> None:
    assert column(as_number(0.482), as_number(0.7), as_number(-8.4e-08), as_number(0.0)) == [
        "0.482", "0.700", "−8.4e−08", "0.000",
    ]  # fmt: skip
    assert column(as_estimate(-0.001, -2.0, 2.0, sign=True), as_number(3.0, sign=True)) == ["+0.00 ± 2.00", "+3.00"]


def test_a_number_with_a_form_of_its_own_keeps_it() -> None:
    assert column(as_number(-3.0, "{:.0f}"), as_number(0.123, "{:.1%}")) == ["−3", "12.3%"]


def test_what_all_rows_share_is_said_once() -> None:
    rows = [
        [
            Entry("local/a‡"),
            Entry("td3bc"),
            Entry("default"),
            as_estimate(1.0, 0.0, 2.0, mark=" (n=3)†"),
            as_number(math.nan),
        ],
        [
            Entry("local/b‡"),
            Entry("td3bc"),
            Entry("default"),
            as_estimate(3.0, 2.0, 4.0, mark=" (n=3)†"),
            as_number(math.nan),
        ],
    ]
    table = settled(Table("t", "title", "Score. ‡ ours.", ["task", "algorithm", "variant", "none", "mopo"], rows))
    assert table.head == ["task", "none"]
    assert [[entry.text for entry in row] for row in table.rows] == [["a", "1.00 ± 1.00"], ["b", "3.00 ± 1.00"]]
    assert table.caption == "Score. In all rows: algorithm td3bc; task local/‡; (n=3)†. ‡ ours."


def test_what_differs_in_one_row_stays() -> None:
    rows = [
        [Entry("local/a‡"), Entry("td3bc"), as_estimate(1.0, 0.0, 2.0, mark=" (n=3)†")],
        [Entry("toy/b"), Entry("iql"), as_estimate(3.0, 2.0, 4.0, mark=" (n=5)")],
    ]
    table = Table("t", "title", "Score.", ["task", "algorithm", "none"], rows)
    assert settled(table) == table


def test_one_column_of_labels_stays() -> None:
    rows = [[Entry("a"), Entry("td3bc"), as_number(1.0)], [Entry("a"), Entry("td3bc"), as_number(2.0)]]
    table = settled(Table("t", "title", "Score", ["task", "algorithm", "last"], rows))
    assert (table.head, table.caption) == (["task", "last"], "Score In all rows: algorithm td3bc.")


def test_texts_have_true_minus_signs_before_numbers_only() -> None:
    rows = [[Entry("-0.76 [-4.53, 3.00] (-1)"), Entry("hopper-2, x=-1")]]
    table = settled(Table("t", "title", "From -.5 to x-1.", ["text", "name"], rows))
    assert [entry.text for entry in table.rows[0]] == ["−0.76 [−4.53, 3.00] (−1)", "hopper-2, x=-1"]
    assert table.caption == "From −.5 to x-1."
