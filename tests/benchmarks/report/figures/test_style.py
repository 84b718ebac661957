"""Looks of generators and their variants, legends, and files that are equal for equal data."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.report.figures.palette import COLOURS, LOOKS, sequential
from benchmarks.report.figures.style import (
    FORMATS,
    WIDTH,
    LineStyles,
    draw,
    legend,
    line_styles,
    log_ticks,
    panel_list,
    panels,
    save,
)
from benchmarks.report.results import collect
from benchmarks.report.scores import finals
from benchmarks.store import ResultStore

DRAW = """
import sys
from pathlib import Path
from benchmarks.report.figures.style import draw, panels, save
def figure():
    figure, grid = panels(1, 2, height=1.5)
    grid[0][0].plot([1, 2, 3], [0.1, -0.2, 0.123456789], "o--", label="none")
    grid[0][1].set_title("a − title")
    return figure
save(draw(figure), Path(sys.argv[1]), "x")
"""


def styles(root: Path, build: Any, **variants: list[str]) -> LineStyles:
    """Of a folder with these generators and variants."""
    store = ResultStore(root)
    place = 0
    for generator, names in variants.items():
        for variant in names:
            place += 1
            spec = build.spec("toy/linear", generator, 2, variant, iterations=place, algorithm=f"bc{place}")
            store.finish(spec, build.provenance(2), build.evaluations(2, 1.0))
    return line_styles(collect(store))


def test_a_generator_has_the_look_of_the_palette(tmp_path: Path, build: Any) -> None:
    found = styles(tmp_path, build, none=["default"], mopo=["default"], mine=["default"])
    assert [style.label for style in found.values()] == ["none", "mopo", "mine"]
    assert found["mopo", "default"].colour == COLOURS["mopo"]
    assert len({style.marker for style in found.values()}) == 3


def test_variants_of_one_method_are_a_scale(tmp_path: Path, build: Any) -> None:
    """The controls that were varied with it keep their colours."""
    values = ["alpha=1", "alpha=2", "alpha=10"]
    found = styles(tmp_path, build, none=values, mopo=values)
    assert [found["mopo", value].colour for value in values] == sequential(3)
    assert {found["none", value].colour for value in values} == {COLOURS["none"]}
    assert len({found["mopo", value].marker for value in values}) == 3


def test_a_scale_over_two_fields_tells_them_apart(tmp_path: Path, build: Any) -> None:
    values = [f"M={m}, share={share}" for m in (0, 1) for share in (0.25, 0.5)]
    found = styles(tmp_path, build, none=["default"], dydiff=values)
    assert [found["dydiff", value].colour for value in values] == [colour for colour in sequential(2) for _ in (0, 1)]
    assert found["dydiff", values[0]].marker == found["dydiff", values[2]].marker
    assert found["dydiff", values[0]].marker != found["dydiff", values[1]].marker


def test_variants_of_several_methods_have_one_shape_each(tmp_path: Path, build: Any) -> None:
    values = ["fresh", "stale"]
    found = styles(tmp_path, build, mopo=values, dydiff=values)
    assert {found["mopo", value].colour for value in values} == {COLOURS["mopo"]}
    assert [found["mopo", value].marker for value in values] == [found["dydiff", value].marker for value in values]


def test_a_legend_tells_colours_and_shapes_once(tmp_path: Path, build: Any) -> None:
    """2 generators x 3 variants are five entries."""
    values = ["a", "b", "c"]
    styles(tmp_path, build, mopo=values, dydiff=values)
    results = collect(ResultStore(tmp_path))

    def figure() -> Figure:
        figure, _ = panels(1, 1, height=1.0)
        legend(figure, line_styles(results), finals(results))
        return figure

    (box,) = draw(figure).legends
    assert [text.get_text() for text in box.get_texts()] == ["mopo", "dydiff", "a", "b", "c"]


def test_files_are_as_wide_as_a_page(tmp_path: Path) -> None:
    save(draw(lambda: panels(1, 2, height=1.0)[0]), tmp_path, "x")
    assert {path.name for path in tmp_path.iterdir()} == {"x.svg", "x.png", "x.pdf"}
    assert f'width="{72 * WIDTH:g}pt"' in (tmp_path / "x.svg").read_text()


@pytest.mark.parametrize(("low", "high"), [(0.81, 1.75), (0.3, 8.0), (1e-3, 10.0)])
def test_logarithmic_axes_have_more_than_one_tick(low: float, high: float) -> None:
    _, grid = panels(1, 1, 2.0)
    grid[0][0].set(yscale="log", ylim=(0.95 * low, 1.05 * high))
    log_ticks(grid[0][0].yaxis, low, high)
    assert sum(low <= tick <= high for tick in grid[0][0].get_yticks()) > 1


def test_a_png_keeps_its_look_with_fewer_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirteen colours with their shades: no pixel is farther off than an eye could see."""

    def figure() -> Figure:
        figure, (ax,) = panel_list(1, 1, height=2.0)
        for place, look in enumerate(LOOKS.values()):
            ax.plot([0, 1], [place, place + 1], color=look.colour, linewidth=3, alpha=0.5 + place / 30)
        return figure

    drawn = draw(figure)
    save(drawn, tmp_path, "x")
    monkeypatch.setattr(Image.Image, "quantize", lambda image, *_, **__: image)
    save(drawn, tmp_path, "full")
    with Image.open(tmp_path / "x.png") as few, Image.open(tmp_path / "full.png") as full:
        assert (few.mode, few.size) == ("P", full.size)
        apart = np.abs(np.asarray(few.convert("RGB"), dtype=int) - np.asarray(full.convert("RGB"), dtype=int))
    assert apart.max(-1).mean() < 1
    assert np.quantile(apart.max(-1), 0.999) < 24


def test_text_and_its_numbers_stay_as_they_are(tmp_path: Path) -> None:
    """Coordinates lose digits, words do not."""

    def figure() -> Figure:
        figure, grid = panels(1, 1, height=1.0)
        grid[0][0].set_title("0.123456 of x=0.98765")
        return figure

    save(draw(figure), tmp_path, "x")
    svg = (tmp_path / "x.svg").read_text()
    assert ">0.123456 of x=0.98765</text>" in svg
    assert re.search(r' d="M \d+\.\d \d+\.\d', svg)


@pytest.mark.slow
def test_equal_data_give_equal_bytes_anywhere(tmp_path: Path) -> None:
    """In two processes that order sets differently."""
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[4])}
        subprocess.run([sys.executable, "-c", DRAW, str(tmp_path / seed)], env=environment, check=True)
    for kind in FORMATS:
        first, second = ((tmp_path / seed / f"x.{kind}").read_bytes() for seed in ("1", "2"))
        assert first == second
    pdf = (tmp_path / "1" / "x.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, which publishers ask for
    assert b"/Type3" not in pdf
