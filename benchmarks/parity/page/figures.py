"""Figures of parity: learning curves of both sides, and ratios of errors."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from scipy.stats import t as student

from benchmarks.parity.compare import MARGINS
from benchmarks.report.figures.style import WIDTH, draw, panel_list, save

__all__ = ["draw_all"]

_COLOURS = {"theirs": "#b5541c", "ours": "#1f5fa8"}
_DASHES = {"theirs": (0, (5, 1.5)), "ours": "-"}


def draw_all(out: Path, found: Mapping[str, Any], every: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Draws what there is; yields (name, alternative text)."""
    policies = {name: content for name, content in found.items() if content["kind"] == "policy" and content["values"]}
    if policies:
        save(draw(_curves, policies), out, "policies")
        said = [line for line in every if line.update is None and line.row.unit == "points"]
        equal = sum(line.row.verdict == "equivalent" for line in said)
        yield "policies", f"Learning curves of both sides; {equal} of {len(said)} are equivalent within 5 points"
    errors = [line for line in every if line.row.unit == "ratio"]
    if errors:
        save(draw(_ratios, errors, found), out, "models")
        equal = sum(line.row.verdict == "equivalent" for line in errors)
        yield (
            "models",
            f"Our errors as multiples of theirs; {equal} of {len(errors)} are equivalent within a factor 1.1",
        )


def _curves(found: Mapping[str, Any]) -> Figure:
    """Means over seeds with 95 % t intervals; a panel for each method and task."""
    wanted = [(name, task) for name, content in found.items() for task in _tasks(content)]
    figure, axes = panel_list(len(wanted), 2, 2.3)
    for ax, (name, task) in zip(axes, wanted, strict=True):
        content = found[name]
        for side in ("theirs", "ours"):
            points = [v for v in content["values"] if v[0] == side and v[1] == task]
            steps = sorted({point[5] for point in points})
            scores = [[point[6] for point in points if point[5] == step] for step in steps]
            thousands = np.array(steps) / 1000
            middle = np.array([np.mean(values) for values in scores])
            half = np.array([_half(values) for values in scores])
            ax.plot(thousands, middle, color=_COLOURS[side], ls=_DASHES[side])
            ax.fill_between(thousands, middle - half, middle + half, color=_COLOURS[side], alpha=0.15, lw=0)
        ax.set_title(f"{content['title']} · {task}")
        ax.set_xlabel("updates / 1000")
        ax.set_ylabel("normalised score")
    handles = [Line2D([], [], color=_COLOURS[side], ls=_DASHES[side], label=side) for side in ("theirs", "ours")]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _ratios(errors: Sequence[Any], found: Mapping[str, Any]) -> Figure:
    """A line for each quantity under the heading of its comparison, one column for each task."""
    places = dict[tuple[str, str], int]()
    headings = dict[str, int]()
    for line in errors:
        headings.setdefault(line.comparison, len(headings) + len(places))
        places.setdefault((line.comparison, line.row.what), len(headings) + len(places))
    tasks = list(dict.fromkeys(line.task for line in errors))
    figure = Figure(figsize=(WIDTH, 1.0 + 0.25 * (len(headings) + len(places))))
    axes = figure.subplots(1, len(tasks), squeeze=False, sharex=True, sharey=True)[0]
    margin = MARGINS["ratio"]
    for ax, task in zip(axes, tasks, strict=True):
        ax.axvspan(1 / margin, margin, color="#888888", alpha=0.2, lw=0)
        ax.axvline(1, color="#888888", lw=1)
        for line in (line for line in errors if line.task == task):
            place = places[line.comparison, line.row.what]
            ax.plot([line.row.low, line.row.high], [place, place], color=_COLOURS["ours"])
            ax.plot([line.row.difference], [place], "o", color=_COLOURS["ours"], ms=5)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.set_title(task.replace("-", "\n", 1))
    for name, place in headings.items():  # drawn by the last panel, so that no other one covers it
        over = axes[0].get_yaxis_transform()
        title = found[name]["title"]
        text = axes[-1].text(0.02, place, title, transform=over, va="center", fontsize=8, fontweight="bold")
        text.set_in_layout(False)
    axes[0].set_yticks(list(places.values()), [what for _, what in places])
    axes[0].invert_yaxis()
    figure.supxlabel("ours / theirs, with 95 % interval; grey: within a factor of 1.1", fontsize=10)
    return figure


def _tasks(content: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(value[1] for value in content["values"]))


def _half(values: Sequence[float]) -> float:
    n = len(values)
    return float(student.ppf(0.975, n - 1)) * stdev(values) / sqrt(n) if n > 1 else 0.0
