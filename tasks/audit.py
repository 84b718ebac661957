"""Checks of a dataset: the bytes of its file, the structure of its episodes, and a replay in the simulator."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Int

from core.errors import DataError
from core.files import sha256
from tasks.base import DataOptions, Task, find_source
from tasks.replay import TOLERANCE, contradictions, misjudged, replay
from tasks.rows import Rows, ended_episodes, episodes, listed
from tasks.simulators.base import Simulator

__all__ = ["broken_rules", "card", "examine"]

_STORED = {  # on disk, in every file that was made here
    "observations": "float32",
    "actions": "float32",
    "rewards": "float32",
    "terminals": "bool",
    "timeouts": "bool",
    "next_observations": "float32",
    "infos/qpos": "float64",
    "infos/qvel": "float64",
}


def card(task: Task) -> dict[str, Any]:
    """What a run would read of a task: checksum, physics, and the card of the split. Raises: DataError."""
    data, split = task.dataset()
    return {"task": task.name, "sha256": data.sha256, "physics": task.physics, **split}


def examine(name: str, options: DataOptions) -> dict[str, Any]:
    """The card of a set on this machine, its episodes, the rules it breaks, its error in a replay, and contradictions.

    Nothing is made or fetched. A file made here must have the bytes that its card promises, break no rule and replay
    within `TOLERANCE`. Of other sources broken rules and errors are reported: their physics may be another version's,
    some published files are known to break a rule, and the toy's process noise is in no file. What neither explains is
    listed under `contradictions`, a sentence each. `inexact_obs_share` counts rows whose observation alone does not
    give the simulator's state.

    Raises:
        SpecError: no such task, or a size for a set that has its own.
        DataError: the file is not here, is damaged, or (made here) breaks a rule; names file, rule and rows.
    """
    source, dataset = find_source(name, options)
    path = source.find and source.find(dataset, options)
    if source.find and path is None:
        raise DataError(f"{name} is not on this machine; `data {source.origin}` gets it")
    task = source.load(dataset, options)
    if source.card and path:
        _require_file(path, source.card(path), task.simulator)
    rows, digest = task.rows()
    broken = broken_rules(rows, task.simulator, task.collected_horizon or task.horizon)
    found = replay(rows, task.simulator)
    if source.card:
        for broken_rule, index in broken.items():
            _refuse(index, f"{path}: {broken_rule}")
        rule = f"a replay must give terminal, next_obs and reward to {TOLERANCE:g} (1 + |value|)"
        errors = [found.report[name]["max"] for name in ("next_obs", "reward")]
        _refuse(found.wrong, f"{path}: {rule}, got errors up to {errors[0]} and {errors[1]}")
    lengths, returns = ended_episodes(rows)
    return {
        **card(replace(task, rows=lambda: (rows, digest))),
        "length_mean": float(lengths.mean()),
        "return_quantiles": {f"{share:g}": float(np.quantile(returns, share)) for share in (0.1, 0.5, 0.9)},
        "inexact_obs_share": 1 - float(task.simulator.restore(torch.from_numpy(rows.obs))[1].double().mean()),
        "broken_rules": {rule: {"rows": len(index), "first": int(index[0])} for rule, index in broken.items()},
        "replay": found.report,
        "contradictions": contradictions(rows, task.simulator, found),
    }


def broken_rules(rows: Rows, simulator: Simulator, horizon: int) -> dict[str, Int[np.ndarray, " M"]]:
    """Every rule of an episode's structure that some rows break, with those rows in ascending order.

    An episode has at most `horizon` rows. Rules on arrays that the file does not have are skipped.
    """
    starts, stops = episodes(rows)
    rules = {
        "terminals and timeouts must not both be set": np.flatnonzero(rows.terminal & rows.timeout),
        f"an episode must have at most {horizon} rows": starts[stops - starts > horizon],
    }
    if rows.next_obs is not None:
        inside = np.setdiff1d(np.arange(len(rows.reward)), stops - 1)
        differs = (rows.next_obs[inside] != rows.obs[inside + 1]).any(1)
        rules["next_observations must be the following row's observations within an episode"] = inside[differs]
    width = simulator.restore(torch.from_numpy(rows.obs[:1]))[0].shape[-1]
    if rows.qpos is not None and rows.qvel is not None and rows.qpos.shape[1] + rows.qvel.shape[1] == width:
        seen = simulator.observe(torch.from_numpy(np.concatenate([rows.qpos, rows.qvel], 1))).float().numpy()
        rules["infos/qpos and infos/qvel must look like observations"] = np.flatnonzero((seen != rows.obs).any(1))
    wrong = misjudged(rows, simulator)
    rules["a terminal must satisfy the environment's termination rule"] = wrong[rows.terminal[wrong]]
    rules["a row that is no terminal must not satisfy the termination rule"] = wrong[~rows.terminal[wrong]]
    return {rule: index for rule, index in rules.items() if len(index)}


def _require_file(path: Path, promised: dict[str, Any], simulator: Simulator) -> None:
    """The bytes that the card promises, and arrays as they are written here. Raises: DataError."""
    if (actual := sha256(path)) != promised.get("sha256"):
        raise DataError(f"{path}: sha256 must be the one on its card, {promised.get('sha256')}, got {actual}")
    half = simulator.restore(torch.zeros(simulator.obs_dim))[0].shape[-1] // 2  # qpos and qvel are of one length
    columns = {"observations": simulator.obs_dim, "next_observations": simulator.obs_dim}
    columns |= {"actions": simulator.action_dim, "infos/qpos": half, "infos/qvel": half}
    with h5py.File(path, "r", locking="best-effort") as file:
        for key, dtype in _STORED.items():
            wanted = dtype, (promised["size"], columns[key]) if key in columns else (promised["size"],)
            got = (str(file[key].dtype), file[key].shape) if key in file else None
            if got != wanted:
                raise DataError(f"{path}: {key} must have dtype and shape {wanted}, got {got}")


def _refuse(index: Int[np.ndarray, " M"], complaint: str) -> None:
    if len(index):
        raise DataError(f"{complaint}; broken by {len(index)} rows: {listed(index.tolist())}")
