"""Whose actions are in the rollouts, and how far they are from the data."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.figures.scatter import PER_PAGE, panels_of, points, scatter
from benchmarks.report.figures.style import log_ticks
from benchmarks.report.results import CEILING, Results, error_at_end, once
from benchmarks.report.scores import FEW_SEEDS
from benchmarks.report.section import Plot, Section
from benchmarks.report.study.quantities import level
from benchmarks.report.tables.table import Entry, Table, as_number, cell_table, without_blank

__all__ = ["DETAILS", "SECTION", "consistency", "consistency_table", "frontier", "shift_table"]

_LAG = "generate/lag"
_ANY = ""  # in place of a generator's name
_COLUMNS = [
    *("distance", "KL", "energy", "lag", "one step", "surprise", "surprise, on-policy"),
    *("nearest", "nearest, on-policy", "kNN KL", "kNN KL, on-policy"),
]
_BY_TYPE = "Distance to the data by type of dataset"
_SHIFT = (
    "Surprise: nats by which the actions surprise the behaviour policy more than the data's own do. Nearest: distance "
    "in state and action to the nearest training row, in multiples of that of unseen rows of the data. kNN KL: KL to "
    "the data by nearest neighbours, less that of unseen rows. On-policy: of what the policy does in the simulator."
)


def consistency(results: Results) -> pd.DataFrame:
    """consistency.csv: one row per cell, seed and metric."""
    index = ["task", "generator", "variant", "algorithm", "seed", "metric"]
    return _rows(results).sort_values(index, ignore_index=True)[[*index, "value"]]


def consistency_table(results: Results) -> Table:
    """One row per cell: generated actions against the learning policy's, and against those of the data."""
    means = _means(results)
    rows = [
        (cell, [as_number(x) for x in _numbers(means[cell.cell_id])]) for cell in results.cells if cell.cell_id in means
    ]
    caption = (
        "Means over seeds. Distance: of generated actions to the policy's greedy ones in the same states. KL: to the "
        "policy, smoothed by noise of 0.2 where it is deterministic, excess cross-entropy where it is Gaussian (below "
        "zero: more greedy than the policy); energy: excess energy distance where the policy can only be sampled. Lag: "
        "how far actions moved in the last round of a generator that works in rounds; actions that are the policy's "
        "own by construction can still be chosen for other states than those that were kept. One step: error of single "
        f"steps from generated states. {_SHIFT}"
    )
    table = cell_table(results, "consistency", "Generated actions and rows, by cell", caption, _COLUMNS, rows)
    return replace(without_blank(table), data="consistency")


def shift_table(results: Results) -> Table:
    """The same by type of dataset; no rows where no generator has several cells of a type: they would repeat."""
    means = _means(results)
    groups: dict[tuple[str, str], list[list[float]]] = {}
    where = defaultdict[tuple[str, str], set[tuple[str, str]]](set)
    for cell in results.cells:
        if cell.cell_id in means:
            for generator in (cell.generator, _ANY):
                where[level(cell.task), generator].add((cell.task, cell.algorithm))
            groups.setdefault((level(cell.task), cell.generator), []).append(_numbers(means[cell.cell_id]))
    rows = []
    if all(len(numbers) == 1 for numbers in groups.values()):
        groups = {}
    for (kind, generator), numbers in sorted(groups.items()):
        average = pd.DataFrame(numbers).mean().tolist()
        lacks = len(where[kind, _ANY]) - len(where[kind, generator])
        cells = Entry(f"{len(numbers)}{f'§ lacks {lacks}' if lacks else ''}", value=float(len(numbers)))
        rows.append([Entry(kind), Entry(generator), cells, *(as_number(x) for x in average)])
    caption = (
        "The table of generated actions and rows by type of dataset: means over its cells, all algorithms and "
        f"variants. § lacks so many of the tasks x algorithms that others have: not comparable with theirs. {_SHIFT}"
    )
    head = ["dataset type", "generator", "cells", *_COLUMNS]
    return without_blank(Table("shift", _BY_TYPE, caption, head, rows, "consistency"))


@once
def frontier(results: Results) -> pd.DataFrame:
    """One row per cell: distance of generated actions to the policy's, open-loop error at the cell's last step.

    Both with their range over seeds. Without cells that generate single transitions, in which no error can build up,
    and without the ceiling, which is exact.
    """
    distance = results.last("consistency/distance").groupby("cell_id")["value"]
    rows = error_at_end(results).query("horizon > 1 and generator != @CEILING")
    error = rows.groupby("cell_id")["value"]
    columns = {"distance": distance.mean(), "error": error.median(), "n": error.count()}
    for name, by_cell in (("distance", distance), ("error", error)):
        columns |= {f"{name}_low": by_cell.min(), f"{name}_high": by_cell.max()}
    return points(results, columns)


