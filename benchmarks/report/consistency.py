"""Whose actions are in the rollouts, and how far they are from the data: csv frame and tables."""

import math
import re
from collections.abc import Mapping

import pandas as pd

from benchmarks.report.results import Results
from benchmarks.report.tables import Table, as_number, as_text, labels, without_blank, without_constant

__all__ = ["consistency", "consistency_table", "lags", "shift_table"]

# What collections of offline data call the policies behind them; longer names first.
_LEVELS = ("medium-replay", "medium-expert", "full-replay", "random", "medium", "expert", "simple", "human", "cloned")


def consistency(results: Results) -> pd.DataFrame:
    """consistency.csv: one row per cell, seed and metric."""
    index = ["task", "generator", "variant", "algorithm", "seed", "metric"]
    return _rows(results).sort_values(index, ignore_index=True)[[*index, "value"]]


def consistency_table(results: Results) -> Table:
    """One row per cell: generated actions against the learning policy's, and against those of the data."""
    means = _means(results)
    rows = []
    for cell in results.cells:
        if cell.cell_id not in means:
            continue
        numbers = _numbers(means[cell.cell_id])
        rows.append([*labels(results, cell), as_text(cell.generator), *(as_number(x, "{:.3g}") for x in numbers)])
    caption = (
        "Means over seeds. Distance: of generated actions to the policy's greedy ones in the same states. KL: to the "
        "policy, smoothed by noise of 0.2 where it is deterministic, excess cross-entropy where it is Gaussian (below "
        "zero: more greedy than the policy); energy: excess energy distance where the policy can only be sampled. Last "
        "round: how far actions moved in the last round of a generator that works in rounds; actions that are the "
        "policy's own by construction can still be chosen for other states than those that were kept. One step: error "
        f"of single steps from generated states. {_SHIFT}"
    )
    head = ["task", "algorithm", "variant", "generator", *_COLUMNS]
    table = Table("consistency", "Policy consistency and distance to the data", caption, head, rows)
    return without_blank(without_constant(table, "variant"))


def shift_table(results: Results) -> Table:
    """The same by type of dataset: how far do generators and policies leave the data behind?"""
    means = _means(results)
    groups: dict[tuple[str, str], list[list[float]]] = {}
    for cell in results.cells:
        if cell.cell_id in means:
            groups.setdefault((_level(cell.task), cell.generator), []).append(_numbers(means[cell.cell_id]))
    rows = []
    for (level, generator), numbers in sorted(groups.items()):
        average = pd.DataFrame(numbers).mean().tolist()
        cells = as_number(float(len(numbers)), "{:.0f}")
        rows.append([as_text(level), as_text(generator), cells, *(as_number(x, "{:.3g}") for x in average)])
    caption = f"The table above by type of dataset: means over its cells, all algorithms and variants. {_SHIFT}"
    head = ["dataset type", "generator", "cells", *_COLUMNS]
    return without_blank(Table("shift", "Distribution shift by type of dataset", caption, head, rows))


_COLUMNS = [
    *("distance", "KL", "energy", "last round", "one step"),
    *("surprise", "surprise, lived", "nearest", "nearest, lived", "kNN KL", "kNN KL, lived"),
]
_SHIFT = (
    "Surprise: nats by which the actions surprise the behaviour policy more than the data's own do. Nearest: distance "
    "in state and action to the nearest training row, in multiples of that of unseen rows of the data. kNN KL: KL to "
    "the data by nearest neighbours, less that of unseen rows. Lived: of what the policy does in the simulator."
)


def lags(results: Results) -> pd.DataFrame:
    """How far actions moved in the last round of the last call, as records `consistency/lag`."""
    records = results.records
    moved = records[records["metric"].str.fullmatch(r"generate/residual/\d+")]
    rounds = moved.assign(round=moved["metric"].str.extract(r"(\d+)$")[0].astype(int))
    last = rounds.sort_values(["step", "round"]).groupby(["cell_id", "seed"]).tail(1)
    return last.drop(columns="round").assign(metric="consistency/lag")


def _rows(results: Results) -> pd.DataFrame:
    records = results.records
    return pd.concat([records[records["metric"].str.match("(?:consistency|behaviour)/")], lags(results)])


def _means(results: Results) -> dict[str, dict[str, float]]:
    """By cell, the mean over seeds of every metric; the one-step error is the median over horizons."""
    records = results.records
    local = records[records["metric"].str.startswith("compounding/policy/local/")]
    steps = local.groupby(["cell_id", "seed"])["value"].median().groupby("cell_id").mean()
    means: dict[str, dict[str, float]] = {}
    for row in _rows(results).groupby(["cell_id", "metric"], as_index=False)["value"].mean().itertuples():
        means.setdefault(row.cell_id, {"local": steps.get(row.cell_id, math.nan)})[row.metric] = row.value
    return means


def _numbers(own: Mapping[str, float]) -> list[float]:
    def get(name: str) -> float:
        return own.get(name, math.nan)

    def against_unseen(number: str, rows: str) -> float:
        return get(f"behaviour/{number}/{rows}") / (get(f"behaviour/{number}/heldout") or math.nan)

    unseen = get("behaviour/knn_kl/heldout")
    return [
        *(get(f"consistency/{name}") for name in ("distance", "kl", "energy", "lag")),
        get("local"),
        *(get(f"behaviour/excess/{rows}") for rows in ("made", "lived")),
        *(against_unseen("nearest", rows) for rows in ("made", "lived")),
        *(get(f"behaviour/knn_kl/{rows}") - unseen for rows in ("made", "lived")),
    ]


def _level(task: str) -> str:
    """medium-replay of local/hopper-medium-replay; where the name has no such word, its first one."""
    name = re.sub(r"-v\d+$", "", task.rpartition("/")[2])
    return next((level for level in _LEVELS if name.endswith(level)), name.partition("-")[0])
