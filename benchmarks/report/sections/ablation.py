"""What a suite varied: curves over one field, heat maps over two."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from benchmarks.report.figures.style import BASELINE, INK, line_styles, panels, plain
from benchmarks.report.results import CellView, Results, error_by_cell, once
from benchmarks.report.scores import FEW_SEEDS, comparisons, estimates, finals
from benchmarks.report.section import Plot, Section
from benchmarks.report.text import natural
from core.config import flat

__all__ = ["SECTION", "Ablation", "ablation", "ablations"]

_ROBUST = "#009e73"
_FAILURE = "#d55e00"


@dataclass(frozen=True)
class Ablation:
    """Cells of one task, generator and algorithm that differ in one field or two."""

    task: str
    generator: str
    algorithm: str
    fields: tuple[str, ...]
    cells: Mapping[tuple[Any, ...], CellView]  # by the values of these fields, ascending

    def axis(self, place: int) -> list[Any]:
        """The values of a field, ascending."""
        return sorted({values[place] for values in self.cells}, key=lambda value: natural(str(value)))


@once
def ablations(results: Results) -> list[Ablation]:
    """Every group of cells that differ in one field or two; a field that follows from another does not count."""
    groups: dict[tuple[str, str, str], list[CellView]] = {}
    for cell in results.cells:
        if cell.done:
            groups.setdefault((cell.task, cell.generator, cell.algorithm), []).append(cell)
    found = []
    for (task, generator, algorithm), cells in groups.items():
        specs = [dict(flat(cell.spec)) for cell in cells]
        names = dict.fromkeys(name for spec in specs for name in spec)
        varied = _free([name for name in names if len({str(spec.get(name)) for spec in specs}) > 1], specs)
        if not 1 <= len(varied) <= 2:
            continue
        by_value = {tuple(spec.get(name) for name in varied): cell for spec, cell in zip(specs, cells, strict=True)}
        ordered = dict(sorted(by_value.items(), key=lambda item: [natural(str(value)) for value in item[0]]))
        short = tuple(name.partition(".")[2] for name in varied)
        found.append(Ablation(task, generator, algorithm, short, ordered))
    return found


@once
def ablation(results: Results) -> pd.DataFrame:
    """ablation.csv: one row per varied cell: score and gain over `none` with intervals, error, lag; indexed by cell.

    `robust`: not worse than the best of its group by more than chance; `failure`: worse than generator none by more.
    """
    score = estimates(finals(results))
    gain = comparisons(results)
    error = error_by_cell(results)
    lag = results.last("generate/lag").groupby("cell_id")["value"].mean()
    rows = {}
    for group in ablations(results):
        own = score.loc[[cell.cell_id for cell in group.cells.values() if cell.cell_id in score.index]]
        best = own["low"].max()
        for values, cell in group.cells.items():
            if cell.cell_id not in own.index:
                continue
            gained = gain.reindex([cell.cell_id]).iloc[0]
            n, mean, low, high = own.loc[cell.cell_id, ["n", "mean", "low", "high"]]
            rows[cell.cell_id] = [
                *(group.task, group.generator, group.algorithm),
                " x ".join(group.fields),
                " x ".join(str(value) for value in values),
                *(n, mean, low, high),
                *gained[["mean", "low", "high"]],
                error.get(cell.cell_id, math.nan),
                lag.get(cell.cell_id, math.nan),
                bool(high >= best),
                bool(gained["high"] < 0),
            ]
    columns = ["task", "generator", "algorithm", "fields", "values", "n", "mean", "low", "high"]
    columns += ["gain_mean", "gain_low", "gain_high", "error", "lag", "robust", "failure"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _scored(results: Results, fields: int) -> list[Ablation]:
    """Groups that vary so many fields and have a score."""
    scored = ablation(results).dropna(subset="mean").index
    return [
        group
        for group in ablations(results)
        if len(group.fields) == fields and any(cell.cell_id in scored for cell in group.cells.values())
    ]


def _curves(results: Results, groups: list[Ablation]) -> Figure:
    """Rows: task x generator x algorithm; columns: score, open-loop error, lag."""
    styles = line_styles(results)
    table = ablation(results)
    figure, grid = panels(len(groups), 3, height=2.8)
    for line, group in zip(grid, groups, strict=True):
        cells = {values: cell for values, cell in group.cells.items() if cell.cell_id in table.index}
        own = table.loc[[cell.cell_id for cell in cells.values()]]
        colour = styles[group.generator, next(iter(group.cells.values())).variant].colour
        _scores(line[0], own, colour)
        _curve(line[1], own["error"], colour)
        _curve(line[2], own["lag"], colour)
        for ax, name in zip(line, ("score", "open-loop error, last step", "lag of the last round"), strict=True):
            ax.set(
                xlim=(-0.5, len(own) - 0.5),
                title=f"{plain(group.task, 40)}\n{plain(f'{group.generator} · {group.algorithm}', 40)}",
                ylabel=name,
                xticks=range(len(own)),
                xticklabels=[plain(str(values[0]), 12) for values in cells],
                xlabel=plain(group.fields[0], 36),
            )
    handles: list[Any] = [
        Patch(color=_ROBUST, alpha=0.15, label="robust: not worse than the best by more than chance"),
        Patch(color=_FAILURE, alpha=0.2, label="failure: worse than generator none by more than chance"),
        Line2D([], [], color=BASELINE, linestyle="--", label="generator none"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _scores(ax: Axes, own: pd.DataFrame, colour: str) -> None:
    """Means with intervals, generator none beside them, values that are robust or fail shaded."""
    x = range(len(own))
    low = own["low"].fillna(own["mean"])
    high = own["high"].fillna(own["mean"])
    ax.errorbar(x, own["mean"], yerr=[own["mean"] - low, high - own["mean"]], color=colour, capsize=3, fmt="-")
    for place, (mean, n) in enumerate(zip(own["mean"], own["n"], strict=True)):
        ax.plot(place, mean, "o", color=colour, markerfacecolor="none" if n < FEW_SEEDS else colour)
    for place, (robust, failure) in enumerate(zip(own["robust"], own["failure"], strict=True)):
        if failure or robust:
            shade, alpha = (_FAILURE, 0.2) if failure else (_ROBUST, 0.15)
            ax.axvspan(place - 0.5, place + 0.5, color=shade, alpha=alpha, linewidth=0)
    ax.grid(axis="x", visible=False)
    ax.plot(x, own["mean"] - own["gain_mean"], color=BASELINE, linestyle="--", linewidth=1.4)


def _curve(ax: Axes, column: pd.Series, colour: str) -> None:
    if column.notna().any():
        ax.plot(range(len(column)), column, "o-", color=colour)
        ax.set_ylim(0, 1.08 * column.max() or 1)
    else:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=BASELINE)


def _heat(results: Results, groups: list[Ablation]) -> Figure:
    """One panel pair per group: mean score and open-loop error over two fields."""
    figure, grid = panels(len(groups), 2, height=3.4)
    for line, group in zip(grid, groups, strict=True):
        _map(line[0], results, group, "mean", "cividis")
        _map(line[1], results, group, "error", "cividis_r")
    handles: list[Any] = [
        Line2D([], [], color=INK, marker="s", markerfacecolor="none", linestyle="", label="boxed: robust"),
        Line2D([], [], color=INK, marker="x", linestyle="", label="crossed: failure"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _map(ax: Axes, results: Results, group: Ablation, column: str, palette: str) -> None:
    """A number over two fields; of scores, those that are robust or fail are marked."""
    table = ablation(results)
    down = group.axis(0)
    across = group.axis(1)
    cells = [[group.cells.get((row, value)) for value in across] for row in down]
    numbers = [[_entry(table, cell, column) for cell in line] for line in cells]
    image = ax.imshow(numbers, cmap=palette, aspect="auto")
    for i, line in enumerate(cells):
        for j, cell in enumerate(line):
            ink = _annotate(ax, i, j, numbers[i][j], image)
            if column == "mean" and cell is not None and cell.cell_id in table.index:
                _mark(ax, i, j, ink, table.loc[cell.cell_id].to_dict())
    ax.set(
        title=f"{plain(f'{group.task} · {group.generator} · {group.algorithm}', 52)}\n"
        + ("mean score" if column == "mean" else "open-loop error at the last step"),
        xticks=range(len(across)),
        xticklabels=[plain(str(value), 10) for value in across],
        yticks=range(len(down)),
        yticklabels=[plain(str(value), 10) for value in down],
        xlabel=plain(group.fields[1], 40),
        ylabel=plain(group.fields[0], 30),
    )
    ax.grid(visible=False)


def _free(varied: list[str], specs: list[dict[str, Any]]) -> tuple[str, ...]:
    """Without the fields whose value follows from one that is kept."""
    kept: list[str] = []
    for name in varied:
        follows = any(
            len({(str(spec.get(other)), str(spec.get(name))) for spec in specs})
            == len({str(spec.get(other)) for spec in specs})
            for other in kept
        )
        if not follows:
            kept.append(name)
    return tuple(kept)


def _entry(table: pd.DataFrame, cell: CellView | None, column: str) -> float:
    return math.nan if cell is None or cell.cell_id not in table.index else float(table[column][cell.cell_id])


def _annotate(ax: Axes, row: int, column: int, value: float, image: Any) -> str:
    """Write the number, and return the colour that can be read there."""
    if math.isnan(value):
        ax.text(column, row, "—", ha="center", va="center", color=BASELINE)
        return BASELINE
    ink = "white" if sum(image.cmap(image.norm(value))[:3]) < 1.5 else "black"
    ax.text(column, row, f"{value:.3g}", ha="center", va="center", color=ink, fontsize=9)
    return ink


def _mark(ax: Axes, row: int, column: int, ink: str, verdict: Mapping[Any, Any]) -> None:
    if verdict["failure"]:
        ax.plot(column + 0.36, row - 0.3, "x", color=ink, markersize=7, markeredgewidth=1.6)
    elif verdict["robust"]:
        corner = column - 0.46, row - 0.44
        ax.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, edgecolor=ink, linewidth=1.3))


SECTION = Section(
    "ablation",
    "What was varied",
    "varied",
    frames={"ablation": ablation},
    figures=[
        Plot(
            "ablation",
            lambda _: (
                "Cells that differ in one field. Marker and bar: mean and 95 % Student-t interval over seeds; hollow"
                f" below {FEW_SEEDS} seeds. Lag: how far actions moved in the last round of the generator's last "
                "call."
            ),
            lambda *_: "",
            "ablation",
            rows=lambda results: _scored(results, 1),
            figure=_curves,
        ),
        Plot(
            "heat",
            lambda _: "Cells that differ in two fields: mean score over seeds, and median error.",
            lambda *_: "",
            "ablation",
            rows=lambda results: _scored(results, 2),
            figure=_heat,
        ),
    ],
)
