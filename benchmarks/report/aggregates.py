"""Statistics over tasks: aggregates with intervals, and the scores [runs, tasks] that they are made of."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.report.results import Results, once
from benchmarks.report.scores import finals
from benchmarks.report.text import natural
from metrics.intervals import AGGREGATES, interval

__all__ = ["aggregate", "compared_algorithms", "complete", "method"]

Scores = Float[Tensor, "runs tasks"]


@once
def aggregate(results: Results) -> pd.DataFrame:
    """aggregate.csv: over the tasks with reference returns, on the seeds that every one of these tasks has.

    Scores are in percent of the reference, `optimality_gap` in parts of it. `interval` is the method of low and high.
    """
    rows = []
    for (generator, algorithm, variant), scores in _matrices(finals(results), "final"):
        for metric, statistic in AGGREGATES.items():
            x = scores / 100 if metric == "optimality_gap" else scores
            numbers = [number.item() for number in (statistic(x), *interval(x, metric, **method(results)))]
            rows.append([generator, algorithm, metric, *numbers, *scores.shape, variant, results.interval])
    columns = ["generator", "algorithm", "metric", "value", "low", "high", "n_seeds", "n_tasks", "variant", "interval"]
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


def method(results: Results) -> dict[str, Any]:
    """For `metrics.intervals`; a bootstrap has always the same resamples, so a report drawn again has equal bytes."""
    return {"method": results.interval, "generator": torch.Generator().manual_seed(0)}


def _matrices(frame: pd.DataFrame, column: str) -> Iterator[tuple[tuple[str, str, str], Scores]]:
    """By generator, algorithm and variant, scores [runs, tasks] on the seeds that all of its tasks have."""
    scored = frame[frame["unit"] == "score"]
    for (generator, algorithm, variant), group in scored.groupby(["generator", "algorithm", "variant"]):
        matrix = group.pivot_table(index="seed", columns="task", values=column, aggfunc="first", dropna=False).dropna()
        yield (str(generator), str(algorithm), str(variant)), torch.tensor(matrix.to_numpy(), dtype=torch.float64)
