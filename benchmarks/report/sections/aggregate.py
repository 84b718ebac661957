"""Scores over all tasks with reference returns: aggregates, and the share of runs above every score."""

import math
from dataclasses import replace

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks.report.aggregates import aggregate, compared_algorithms, complete, lacking, method
from benchmarks.report.figures.style import bars, bars_height, legend, line_styles, panel_list, panels, plain
from benchmarks.report.results import Results, generator_order, titled
from benchmarks.report.score_rows import DAGGER, roles
from benchmarks.report.scores import FEW_SEEDS, RULE, finals
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Entry, Table, as_number, values, without_constant
from benchmarks.report.text import natural
from metrics.intervals import AGGREGATES, profile_interval
from metrics.statistics import performance_profile

__all__ = ["SECTION", "aggregate_table"]

_LACKING = " § lacks tasks that others have, so its numbers are not comparable with theirs; the figures leave it out."
_METHODS = {
    "t": "t with the variance of every task by itself; shares: score intervals",
    "bootstrap": "percentile bootstrap, runs resampled within tasks: too narrow with few seeds",
}
_TITLES = {"iqm": "IQM", "mean": "mean", "median": "median", "optimality_gap": "optimality gap"}


def aggregate_table(results: Results) -> Table:
    """One row per generator x algorithm x variant."""
    frame = aggregate(results)
    without = lacking(results)
    rows = []
    for (algorithm, variant, generator), group in frame.groupby(["algorithm", "variant", "generator"]):
        by_metric = group.set_index("metric")
        few = "†" if group["n_seeds"].iloc[0] < FEW_SEEDS else ""
        numbers = []
        for metric in AGGREGATES:
            value, low, high = values(by_metric.loc[metric, ["value", "low", "high"]])
            digits = 3 if metric == "optimality_gap" else 1
            interval = "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
            text = "—" if math.isnan(value) else f"{value:.{digits}f}{interval}{few}"
            numbers.append(Entry(text, value=value))
        seeds, tasks = (as_number(float(group[column].iloc[0]), "{:.0f}") for column in ("n_seeds", "n_tasks"))
        if absent := without[str(generator), str(algorithm), str(variant)]:
            tasks = replace(tasks, text=f"{tasks.text}§ without {', '.join(absent)}")
        name = Entry(titled(str(generator)), value=str(generator))
        rows.append([Entry(str(algorithm)), Entry(str(variant)), name, *numbers, seeds, tasks])
    rows.sort(key=lambda row: (row[0].text, natural(row[1].text), generator_order(str(row[2].value))))
    caption = (
        f"Tasks with reference returns only, on the seeds that all of them have. {RULE} Brackets: 95 % interval "
        f"over seeds, tasks fixed ({_METHODS[results.interval]}), as in figures over all tasks. Optimality gap: mean "
        f"shortfall from a score of 100, in parts of 100; lower is better. {DAGGER} {roles(results)}"
    ).strip() + _LACKING * any(without.values())
    head = ["algorithm", "variant", "generator", "mean", "median", "IQM", "optimality gap", "seeds", "tasks"]
    return without_constant(Table("aggregate", "Over all tasks", caption, head, rows), "variant")


def _aggregates(results: Results, algorithms: list[str]) -> Figure:
    """Rows: algorithms; columns: aggregates, each a point and its interval per generator and variant."""
    styles = line_styles(results)
    table = aggregate(results)
    figure, grid = panels(len(algorithms), len(_TITLES), height=bars_height(styles), sharey="row")
    for line, algorithm in zip(grid, algorithms, strict=True):
        own = table[table["algorithm"] == algorithm]
        whole = complete(finals(results), algorithm, "final")
        for ax, (metric, title) in zip(line, _TITLES.items(), strict=True):
            shown = own[own["metric"] == metric].set_index(["generator", "variant"])[["value", "low", "high"]]
            bars(ax, styles, {key: values(shown.loc[key]) for key in whole})
            ax.set_title(title if len(algorithms) == 1 else f"{plain(algorithm, 24)}\n{title}")
    return figure


def _profiles(results: Results, algorithms: list[str]) -> Figure:
    """One panel per algorithm: share of the runs of all tasks above each score."""
    styles = line_styles(results)
    final = finals(results)
    drawn = []
    figure, axes = panel_list(len(algorithms), 2, height=3.4)
    for ax, algorithm in zip(axes, algorithms, strict=True):
        scores = complete(final, algorithm, "final")
        drawn += list(scores)
        all_scores = torch.cat([x.flatten() for x in scores.values()])
        thresholds = torch.linspace(float(all_scores.min()), float(all_scores.max()), 201, dtype=torch.float64)
        for key, style in styles.items():
            if key in scores:
                if len(scores[key]) >= FEW_SEEDS:
                    band = profile_interval(scores[key], thresholds, **method(results))
                    ax.fill_between(thresholds, *band, step="post", color=style.colour, alpha=0.1, linewidth=0)
                shares = performance_profile(scores[key], thresholds)
                ax.step(thresholds, shares, where="post", color=style.colour, linestyle=style.dash)
        ax.set(title=plain(algorithm, 48), xlabel="score", ylabel="share of runs above", ylim=(-0.02, 1.02))
    legend(figure, styles, pd.DataFrame(drawn, columns=["generator", "variant"]))
    return figure


def _compared(results: Results) -> list[str]:
    return compared_algorithms(finals(results))


SECTION = Section(
    "aggregate",
    "Over all tasks",
    "help",
    frames={"aggregate": aggregate},
    tables=[aggregate_table],
    figures=[
        Plot(
            "aggregate",
            lambda _: (
                "Over all tasks with reference returns. Line: aggregate; bar: its 95 % interval, by the method that "
                "the table names. Of the optimality gap less is better. Who lacks a task of the algorithm, one that "
                "any generator has scores on, is left out."
            ),
            lambda *_: "",
            "aggregate",
            rows=_compared,
            figure=_aggregates,
        ),
        Plot(
            "profiles",
            lambda _: (
                "Share of the runs of all tasks that score above a threshold. Band: pointwise 95 % interval, by the "
                f"method that the table names; none below {FEW_SEEDS} seeds. Who lacks a task of the algorithm is "
                "left out."
            ),
            lambda *_: "",
            "scores",
            rows=_compared,
            figure=_profiles,
        ),
    ],
)
