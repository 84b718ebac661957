"""Over all tasks, in rliable's forms: interval estimates, performance profiles, probability of improvement."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from benchmarks.report.results import natural
from benchmarks.report.scores import FEW_SEEDS
from benchmarks.report.style import BASELINE, Looks, legend, panels, plain
from metrics.statistics import (
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
    t_interval,
    trimmed_t_interval,
)

__all__ = ["AGGREGATES", "aggregate", "aggregate_figure", "compared_algorithms", "improvement_figure", "profile_figure"]

AGGREGATES = ["mean", "median", "iqm", "optimality_gap"]
_TITLES = {"iqm": "IQM", "mean": "mean", "median": "median", "optimality_gap": "optimality gap"}
_REPS = 10_000
Scores = Float[Tensor, "runs tasks"]


def aggregate(final: pd.DataFrame) -> pd.DataFrame:
    """aggregate.csv: over the tasks with reference returns, on the seeds that every one of these tasks has.

    Scores are in percent of the reference, `optimality_gap` in parts of it. One task: t intervals over its seeds;
    several: stratified bootstrap with a fixed seed.
    """
    rows = []
    for (generator, algorithm, variant), scores in _matrices(final, "final"):
        low, high = _intervals(scores)
        for metric, *numbers in zip(AGGREGATES, _aggregates(scores).tolist(), low.tolist(), high.tolist(), strict=True):
            rows.append([generator, algorithm, metric, *numbers, *scores.shape, variant])
    columns = ["generator", "algorithm", "metric", "value", "low", "high", "n_seeds", "n_tasks", "variant"]
    return pd.DataFrame(rows, columns=columns)


def compared_algorithms(final: pd.DataFrame) -> list[str]:
    """Those with scores on more than one task: the others have nothing to aggregate."""
    tasks = final[final["unit"] == "score"].groupby("algorithm")["task"].nunique()
    return sorted(tasks.index[tasks > 1], key=natural)


def aggregate_figure(looks: Looks, final: pd.DataFrame, algorithms: list[str]) -> Figure:
    """Rows: algorithms; columns: aggregates, each a point and its interval per generator and variant."""
    table = aggregate(final)
    figure, grid = panels(len(algorithms), len(_TITLES), height=_height(looks), sharey="row")
    for line, algorithm in zip(grid, algorithms, strict=True):
        own = table[table["algorithm"] == algorithm]
        own = own[own["n_tasks"] == own["n_tasks"].max()]
        for ax, (metric, title) in zip(line, _TITLES.items(), strict=True):
            shown = own[own["metric"] == metric]
            keys = zip(shown["generator"], shown["variant"], strict=True)
            _bars(ax, looks, dict(zip(keys, shown[["value", "low", "high"]].to_numpy().tolist(), strict=True)))
            ax.set_title(title if len(algorithms) == 1 else f"{plain(algorithm, 24)}\n{title}")
    return figure


def profile_figure(looks: Looks, final: pd.DataFrame, algorithms: list[str]) -> Figure:
    """One panel per algorithm: share of the runs of all tasks above each score."""
    figure, axes = _two_abreast(len(algorithms), height=3.4)
    for ax, algorithm in zip(axes, algorithms, strict=True):
        scores = dict(_complete(final, algorithm, "final"))
        all_scores = torch.cat([x.flatten() for x in scores.values()])
        thresholds = torch.linspace(float(all_scores.min()), float(all_scores.max()), 201, dtype=torch.float64)
        for key, look in looks.items():
            if key in scores:
                statistic = partial(performance_profile, thresholds=thresholds)
                if len(scores[key]) >= FEW_SEEDS:
                    band = _bootstrap(scores[key], statistic)
                    ax.fill_between(thresholds, *band, step="post", color=look.colour, alpha=0.1, linewidth=0)
                ax.step(thresholds, statistic(scores[key]), where="post", color=look.colour, linestyle=look.dash)
        ax.set(title=plain(algorithm, 48), xlabel="score", ylabel="share of runs above", ylim=(-0.02, 1.02))
    legend(figure, looks, final)
    return figure


def improvement_figure(looks: Looks, pairs: pd.DataFrame, algorithms: list[str]) -> Figure:
    """One panel per algorithm: chance that a run beats a run on real data only; `pairs` are `paired`."""
    figure, axes = _two_abreast(len(algorithms), height=_height(looks))
    for ax, algorithm in zip(axes, algorithms, strict=True):
        none = dict(_complete(pairs, algorithm, "final_none"))
        rows = {}
        for key, scores in _complete(pairs, algorithm, "final"):
            both = torch.cat([scores, none[key]], -1)
            low, high = _bootstrap(both, _better)
            rows[key] = [_better(both).item(), low.item(), high.item()]
        _bars(ax, looks, rows)
        ax.axvline(0.5, color=BASELINE, linestyle="--", linewidth=1.2)
        ax.set(
            title=plain(algorithm, 48),
            xlim=(-0.03, 1.03),
            xticks=[0, 0.25, 0.5, 0.75, 1],
            xlabel="P(beats real data only)",
        )
    return figure


def _matrices(frame: pd.DataFrame, column: str) -> Iterator[tuple[tuple[str, str, str], Scores]]:
    """By generator, algorithm and variant, scores [runs, tasks] on the seeds that all of its tasks have."""
    scored = frame[frame["unit"] == "score"]
    for (generator, algorithm, variant), group in scored.groupby(["generator", "algorithm", "variant"]):
        matrix = group.pivot_table(index="seed", columns="task", values=column, aggfunc="first", dropna=False).dropna()
        yield (str(generator), str(algorithm), str(variant)), torch.tensor(matrix.to_numpy(), dtype=torch.float64)


def _complete(frame: pd.DataFrame, algorithm: str, column: str) -> Iterator[tuple[tuple[str, str], Scores]]:
    """Those of one algorithm that have every task, by generator and variant."""
    found = {(key[0], key[2]): x for key, x in _matrices(frame[frame["algorithm"] == algorithm], column) if len(x)}
    tasks = max(x.shape[1] for x in found.values())
    return ((key, x) for key, x in found.items() if x.shape[1] == tasks)


def _aggregates(scores: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B 4"]:
    """In the order of AGGREGATES."""
    return torch.stack([mean(scores), median(scores), iqm(scores), optimality_gap(scores / 100)], -1)


def _better(both: Float[Tensor, "*B runs twice"]) -> Float[Tensor, "*B"]:
    """Of a generator's columns over those of real data only, which stand behind them."""
    return probability_of_improvement(*both.chunk(2, -1))


