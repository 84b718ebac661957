"""Known ways for synthetic rollouts to go wrong: each with a number, a threshold and a sentence."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from benchmarks.report.results import CellView, Results, at_end, error_by_cell, once

__all__ = ["SIGNATURES", "Signature", "measurements", "numbers", "signs"]

_COMPARED = {  # curves of the generator, with what they are held against at the same step
    "compounding/policy/alive": "compounding/policy/alive_on_policy",
    "distance/wasserstein": "distance/wasserstein_floor",
}
_RESIDUAL = "generate/residual"


@dataclass(frozen=True)
class Signature:
    """A failure that can be seen in the records of a cell."""

    name: str
    number: Callable[[pd.Series], float]  # of a cell's `numbers`; NaN: not defined
    threshold: float
    above: bool  # whether numbers above the threshold are the bad ones
    sentence: str  # {} is the number

    def seen(self, number: float) -> bool:
        """Whether the number is on the wrong side."""
        return number > self.threshold if self.above else number < self.threshold


def _ratio(own: pd.Series, number: str, unit: str) -> float:
    return own.get(number, math.nan) / (own.get(unit, math.nan) or math.nan)


def _survival(own: pd.Series) -> float:
    one, other = (own.get(f"compounding/policy/{name}", math.nan) for name in ("alive", "alive_on_policy"))
    return abs(one - other)


def _settling(own: pd.Series) -> float:
    return _ratio(own, _RESIDUAL, "first residual") if own.get("rounds", 0) > 1 else math.nan


SIGNATURES = (
    Signature(
        "little learned",
        lambda own: _ratio(own, "error", "error of nothing moving"),
        0.5,
        True,
        "At the last step the open-loop error is {:.2g} of that of the predictor that nothing moves.",
    ),
    Signature(
        "off the policy's path",
        lambda own: _ratio(own, "distance/wasserstein", "distance/wasserstein_floor"),
        3.0,
        True,
        "Generated states are {:.2g} times as far from on-policy ones as two halves of these are from each other.",
    ),
    Signature(
        "not the policy's actions",
        lambda own: own.get("consistency/kl", math.nan),
        1.0,
        True,
        "Generated actions are {:.2g} nats away from those that the learning policy would take in the same states.",
    ),
    Signature(
        "off the data",
        lambda own: _ratio(own, "behaviour/nearest/generated", "behaviour/nearest/heldout"),
        3.0,
        True,
        "Generated rows are {:.2g} times as far from the training data as unseen rows of the data are.",
    ),
    Signature(
        "narrow data",
        lambda own: _ratio(own, "behaviour/nearest/on_policy", "behaviour/nearest/heldout"),
        3.0,
        True,
        "What the policy does in the simulator is {:.2g} times as far from the training data as unseen rows of the "
        "data are: no model was trained there.",
    ),
    Signature(
        "wrong ends",
        _survival,
        0.2,
        True,
        "The shares of rollouts alive at the last step, generated and in the simulator, differ by {:.2g}.",
    ),
    Signature(
        "filter misled",
        lambda own: own.get("filter/rank_correlation", math.nan),
        0.3,
        False,
        "Generated and true returns of rollouts have a rank correlation of {:.2g}: what the filter keeps by the "
        "former is hardly better by the latter.",
    ),
    Signature(
        "values blow up",
        lambda own: own.get("values/ratio", math.nan),
        2.0,
        True,
        "The critic's values of generated actions are {:.2g} times the size of its values of recorded ones.",
    ),
    Signature(
        "rounds do not settle",
        _settling,
        1.0,
        True,
        "In the last round actions move {:.2g} times as far as in the first.",
    ),
)


def numbers(results: Results) -> pd.DataFrame:
    """What signatures look at, by cell: means over seeds of the last measurement, of curves at the last horizon.

    That horizon is the generator's: the last at which its own rollouts have a value.

    `error` is `error_by_cell`; the error of the predictor that nothing moves is taken at the same step in the same way.
    """
    plain = results.records[results.records["horizon"].isna()]
    last = plain.sort_values("step").groupby(["cell_id", "seed", "metric"])["value"].last()
    table = last.groupby(["cell_id", "metric"]).mean().unstack()
    moved = results.last(_RESIDUAL)
    still = at_end(results, "compounding/policy/still")
    columns = {name: at_end(results, name).groupby("cell_id")["value"].mean() for name in (*_COMPARED, _RESIDUAL)}
    for name, reference in _COMPARED.items():
        end = at_end(results, name).groupby("cell_id")["horizon"].first()
        rows = results.last(reference)
        columns[reference] = rows[rows["horizon"] == rows["cell_id"].map(end)].groupby("cell_id")["value"].mean()
    columns["error"] = error_by_cell(results)
    columns["error of nothing moving"] = still.groupby("cell_id")["value"].median()
    columns["first residual"] = moved[moved["horizon"] == 1].groupby("cell_id")["value"].mean()
    columns["rounds"] = moved.groupby("cell_id")["horizon"].max()
    return pd.concat([table, pd.DataFrame(columns)], axis=1).astype(float)


@once
def measurements(results: Results) -> list[tuple[CellView, Signature, float]]:
    """Every cell and signature that is defined there, with its number."""
    found = numbers(results).reindex([cell.cell_id for cell in results.cells])
    rows = [
        (cell, signature, float(signature.number(own)))
        for cell, (_, own) in zip(results.cells, found.iterrows(), strict=True)
        for signature in SIGNATURES
    ]
    return [row for row in rows if not math.isnan(row[-1])]


@once
def signs(results: Results) -> dict[str, list[tuple[Signature, float]]]:
    """By cell, the signatures that show in it, with their numbers; cells in which none shows have an empty list."""
    shown: dict[str, list[tuple[Signature, float]]] = {cell.cell_id: [] for cell in results.cells}
    for cell, signature, number in measurements(results):
        if signature.seen(number):
            shown[cell.cell_id].append((signature, number))
    return shown
