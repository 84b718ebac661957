"""Names of curves and points stand apart."""

from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmarks.report.figures.labels import fitting, label_end, label_point, spread
from benchmarks.report.figures.style import draw


@pytest.mark.parametrize(
    ("at", "low", "high", "found"),
    [
        ([0, 5, 10], -100, 100, [0, 5, 10]),
        ([0, 0, 0], -100, 100, [-2, 0, 2]),  # in the order they came in
        ([1, 0], -100, 100, [1.5, -0.5]),
        ([0, 0, 3], -100, 100, [-1, 1, 3]),
        ([0, 0, 2.5], -100, 100, [-7 / 6, 5 / 6, 17 / 6]),  # the pair pushes the third
        ([9, 10], 0, 10, [8, 10]),
        ([0, 1], 0, 10, [0, 2]),
        ([5, 5, 5], 4, 6, [4, 6, 8]),  # no room: none is lost below
        ([], 0, 1, []),
    ],
)
def test_places_are_spread_as_little_as_that_takes(
    at: list[float], low: float, high: float, found: list[float]
) -> None:
    assert spread([float(x) for x in at], 2.0, float(low), float(high)) == pytest.approx(found)


def boxes(figure: Figure) -> dict[str, tuple[float, float, float, float]]:
    """By name, left, bottom, right, top of every label."""
    return {label.get_text(): Text.get_window_extent(label).extents for ax in figure.axes for label in ax.texts}


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    return [
        (one, other)
        for (one, a), (other, b) in combinations(boxes(figure).items(), 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def test_ends_that_are_one_have_names_that_are_not() -> None:
    def figure() -> Figure:
        figure = Figure(figsize=(3, 2))
        ax = figure.subplots()
        ax.plot([1, 2], [1e-3, 1])
        ax.set_yscale("log")
        for name in "abcdef":
            label_end(ax, name, 1.0, "#ff0000")
        return figure

    drawn = draw(figure)
    right = drawn.axes[0].bbox.x1
    assert overlapping(drawn) == []
    assert min(box[0] for box in boxes(drawn).values()) > right
    assert max(box[2] for box in boxes(drawn).values()) < drawn.bbox.x1


def test_points_that_are_one_have_names_that_are_not() -> None:
    def figure() -> Figure:
        figure = Figure(figsize=(3, 2))
        ax = figure.subplots()
        ax.plot([0, 1, 2], [0, 1, 2], "o")
        for i in range(5):
            label_point(ax, f"name {i}", 1 + i / 100, 1.0, "#ff0000")
        return figure

    assert overlapping(draw(figure)) == []


def test_a_name_at_the_edge_stays_in_its_panel() -> None:
    def figure() -> Figure:
        figure = Figure(figsize=(3, 2))
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], "o")
        label_point(ax, "a long name", 1.0, 1.0, "#ff0000")
        return figure

    drawn = draw(figure)
    assert boxes(drawn)["a long name"][2] < drawn.axes[0].bbox.x1


def test_long_or_many_names_need_a_legend() -> None:
    assert fitting(["mopo"] * 13, 4)
    assert not fitting(["mopo"] * 14, 4)
    assert not fitting(["mopo", "mopo2"], 4)
    assert fitting([], 4)
