"""What a suite varied: curves over one field, maps over two; what a value is worth is said by a mark, not a colour."""

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.report.figures.palette import BASELINE, INK, SURFACE
from benchmarks.report.figures.style import line_styles, panels, plain
from benchmarks.report.results import CellView, Results
from benchmarks.report.scores import FEW_SEEDS, estimates, finals, partners
from benchmarks.report.varied import Ablation, ablation, measured, named
from benchmarks.report.verdict import MARGIN, WORDS

__all__ = ["curves", "maps"]

_MARKS = {"helps": "^", "hurts": "v", "equivalent": "s"}  # of verdicts; undecided has none
_LEVEL = "*"
_AXES = {"mean": "score", "error": "error, last step", "lag": "lag, last round"}  # of curves
_BARS = {"gain_mean": "change against none", "mean": "score", "error": _AXES["error"]}  # of maps
_DARK, _LIGHT = "#101418", "#fefefe"  # ink on a coloured field, in every theme
_RISING = LinearSegmentedColormap.from_list("rising", ["#ffffff", "#7ba4cf"])
_PALE = 0.35  # of its colour is left to a change that cannot be told apart


def curves(results: Results, groups: list[Ablation]) -> Figure:
    """Rows: groups that vary one field; columns: score, error, lag, as far as anything was measured."""
    names = [name for name in _AXES if any(measured(results, group, name) for group in groups)]
    table = ablation(results)
    figure, grid = panels(len(groups), len(names), height=1.7)
    for line, group in zip(grid, groups, strict=True):
        own = table.loc[[cell.cell_id for cell in group.cells.values()]]
        colours = [line_styles(results)[group.generator, variant].colour for variant in own["variant"]]
        for ax, name in zip(line, names, strict=True):
            if not measured(results, group, name):
                ax.set_visible(False)
                continue
            ax.set(xlim=(-0.5, len(own) - 0.5), xticks=range(len(own)), xlabel=plain(named(group.fields[0]), 36))
            ax.set_xticklabels([plain(str(values[0]), 12) for values in group.cells])
            ax.grid(axis="x", visible=False)
            if name == "mean":
                _none(ax, results, list(group.cells.values()))
                _scores(ax, own, colours)
            else:
                ax.plot(range(len(own)), own[name], color=BASELINE, linewidth=1)
                ax.scatter(range(len(own)), own[name], c=colours, zorder=3)
                ax.set_ylim(0, 1.08 * own[name].max() or 1)
            ax.set_ylabel(results.unit(group.task) if name == "mean" else _AXES[name])
        line[0].set_title(plain(group.title, 60), loc="left")
    _legend(
        figure, table.loc[[cell.cell_id for group in groups for cell in group.cells.values()]], none="mean" in names
    )
    return figure


def maps(results: Results, groups: list[Ablation]) -> Figure:
    """Rows: groups that vary two fields; columns: change against generator none (where there is none: score), error."""
    kinds = [[name for name in (_score(results, group), "error") if measured(results, group, name)] for group in groups]
    figure, grid = panels(len(groups), max(len(names) for names in kinds), height=2.1)
    for line, group, names in zip(grid, groups, kinds, strict=True):
        for ax, name in zip_longest(line, names):
            if name is None:
                ax.set_visible(False)
            else:
                _map(figure, ax, ablation(results), group, name)
        line[0].set_title(plain(group.title, 60), loc="left")
    _legend(figure, ablation(results).loc[[cell.cell_id for group in groups for cell in group.cells.values()]])
    return figure


def _score(results: Results, group: Ablation) -> str:
    """The column of `ablation` that says what the values are worth: the change, where there is a generator none."""
    return "gain_mean" if measured(results, group, "gain_mean") else "mean"


def _none(ax: Axes, results: Results, cells: list[CellView]) -> None:
    """Generator none with its interval, which may differ from value to value where a setting is varied."""
    partner = partners(results)
    score = estimates(finals(results)).reindex([partner.get(cell.cell_id, "") for cell in cells])
    own = score.iloc[[0, *range(len(cells)), -1]]  # to the edges of the panel
    x = [-0.5, *range(len(cells)), len(cells) - 0.5]
    ax.fill_between(x, own["low"], own["high"], color=BASELINE, alpha=0.15, linewidth=0)
    ax.plot(x, own["mean"], color=BASELINE, linestyle="--", linewidth=1.4)


