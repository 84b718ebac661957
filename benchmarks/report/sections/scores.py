"""The score of every cell, and what other rules of selection would have said."""

import math
from collections.abc import Hashable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.comparability import mixtures, origins
from benchmarks.report.figures.style import GRID, SURFACE, legend, line_styles, panel_list, plain
from benchmarks.report.results import Results
from benchmarks.report.score_rows import DAGGER, INTERVAL, by_generator, notes, score_entries
from benchmarks.report.scores import FEW_SEEDS, RULE, behaviours, estimates, evaluations, finals
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Table, as_number, cell_table, values
from benchmarks.report.text import natural

__all__ = ["SECTION", "score_table", "selection_table"]


_BEHAVIOUR = (
    "behaviour: mean score of the episodes that the data hold; where they are pieces of one stream (maze2d), of as "
    "many steps of it as an evaluation has."
)


def score_table(results: Results) -> Table:
    """Rows: tasks x algorithms x variants; columns: generators."""
    bold = (
        f"Bold: the highest mean of its row, if it has at least {FEW_SEEDS} seeds and its interval overlaps none of "
        "the others."
    )
    rules = [RULE, INTERVAL, bold, _BEHAVIOUR if behaviours(results) else "", DAGGER, notes(results)]
    found = [*rules, *(mixture.footnote for mixture in mixtures(results.cells)), origins(results.cells)]
    table = Table("scores", "Scores", " ".join(text for text in found if text))
    return by_generator(results, table, estimates(finals(results)), _separate, behaviour=True)


def selection_table(results: Results) -> Table:
    """One row per cell: the score by the rule, and what other rules would have said."""
    final = finals(results)
    estimate = estimates(final)
    means = final.groupby("cell_id")[["last", "best"]].mean()
    rows = []
    for cell in results.cells:
        (score,) = score_entries([cell], estimate, lambda _: set())
        numbers = [as_number(means[column].get(cell.cell_id, math.nan)) for column in ("last", "best")]
        rows.append((cell, [score, *numbers]))
    caption = (
        f"{RULE} last: mean over seeds of the last evaluation. best: mean over seeds of the best evaluation; this is "
        f"oracle selection (it needs the environment to choose the checkpoint) and is never a headline. {DAGGER} "
        f"{notes(results)}"
    )
    columns = ["score", "last", "best (oracle selection)"]
    return cell_table(results, "selection", "Scores under other selection rules", caption, columns, rows)


def _separate(row: pd.DataFrame) -> set[str]:
    """The cell with the highest mean, if its interval lies above all the others'."""
    if len(row) < 2:
        return set()
    best = str(row["mean"].idxmax())
    others = row.drop(index=best)
    (seeds, low) = values(row.loc[best, ["n", "low"]])
    apart = (others["high"].fillna(others["mean"]) < low).all()
    return {best} if apart and seeds >= FEW_SEEDS else set()


def _figure(results: Results, tasks: list[str]) -> Figure:
    """One panel per task: seeds, means and intervals, side by side within each algorithm."""
    styles = line_styles(results)
    rows = finals(results).dropna(subset="final")
    estimate = estimates(rows)
    algorithms = sorted(rows["algorithm"].unique(), key=natural)
    columns = max(1, min(3, 60 // max(1, len(algorithms) * len(styles))))
    figure, axes = panel_list(len(tasks), columns, height=3.1)
    for ax, task in zip(axes, tasks, strict=True):
        for cell in results.cells:
            own = rows.loc[rows["cell_id"] == cell.cell_id, "final"].tolist()
            if cell.task == task and own:
                place = list(styles).index((cell.generator, cell.variant))
                colour = styles[cell.generator, cell.variant].colour
                x = algorithms.index(cell.algorithm) + 0.8 * ((place + 0.5) / len(styles) - 0.5)
                _cell(ax, x, own, estimate.loc[cell.cell_id].to_dict(), colour)
        ax.set(
            title=plain(task, 100 // min(len(tasks), columns)),
            xticks=range(len(algorithms)),
            xticklabels=[plain(name, 16) for name in algorithms],
            xlim=(-0.5, len(algorithms) - 0.5),
            ylabel=results.unit(task),
        )
        ax.grid(axis="x", visible=False)
        for edge in range(len(algorithms) - 1):
            ax.axvline(edge + 0.5, color=GRID, linewidth=0.8)
    legend(figure, styles, rows, marker="o", linestyle="")
    return figure


def _cell(ax: Axes, x: float, seeds: list[float], estimate: Mapping[Hashable, float], colour: str) -> None:
    ax.plot([x - 0.045] * len(seeds), seeds, "o", color=colour, markersize=4, alpha=0.55, markeredgewidth=0)
    half = [[estimate["mean"] - estimate["low"]], [estimate["high"] - estimate["mean"]]]
    ax.errorbar(
        x,
        estimate["mean"],
        yerr=None if estimate["n"] < 2 else half,
        color=colour,
        marker="o",
        markersize=7,
        capsize=3,
        linewidth=1.6,
        markeredgewidth=1.6,
        markeredgecolor=colour,
        markerfacecolor=SURFACE if estimate["n"] < FEW_SEEDS else colour,
    )


SECTION = Section(
    "scores",
    "Scores",
    "help",
    frames={"scores": evaluations},
    tables=[score_table, selection_table],
    figures=[
        Plot(
            "scores",
            lambda _: (
                f"Points: seeds. Marker and bar: mean and 95 % Student-t interval; hollow below {FEW_SEEDS} seeds."
            ),
            lambda *_: "",
            "scores",
            rows=lambda results: results.tasks_of(finals(results).dropna(subset="final")),
            figure=_figure,
            per_page=18,
        )
    ],
)
