"""Statistics over tasks: aggregates with intervals, and the scores [runs, tasks] that they are made of."""

from collections.abc import Callable, Iterator

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.report.results import Results, once
from benchmarks.report.scores import finals
from benchmarks.report.text import natural
from metrics.statistics import iqm, mean, median, optimality_gap, stratified_bootstrap, t_interval, trimmed_t_interval

__all__ = ["AGGREGATES", "aggregate", "bootstrap", "compared_algorithms", "complete"]

AGGREGATES = ["mean", "median", "iqm", "optimality_gap"]
_REPS = 10_000
Scores = Float[Tensor, "runs tasks"]


@once
def aggregate(results: Results) -> pd.DataFrame:
    """aggregate.csv: over the tasks with reference returns, on the seeds that every one of these tasks has.

    Scores are in percent of the reference, `optimality_gap` in parts of it. One task: t intervals over its seeds;
    several: stratified bootstrap with a fixed seed.
    """
    rows = []
    for (generator, algorithm, variant), scores in _matrices(finals(results), "final"):
        low, high = _intervals(scores)
        for metric, *numbers in zip(AGGREGATES, _aggregates(scores).tolist(), low.tolist(), high.tolist(), strict=True):
            rows.append([generator, algorithm, metric, *numbers, *scores.shape, variant])
    columns = ["generator", "algorithm", "metric", "value", "low", "high", "n_seeds", "n_tasks", "variant"]
    return pd.DataFrame(rows, columns=columns)


def compared_algorithms(final: pd.DataFrame) -> list[str]:
    """Algorithms with scores on more than one task; the others have nothing to aggregate."""
    tasks = final[final["unit"] == "score"].groupby("algorithm")["task"].nunique()
    return sorted(tasks.index[tasks > 1], key=natural)


def complete(frame: pd.DataFrame, algorithm: str, column: str) -> Iterator[tuple[tuple[str, str], Scores]]:
    """By generator and variant, the scores [runs, tasks] of one algorithm, of those that have every task."""
    found = {(key[0], key[2]): x for key, x in _matrices(frame[frame["algorithm"] == algorithm], column) if len(x)}
    tasks = max(x.shape[1] for x in found.values())
    return ((key, x) for key, x in found.items() if x.shape[1] == tasks)


def bootstrap(scores: Scores, statistic: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """95 % interval of a statistic; always the same resamples, so that a report drawn again has equal bytes."""
    return stratified_bootstrap(scores, statistic, _REPS, torch.Generator().manual_seed(0))


def _matrices(frame: pd.DataFrame, column: str) -> Iterator[tuple[tuple[str, str, str], Scores]]:
    """By generator, algorithm and variant, scores [runs, tasks] on the seeds that all of its tasks have."""
    scored = frame[frame["unit"] == "score"]
    for (generator, algorithm, variant), group in scored.groupby(["generator", "algorithm", "variant"]):
        matrix = group.pivot_table(index="seed", columns="task", values=column, aggfunc="first", dropna=False).dropna()
        yield (str(generator), str(algorithm), str(variant)), torch.tensor(matrix.to_numpy(), dtype=torch.float64)


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
