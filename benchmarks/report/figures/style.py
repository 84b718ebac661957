"""How every figure looks, and how it is written: equal data give equal bytes."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmarks.report.figures.palette import BASELINE, CONTROLS, GRID, INK, LOOKS, SURFACE, Look, plug_ins, sequential
from benchmarks.report.results import CEILING, Results, once, titled
from benchmarks.report.text import natural, one_line
from core.files import atomic

__all__ = [
    "BASELINE",
    "GRID",
    "INK",
    "SURFACE",
    "WIDTH",
    "LineStyle",
    "LineStyles",
    "bars",
    "bars_height",
    "draw",
    "legend",
    "line_styles",
    "panel_list",
    "panels",
    "plain",
    "save",
]

WIDTH = 11.0  # inches
_STYLE: Any = {
    **sns.axes_style("whitegrid"),
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # of about equal width: text of an svg still fits
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": GRID,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.facecolor": SURFACE,
    "figure.facecolor": SURFACE,
    "savefig.facecolor": SURFACE,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "axes.titleweight": "bold",
    "svg.hashsalt": "rolloutbench",
    "svg.fonttype": "none",  # text stays text: to search, select, translate
    "savefig.dpi": 150,
    "axes.titlepad": 7,
}


class LineStyle(NamedTuple):
    """How a generator's variant is drawn."""

    label: str
    colour: str
    dash: Any  # of lines
    marker: str


LineStyles = dict[tuple[str, str], LineStyle]  # by (generator, variant), in the order of legends
_LEGEND = 125  # characters in a row of the widest legend, the handle counting as eight


def draw(figure_of: Any, *arguments: Any) -> Figure:
    """Draw inside an rc_context, so that global matplotlib settings stay untouched."""
    with mpl.rc_context(_STYLE):
        figure: Figure = figure_of(*arguments)
        ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08).execute(figure)  # once, for svg and png alike
        return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """As svg and png, without dates and versions."""
    with mpl.rc_context(_STYLE):
        for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
            with atomic(folder / f"{name}.{kind}") as part:
                figure.savefig(part, format=kind, metadata=metadata)


@once
def line_styles(results: Results) -> LineStyles:
    """A colour, marker and dash per generator, the same in every report; the ceiling is the last.

    Variants of the only method that has several take their colours from a scale; those of several methods, and of
    controls, share the colour of their generator and differ in marker and dash.
    """
    found: dict[str, set[str]] = {}
    for cell in results.cells:
        found.setdefault(cell.generator, set()).add(cell.variant)
    others = sorted(found.keys() - LOOKS.keys(), key=natural)  # plug-ins
    looks = {**LOOKS, **dict(zip(others, plug_ins(len(others)), strict=True))}
    varied = [generator for generator in found if len(found[generator]) > 1 and generator not in CONTROLS]
    styles: LineStyles = {}
    for generator in sorted((name for name in looks if name in found), key=lambda name: name == CEILING):
        variants = sorted(found[generator], key=lambda name: (name != "default", natural(name)))
        shown = _looks(looks[generator], variants, scale=varied == [generator])
        for variant, (colour, dash, marker) in zip(variants, shown, strict=True):
            label = titled(generator) if variants == ["default"] else f"{titled(generator)} · {variant}"
            styles[generator, variant] = LineStyle(plain(label, 48), colour, dash, marker)
    return styles


def _looks(look: Look, variants: list[str], scale: bool) -> list[tuple[str, Any, str]]:
    """Colour, dash and marker of each; in a `scale` over two fields the colour tells the first, the rest the second."""
    pairs = [variant.split(", ") for variant in variants]
    if not scale or any(len(pair) != 2 or "=" not in pair[0] or "=" not in pair[1] for pair in pairs):
        pairs = [[variant, variant] for variant in variants]
    first, second = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    colours = sequential(len(first)) if scale else [look.colour] * len(first)
    shapes = [(look.dash, look.marker)]
    shapes += [(other.dash, other.marker) for other in LOOKS.values() if other.marker != look.marker]
    return [(colours[first.index(a)], *shapes[second.index(b) % len(shapes)]) for a, b in pairs]


def panels(rows: int, columns: int, height: float, **share: Any) -> tuple[Figure, Any]:
    """A figure and its axes[row][column]; `height` in inches of one row."""
    figure = Figure(figsize=(WIDTH if columns > 1 else 0.7 * WIDTH, height * rows + 0.7))
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
        ax.vlines(value, place - 0.31, place + 0.31, color=styles[key].colour, linewidth=2.4)
    ax.set_yticks(range(len(there)), [styles[key].label for key in there])
    ax.set_ylim(len(there) - 0.5, -0.5)
    ax.use_sticky_edges = False  # a bar may end at the edge of the data, not at that of the panel
    ax.margins(x=0.05)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.grid(axis="y", visible=False)


def bars_height(styles: LineStyles) -> float:
    """Inches of a panel of `bars`."""
    return 0.26 * len(styles) + 0.8


def legend(figure: Figure, styles: LineStyles, rows: pd.DataFrame, extra: Sequence[Line2D] = (), **line: Any) -> None:
    """Below the panels: the generators and variants that `rows` has, and `extra`."""
    there = set(zip(rows["generator"], rows["variant"], strict=True))
    handles = [Line2D([], [], **_handle(style) | line) for key, style in styles.items() if key in there]
    handles += extra
    longest = max((len(part) for handle in handles for part in str(handle.get_label()).split("\n")), default=0)
    fitting = int(_LEGEND * figure.get_figwidth() / WIDTH) // (longest + 8)
    columns = max(1, min(len(handles), 6, fitting))
    more = max(0, -(-len(handles) // columns) - 2)  # rows that `panels` has not left room for
    figure.set_figheight(figure.get_figheight() + 0.22 * more)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _handle(style: LineStyle) -> dict[str, Any]:
    look = {"color": style.colour, "linestyle": style.dash, "marker": style.marker}
    return {"label": style.label, "markersize": 5, "markeredgewidth": 0, **look}


def plain(text: str, width: int) -> str:
    """Never a formula, never wider than a panel: at most two lines of `width` characters."""
    lines = textwrap.wrap(one_line(text), width, max_lines=2, placeholder="…")
    return "\n".join(lines).replace("$", r"\$")
