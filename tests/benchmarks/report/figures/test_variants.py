"""Curves over one varied field, maps over two."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.report import report
from benchmarks.report.figures.palette import SURFACE
from benchmarks.report.results import collect
from benchmarks.report.sections.ablation import SECTION
from benchmarks.report.varied import ablation


def test_two_fields_make_a_heat_map(tmp_path: Path, varied: Any) -> None:
    """Changes with their intervals, marks for what they are worth, errors beside them."""
    rounds = {0: varied.NONE, 1: varied.WON}
    square = varied.fill(tmp_path, '"dydiff.iterations" = [0, 1]\n"dydiff.filter.share" = [0.25, 0.5, 1.0]', rounds)
    assert report(square) == []
    assert (square.root / "report" / "heat.png").exists()
    ((_, alt, figure),) = SECTION.figures[1].pages(collect(square))
    change, error = figure.axes[:2]
    written = [text.get_text() for text in change.texts]
    assert written[:2] == ["+0.0\n± 0.0", "+10.0\n± 0.4"]
    assert change.get_xlabel() == "iterations (M)"
    assert change.get_ylabel() == "filter.share (η)"
    marks = [line.get_marker() for line in change.lines]
    assert sorted(marks) == sorted("s^" * 3 + "*" * 2)  # equivalent, helps; level with one of the best
    assert [text.get_text() for text in error.texts] == ["0.2", "0.3"] * 3
    assert "helps at 0.25 × 1, 0.5 × 1, 1.0 × 1" in alt


def test_panels_that_nothing_fills_are_left_out(tmp_path: Path, varied: Any) -> None:
    results = collect(varied.fill(tmp_path, '"dydiff.iterations" = [0, 1]', {0: varied.NONE, 1: varied.WON}))
    bare = replace(results, records=results.records[~results.records["metric"].str.contains("/")], computed={})
    ((_, _, figure),) = SECTION.figures[0].pages(bare)
    assert [ax.get_ylabel() for ax in figure.axes] == ["D4RL-normalized score"]


def test_few_seeds_are_hollow_and_never_judged(tmp_path: Path, varied: Any) -> None:
    results = collect(varied.fill(tmp_path, '"dydiff.iterations" = [0, 1]', {0: varied.NONE, 1: varied.WON}, seeds=3))
    assert set(ablation(results)["verdict"]) == {"undecided"}
    ((_, _, figure),) = SECTION.figures[0].pages(results)
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() for line in points] == [SURFACE] * 2
    caption = SECTION.figures[0].caption(results)
    assert "hollow below 5 seeds" in caption
    assert "Marks" not in caption