def _scores(ax: Axes, own: pd.DataFrame, colours: list[str]) -> None:
    """Means with intervals, hollow where there are few seeds; above them what each value is worth."""
    ax.plot(range(len(own)), own["mean"], color=BASELINE, linewidth=1)
    for place, (row, colour) in enumerate(zip(own.to_dict("records"), colours, strict=True)):
        few = row["n"] < FEW_SEEDS
        ax.plot([place, place], [row["low"], row["high"]], color=colour)
        ax.plot(place, row["mean"], "o", color=colour, markerfacecolor=SURFACE if few else colour, zorder=3)
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.22 * (top - bottom))
    for place, row in enumerate(own.to_dict("records")):
        for line, mark in enumerate(_marks(row)):
            height = 0.95 - 0.1 * line
            ax.plot(place, height, mark, color=INK, markersize=6, transform=ax.get_xaxis_transform())


def _map(figure: Figure, ax: Axes, table: pd.DataFrame, group: Ablation, name: str) -> None:
    """A number over two fields, written into each with its interval; of scores, marks say what each is worth."""
    down, across = group.axis(0), group.axis(1)
    shown = table.loc[[cell.cell_id for cell in group.cells.values()]].to_dict("records")
    scale = _scale(name, table.loc[[cell.cell_id for cell in group.cells.values()], name])
    colours = [[[1.0, 1.0, 1.0] for _ in across] for _ in down]
    for (row, column), own in zip(group.cells, shown, strict=True):
        if math.isnan(own[name]):
            continue
        i, j = down.index(row), across.index(column)
        part = _PALE if name == "gain_mean" and own["verdict"] == "undecided" else 1.0
        colours[i][j] = [1 - part * (1 - channel) for channel in scale.to_rgba(own[name])[:3]]
        ink = _LIGHT if sum(colours[i][j]) < 1.4 else _DARK
        ax.text(j, i, _written(own, name), ha="center", va="center", color=ink, fontsize=8, linespacing=1.1)
        for place, mark in enumerate(_marks(own) if name != "error" else []):
            ax.plot(j + 0.36 - 0.16 * place, i - 0.34, mark, color=ink, markersize=5)
    ax.imshow(colours, aspect="auto")
    ax.set(xlabel=plain(named(group.fields[1]), 40), ylabel=plain(named(group.fields[0]), 30))
    ax.set_xticks(range(len(across)), [plain(str(value), 10) for value in across])
    ax.set_yticks(range(len(down)), [plain(str(value), 10) for value in down])
    ax.grid(visible=False)
    figure.colorbar(scale, ax=ax, use_gridspec=False, label=_BARS[name])


def _scale(name: str, numbers: pd.Series) -> ScalarMappable:
    """Of a change: as far on either side of zero, at least twice the margin. Of an error: from zero."""
    if name == "gain_mean":
        largest = max(numbers.abs().max(), 2 * MARGIN)
        return ScalarMappable(Normalize(-largest, largest), "RdBu")
    low = 0.0 if name == "error" else numbers.min()
    return ScalarMappable(Normalize(low, numbers.max() if numbers.max() > low else low + 1), _RISING)


def _marks(own: Mapping[Any, Any]) -> list[str]:
    """What a cell is worth: its verdict, and whether it is level with the best."""
    verdict = [mark for verdict, mark in _MARKS.items() if own["verdict"] == verdict]
    return verdict + [_LEVEL] * (own["level_with_best"] == "level")


def _written(own: Mapping[Any, Any], name: str) -> str:
    """A number, and below it half of its interval if it has one."""
    low, high = {"gain_mean": ("gain_low", "gain_high"), "mean": ("low", "high")}.get(name, ("", ""))
    if not low:
        return f"{own[name]:.2g}"
    half = (own[high] - own[low]) / 2
    text = f"{own[name]:{'+' if name == 'gain_mean' else ''}.1f}" + ("" if math.isnan(half) else f"\n± {half:.1f}")
    return text.replace("-", "−")


def _legend(figure: Figure, shown: pd.DataFrame, none: bool = False) -> None:
    """The marks that these cells have."""
    handles: list[Any] = []
    if none:
        handles.append((Line2D([], [], color=BASELINE, linestyle="--"), Patch(color=BASELINE, alpha=0.15, linewidth=0)))
    labels = ["generator none, 95 % interval"] * none
    for verdict, mark in _MARKS.items():
        if (shown["verdict"] == verdict).any():
            handles.append(Line2D([], [], color=INK, marker=mark, linestyle="", markersize=6))
            labels.append(WORDS[verdict])
    if (shown["level_with_best"] == "level").any():
        handles.append(Line2D([], [], color=INK, marker=_LEVEL, linestyle="", markersize=6))
        labels.append("level with the best")
    if not none and (shown["verdict"] == "undecided").any():
        handles.append(Patch(facecolor="#f3dcd5", edgecolor=BASELINE, linewidth=0.5))
        labels.append(f"pale: {WORDS['undecided']}")
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
