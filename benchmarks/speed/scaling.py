"""How time and memory grow with the size of a job: python -m benchmarks.speed.scaling --out results/speed/scaling.json.

Every point is a process of its own. Updates: TD3+BC of 2 x 256 units on a file in D4RL's layout, Hopper's dimensions.
Roll-outs: DyDiff's preset `small`. Cells: one small matrix. The figure is drawn from the json beside it; `--draw` draws
it again.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from tabulate import tabulate

from benchmarks.report.style import BASELINE, COLOURS, draw, panels, save
from benchmarks.speed.timing import machine
from benchmarks.speed.turns import Figure
from benchmarks.speed.workloads import fresh, write_d4rl
from core.files import write_json

__all__ = ["AXES", "Axis", "figure", "figures", "main", "measure"]


class Axis(NamedTuple):
    """What is varied, of which workload, and over which values."""

    title: str
    workload: str
    setting: str
    label: str  # of the values
    per: str  # what the seconds are of
    values: tuple[int, ...]
    quick: tuple[int, ...]
    log: bool


AXES = {
    "seeds": Axis("Seeds", "updates", "seeds", "seeds at once", "update of one seed", (1, 2, 4, 8, 16), (1, 2), True),
    "batch": Axis(
        "Batch size", "updates", "batch", "rows of a batch", "update", (64, 256, 1024, 4096), (64, 128), True
    ),
    "rows": Axis(
        "Size of the dataset",
        "updates",
        "rows",
        "rows",
        "update",
        (10_000, 100_000, 500_000, 1_000_000, 2_000_000),
        (2_000, 4_000),
        True,
    ),
    "length": Axis(
        "Length of roll-outs L", "rollout", "length", "steps", "transition", (2, 5, 10, 15, 30, 60), (2, 9), False
    ),
    "iterations": Axis(
        "DyDiff's rounds M", "rollout", "iterations", "rounds", "transition", (0, 1, 2, 4, 8), (0, 1), False
    ),
    "jobs": Axis("Cells at a time", "cells", "jobs", "cells at a time (--jobs)", "cell", (1, 2), (1,), False),
}
_ROWS = 100_000  # of the dataset where something else is varied
_QUICK: dict[str, dict[str, Any]] = {
    "updates": {"hidden": 16, "updates": 2, "seconds": 0.0},
    "rollout": {"preset": "smoke", "rollouts": 4, "seconds": 0.0},
    "cells": {"number": 1, "updates": 5},
}


def measure(device: torch.device, *, quick: bool = False, names: list[str] | None = None) -> dict[str, Any]:
    """By axis, one dictionary per value: seconds, and MiB before the work and at the peak."""
    found = {}
    for name in names or list(AXES):
        axis = AXES[name]
        settings = {"device": str(device), **(_QUICK[axis.workload] if quick else {})}
        points = []
        for value in axis.quick if quick else axis.values:
            point = {axis.setting: value, **_point(axis, value, settings, quick=quick)}
            points.append(point)
            print(
                f"{axis.title} = {value:,}: {_readable(point['seconds'])} per {axis.per}, {point['peak_mib']:.0f} MiB"
            )
        found[name] = points
    large = {} if quick or names else {"large": _large(device)}
    return {"machine": machine(device) | {"threads": 1}, "quick": quick, "axes": found, **large}


def _large(device: torch.device) -> float:
    """Peak MiB of ten seeds on two million rows, with full rings of half a million synthetic ones each."""
    with tempfile.TemporaryDirectory() as folder:
        write_d4rl(Path(folder), 2_000_000)
        settings = {"device": str(device), "seeds": 10, "buffer_rows": 500_000, "updates": 25, "seconds": 0.0}
        return float(fresh("updates", folder=folder, **settings)["peak_mib"])


def _point(axis: Axis, value: int, settings: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    if axis.workload != "updates":
        return fresh(axis.workload, **settings, **{axis.setting: value})
    rows = value if axis.setting == "rows" else (2_000 if quick else _ROWS)
    varied = {} if axis.setting == "rows" else {axis.setting: value}
    with tempfile.TemporaryDirectory() as folder:
        write_d4rl(Path(folder), rows)
        return fresh("updates", folder=folder, **settings, **varied)


def figure(found: dict[str, Any]) -> Drawing:
    """Time above memory, one column per axis, three to a line."""
    names = [name for name in AXES if name in found["axes"]]
    lines = -(-len(names) // 3)
    made, grid = panels(2 * lines, 3, height=2.3)
    for place in range(3 * lines):
        time, memory = (grid[2 * (place // 3) + below][place % 3] for below in (0, 1))
        if place < len(names):
            _panels(time, memory, AXES[names[place]], found["axes"][names[place]])
        else:
            time.set_visible(False)
            memory.set_visible(False)
    where = found["machine"]
    note = Line2D([], [], color=BASELINE, linestyle=(0, (4, 2)), linewidth=1.2, label="before the work: imports alone")
    made.legend(handles=[note], loc="outside lower center")
    made.suptitle(f"{where['processor']}, one thread per process", fontsize=10)
    return made


def _panels(time: Axes, memory: Axes, axis: Axis, points: list[dict[str, Any]]) -> None:
    x = [point[axis.setting] for point in points]
    seconds = [point["seconds"] for point in points]
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if max(seconds) * s >= 1), (1e6, "µs"))
    time.plot(x, [scale * value for value in seconds], "o-", color=COLOURS["ensemble"])
    memory.plot(x, [point["peak_mib"] for point in points], "o-", color=COLOURS["dydiff"])
    memory.axhline(points[0]["start_mib"], color=BASELINE, linestyle=(0, (4, 2)), linewidth=1.2)
    time.set(title=axis.title, ylabel=f"{unit} per\n{axis.per}")
    memory.set(xlabel=axis.label, ylabel="peak memory, MiB")
    steep = max(seconds) > 20 * min(seconds)
    if steep:
        time.set_yscale("log")
    else:
        time.set_ylim(0, 1.15 * scale * max(seconds))
    memory.set_ylim(0, 1.15 * max(point["peak_mib"] for point in points))
    for ax in (time, memory):
        if axis.log:
            ax.set_xscale("log")
        ax.set_xticks(x, [_short(value) for value in x])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.08)
    memory.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if steep:
        time.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _short(value: int) -> str:
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if value >= size and value % (size // 10) == 0:
            return f"{value / size:g}{letter}"
    return str(value)


def _readable(seconds: float) -> str:
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e3, "ms")) if seconds * s >= 1), (1e6, "µs"))
    return f"{seconds * scale:.3g} {unit}"


def figures(found: dict[str, Any]) -> list[Figure]:
    """Lines of the table of figures."""

    def span(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        points = found["axes"][name]
        return points[0], points[-1]

    (one, many) = span("seeds")
    (few, all_rows) = span("rows")
    faster = found["axes"]["jobs"][0]["seconds"] / found["axes"]["jobs"][-1]["seconds"]
    lines = [
        Figure(
            f"{many['seeds']} seeds in one program beside 1, one thread",
            "",
            f"{many['seconds'] / one['seconds']:.2f}x the time per seed, "
            f"{many['peak_mib'] / one['peak_mib']:.2f}x the memory",
        ),
        Figure(
            f"{all_rows['rows']:,} rows beside {few['rows']:,}",
            "",
            f"{all_rows['seconds'] / few['seconds']:.2f}x the time of an update",
        ),
        Figure("Two cells at a time beside one, cells of seconds with their start", "", f"{faster:.2f}x as fast"),
    ]
    if large := found.get("large"):
        lines.append(
            Figure("Memory, 2,000,000 rows, 10 seeds, 500,000 synthetic rows each", "< 4,096 MiB", f"{large:,.0f} MiB")
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, write json and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--axes", nargs="+", choices=AXES, help="default: all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw the figure of --out again")
    parser.add_argument("--out", type=Path, help="json file to write; the figure lies beside it")
    asked = parser.parse_args(arguments)
    if asked.draw:
        found = json.loads(asked.out.read_text(encoding="utf-8"))
    else:
        found = measure(torch.device(asked.device), quick=asked.quick, names=asked.axes)
    for name, points in found["axes"].items():
        rows = [[point[AXES[name].setting], point["seconds"], point["peak_mib"]] for point in points]
        headers = [AXES[name].label, f"seconds per {AXES[name].per}", "peak, MiB"]
        print(f"\n{tabulate(rows, headers, floatfmt=('g', '.3g', '.0f'))}")
    if asked.out:
        write_json(asked.out, found)
        save(draw(figure, found), asked.out.parent, asked.out.stem)


if __name__ == "__main__":
    main()
