"""Errors against compute: curves over the FLOP of training, points over the FLOP of a generated transition."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.report.figures.error_curves import REFERENCES
from benchmarks.report.figures.palette import LOOKS, plug_ins
from benchmarks.report.figures.style import (
    LineStyle,
    LineStyles,
    as_line,
    legend,
    log_ticks,
    panels,
    plain,
    short_task,
)
from benchmarks.report.results import titled

__all__ = ["BudgetPanel", "budget_curves", "series_styles"]

_MORE = [((0, (1, 1)), "8"), ((0, (1, 2.5)), "H"), ((0, (3, 1, 1, 1, 1, 1)), "P")]  # of a generator's further series
_DECADES = 60  # largest FLOP over the smallest, from which on powers of ten are ticks enough
_MARGIN = 1.25  # times, beyond what is drawn of means


@dataclass(frozen=True)
class BudgetPanel:
    """What one panel shows."""

    title: str
    curves: Mapping[tuple[str, str], pd.DataFrame]  # by generator and series, over FLOP: error, low, high
    still: float  # error of the prediction that nothing moves; NaN: not known


def series_styles(keys: Iterable[tuple[str, str]]) -> LineStyles:
    """Every generator as in all figures; its further series share the colour and differ in marker and dash."""
    keys = list(dict.fromkeys(keys))
    others = [name for name in dict.fromkeys(name for name, _ in keys) if name not in LOOKS]
    looks = {**LOOKS, **dict(zip(others, plug_ins(len(others)), strict=True))}
    order = list(looks)
    styles: LineStyles = {}
    for generator, name in sorted(keys, key=lambda key: (order.index(key[0]), key[1])):
        look = looks[generator]
        before = sum(other == generator for other, _ in styles)
        dash, marker = _MORE[(before - 1) % len(_MORE)] if before else (look.dash, look.marker)
        label = titled(generator) + (f" · {name}" if name else "")
        styles[generator, name] = LineStyle(plain(label, 48), look.colour, dash, marker)
    return styles


def budget_curves(by_pair: Mapping[tuple[str, str], list[BudgetPanel]], xlabel: str) -> Figure:
    """Rows: task x algorithm; columns: horizons. Bars are intervals over fits, cut where they leave the panel."""
    rows = list(by_pair.values())
    keys = [key for row in rows for panel in row for key in panel.curves]
    styles = series_styles(keys)
    figure, grid = panels(len(rows), max(map(len, rows)), height=1.9, sharex=True)
    for line, row, (task, algorithm) in zip(grid, rows, by_pair, strict=True):
        for ax, panel in zip(line, row, strict=False):
            _draw(ax, styles, panel)
        for ax in line[len(row) :]:
            ax.set_visible(False)
        line[0].set_ylabel(f"{plain(f'{short_task(task)} · {algorithm}', 32)}\nerror in standard deviations")
    longest: list[BudgetPanel] = max(rows, key=len)
    for ax, panel in zip(grid[0], longest, strict=True):
        ax.set_title(panel.title)
    x = [value for row in rows for panel in row for curve in panel.curves.values() for value in curve.index]
    for ax in grid[-1]:
        ax.set(xlabel=xlabel)
    for ax in grid.flat:
        ax.set_xscale("log")
        ax.set_xlim(min(x) / _MARGIN, max(x) * _MARGIN)
    if max(x) > _DECADES * min(x):
        log_ticks(grid[0][0].xaxis, min(x), max(x))
    else:  # 1, 2 and 5 have no room where numbers are as long as these
        grid[0][0].xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        grid[0][0].xaxis.set_major_formatter(_short)
        grid[0][0].xaxis.set_minor_formatter(NullFormatter())
    still = [Line2D([], [], label=REFERENCES["still"][0], **REFERENCES["still"][1])]
    drawn = any(panel.still > 0 for row in rows for panel in row)
    lines = any(len(curve) > 1 for row in rows for panel in row for curve in panel.curves.values())
    look = {} if lines else {"linestyle": ""}
    legend(figure, styles, pd.DataFrame(keys, columns=["generator", "variant"]), still if drawn else [], **look)
    return figure


def _short(value: float, _: object) -> str:
    """Such as 3e11."""
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")


def _draw(ax: Axes, styles: LineStyles, panel: BudgetPanel) -> None:
    seen = [panel.still] if panel.still > 0 else []
    for key, curve in panel.curves.items():
        style = styles[key]
        ax.vlines(curve.index, curve["low"], curve["high"], color=style.colour, linewidth=0.8, alpha=0.6)
        ax.plot(curve.index, curve["error"], **as_line(style, len(curve)))
        seen += curve["error"].tolist()
    if panel.still > 0:
        ax.axhline(panel.still, **REFERENCES["still"][1])
    ax.set_yscale("log")
    ax.set_ylim(min(seen) / _MARGIN, max(seen) * _MARGIN)
    log_ticks(ax.yaxis, min(seen), max(seen))
