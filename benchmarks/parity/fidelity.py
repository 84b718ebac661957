"""Rollouts of models of either side, judged by our metrics through files.

`rollouts.npz` may hold, of B held-out windows of L steps: `obs` [B, L+1, O], generated from their starts under their
actions; `mean` [B L, O] and `penalty` [B L], the expected next state and the doubt at each of their rows; and, of
models of single transitions, `sample_*`: N rows drawn from the model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.parity.compare import Unit
from benchmarks.parity.export import Windows, load_windows
from core.data import Dataset
from core.random import Streams
from metrics.compounding import data_diameter, over_starts, standardized_error
from metrics.distribution import sliced_wasserstein
from tasks.base import Task
from tasks.simulators.base import Simulator, replayed

__all__ = ["models", "quantities"]

Quantity = tuple[str, Unit, float]
_HORIZONS = (1, 5, 20)


def models(task: Task, job: dict[str, Any]) -> list[tuple[str, int, str, str, float]]:
    """(side, seed, quantity, unit, value) of all rollouts that the job names."""
    data, _ = task.dataset()
    held = load_windows(Path(job["windows"]))
    found = list[tuple[str, int, str, str, float]]()
    for side in ("theirs", "ours"):
        for asked, folder in zip(job[side], job[f"{side}_folders"], strict=True):
            with np.load(Path(folder) / "rollouts.npz", allow_pickle=False) as content:
                made = {name: torch.from_numpy(np.asarray(content[name])) for name in content.files}
            found += [(side, asked["seed"], *quantity) for quantity in quantities(task.simulator, data, held, made)]
    return found


def quantities(simulator: Simulator, data: Dataset, held: Windows, made: dict[str, Tensor]) -> Iterator[Quantity]:
    """Everything that can be said of what is there; errors in deviations of the training data."""
    if "obs" in made:
        yield from _compounding(simulator, data, held, made["obs"])
    if "mean" in made:
        yield from _one_step(data, held, made)
    if "sample_obs" in made:
        yield from _samples(simulator, data, made)


def _compounding(simulator: Simulator, data: Dataset, held: Windows, obs: Tensor) -> Iterator[Quantity]:
    """e(h) under logged actions: median over the windows."""
    steps = obs.shape[1] - 1
    truth = replayed(simulator, torch.from_numpy(held.state)[None], torch.from_numpy(held.action[:, :steps])[None]).obs
    error = standardized_error(obs[None, :, 1:].float(), truth[:, :, 1:], data.obs_std)
    valid = torch.from_numpy(held.valid[:, :steps])[None]
    curve = over_starts(error, valid, data_diameter(data.train.obs, data.obs_std)).median[0]
    for horizon in _HORIZONS:
        if horizon <= len(curve):
            yield f"e({horizon})", "ratio", float(curve[horizon - 1])


def _one_step(data: Dataset, held: Windows, made: dict[str, Tensor]) -> Iterator[Quantity]:
    """The expected next state against the recorded one, and whether the penalty ranks the rows by that error."""
    valid = torch.from_numpy(held.valid).flatten()
    truth = torch.from_numpy(held.obs[:, 1:]).flatten(0, 1)
    error = standardized_error(made["mean"].float(), truth, data.obs_std)[valid].double()
    yield "one-step error of the mean", "ratio", float(error.square().mean().sqrt())
    rank = spearmanr(made["penalty"][valid].numpy(), error.numpy()).statistic
    yield "rank correlation of penalty and error", "correlation", float(rank)


def _samples(simulator: Simulator, data: Dataset, made: dict[str, Tensor]) -> Iterator[Quantity]:
    """Distance of the drawn rows from as many of the data, whole rows and single columns, and one-step error."""
    train = data.train
    obs, action, reward, next_obs = (made[f"sample_{name}"].float() for name in ("obs", "action", "reward", "next_obs"))
    every = max(1, len(train.obs) // len(obs))
    columns = [train.obs, train.action, train.reward[:, None], train.next_obs]
    real = torch.cat(columns, -1)[::every][: len(obs)]
    drawn = torch.cat([obs, action, reward[:, None], next_obs], -1)
    scale = torch.cat(columns, -1).std(0)
    whole = torch.ones(1, len(obs), 1, dtype=torch.bool), torch.ones(1, len(real), 1, dtype=torch.bool)
    rng = Streams((0,), "parity/axes")
    far = sliced_wasserstein(drawn[None, :, None], real[None, :, None], *whole, scale, rng)
    yield "sliced Wasserstein distance", "ratio", float(far)
    ordered = [(x / scale).double().sort(0).values for x in (drawn[: len(real)], real[: len(drawn)])]
    yield "Wasserstein distance, marginals", "ratio", float((ordered[0] - ordered[1]).abs().mean())
    state, exact = simulator.restore(obs)
    after = replayed(simulator, state[None], action.clamp(-1, 1)[None, :, None]).obs[0, :, 1]
    error = standardized_error(next_obs, after, data.obs_std)[exact].double()
    yield "one-step error, median", "ratio", float(error.median())
