"""How much of the spread over seeds is the fits: cells with a fit for every seed beside those that share one."""

import math
from typing import NamedTuple

import pandas as pd
from scipy.stats import f as fisher

from benchmarks.report.results import LABELS, CellView, Results, once, titled, unfitted
from benchmarks.report.score_rows import ranked
from benchmarks.report.section import Section
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number
from benchmarks.report.verdict import verdicts

__all__ = ["SECTION", "Spread", "fits", "fits_table", "spread"]


class Spread(NamedTuple):
    """Of changes over seeds, pooled over cells."""

    shared: float  # standard deviations
    own: float
    ratio: float  # of variances, own over shared, with its 95 % interval
    low: float
    high: float


@once
def fits(results: Results) -> pd.DataFrame:
    """fits.csv: one row per method's cell that was run both ways: mean and deviation over seeds of its change.

    shared_*: all seeds share one fit of every model; own_*: every seed has its own. The label is that of the latter.
    """
    found = verdicts(results)
    pairs: dict[str, dict[bool, CellView]] = {}
    for cell in results.cells:
        if ranked(cell.generator) and cell.cell_id in found.index:
            pairs.setdefault(_rest(cell), {})[bool(cell.spec["settings"].get("shared_models"))] = cell
    rows = []
    for both in pairs.values():
        if len(both) == 2:
            row: dict[str, object] = dict(both[False].labels)
            for name, cell in (("shared", both[True]), ("own", both[False])):
                own = found.loc[cell.cell_id]
                row |= {f"{name}_{number}": own[column] for number, column in _NUMBERS.items()}
            rows.append(row)
    columns = [*LABELS, *(f"{name}_{number}" for name in ("shared", "own") for number in _NUMBERS)]
    return pd.DataFrame(rows, columns=columns)


_NUMBERS = {"n": "n", "mean": "mean", "std": "std"}


def _rest(cell: CellView) -> str:
    parts = [cell.spec["task"], cell.spec["generator"], cell.spec["algorithm"]]
    return repr([*parts, unfitted(cell.spec["settings"])])


def spread(rows: pd.DataFrame) -> Spread:
    """Pooled deviations of some rows, and the ratio of the variances with the interval of Fisher's F."""
    known = rows.dropna(subset=["shared_std", "own_std"])
    if known.empty:
        return Spread(*[math.nan] * 5)
    freedom, variance = {}, {}
    for name in ("shared", "own"):
        free = known[f"{name}_n"].astype(float) - 1
        freedom[name] = float(free.sum())
        variance[name] = float((free * known[f"{name}_std"] ** 2).sum() / free.sum())
    ratio = variance["own"] / variance["shared"] if variance["shared"] else math.nan
    low, high = (ratio / float(fisher.ppf(share, freedom["own"], freedom["shared"])) for share in (0.975, 0.025))
    return Spread(variance["shared"] ** 0.5, variance["own"] ** 0.5, ratio, low, high)


def fits_table(results: Results) -> Table:
    """One row per generator and one for all of them."""
    table = fits(results)
    groups = [(titled(str(generator)), rows) for generator, rows in table.groupby("generator", sort=False)]
    if len(groups) > 1:
        groups.append(("all of them", table))
    rows = []
    for name, own in groups:
        found = spread(own)
        apart = (own["own_mean"] - own["shared_mean"]).mean()
        rows.append(
            [
                Entry(name),
                as_number(float(len(own)), "{:.0f}"),
                as_number(found.shared),
                as_number(found.own),
                as_interval(found.low, found.high, found.ratio),
                as_number(float(apart), "{:+.1f}"),
            ]
        )
    caption = (
        "Of cells that were run both ways: with one fit of every model for all seeds, and with a fit for every seed. "
        "Standard deviation over seeds of the change against real data only, pooled over cells, and the ratio of the "
        "variances with its 95 % interval (Fisher's F, for normal changes): above 1, fitting adds to the spread, which "
        "intervals of cells with a shared fit leave out. Difference: mean of the change with own fits less that with "
        "the shared one."
    )
    head = ["generator", "cells", "deviation, shared fit", "deviation, own fits", "variance ratio", "difference"]
    return Table("fits", "How much of the spread is the fits", caption, head, rows, "fits")


SECTION = Section("fits", "How much of the spread is the fits", "details", frames={"fits": fits}, tables=[fits_table])
