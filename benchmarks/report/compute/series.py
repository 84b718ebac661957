"""Cells that differ in the length of their models' fits alone, ordered by the FLOP of these, and their errors."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from benchmarks.report.aggregates import method
from benchmarks.report.results import LABELS, CellView, Results, generator_order, once, titled
from benchmarks.report.text import natural
from core.config import flat
from metrics.intervals import interval

__all__ = ["ACTIONS", "Series", "budgets", "compute", "errors", "horizons", "mean_interval", "series", "whole_fits"]

ACTIONS = ("policy", "logged")
_HORIZONS = (1, 10, 30)
_LENGTHS = ("updates", "max_updates", "unroll_updates", "patience", "check_every")  # last parts of fields of models
_APART = 1.01  # times the FLOP of the budget before: else nothing tells the two apart


@dataclass(frozen=True)
class Series:
    """A generator on one task under one algorithm, at several budgets of its models."""

    task: str
    algorithm: str
    generator: str
    name: str  # what the variants of its cells have in common; empty: nothing
    cells: tuple[CellView, ...]  # by ascending budget
    flop: pd.DataFrame  # of the fits of all models: a row per seed, a column per cell; NaN: not known

    @property
    def place(self) -> tuple[str, str]:
        """Task and algorithm."""
        return self.task, self.algorithm

    @property
    def label(self) -> str:
        """How tables and sentences call it."""
        return f"{titled(self.generator)} [{self.name}]" if self.name else titled(self.generator)


@once
def series(results: Results) -> list[Series]:
    """Every group of two budgets or more, in the order of tables; budgets have to differ in FLOP."""
    rows = results.last("cost/model_flop")
    spent = rows[rows["value"] > 0].pivot(index="cell_id", columns="seed", values="value")
    groups: dict[tuple[str, ...], list[CellView]] = {}
    for cell in results.cells:
        if cell.cell_id in spent.index:
            groups.setdefault((cell.task, cell.algorithm, cell.generator, _without_lengths(cell.spec)), []).append(cell)
    found = []
    names = Counter[tuple[str, ...]]()
    for (task, algorithm, generator, _), cells in groups.items():
        flop = _budget(spent.loc[[cell.cell_id for cell in cells]]).sort_values()
        steps = flop.to_numpy()[1:] / flop.to_numpy()[:-1]
        if len(cells) < 2 or (steps < _APART).any():
            continue
        name = _common([cell.variant for cell in cells])
        names[task, algorithm, generator, name] += 1
        if (again := names[task, algorithm, generator, name]) > 1:
            name = f"{name} #{again}".strip()
        by_id = {cell.cell_id: cell for cell in cells}
        ordered = tuple(by_id[str(cell_id)] for cell_id in flop.index)
        found.append(Series(task, algorithm, generator, name, ordered, spent.loc[flop.index].T))
    return sorted(found, key=lambda own: (*map(natural, own.place), generator_order(own.generator), natural(own.name)))


def budgets(own: Series) -> pd.Series:
    """FLOP by cell, ascending: geometric mean over seeds."""
    return _budget(own.flop.T)


@once
def horizons(results: Results) -> list[int]:
    """The steps that are shown: 1, 10 and 30, as far as rollouts are judged."""
    rows = [frame["horizon"].max() for frame in errors(results).values() if len(frame)]
    return sorted({min(h, int(max(rows))) for h in _HORIZONS}) if rows else []


@once
def errors(results: Results) -> Mapping[str, pd.DataFrame]:
    """By actions, median open-loop errors of the cells of series, if positive: cell_id, seed, horizon, value."""
    ids = {cell.cell_id for own in series(results) for cell in own.cells}
    found = {}
    for actions in ACTIONS:
        rows = results.last(f"compounding/{actions}/median").dropna(subset=["value", "horizon"])
        known = rows["cell_id"].isin(ids) & (rows["value"] > 0) & (rows["value"] < math.inf)
        found[actions] = rows.loc[known, ["cell_id", "seed", "horizon", "value"]]
    return found


def whole_fits(results: Results, own: Series, actions: str, horizon: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(FLOP, error) of the seeds that have both at every budget: a row per seed, a column per cell."""
    rows = errors(results)[actions]
    rows = rows[(rows["horizon"] == horizon) & rows["cell_id"].isin(own.flop.columns)]
    error = rows.pivot(index="seed", columns="cell_id", values="value").reindex(columns=own.flop.columns).dropna()
    flop = own.flop.reindex(error.index).dropna()
    return flop, error.loc[flop.index]


@once
def compute(results: Results) -> pd.DataFrame:
    """compute.csv: one row per cell of a series, kind of actions and horizon that is shown.

    error: geometric mean over fits, with the interval of the mean of logarithms.
    """
    per_transition = results.last("cost/flops_per_transition").groupby("cell_id")["value"].mean()
    rows = []
    for own in series(results):
        flop = budgets(own)
        for actions in ACTIONS:
            known = errors(results)[actions]
            for horizon in horizons(results):
                for cell in own.cells:
                    fits = known[(known["cell_id"] == cell.cell_id) & (known["horizon"] == horizon)]["value"]
                    if fits.empty:
                        continue
                    logs = torch.tensor(fits.to_numpy(), dtype=torch.float64).log()
                    mean, low, high = torch.tensor(mean_interval(results, logs), dtype=torch.float64).exp().tolist()
                    spent = {"train_flop": flop[cell.cell_id], "transition_flop": per_transition.get(cell.cell_id)}
                    numbers = {"n": len(fits), **spent, "error": mean, "low": low, "high": high}
                    where = {"series": own.name, "actions": actions, "horizon": horizon}
                    rows.append(cell.labels | where | numbers)
    columns = [*LABELS, "series", "actions", "horizon", "n", "train_flop", "transition_flop", "error", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"transition_flop": "float64"})


def mean_interval(results: Results, values: torch.Tensor) -> tuple[float, float, float]:
    """(mean, low, high) of one number per fit, by the report's method of intervals; NaN ends below two fits."""
    low, high = interval(values[:, None], "mean", **method(results))
    return values.mean().item(), low.item(), high.item()


def _budget(flop: pd.DataFrame) -> pd.Series:
    """Geometric mean of every row."""
    return flop.map(math.log, na_action="ignore").mean(axis=1).map(math.exp)


def _without_lengths(spec: Mapping[str, Any]) -> str:
    """Everything that determines a cell but how long the models of its generator learn."""
    kept = [
        (name, value)
        for name, value in flat(spec)
        if not (name.startswith("generator.") and name.count(".") > 1 and name.rpartition(".")[2] in _LENGTHS)
    ]
    return str(sorted(kept, key=lambda item: item[0]))


def _common(variants: list[str]) -> str:
    """The parts that all of them have, in the order of the first."""
    parts = [variant.split(", ") for variant in variants]
    return ", ".join(part for part in parts[0] if part != "default" and all(part in other for other in parts))
