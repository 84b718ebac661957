"""Figures inside the page: words for a listener, the reader's colours, ids of their own, short numbers."""

from benchmarks.report.figures.palette import COLOURS, DARK, INK
from benchmarks.report.page.svg import inline, themes

DRAWN = f"""<?xml version="1.0"?>
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="243pt" height="200pt" viewBox="0 0 243 200" version="1.1">
 <metadata>made by</metadata>
 <!-- note -->
 <path id="a" d="M 10.123456 20.987654
L 1.5 2" style="stroke: {COLOURS["mopo"]}"/>
 <use xlink:href="#a" clip-path="url(#b)"/>
 <text style="fill: {INK}" x="1.239999" transform="rotate(-0 1.2 3.4)">0.123456 &lt;b&gt;</text>
</svg>"""


def test_a_figure_says_what_it_shows() -> None:
    svg = inline(DRAWN, "price", "mopo < none & more")
    assert svg.startswith('<svg role="img" aria-labelledby="price-title" aria-describedby="figure-price-caption"')
    assert '<title id="price-title">mopo &lt; none &amp; more</title>' in svg


def test_colours_are_those_of_the_theme() -> None:
    svg = inline(DRAWN, "price", "")
    name = f"--c{COLOURS['mopo'][1:]}"
    light, dark = themes()
    assert f"stroke: var({name})" in svg
    assert "fill: currentColor" in svg
    assert light[name] == COLOURS["mopo"]
    assert dark[name] == DARK[COLOURS["mopo"]]
    assert set(dark) == set(light)


def test_ids_are_those_of_the_figure() -> None:
    svg = inline(DRAWN, "price", "")
    assert 'id="price-a"' in svg
    assert 'href="#price-a"' in svg
    assert "url(#price-b)" in svg
    assert "http" not in svg


def test_numbers_are_short_and_text_is_whole() -> None:
    svg = inline(DRAWN, "price", "")
    assert "M 10.12 20.98 L 1.5 2" in svg
    assert ">0.123456 &lt;b&gt;</text>" in svg
    assert "rotate" not in svg
    assert "--share: 0.5" in svg
    assert "width=" not in svg
