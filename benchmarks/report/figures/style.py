"""How every figure looks, and how it is written: equal data give equal bytes."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from PIL import Image

from benchmarks.report.figures.labels import set_apart
from benchmarks.report.figures.palette import BASELINE, CONTROLS, GRID, INK, LOOKS, SURFACE, plug_ins, sequential
from benchmarks.report.results import CEILING, Results, once, titled
from benchmarks.report.text import natural, one_line
from core.files import atomic

__all__ = [
    "BASELINE",
    "COLUMN",
    "FORMATS",
    "GRID",
    "INK",
    "SURFACE",
    "WIDTH",
    "LineStyle",
    "LineStyles",
    "as_line",
    "bars",
    "bars_height",
    "draw",
    "legend",
    "line_styles",
    "log_ticks",
    "panel_list",
    "panels",
    "plain",
    "save",
    "short_task",
]

WIDTH = 6.75  # inches: two columns of a paper
COLUMN = 3.25  # one of them
_STYLE: Any = {
    **sns.axes_style("whitegrid"),
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # of about equal width: text of an svg still fits
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": GRID,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.facecolor": SURFACE,
    "figure.facecolor": SURFACE,
    "savefig.facecolor": SURFACE,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "axes.titleweight": "bold",
    "text.hinting": "none",  # text is as wide at every resolution, in every file
    "svg.hashsalt": "rolloutbench",
    "svg.fonttype": "none",  # text stays text: to search, select, translate
    "pdf.fonttype": 42,  # TrueType, as publishers ask for
    "savefig.dpi": 240,  # 1620 pixels across a page
    "axes.titlepad": 5,
    "axes.labelpad": 3,
    "lines.markersize": 4,
}
FORMATS = {  # of files, and what of their metadata differs from day to day
    "svg": ("Date", "Creator"),
    "png": ("Software",),
    "pdf": ("CreationDate", "Creator", "Producer"),
}


class LineStyle(NamedTuple):
    """How a generator's variant is drawn."""

    label: str
    colour: str
    dash: Any  # of lines
    marker: str
    hue: str = ""  # what of the label the colour tells, where variants share it
    shape: str = ""  # and what the dash and the marker tell


LineStyles = dict[tuple[str, str], LineStyle]  # by (generator, variant), in the order of legends
_PLACES = re.compile(r' (?:d|x|y|transform)="[^"]*"')
_FINE = re.compile(r"(?<=\.\d)\d+")
_LEGEND = 105  # characters in a row of the widest legend, the handle counting as eight
_SHAPES = [  # of variants: a solid line first
    (look.dash, look.marker) for name, look in reversed([*LOOKS.items()]) if name not in CONTROLS
]


def draw(figure_of: Any, *arguments: Any) -> Figure:
    """Draw inside an rc_context, so that global matplotlib settings stay untouched."""
    with mpl.rc_context(_STYLE):
        figure: Figure = figure_of(*arguments)
        figure.draw_without_rendering()  # settles the limits of axes, which labels at the ends of curves depend on
        ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04).execute(figure)  # once, for all files alike
        set_apart(figure)
        return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """As svg, png and pdf, without dates and versions.

    Coordinates of an svg are in tenths of a point; a png has 256 colours, which makes it a third as large.
    """
    with mpl.rc_context(_STYLE):
        for kind, left_out in FORMATS.items():
            with atomic(folder / f"{name}.{kind}") as part:
                figure.savefig(part, format=kind, metadata=dict.fromkeys(left_out))
                if kind == "svg":
                    text = _PLACES.sub(lambda found: _FINE.sub("", found[0]), part.read_text(encoding="utf-8"))
                    part.write_text(text, encoding="utf-8", newline="\n")
                elif kind == "png":
                    with Image.open(part) as image:
                        fewer = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
                    fewer.save(part, format="PNG", optimize=True)


@once
def line_styles(results: Results) -> LineStyles:
    """A colour, marker and dash per generator, the same in every report; the ceiling is the last.

    Variants of the only method that has several take their colours from a scale; those of several methods, and of
    controls, share the colour of their generator and differ in marker and dash.
    """
    found: dict[str, list[str]] = {}
    for cell in sorted(results.cells, key=lambda cell: (cell.variant != "default", natural(cell.variant))):
        own = found.setdefault(cell.generator, [])
        own += [cell.variant] if cell.variant not in own else []
    others = sorted(found.keys() - LOOKS.keys(), key=natural)  # plug-ins
    looks = {**LOOKS, **dict(zip(others, plug_ins(len(others)), strict=True))}
    varied = {generator: variants for generator, variants in found.items() if len(variants) > 1}
    methods = varied.keys() - set(CONTROLS)
    shapes = list(dict.fromkeys(variant for variants in varied.values() for variant in variants))
    styles: LineStyles = {}
    for generator in sorted((name for name in looks if name in found), key=lambda name: name == CEILING):
        title, look = titled(generator), looks[generator]
        if methods == {generator}:
            styles |= {(generator, variant): style for variant, style in _scale(title, found[generator]).items()}
        elif generator in varied:
            for variant in found[generator]:
                style = _style(f"{title} · {variant}", look.colour, shapes.index(variant))
                styles[generator, variant] = style._replace(hue=title, shape=plain(variant, 48))
        else:
            (variant,) = found[generator]
            label = title if variant == "default" else f"{title} · {variant}"
            styles[generator, variant] = LineStyle(plain(label, 48), look.colour, look.dash, look.marker)
    return styles


