"""Distance of generated rows to the data over levels of data, from random to expert, and whether gains go with it."""

from collections.abc import Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks.report.figures.palette import BASELINE
from benchmarks.report.figures.style import as_line, legend, line_styles, log_ticks, panels, plain
from benchmarks.report.regime import judged
from benchmarks.report.results import LABELS, Results, once
from benchmarks.report.score_rows import ranked
from benchmarks.report.section import Plot, Section
from benchmarks.report.study.association import FEW_CLUSTERS, correlation, correlation_within
from benchmarks.report.study.quantities import LEVELS, codes, data_name, level
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number
from benchmarks.report.verdict import verdicts

__all__ = ["SECTION", "distances", "level_table", "levels"]

_ENOUGH = 3  # levels of one environment
_DISTANCES = {"nearest": "nearest", "surprise": "surprise", "knn_kl": "kNN KL"}  # column: name
_SHOWN = "nearest"  # in the figure


@once
def levels(results: Results) -> pd.DataFrame:
    """levels.csv: one row per method's cell of an environment that has three levels: distances, change, regime.

    nearest: distance of generated rows to the nearest training row, over that of unseen rows; surprise and knn_kl: nats
    above unseen rows of the data.
    """
    means = results.group("behaviour/").groupby(["cell_id", "metric"])["value"].mean().unstack()
    found = verdicts(results)
    regime = judged(results)
    rows = []
    for cell in results.cells:
        if ranked(cell.generator) and cell.cell_id in means.index and level(cell.task) in LEVELS:
            own = means.loc[cell.cell_id].reindex(_NEEDED)
            change = found.reindex([cell.cell_id]).iloc[0]
            rows.append(
                {
                    **cell.labels,
                    "environment": cell.task.removesuffix(f"-{level(cell.task)}"),
                    "level": level(cell.task),
                    "data": data_name(cell),
                    "nearest": own["nearest/generated"] / own["nearest/heldout"],
                    "surprise": own["excess/generated"],
                    "knn_kl": own["knn_kl/generated"] - own["knn_kl/heldout"],
                    **{name: change[column] for name, column in _CHANGE.items()},
                    "regime": regime.get(cell.cell_id, "not shown"),
                }
            )
    columns = [*LABELS, "environment", "level", "data", *_DISTANCES, *_CHANGE, "regime"]
    table = pd.DataFrame(rows, columns=columns)
    several = table.groupby("environment")["level"].transform("nunique") >= _ENOUGH
    return table[several.astype(bool)].reset_index(drop=True)


_NEEDED = ["nearest/generated", "nearest/heldout", "excess/generated", "knn_kl/generated", "knn_kl/heldout"]
_CHANGE = {"change": "mean", "low": "low", "high": "high"}


@once
def distances(results: Results) -> pd.DataFrame:
    """distances.csv: one row per distance, regimes and kind: rank correlation with the change, low, high, and of what.

    kind all: over all cells; levels: for each method along the levels of an environment, mean over environments.
    """
    table = levels(results)
    rows = []
    for column in _DISTANCES:
        for which, own in (("all", table), ("that hold", table[table["regime"] == "holds"])):
            known = own.dropna(subset=[column, "change"])
            if len(known) > 1:
                x, y = (torch.tensor(known[each].to_numpy(), dtype=torch.float64) for each in (column, "change"))
                method = codes(known["environment"] + known["generator"] + known["algorithm"] + known["variant"])
                over = correlation(x, y, codes(known["data"]), torch.Generator().manual_seed(0))
                along = correlation_within(x, y, method, codes(known["environment"]))
                rows += [[column, which, kind, *found] for kind, found in (("all", over), ("levels", along))]
    columns = ["distance", "regimes", "kind", "correlation", "low", "high", "cells", "clusters"]
    return pd.DataFrame(rows, columns=columns)


