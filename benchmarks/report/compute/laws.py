"""How errors fall with the compute of training, and where a generator overtakes the ensemble."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.report.compute.series import (
    ACTIONS,
    Series,
    budgets,
    horizons,
    mean_interval,
    series,
    whole_fits,
)
from benchmarks.report.results import Results, once
from metrics.scaling import exponents, lead

__all__ = ["REFERENCE", "SURE", "outcome", "scaling"]

REFERENCE = "ensemble"  # the generator that the others are held against
SURE = 0.95  # share of the resamples that must say the same
_REPS = 2000
_LAW = ["budgets", "fits", "flop_from", "flop_to", "exponent", "low", "high", "last_exponent", "last_low", "last_high"]
_LEAD = ["below", "crossing", "crossing_low", "crossing_high", "share", "common_from", "common_to"]


@once
def scaling(results: Results) -> pd.DataFrame:
    """scaling.csv: one row per series, kind of actions and horizon with a fit that is whole.

    exponent: b of error = a FLOP^-b, last_exponent: the same of the two largest budgets; mean over fits of the line of
    each. below, crossing, ...: `metrics.scaling.lead` against the ensemble of the same task and algorithm; `below` is
    empty for itself, and where there is none or no common range.
    """
    rows = []
    for own in series(results):
        for actions in ACTIONS:
            for horizon in horizons(results):
                flop, error = whole_fits(results, own, actions, horizon)
                if error.empty:
                    continue
                spent, wrong = _tensor(flop), _tensor(error)
                law = mean_interval(results, exponents(spent, wrong))
                last = mean_interval(results, exponents(spent[:, -2:], wrong[:, -2:]))
                where = {"task": own.task, "generator": own.generator, "algorithm": own.algorithm, "series": own.name}
                ends = budgets(own)
                size = [len(own.cells), len(error), ends.iloc[0], ends.iloc[-1]]
                numbers = dict(zip(_LAW, [*size, *law, *last], strict=True))
                beside = _beside(results, own, actions, horizon)
                rows.append(where | {"actions": actions, "horizon": horizon} | numbers | beside)
    head = ["task", "generator", "algorithm", "series", "actions", "horizon"]
    return pd.DataFrame(rows, columns=[*head, *_LAW, *_LEAD]).astype({"below": "object"})


def outcome(row: Mapping[Hashable, Any]) -> str:
    """Of a row of `scaling`: overtakes, is overtaken, stays below or stays above; empty where nothing is compared."""
    if pd.isna(row["below"]):
        return ""
    crosses = not math.isnan(row["crossing"])
    if row["below"]:
        return "overtakes" if crosses else "stays below"
    return "is overtaken" if crosses else "stays above"


def _beside(results: Results, own: Series, actions: str, horizon: int) -> dict[str, Any]:
    """The lead over the ensemble; nothing for itself."""
    others = [other for other in series(results) if other.generator == REFERENCE and other.place == own.place]
    if not others or own.generator == REFERENCE:
        return {}
    curves = []
    for each in (own, others[0]):
        flop, error = whole_fits(results, each, actions, horizon)
        if error.empty:
            return {}
        curves += [_tensor(flop).log().mean(0).exp(), _tensor(error)]
    # always the same resamples: a report that is drawn again has equal bytes
    found = lead(*curves, reps=_REPS, generator=torch.Generator().manual_seed(0))
    if found is None:
        return {}
    numbers = [found.below, found.since, found.low, found.high, found.share, found.first, found.last]
    return dict(zip(_LEAD, numbers, strict=True))


def _tensor(frame: pd.DataFrame) -> Tensor:
    return torch.tensor(frame.to_numpy(), dtype=torch.float64)
