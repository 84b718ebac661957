"""How errors grow with the horizon: a curve per cell, with what no generator can beat and what every one should."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmarks.report.figures.labels import fitting, label_end, label_point
from benchmarks.report.figures.palette import BASELINE
from benchmarks.report.figures.style import (
    LineStyles,
    as_line,
    legend,
    line_styles,
    log_ticks,
    panels,
    plain,
    short_task,
)
from benchmarks.report.results import Results, titled

__all__ = ["REFERENCES", "ErrorPanel", "error_curves", "label"]

REFERENCES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "still": ("nothing moves", {"color": BASELINE, "linestyle": "--", "linewidth": 1}),
    "floor": ("replay floor", {"color": BASELINE, "linestyle": (0, (1, 1)), "linewidth": 1.2}),
    "closed_floor": ("the policy's other rollouts", {"color": BASELINE, "linestyle": "-.", "linewidth": 1}),
    "chaos": ("simulator one float32 step aside", {"color": BASELINE, "linestyle": (0, (1, 2.5)), "linewidth": 1.2}),
}


@dataclass(frozen=True)
class ErrorPanel:
    """What one panel shows; what is below `bottom` is not drawn: rounding that grows would take all of the axis."""

    kind: str
    curves: Mapping[tuple[str, str], pd.DataFrame]  # by generator and variant, over horizons: median, min, max of seeds
    references: Mapping[str, pd.Series]  # by name in REFERENCES
    bottom: float

    @property
    def below(self) -> dict[str, float]:
        """By generator and reference, the largest error of what is not drawn at all."""
        tops = [(titled(generator), spread["max"].max()) for (generator, _), spread in self.curves.items()]
        tops += [(REFERENCES[name][0], values.max()) for name, values in self.references.items()]
        return {label: top for label, top in sorted(tops, key=lambda item: item[1]) if top < self.bottom}

    @property
    def drawn(self) -> dict[tuple[str, str], pd.DataFrame]:
        """The curves that are."""
        return {key: spread for key, spread in self.curves.items() if spread["max"].max() >= self.bottom}

    @property
    def seen(self) -> dict[str, pd.Series]:
        """The references that are."""
        return {name: values for name, values in self.references.items() if values.max() >= self.bottom}

    @property
    def ends(self) -> list[tuple[list[tuple[str, str]], pd.Series]]:
        """The medians of these; those that are equal within a percent at every step stand together."""
        found: list[tuple[list[tuple[str, str]], pd.Series]] = []
        for key, spread in self.drawn.items():
            curve = spread["median"]
            alike = [names for names, other in found if _alike(curve, other)]
            if alike:
                alike[0].append(key)
            else:
                found.append(([key], curve))
        return found


def _alike(one: pd.Series, other: pd.Series) -> bool:
    return one.index.equals(other.index) and len(one) > 1 and bool(((one - other).abs() <= 0.01 * other).all())


def label(key: tuple[str, str]) -> str:
    generator, variant = key
    return titled(generator) if variant == "default" else f"{titled(generator)} · {variant}"


def error_curves(results: Results, by_pair: Mapping[tuple[str, str], list[ErrorPanel]]) -> Figure:
    """Rows: task x algorithm; columns: their panels, whose curves are named at their ends where that fits."""
    styles = line_styles(results)
    rows = list(by_pair.values())
    labelled = all(fitting([_names(styles, keys) for keys, _ in panel.ends], 20) for row in rows for panel in row)
    figure, grid = panels(len(rows), len(rows[0]), height=1.9, sharex=True, sharey="row")
    longest = max(float(spread.index.max()) for row in rows for panel in row for spread in panel.drawn.values())
    for line, row, (task, algorithm) in zip(grid, rows, by_pair, strict=True):
        for ax, panel in zip(line, row, strict=True):
            _draw(ax, styles, panel)
            if labelled:
                _name(ax, styles, panel, longest)
            ax.set_yscale("log")
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        log_ticks(line[0].yaxis, *line[0].dataLim.intervaly)
        line[0].set_ylabel(f"{plain(f'{short_task(task)} · {algorithm}', 32)}\nerror in standard deviations")
    for ax, panel in zip(grid[0], rows[0], strict=True):
        ax.set_title(panel.kind.replace(", ", ",\n"))
    for ax in grid[-1]:
        ax.set(xlabel="horizon h in steps", xlim=(0.5, longest + 0.5))
    drawn = [key for row in rows for panel in row for key in panel.drawn]
    shown = {
        name for row in rows for panel in row for name in panel.references if REFERENCES[name][0] not in panel.below
    }
    extra = [Line2D([], [], label=name, **line) for key, (name, line) in REFERENCES.items() if key in shown]
    legend(figure, styles, pd.DataFrame([] if labelled else drawn, columns=["generator", "variant"]), extra)
    return figure


def _draw(ax: Axes, styles: LineStyles, panel: ErrorPanel) -> None:
    """Medians over seeds with the band of all seeds, and what no generator can beat and every one should."""
    for key, spread in panel.drawn.items():
        style = styles[key]
        shown = spread.where(spread["median"] >= panel.bottom).clip(lower=panel.bottom)
        ax.fill_between(shown.index, shown["min"], shown["max"], color=style.colour, alpha=0.13, linewidth=0)
        ax.plot(shown.index, shown["median"], **as_line(style, len(shown)))
    for name, values in panel.seen.items():
        ax.plot(values.index, values.where(values >= panel.bottom), **REFERENCES[name][1])


def _name(ax: Axes, styles: LineStyles, panel: ErrorPanel, longest: float) -> None:
    """Names at the ends of curves; in the panel those of curves that end before others, such as single transitions."""
    for keys, curve in panel.ends:
        name, colour = _names(styles, keys), styles[keys[0]].colour
        h, error = float(curve.index[-1]), float(curve.iloc[-1])
        if h == longest:
            label_end(ax, name, error, colour)
        else:
            label_point(ax, name, h, error, colour)


def _names(styles: LineStyles, keys: list[tuple[str, str]]) -> str:
    return " = ".join(styles[key].label for key in keys)
