"""Scores over all tasks with reference returns: aggregates, and the share of runs above every score."""

from dataclasses import replace
from functools import partial
from itertools import product

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks.report.aggregates import aggregate, compared_algorithms, complete, lacking, method
from benchmarks.report.figures.style import bars, bars_height, legend, line_styles, panel_list, panels, plain
from benchmarks.report.results import Results, generator_order, titled
from benchmarks.report.score_rows import DAGGER, roles
from benchmarks.report.scores import FEW_SEEDS, finals, rule
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number, values
from benchmarks.report.text import natural
from benchmarks.report.verdict import compares_scores
from metrics.intervals import profile_interval
from metrics.statistics import performance_profile

__all__ = ["DETAILS", "SECTION", "aggregate_table", "other_table"]

_LACKING = " § lacks tasks that others have, so its numbers are not comparable with theirs; the figures leave it out."
_METHODS = {
    "t": "t with the variance of every task by itself; shares: score intervals",
    "bootstrap": "percentile bootstrap, runs resampled within tasks: too narrow with few seeds",
}
_TITLES = {"iqm": "IQM", "mean": "mean", "median": "median", "optimality_gap": "optimality gap"}
_FIRST = ("iqm", "mean")
_OTHERS = ("median", "optimality_gap")  # of two tasks the median is the mean


def aggregate_table(results: Results) -> Table:
    """Interquartile mean and mean, one row per generator x algorithm x variant; without rows where tasks are single."""
    return _table(results, "aggregate", "Over all tasks", _FIRST, "")


def other_table(results: Results) -> Table:
    """The same of median and optimality gap."""
    gap = "Optimality gap: mean shortfall from a score of 100, in parts of 100; lower is better. "
    return _table(results, "aggregate_others", "Over all tasks: median and optimality gap", _OTHERS, gap)


def _table(results: Results, name: str, title: str, metrics: tuple[str, ...], note: str) -> Table:
    frame = aggregate(results)
    without = lacking(results)
    rows = []
    groups = frame.groupby(["algorithm", "variant", "generator"]) if _several(results) else ()
    for (algorithm, variant, generator), group in groups:
        by_metric = group.set_index("metric")
        few = "†" if group["n_seeds"].iloc[0] < FEW_SEEDS else ""
        triples = [values(by_metric.loc[metric, ["value", "low", "high"]]) for metric in metrics]
        numbers = [as_interval(low, high, value, mark=few) for value, low, high in triples]
        seeds, tasks = (as_number(float(group[column].iloc[0]), "{:.0f}") for column in ("n_seeds", "n_tasks"))
        if absent := without[str(generator), str(algorithm), str(variant)]:
            tasks = replace(tasks, text=f"{tasks.text}§ without {', '.join(absent)}")
        shown = Entry(titled(str(generator)), value=str(generator))
        rows.append([Entry(str(algorithm)), Entry(str(variant)), shown, *numbers, seeds, tasks])
    rows.sort(key=lambda row: (row[0].text, natural(row[1].text), generator_order(str(row[2].value))))
    caption = (
        f"Tasks with reference returns only, on the seeds that all of them have. {rule(results)} Brackets: 95 % "
        f"interval over seeds, tasks fixed ({_METHODS[results.interval]}), as in figures over all tasks. {note}"
        f"{DAGGER} {roles(results)}"
    ).strip() + _LACKING * any(without.values())
    head = ["algorithm", "variant", "generator", *(_TITLES[metric] for metric in metrics), "seeds", "tasks"]
    return Table(name, title, caption, head, rows, data="aggregate")


def _several(results: Results) -> bool:
    """Whether there is anything to aggregate: scores to compare, on more than one task of an algorithm."""
    scored = aggregate(results)
    algorithms = {cell.algorithm: set[str]() for cell in results.cells}
    for cell in results.cells:
        if cell.task in results.scored_tasks:
            algorithms[cell.algorithm].add(cell.task)
    return compares_scores(results) and len(scored) > 0 and any(len(tasks) > 1 for tasks in algorithms.values())