def _intervals(scores: Scores) -> tuple[Tensor, Tensor]:
    runs, tasks = scores.shape
    if runs < 2:
        return torch.full((4,), torch.nan), torch.full((4,), torch.nan)
    if tasks > 1:
        return _bootstrap(scores, _aggregates)
    shortfall = (1 - scores[:, 0] / 100).clamp(min=0)
    both = [t_interval(scores[:, 0]), t_interval(scores[:, 0]), trimmed_t_interval(scores[:, 0]), t_interval(shortfall)]
    low, high = zip(*both, strict=True)
    return torch.stack(low), torch.stack(high)


def _bootstrap(scores: Scores, statistic: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The same resamples every time: a report drawn again has equal bytes."""
    return stratified_bootstrap(scores, statistic, _REPS, torch.Generator().manual_seed(0))


def _bars(ax: Axes, looks: Looks, values: Mapping[tuple[str, str], list[float]]) -> None:
    """[value, low, high] of every generator and variant, one below the other in the order of legends."""
    there = [key for key in looks if key in values]
    for place, key in enumerate(there):
        value, low, high = values[key]
        ax.barh(place, high - low, left=low, height=0.62, color=looks[key].colour, alpha=0.5, linewidth=0)
        ax.vlines(value, place - 0.31, place + 0.31, color=looks[key].colour, linewidth=2.4)
    ax.set_yticks(range(len(there)), [looks[key].label for key in there])
    ax.set_ylim(len(there) - 0.5, -0.5)
    ax.use_sticky_edges = False  # a bar may end at the edge of the data, not at that of the panel
    ax.margins(x=0.05)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.grid(axis="y", visible=False)


def _height(looks: Looks) -> float:
    return 0.26 * len(looks) + 0.8


def _two_abreast(count: int, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2)
    figure, grid = panels(-(-count // columns), columns, height=height)
    axes = [ax for line in grid for ax in line]
    for ax in axes[count:]:
        ax.set_visible(False)
    return figure, axes[:count]
