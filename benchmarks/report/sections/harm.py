"""What followed the signs of failure: how often cells in which one shows were harmed, with thresholds fitted again."""

import math

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.report.results import Results, once
from benchmarks.report.section import Section
from benchmarks.report.signatures import SIGNATURES, Signature, measurements
from benchmarks.report.study.association import Confusion, best_threshold, confusion, share_interval
from benchmarks.report.study.quantities import first_half, measured
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number

__all__ = ["SECTION", "harm", "harm_table"]

_ENOUGH = 2  # data sets: one to fit a threshold on, one to judge it on
_RULES = {"thumb": "rule of thumb", "thumb, second half": "the same, second half", "fitted": "fitted on the first half"}
_COLUMNS = [
    *("signature", "rule", "threshold", "cells", "shown", "harmed", "both"),
    *("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high", "youden"),
]


@once
def harm(results: Results) -> pd.DataFrame:
    """harm.csv: one row per signature and rule, of the methods' cells in regimes that hold.

    rule: thumb, the usual threshold on all cells; thumb, second half; fitted, the threshold with the highest Youden
    index on the first half of the data sets, judged on the second. A cell is harmed if the 95 % interval of its change
    lies below 0. No rows below two data sets.
    """
    cells = measured(results)
    harmed = cells["high"] < 0
    rows = []
    if cells["data"].nunique() >= _ENOUGH:
        first = first_half(cells["data"])
        for sign in SIGNATURES:
            own = {cell.cell_id: number for cell, other, number in measurements(results) if other is sign}
            x = pd.Series(own, dtype="float64").reindex(cells.index).dropna()
            if len(x):
                rows += _rows(sign, x, harmed.loc[x.index], first.loc[x.index])
    return pd.DataFrame(rows, columns=_COLUMNS)


def _rows(sign: Signature, x: pd.Series, harmed: pd.Series, first: pd.Series) -> list[list[object]]:
    fitted = best_threshold(*_tensors(x[first], harmed[first]), above=sign.above, usual=sign.threshold)
    choices = (
        ("thumb", sign.threshold, x, harmed),
        ("thumb, second half", sign.threshold, x[~first], harmed[~first]),
        ("fitted", fitted, x[~first], harmed[~first]),
    )
    found = []
    for rule, threshold, own, hurt in choices:
        if math.isnan(threshold):
            found.append([sign.name, rule, threshold, len(own), *[math.nan] * 10])
            continue
        values, hurts = _tensors(own, hurt)
        case = confusion(values > threshold if sign.above else values < threshold, hurts)
        found.append([sign.name, rule, threshold, len(own), case.shown, case.harmed, case.both, *_shares(case)])
    return found


def _tensors(x: pd.Series, harmed: pd.Series) -> tuple[Float[Tensor, " N"], Bool[Tensor, " N"]]:
    return torch.tensor(x.to_numpy(dtype=float)), torch.tensor(harmed.to_numpy(dtype=bool))


def _shares(case: Confusion) -> list[float]:
    precision = [case.precision, *share_interval(case.both, case.shown)]
    return [*precision, case.recall, *share_interval(case.both, case.harmed), case.youden]


def harm_table(results: Results) -> Table:
    """Three rows per signature: its usual threshold on all cells, and both thresholds on the second half."""
    table = harm(results)
    cells = measured(results)
    rows = [
        [
            Entry(str(row["signature"])),
            Entry(_RULES[row["rule"]]),
            as_number(row["threshold"], "{:.2g}"),
            *(as_number(float(row[name]), "{:.0f}") for name in ("cells", "shown", "harmed", "both")),
            as_interval(row["precision_low"], row["precision_high"], row["precision"]),
            as_interval(row["recall_low"], row["recall_high"], row["recall"]),
            as_number(row["youden"], "{:+.2f}"),
        ]
        for row in table.to_dict("records")
    ]
    base = f"{(cells['high'] < 0).sum()} of {len(cells)}" if len(cells) else "none"
    caption = (
        "Of the methods' cells in regimes that hold. Harmed: the 95 % interval of the change against real data only "
        f"lies below 0, uncorrected ({base}: what a sign that says nothing would have as precision). Precision: share "
        "of the cells in which the sign shows that were harmed; recall: share of the harmed in which it shows; with "
        "Wilson's 95 % intervals, as if cells were independent: those of a data set are not, so read them as too "
        "narrow. Youden: recall less the share of the others in which it shows; 1 is perfect, 0 says nothing. Halves: "
        "every other data set by the hash of its name; fitted: the threshold of the highest Youden index on the first "
        "half, judged on the second; a dash where no threshold there is better than chance."
    )
    head = ["signature", "threshold", "at", "cells", "shows", "harmed", "both", "precision", "recall", "Youden"]
    return Table("harm", "What followed the signs of failure", caption, head, rows, "harm")


SECTION = Section("harm", "What followed the signs of failure", "why", frames={"harm": harm}, tables=[harm_table])
