"""A figure of matplotlib's as an element of a page: in the colours of the reader's theme, with words for a listener."""

import re
from html import escape

from markupsafe import Markup

from benchmarks.report.figures.palette import DARK, DARK_SURFACE, GRID, INK, SURFACE
from benchmarks.report.figures.style import WIDTH

__all__ = ["inline", "themes"]

_THEMED = {INK: "currentColor", GRID: "var(--line)", SURFACE: "var(--surface)"} | {
    colour: f"var(--c{colour[1:]})" for colour in DARK
}


def themes() -> tuple[dict[str, str], dict[str, str]]:
    """The variables of a style sheet that `inline` leaves in a figure, with their light and their dark values."""
    light = {"--surface": SURFACE} | {f"--c{colour[1:]}": colour for colour in DARK}
    dark = {"--surface": DARK_SURFACE} | {f"--c{colour[1:]}": shown for colour, shown in DARK.items()}
    return light, dark


def inline(svg: str, name: str, says: str) -> Markup:
    """Without headers, with ids of its own, to hundredths of a point; `says` is its title, figure-NAME-caption more.

    matplotlib has escaped the text in it.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|\sxmlns(:\w+)?=\"[^\"]*\"", "", svg, flags=re.DOTALL)
    for side in ("width", "height"):
        svg = re.sub(rf"^<svg ([^>]*?)\b{side}=\"[^\"]*\" ?([^>]*)>", r"<svg \1\2>", svg)
    drawn = re.search(r"viewBox=\"0 0 ([\d.]+) ", svg)
    share = float(drawn[1]) / (72 * WIDTH) if drawn else 1.0  # of the page: text is as large in every figure
    svg = (
        re.sub(r"\bid=\"", f'id="{name}-', svg)
        .replace("url(#", f"url(#{name}-")
        .replace('xlink:href="#', f'href="#{name}-')
    )
    svg = re.sub(r"<[^>]+>", lambda tag: _short(tag[0]), svg)
    svg = re.sub(r">\s+<", "><", svg)
    for colour, themed in _THEMED.items():
        svg = svg.replace(colour, themed)
    described = f'aria-labelledby="{name}-title" aria-describedby="figure-{name}-caption"'
    attributes = f'role="img" {described} style="--share: {share:.3g}"'
    title = f'<title id="{name}-title">{escape(says, quote=False)}</title>'
    return Markup(re.sub(r"^<svg ([^>]*)>", rf"<svg {attributes} \1>", svg).replace(">", f">{title}", 1))


def _short(tag: str) -> str:
    """A tag with numbers of at most two decimals, on one line; rotations by nothing are left out."""
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", tag))
    return re.sub(r' transform="rotate\(-0 [^)]*\)"', "", tag)
