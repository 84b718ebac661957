"""Statistics over tasks: aggregates with intervals, and the scores [runs, tasks] that they are made of."""

from collections.abc import Callable

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.report.results import Results, once
from benchmarks.report.scores import finals
from benchmarks.report.text import natural
from metrics.statistics import iqm, mean, median, optimality_gap, stratified_bootstrap, t_interval, trimmed_t_interval

__all__ = ["AGGREGATES", "aggregate", "bootstrap", "compared_algorithms", "complete", "lacking"]

AGGREGATES = ["mean", "median", "iqm", "optimality_gap"]
_REPS = 10_000
Scores = Float[Tensor, "runs tasks"]


@once
def aggregate(results: Results) -> pd.DataFrame:
    """aggregate.csv: over the tasks with reference returns, on the seeds that every one of these tasks has.

    Scores are in percent of the reference, `optimality_gap` in parts of it. One task: t intervals over its seeds;
    several: stratified bootstrap with a fixed seed. A row stands for the `n_tasks` that it has, which may be fewer or
    others than another row's: `lacking` names those it has not.
    """
    rows = []
    for (generator, algorithm, variant), (_, scores) in _matrices(_scored(finals(results)), "final").items():
        low, high = _intervals(scores)
        for metric, *numbers in zip(AGGREGATES, _aggregates(scores).tolist(), low.tolist(), high.tolist(), strict=True):
            rows.append([generator, algorithm, metric, *numbers, *scores.shape, variant])
    columns = ["generator", "algorithm", "metric", "value", "low", "high", "n_seeds", "n_tasks", "variant"]
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


def bootstrap(scores: Scores, statistic: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """95 % interval of a statistic; always the same resamples, so that a report drawn again has equal bytes."""
    return stratified_bootstrap(scores, statistic, _REPS, torch.Generator().manual_seed(0))


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


def _aggregates(scores: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B 4"]:
    """In the order of AGGREGATES."""
    return torch.stack([mean(scores), median(scores), iqm(scores), optimality_gap(scores / 100)], -1)


def _intervals(scores: Scores) -> tuple[Tensor, Tensor]:
    runs, tasks = scores.shape
    if runs < 2:
        return torch.full((4,), torch.nan), torch.full((4,), torch.nan)
    if tasks > 1:
        return bootstrap(scores, _aggregates)
    shortfall = (1 - scores[:, 0] / 100).clamp(min=0)
    both = [t_interval(scores[:, 0]), t_interval(scores[:, 0]), trimmed_t_interval(scores[:, 0]), t_interval(shortfall)]
    low, high = zip(*both, strict=True)
    return torch.stack(low), torch.stack(high)