def _scale(title: str, variants: list[str]) -> dict[str, LineStyle]:
    """Colours in the order of the variants; where these are of two fields, of the first, and shapes of the second."""
    pairs = [variant.split(", ") for variant in variants]
    if any(len(pair) != 2 or "=" not in pair[0] or "=" not in pair[1] for pair in pairs):
        colours = sequential(len(variants))
        return {name: _style(f"{title} · {name}", colours[i], i) for i, name in enumerate(variants)}
    first, second = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    colours = sequential(len(first))
    return {
        name: _style(f"{title} · {name}", colours[first.index(hue)], second.index(shape))._replace(
            hue=plain(f"{title} · {hue}", 48), shape=plain(shape, 48)
        )
        for name, (hue, shape) in zip(variants, pairs, strict=True)
    }


def _style(label: str, colour: str, shape: int) -> LineStyle:
    return LineStyle(plain(label, 48), colour, *_SHAPES[shape % len(_SHAPES)])


def panels(rows: int, columns: int, height: float, wide: bool = False, **share: Any) -> tuple[Figure, Any]:
    """A figure and its axes[row][column], of both columns of a page if `wide` or several; `height` of a row in inches.

    The rest are arguments of `Figure.subplots`.
    """
    figure = Figure(figsize=(WIDTH if columns > 1 or wide else COLUMN, height * rows + 0.5))
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def panel_list(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, at most `columns` side by side; `height` in inches of one row."""
    across = min(count, columns)
    figure, grid = panels(-(-count // across), across, height=height)
    axes = [ax for line in grid for ax in line]
    for ax in axes[count:]:
        ax.set_visible(False)
    return figure, axes[:count]


def bars(ax: Axes, styles: LineStyles, intervals: Mapping[tuple[str, str], list[float]]) -> None:
    """[value, low, high] of every generator and variant, one below the other in the order of legends."""
    there = [key for key in styles if key in intervals]
    for place, key in enumerate(there):
        value, low, high = intervals[key]
        ax.barh(place, high - low, left=low, height=0.62, color=styles[key].colour, alpha=0.5, linewidth=0)
        ax.vlines(value, place - 0.31, place + 0.31, color=styles[key].colour, linewidth=1.6)
    ax.set_yticks(range(len(there)), [styles[key].label for key in there])
    ax.set_ylim(len(there) - 0.5, -0.5)
    ax.use_sticky_edges = False  # a bar may end at the edge of the data, not at that of the panel
    ax.margins(x=0.05)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.grid(axis="y", visible=False)


def bars_height(styles: LineStyles) -> float:
    """Inches of a panel of `bars`."""
    return 0.16 * len(styles) + 0.5


def line(style: LineStyle, count: int) -> dict[str, Any]:
    """How a curve of so many points is drawn: about four of them have a marker."""
    marks = {"marker": style.marker, "markersize": 3.5, "markeredgewidth": 0, "markevery": max(1, count // 4)}
    return {"color": style.colour, "linestyle": style.dash, **marks}


def as_line(style: LineStyle, count: int) -> dict[str, Any]:
    """How a curve of so many points is drawn: about four of them have a marker."""
    marks = {"marker": style.marker, "markersize": 3.5, "markeredgewidth": 0, "markevery": max(1, count // 4)}
    return {"label": style.label, "color": style.colour, "linestyle": style.dash, **marks}


def legend(figure: Figure, styles: LineStyles, rows: pd.DataFrame, extra: Sequence[Line2D] = (), **look: Any) -> None:
    """Below the panels: the generators and variants that `rows` has, and `extra`; nothing where there are neither.

    Where variants share colours and shapes, what each of these tells.
    """
    there = set(zip(rows["generator"], rows["variant"], strict=True))
    shown = [style for key, style in styles.items() if key in there]
    alone = [as_line(style, 1) | look for style in shown if not style.hue]
    hues = {s.hue: {"label": s.hue, "color": s.colour, "linewidth": 3} for s in shown if s.hue}
    shapes = {s.shape: as_line(s, 1) | {"label": s.shape, "color": INK} | look for s in shown if s.hue}
    handles = [Line2D([], [], **handle) for handle in (*alone, *hues.values(), *shapes.values())] + list(extra)
    if not handles:
        return
    longest = max(len(part) for handle in handles for part in str(handle.get_label()).split("\n"))
    fitting = int(_LEGEND * figure.get_figwidth() / WIDTH) // (longest + 8)
    columns = max(1, min(len(handles), 6, fitting))
    more = max(0, -(-len(handles) // columns) - 2)  # rows that `panels` has not left room for
    figure.set_figheight(figure.get_figheight() + 0.15 * more)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.2, columnspacing=1.4)


def short_task(task: str) -> str:
    """Its name without the source of its data, which the page tells."""
    return task.partition("/")[2] or task


def log_ticks(axis: Axis, low: float, high: float, form: str = "{x:g}") -> None:
    """Ticks of a logarithmic axis from low to high: powers of ten, or by `form` 1, 2 and 5, or any round numbers.

    The next where there would be few.
    """
    if high > 60 * low:
        axis.set_minor_locator(NullLocator())
    else:
        locator = LogLocator(subs=(1, 2, 5))
        several = sum(low <= tick <= high for tick in locator.tick_values(low, high)) > 1
        axis.set_major_locator(locator if several else MaxNLocator(5))
        axis.set_major_formatter(form)
        axis.set_minor_formatter(NullFormatter())


def plain(text: str, width: int) -> str:
    """Never a formula, never wider than a panel: at most two lines of `width` characters."""
    lines = textwrap.wrap(one_line(text), width, max_lines=2, placeholder="…")
    return "\n".join(lines).replace("$", r"\$")
