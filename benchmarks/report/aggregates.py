"""Statistics over tasks: aggregates with intervals, and the scores [runs, tasks] that they are made of."""

from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.report.results import Results, once
from benchmarks.report.scores import finals, paired
from benchmarks.report.text import natural
from metrics.intervals import AGGREGATES, interval

__all__ = ["aggregate", "compared_algorithms", "complete", "lacking", "mean_changes", "method"]

Scores = Float[Tensor, "runs tasks"]


@once
def aggregate(results: Results) -> pd.DataFrame:
    """aggregate.csv: over the tasks with reference returns, on the seeds that every one of these tasks has.

    Scores are in percent of the reference, `optimality_gap` in parts of it. `interval` is the method of low and high. A
    row stands for the `n_tasks` that it has, which may be fewer or others than another row's: `lacking` names those it
    has not.
    """
    rows = []
    for (generator, algorithm, variant), (_, scores) in _matrices(_scored(finals(results)), "final").items():
        for metric, statistic in AGGREGATES.items():
            x = scores / 100 if metric == "optimality_gap" else scores
            numbers = [number.item() for number in (statistic(x), *interval(x, metric, **method(results)))]
            rows.append([generator, algorithm, metric, *numbers, *scores.shape, variant, results.interval])
    columns = ["generator", "algorithm", "metric", "value", "low", "high", "n_seeds", "n_tasks", "variant", "interval"]
    return pd.DataFrame(rows, columns=columns)


def lacking(results: Results) -> dict[tuple[str, str, str], list[str]]:
    """By generator, algorithm and variant: the tasks of the algorithm on which they have no score."""
    scored = _scored(finals(results))
    tasks = _tasks(scored)
    return {key: [x for x in tasks[key[1]] if x not in own] for key, (own, _) in _matrices(scored, "final").items()}


def compared_algorithms(final: pd.DataFrame) -> list[str]:
    """Algorithms with more than one task and someone who has them all; the others have nothing to aggregate."""
    several = [algorithm for algorithm, tasks in _tasks(_scored(final)).items() if len(tasks) > 1]
    return sorted((name for name in several if complete(final, name, "final")), key=natural)


def complete(frame: pd.DataFrame, algorithm: str, column: str) -> dict[tuple[str, str], Scores]:
    """By generator and variant, the scores [runs, tasks] of one algorithm, of those that have every task of it.

    Its tasks are those on which any generator has a score: equal columns are equal tasks. Runs are seeds that all tasks
    have; who has none is left out.
    """
    scored = _scored(frame)
    tasks = _tasks(scored).get(algorithm)
    return {
        (generator, variant): scores
        for (generator, of, variant), (own, scores) in _matrices(scored, column).items()
        if of == algorithm and own == tasks and len(scores)
    }


@once
def mean_changes(results: Results) -> dict[tuple[str, str, str], tuple[int, float, float, float]]:
    """By generator, algorithm and variant that have every task: seeds, and mean change over tasks with its interval."""
    gains = paired(results)
    found = {}
    for algorithm in compared_algorithms(gains):
        for (generator, variant), x in complete(gains, algorithm, "gain").items():
            low, high = interval(x, "mean", **method(results))
            found[generator, algorithm, variant] = len(x), x.mean().item(), low.item(), high.item()
    return found


def method(results: Results) -> dict[str, Any]:
    """For `metrics.intervals`; a bootstrap has always the same resamples, so a report drawn again has equal bytes."""
    return {"method": results.interval, "generator": torch.Generator().manual_seed(0)}


def _scored(frame: pd.DataFrame) -> pd.DataFrame:
    """Seeds with a score on a task with reference returns."""
    return frame[(frame["unit"] == "score") & frame["final"].notna()]


def _tasks(scored: pd.DataFrame) -> dict[str, list[str]]:
    """By algorithm, the tasks on which any generator has a score, in the order of `_matrices`."""
    return {str(algorithm): sorted(tasks) for algorithm, tasks in scored.groupby("algorithm")["task"].unique().items()}


def _matrices(scored: pd.DataFrame, column: str) -> dict[tuple[str, str, str], tuple[list[str], Scores]]:
    """By generator, algorithm and variant: its tasks, and scores [runs, tasks] on the seeds that all of them have."""
    found = {}
    for (generator, algorithm, variant), group in scored.groupby(["generator", "algorithm", "variant"]):
        matrix = group.pivot(index="seed", columns="task", values=column).sort_index(axis=1).dropna()
        scores = torch.tensor(matrix.to_numpy(), dtype=torch.float64)
        found[str(generator), str(algorithm), str(variant)] = list(matrix.columns), scores
    return found
