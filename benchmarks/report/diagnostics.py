"""Known ways for synthetic rollouts to go wrong: each with a number, a threshold and a sentence."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from benchmarks.report.results import CellView, Results
from benchmarks.report.tables import Entry, Table, as_number, as_text, labels, without_constant

__all__ = ["SIGNATURES", "Signature", "diagnostics_table"]


@dataclass(frozen=True)
class Signature:
    """A failure that can be seen in the records of a cell."""

    name: str
    number: Callable[[pd.Series], float]  # of the mean over seeds of every record, by metric; NaN: not defined
    threshold: float
    above: bool  # whether numbers above the threshold are the bad ones
    sentence: str  # {} is the number

    def seen(self, number: float) -> bool:
        """Whether the number is on the wrong side."""
        return number > self.threshold if self.above else number < self.threshold


def _last(records: pd.Series, prefix: str) -> float:
    """The value at the longest horizon where it is defined."""
    known = {str(name): x for name, x in records.dropna().items() if str(name).startswith(f"{prefix}/")}
    return float(known[max(known, key=lambda name: int(name.rpartition("/")[2]))]) if known else math.nan


def _against_still(records: pd.Series) -> float:
    return _last(records, "compounding/policy/median") / (_last(records, "compounding/policy/still") or math.nan)


def _survival(records: pd.Series) -> float:
    return abs(_last(records, "compounding/policy/alive") - _last(records, "compounding/policy/lived"))


def _settling(records: pd.Series) -> float:
    rounds = {int(name.rpartition("/")[2]) for name in records.index if name.startswith("generate/residual/")}
    if len(rounds) < 2:
        return math.nan
    return float(records[f"generate/residual/{max(rounds)}"] / records["generate/residual/1"])


def _distance(records: pd.Series) -> float:
    """In multiples of the sampling floor."""
    return _last(records, "distance/wasserstein") / (_last(records, "distance/wasserstein_floor") or math.nan)


def _beside_unseen(records: pd.Series, rows: str) -> float:
    """Distance to the nearest training row, in multiples of that of unseen rows of the data."""
    unseen = records.get("behaviour/nearest/heldout", math.nan) or math.nan
    return float(records.get(f"behaviour/nearest/{rows}", math.nan) / unseen)


SIGNATURES = (
    Signature(
        "nothing learned",
        _against_still,
        0.5,
        True,
        "At the longest horizon the open-loop error is {:.2g} of that of the predictor that nothing moves.",
    ),
    Signature(
        "off the policy's path",
        _distance,
        3.0,
        True,
        "Generated states are {:.2g} times as far from those the policy lives through as two halves of these are "
        "from each other.",
    ),
    Signature(
        "not the policy's actions",
        lambda records: float(records.get("consistency/kl", math.nan)),
        1.0,
        True,
        "Generated actions are {:.2g} nats away from those that the learning policy would take in the same states.",
    ),
    Signature(
        "off the data",
        lambda records: _beside_unseen(records, "made"),
        3.0,
        True,
        "Generated rows are {:.2g} times as far from the training data as unseen rows of the data are.",
    ),
    Signature(
        "narrow data",
        lambda records: _beside_unseen(records, "lived"),
        3.0,
        True,
        "What the policy does in the simulator is {:.2g} times as far from the training data as unseen rows of the "
        "data are: no model was taught there.",
    ),
    Signature(
        "wrong ends",
        _survival,
        0.2,
        True,
        "The shares of rollouts alive at the longest horizon, generated and in the simulator, differ by {:.2g}.",
    ),
    Signature(
        "filter misled",
        lambda records: float(records.get("filter/rank_correlation", math.nan)),
        0.3,
        False,
        "Promised and true returns of rollouts have a rank correlation of {:.2g}: the filter keeps what the model "
        "overrates.",
    ),
    Signature(
        "values blow up",
        lambda records: float(records.get("values/ratio", math.nan)),
        2.0,
        True,
        "The critic's values of generated actions are {:.2g} times the size of its values of recorded ones.",
    ),
    Signature(
        "rounds do not settle",
        _settling,
        1.0,
        True,
        "In the last round actions move {:.2g} times as far as in the first: more rounds make it worse.",
    ),
)


def diagnostics_table(results: Results) -> Table:
    """One row per cell and signature that shows; without any, the table has no rows."""
    last = results.records.sort_values("step").groupby(["cell_id", "seed", "metric"])["value"].last()
    means = last.groupby(["cell_id", "metric"]).mean()
    rows = [row for cell in results.cells for row in _rows(results, cell, means)]
    rules = "; ".join(f"{s.name}: {'above' if s.above else 'below'} {s.threshold:g}" for s in SIGNATURES)
    caption = (
        "Signatures that show in a cell, from the means over its seeds; what is not listed was looked for and not "
        f"seen, or is not defined there. Thresholds are rules of thumb. {rules}."
    )
    head = ["task", "algorithm", "variant", "generator", "signature", "number", "what it says"]
    return without_constant(Table("diagnostics", "Diagnostics", caption, head, rows), "variant")


def _rows(results: Results, cell: CellView, means: pd.Series) -> list[list[Entry]]:
    if cell.cell_id not in means.index:
        return []
    own = means[cell.cell_id]
    rows = []
    for signature in SIGNATURES:
        number = signature.number(own)
        if signature.seen(number):
            text = signature.sentence.format(number)
            rows.append(
                [
                    *labels(results, cell),
                    as_text(cell.generator),
                    as_text(signature.name),
                    as_number(number, "{:.2g}"),
                    as_text(text),
                ]
            )
    return rows