def _aggregates(results: Results, algorithms: list[str], metrics: tuple[str, ...]) -> Figure:
    """Rows: algorithms; columns: aggregates, each a point and its interval per generator and variant."""
    styles = line_styles(results)
    table = aggregate(results)
    figure, grid = panels(len(algorithms), len(metrics), height=bars_height(styles), sharey="row")
    for line, algorithm in zip(grid, algorithms, strict=True):
        own = table[table["algorithm"] == algorithm]
        whole = complete(finals(results), algorithm, "final")
        for ax, metric in zip(line, metrics, strict=True):
            shown = own[own["metric"] == metric].set_index(["generator", "variant"])[["value", "low", "high"]]
            bars(ax, styles, {key: values(shown.loc[key]) for key in whole})
            ax.set_title(_TITLES[metric] if len(algorithms) == 1 else f"{plain(algorithm, 24)}\n{_TITLES[metric]}")
            ax.set_xlabel("parts of 100" if metric == "optimality_gap" else "D4RL-normalized score")
    return figure


def _aggregates_alt(results: Results, algorithms: list[str], metrics: tuple[str, ...]) -> str:
    table = aggregate(results)
    told = []
    for algorithm, metric in product(algorithms, metrics):
        whole = complete(finals(results), algorithm, "final")
        own = table[(table["algorithm"] == algorithm) & (table["metric"] == metric)]
        own = own[[key in whole for key in zip(own["generator"], own["variant"], strict=True)]]
        ordered = own.dropna(subset="value").sort_values("value")
        worst, best = ordered.iloc[0], ordered.iloc[-1]
        places = 3 if metric == "optimality_gap" else 1
        low, high = (as_number(row["value"], f"{{:.{places}f}}").text for row in (worst, best))
        told.append(f"{_TITLES[metric]} from {low} ({worst['generator']}) to {high} ({best['generator']})")
    return f"Over all tasks: {'; '.join(told)}."


def _profiles(results: Results, algorithms: list[str]) -> Figure:
    """One panel per algorithm: share of the runs of all tasks above each score."""
    styles = line_styles(results)
    final = finals(results)
    drawn = []
    figure, axes = panel_list(len(algorithms), 2, height=2.1)
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


def _profiles_alt(results: Results, algorithms: list[str]) -> str:
    told = []
    for algorithm in algorithms:
        scores = complete(finals(results), algorithm, "final")
        middle = {generator: float(x.median()) for (generator, _), x in scores.items()}
        best = max(middle, key=lambda name: middle[name])
        told.append(f"with {algorithm} half of the runs score above {as_number(middle[best], '{:.1f}').text} ({best})")
    return f"Shares of runs above every score: {'; '.join(told)}, the most of all."


def _compared(results: Results) -> list[str]:
    return compared_algorithms(finals(results)) if compares_scores(results) else []


def _plot(name: str, metrics: tuple[str, ...], more: str) -> Plot:
    return Plot(
        name,
        lambda _: (
            "Over all tasks with reference returns. Line: aggregate; bar: its 95 % interval, by the method that the "
            f"table names. {more}Who lacks a task of the algorithm, one that any generator has scores on, is left out."
        ),
        partial(_aggregates_alt, metrics=metrics),
        "aggregate",
        rows=_compared,
        figure=partial(_aggregates, metrics=metrics),
    )


SECTION = Section(
    "aggregate",
    "Over all tasks",
    "help",
    frames={"aggregate": aggregate},
    tables=[aggregate_table],
    figures=[_plot("aggregate", _FIRST, "")],
)
DETAILS = Section(
    "aggregate_details",
    "Over all tasks: other aggregates",
    "details",
    tables=[other_table],
    figures=[
        _plot("aggregate_others", _OTHERS, "Of the optimality gap less is better. "),
        Plot(
            "profiles",
            lambda _: (
                "Share of the runs of all tasks that score above a threshold. Band: pointwise 95 % interval, by the "
                f"method that the table names; none below {FEW_SEEDS} seeds. Who lacks a task of the algorithm is "
                "left out."
            ),
            _profiles_alt,
            "scores",
            rows=_compared,
            figure=_profiles,
        ),
    ],
)
