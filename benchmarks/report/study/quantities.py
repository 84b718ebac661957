"""What was measured of every cell's rollouts, beside the change in its score: the cells that the study compares.

They are the methods' cells with a score in regimes that hold. Cells of one data set (a task with its rows) share data,
models and runs of generator none: they are one cluster.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.report.regime import judged
from benchmarks.report.results import CellView, Results, at_end, once
from benchmarks.report.score_rows import ranked
from benchmarks.report.scores import partners
from benchmarks.report.signatures import SIGNATURES, numbers
from benchmarks.report.verdict import verdicts

__all__ = ["LEVELS", "QUANTITIES", "codes", "data_name", "first_half", "level", "measured"]

# What collections of offline data call the policies behind them; longer names first.
_WORDS = ("medium-replay", "medium-expert", "full-replay", "random", "medium", "expert", "simple", "human", "cloned")
LEVELS = ("random", "medium-replay", "medium", "medium-expert", "expert")  # from the worst policies to the best

_PARTS = ("gap", "reward", "dynamics", "termination", "feedback")
_STEPS = (1, 10)  # at which errors are taken beside the last one
_SIGNS = {sign.name: sign for sign in SIGNATURES}
_Number = Callable[[pd.Series], float]  # of a cell's numbers


def _plain(name: str) -> _Number:
    return lambda own: float(own.get(name, math.nan))


def _above_unseen(name: str) -> _Number:
    """Of generated rows, less that of unseen rows of the data."""
    return lambda own: float(own.get(f"{name}/generated", math.nan) - own.get(f"{name}/heldout", math.nan))


QUANTITIES: Mapping[str, _Number] = {  # by name in tables; all but the filter's: larger is supposed to be worse
    **{f"error, h = {step}": _plain(f"error/{step}") for step in _STEPS},
    "error, last step": _plain("error"),
    "error, logged actions": _plain("error/logged"),
    "error against nothing moving": _SIGNS["little learned"].number,
    "distance to the policy's states": _SIGNS["off the policy's path"].number,
    "distance to the policy's actions": _plain("consistency/distance"),
    "KL to the policy": _plain("consistency/kl"),
    "distance to the data": _SIGNS["off the data"].number,
    "kNN KL to the data": _above_unseen("behaviour/knn_kl"),
    "surprise to the behaviour": _plain("behaviour/excess/generated"),
    "return gap": _plain("returns/gap"),
    "gap by reward": _plain("returns/reward"),
    "gap by dynamics": _plain("returns/dynamics"),
    "gap by termination": _plain("returns/termination"),
    "gap by feedback": _plain("returns/feedback"),
    "wrong ends": _SIGNS["wrong ends"].number,
    "filter's rank correlation": _plain("filter/rank_correlation"),
    "value ratio": _plain("values/ratio"),
}


@once
def measured(results: Results) -> pd.DataFrame:
    """study.csv: one row per method's cell with a score in a regime that holds, indexed by cell.

    task, generator, algorithm, variant, data (task and rows), change, low, high, verdict, and the quantities; parts of
    the return gap are sizes per step, in units of the task's mean on-policy return of a step.
    """
    regime = judged(results)
    found = verdicts(results)
    cells = [
        cell
        for cell in results.cells
        if ranked(cell.generator)
        and regime.get(cell.cell_id) == "holds"
        and cell.cell_id in found.index
        and found.loc[cell.cell_id, "unit"] == "score"
    ]
    known = _numbers(results).reindex([cell.cell_id for cell in cells])
    partner = partners(results)
    rows = {}
    for cell, (_, own) in zip(cells, known.iterrows(), strict=True):
        gain = found.loc[cell.cell_id]
        rows[cell.cell_id] = {
            **cell.labels,
            "data": data_name(cell),
            "regime": partner[cell.cell_id],
            **{name: gain[column] for name, column in _GAIN.items()},
            **{name: number(own) for name, number in QUANTITIES.items()},
        }
    columns = ["task", "generator", "algorithm", "variant", "data", "regime", *_GAIN, *QUANTITIES]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


_GAIN = {"change": "mean", "low": "low", "high": "high", "verdict": "verdict"}


@once
def _numbers(results: Results) -> pd.DataFrame:
    """Those of `signatures.numbers`, errors at further steps, and parts of the return gap per step."""
    columns = {}
    curve = results.last("compounding/policy/median")
    for step in _STEPS:
        columns[f"error/{step}"] = curve[curve["horizon"] == step].groupby("cell_id")["value"].median()
    columns["error/logged"] = at_end(results, "compounding/logged/median").groupby("cell_id")["value"].median()
    paid = _per_step(results, "on_policy")
    tasks = {cell.cell_id: cell.task for cell in results.cells}
    task = paid.index.map(tasks)
    unit = paid.groupby(task).transform("mean") if len(paid) else paid
    for part in _PARTS:
        columns[f"returns/{part}"] = _per_step(results, part) / unit
    return pd.concat([numbers(results), pd.DataFrame(columns)], axis=1)


def _per_step(results: Results, name: str) -> pd.Series:
    """By cell, the size of the mean over seeds at the last step, divided by the steps."""
    rows = at_end(results, f"returns/{name}").groupby("cell_id")[["value", "horizon"]].mean()
    size: pd.Series = rows["value"].abs() / rows["horizon"].astype(float)
    return size


def data_name(cell: CellView) -> str:
    """The data of a cell: its task and what the settings say of its rows."""
    settings = cell.spec["settings"]
    return f"{cell.task}, {settings.get('train_rows') or 'all'} of {settings.get('dataset_rows')}"


def level(task: str) -> str:
    """medium-replay of local/hopper-medium-replay; where the name has no such word, its first one."""
    name = re.sub(r"-v\d+$", "", task.rpartition("/")[2])
    return next((word for word in _WORDS if name.endswith(word)), name.partition("-")[0])


def codes(names: pd.Series) -> Int[Tensor, " N"]:
    """Equal names as equal numbers."""
    return torch.tensor(pd.factorize(names)[0], dtype=torch.int64)


def first_half(data: pd.Series) -> pd.Series:
    """Which rows are in the first half of the data sets: every other one, in the order of the hashes of their names."""
    order = sorted(set(data), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    first: pd.Series = data.isin(order[::2])
    return first