def level_table(results: Results) -> Table:
    """One row per distance: its rank correlation with the change, over all cells and over the levels of one method."""
    rows = []
    for (column, which), own in distances(results).groupby(["distance", "regimes"], sort=False):
        over, along = (own[own["kind"] == kind].to_dict("records")[0] for kind in ("all", "levels"))
        numbers = [as_interval(each["low"], each["high"], each["correlation"], True) for each in (over, along)]
        sizes = [as_number(float(over[each]), "{:.0f}") for each in ("cells", "clusters")]
        rows.append([Entry(_DISTANCES[str(column)]), Entry(str(which)), *numbers, *sizes])
    caption = (
        "Do gains go with the distance of generated rows to the data? Spearman's rank correlation of a distance with "
        "the change in score. Over all cells: every task and method, 95 % bootstrap over data sets. Over levels: for "
        "each method and environment along its levels from random to expert, mean over environments. No interval below "
        f"{FEW_CLUSTERS} data sets or environments. Changes in regimes that do not hold judge no generator: rows that "
        "hold are without them."
    )
    head = ["distance to the data", "regimes", "over all cells", "over levels", "cells", "data sets"]
    return Table("levels", "Distance to the data and gains", caption, head, rows, "levels")


def _environments(results: Results) -> list[tuple[str, str]]:
    """Environments and algorithms with enough levels."""
    table = levels(results)
    return list(dict.fromkeys(zip(table["environment"], table["algorithm"], strict=True)))


def _figure(results: Results, pairs: Sequence[tuple[str, str]]) -> Figure:
    """Above the distance, below the change in score; hollow where the regime does not hold."""
    table = levels(results)
    styles = line_styles(results)
    figure, grid = panels(2, len(pairs), 1.9, sharex="col")
    for place, (environment, algorithm) in enumerate(pairs):
        own = table[(table["environment"] == environment) & (table["algorithm"] == algorithm)]
        there = [name for name in LEVELS if name in set(own["level"])]
        for key, rows in own.groupby(["generator", "variant"], sort=False):
            at = rows.set_index("level").loc[lambda frame: ~frame.index.duplicated()].reindex(there)
            style = styles[str(key[0]), str(key[1])]
            for ax, column in zip(grid[:, place], (_SHOWN, "change"), strict=True):
                ax.plot(range(len(there)), at[column], **as_line(style, 1) | {"marker": "none", "linewidth": 0.8})
                hollow = (at["regime"] != "holds").to_numpy()
                for x, value, open_ in zip(range(len(there)), at[column], hollow, strict=True):
                    face = "none" if open_ else style.colour
                    ax.plot(x, value, style.marker, color=style.colour, markerfacecolor=face, markersize=4)
        top, bottom = grid[:, place]
        top.set(yscale="log", title=plain(f"{environment.rpartition('/')[2]} · {algorithm}", 40))
        known = own[_SHOWN].dropna()
        log_ticks(top.yaxis, known.min(), known.max())
        bottom.axhline(0, color=BASELINE, linestyle="--", linewidth=1)
        bottom.set_xticks(range(len(there)), there, rotation=35, ha="right")
    grid[0, 0].set_ylabel("distance to the data")
    grid[1, 0].set_ylabel("change in score")
    legend(figure, styles, table)
    return figure


def _caption(results: Results) -> str:
    return (
        "Above: distance of generated rows, in state and action, to the nearest training row, in multiples of that of "
        "unseen rows of the data; below: change in score against real data only. Levels from the worst behaviour "
        "policies to the best. Hollow: the regime does not hold, so that the change judges no generator."
    )


def _alt(results: Results, pairs: Sequence[tuple[str, str]]) -> str:
    table = levels(results)
    said = []
    for environment, algorithm in pairs:
        own = table[(table["environment"] == environment) & (table["algorithm"] == algorithm)]
        by_level = own.groupby("level")[_SHOWN].median().reindex([x for x in LEVELS if x in set(own["level"])])
        told = ", ".join(f"{name} {as_number(value, '{:.2g}').text}" for name, value in by_level.items())
        said.append(f"{environment.rpartition('/')[2]}, {algorithm}: median distance to the data {told}")
    return ". ".join(said) + "."


SECTION = Section(
    "levels",
    "Distance to the data and gains",
    "why",
    frames={"levels": levels, "distances": distances},
    tables=[level_table],
    figures=[Plot("levels", _caption, _alt, "levels", rows=_environments, figure=_figure, per_page=3)],
)