def _rows(results: Results) -> pd.DataFrame:
    measured = results.records["metric"].str.match("(?:consistency|behaviour)/")
    return pd.concat([results.records[measured], results.last(_LAG)])


@once
def _means(results: Results) -> dict[str, dict[str, float]]:
    """By cell, the mean over seeds of every metric; the one-step error is the median over horizons."""
    local = results.last("compounding/policy/local")
    steps = local.groupby(["cell_id", "seed"])["value"].median().groupby("cell_id").mean()
    means: dict[str, dict[str, float]] = {}
    for row in _rows(results).groupby(["cell_id", "metric"], as_index=False)["value"].mean().itertuples():
        means.setdefault(row.cell_id, {"local": steps.get(row.cell_id, math.nan)})[row.metric] = row.value
    return means


def _numbers(own: Mapping[str, float]) -> list[float]:
    """In the order of _COLUMNS."""

    def get(name: str) -> float:
        return own.get(name, math.nan)

    unseen = get("behaviour/nearest/heldout") or math.nan
    unseen_kl = get("behaviour/knn_kl/heldout")
    kinds = ("generated", "on_policy")
    return [
        *(get(f"consistency/{name}") for name in ("distance", "kl", "energy")),
        get(_LAG),
        get("local"),
        *(get(f"behaviour/excess/{rows}") for rows in kinds),
        *(get(f"behaviour/nearest/{rows}") / unseen for rows in kinds),
        *(get(f"behaviour/knn_kl/{rows}") - unseen_kl for rows in kinds),
    ]


def _figure(results: Results, pairs: list[tuple[str, str]]) -> Figure:
    """Lower left is better: actions that are the policy's, and states that are the simulator's."""
    figure, axes = scatter(results, frontier(results), pairs, "distance", "error")
    for ax, (task, algorithm) in zip(axes, pairs, strict=True):
        frame = frontier(results)
        own = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm)]
        ax.set_xscale("symlog", linthresh=1e-3)
        ax.set_xlim(-2e-4, 2 * max(1e-3, own["distance_high"].max()))
        ax.set(yscale="log", xlabel="distance of actions to the policy's", ylabel="open-loop error at the last step")
        log_ticks(ax.yaxis, own["error_low"].min(), own["error_high"].max())
    return figure


def _caption(results: Results) -> str:
    single = error_at_end(results).query("horizon == 1")["generator"].unique()
    left_out = f" Left out: {', '.join(single)}, whose rollouts have one step." if len(single) else ""
    if any(cell.generator == CEILING for cell in results.cells):
        left_out += " The ceiling is left out, too: it is exact."
    few = f", hollow below {FEW_SEEDS}" if (frontier(results)["n"] < FEW_SEEDS).any() else ""
    return (
        "One point per cell: root mean square distance of generated actions to the learning policy's in the same "
        "states (mean over seeds), against the open-loop error at the last step of the cell's rollouts (median over "
        f"rollouts and seeds); bars: range of the seeds{few}. Lower left is better.{left_out}"
    )


def _alt(results: Results, pairs: list[tuple[str, str]]) -> str:
    """The least wrong and the least consistent of every panel."""
    frame = frontier(results)
    said = []
    for task, algorithm in pairs:
        own = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm)]
        if own.empty:
            continue
        right, far = (own.sort_values(column).iloc[place] for column, place in (("error", 0), ("distance", -1)))
        said.append(
            f"{task}, {algorithm}: the smallest error at the last step is {right['error']:.2g} ({_named(right)}, "
            f"actions {right['distance']:.2g} from the policy's); farthest from the policy's actions is {_named(far)} "
            f"({far['distance']:.2g}, error {far['error']:.2g})"
        )
    return f"Error against distance of actions to the policy's. {'; '.join(said)}."


def _named(row: pd.Series) -> str:
    return str(row["generator"]) if row["variant"] == "default" else f"{row['generator']} {row['variant']}"


SECTION = Section(
    "consistency",
    "Policy consistency and distance to the data",
    "why",
    frames={"consistency": consistency},
    tables=[consistency_table],
    figures=[
        Plot(
            "frontier",
            _caption,
            _alt,
            "consistency",
            rows=lambda results: panels_of(frontier(results)),
            figure=_figure,
            per_page=PER_PAGE,
        )
    ],
)
DETAILS = Section("shift", _BY_TYPE, "details", tables=[shift_table])
