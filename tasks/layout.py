"""D4RL's file layout: reading it with suspicion, writing it, and cutting it into transitions and episodes."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from core.data import Dataset, Trajectories, Transitions
from core.errors import DataError, SpecError
from core.files import atomic
from core.progress import say

__all__ = [
    "SPLIT_SEED",
    "Rows",
    "View",
    "build",
    "checked",
    "damage",
    "episodes",
    "qlearning",
    "read",
    "require_dims",
    "require_own_content",
    "simulator_state",
    "write",
]

View = Literal["episodes", "qlearning"]
SPLIT_SEED = 0  # which episodes are held out must not depend on a run's seeds
REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations", "infos/qpos", "infos/qvel", "infos/action_log_probs")
MAX_BYTES = 16 * 2**30  # the largest D4RL set is below 1 GiB in memory
ACTION_TOLERANCE = 1e-6  # rounding of what was clipped in float64
_MAX_COMPRESSION = 1100  # deflate cannot do better than 1032 : 1
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}  # those that come with HDF5 and h5py; others are plug-ins: code


@dataclass(frozen=True)
class Rows:
    """One row per environment step, in the order it was recorded: the content of a D4RL file."""

    obs: Float32[np.ndarray, "N O"]
    action: Float32[np.ndarray, "N A"]
    reward: Float32[np.ndarray, " N"]
    terminal: Bool[np.ndarray, " N"]  # end of the MDP
    timeout: Bool[np.ndarray, " N"]  # end of the episode for any other reason
    next_obs: Float32[np.ndarray, "N O"] | None = None
    qpos: Float[np.ndarray, "N nq"] | None = None  # simulator state before the step
    qvel: Float[np.ndarray, "N nv"] | None = None
    action_log_prob: Float32[np.ndarray, " N"] | None = None  # of the behaviour policy, at the action that was drawn


def read(path: Path, max_steps: int | None = None) -> Rows:
    """Everything in the file that we use, checked; nothing is read before links, types and declared sizes are.

    `max_steps` is the length of an episode, used only for old files that do not say where one was cut off.

    Raises:
        DataError: names the file and the rule it breaks.
    """
    if (problem := damage(path)) is not None:
        raise DataError(f"{path}: {problem}")
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            arrays = {key: np.asarray(dataset[()]) for key, dataset in _datasets(file, path).items()}
    except DataError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # what h5py makes of truncated or altered bytes
        raise DataError(f"{path}: must be a whole HDF5 file, but it is truncated or damaged ({error})") from error
    return checked(arrays, str(path), max_steps)


def damage(path: Path) -> str | None:
    """Why this is not a whole HDF5 file, as far as its first bytes and its declared length tell; None if it may be."""
    if not path.is_file():
        return "must be a file" if path.exists() else "no such file"
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return "must be an HDF5 file, but it is empty (0 bytes)"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return f"must be an HDF5 file, but it is an HTML page: {head[:24]!r}"
    if not head.startswith(_SIGNATURE):
        return f"must be an HDF5 file, but it starts with {head[:8]!r}"
    try:
        h5py.File(path, "r", locking="best-effort").close()
    except OSError as error:
        return f"must be a whole HDF5 file, but it is truncated or damaged ({error})"
    return None


def require_own_content(path: Path) -> None:
    """Refuse an HDF5 file of any layout that leads out of itself or declares more than it can hold; no value is read.

    Raises:
        DataError: names the file, the key and the rule.
    """
    if (problem := damage(path)) is not None:
        raise DataError(f"{path}: {problem}")
    links = dict[str, Any]()
    items = dict[str, Any]()
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            file.visititems_links(lambda key, link: links.update({key: link}))
            for key, link in links.items():
                _require_hard_link(link, key, path)
            file.visititems(lambda key, item: items.update({key: item}))
            datasets = {key: item for key, item in items.items() if isinstance(item, h5py.Dataset)}
            for key, dataset in datasets.items():
                _require_inside(dataset, key, path)
            _require_size(datasets.values(), path)
    except DataError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: must be a whole HDF5 file, but it is truncated or damaged ({error})") from error


def checked(arrays: Mapping[str, np.ndarray], where: str, max_steps: int | None = None) -> Rows:
    """Arrays under D4RL's keys as rows: cast, squeezed, and every value looked at.

    Raises:
        DataError: names `where`, the key, the rule and the rows.
    """
    reward = _column(arrays, "rewards", where)
    if not len(reward):
        raise DataError(f"{where}: must have at least one row, got 0")
    if scalars := [key for key, value in arrays.items() if not value.ndim]:
        raise DataError(f"{where}: {', '.join(scalars)} must have rows, got a single number")
    lengths = {key: len(value) for key, value in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: all keys must have the same number of rows, got {lengths}")
    obs = _matrix(arrays, "observations", where)
    terminal = _flag(arrays, "terminals", where)
    next_obs = _matrix(arrays, "next_observations", where) if "next_observations" in arrays else None
    if next_obs is not None and next_obs.shape != obs.shape:
        raise DataError(f"{where}: next_observations must have shape {obs.shape}, got {next_obs.shape}")
    return Rows(
        obs=obs,
        action=_action(arrays, where),
        reward=_finite(reward, np.float32, "rewards", where),
        terminal=terminal,
        timeout=_timeout(arrays, terminal, where, max_steps),
        next_obs=next_obs,
        qpos=_matrix(arrays, "infos/qpos", where, np.float64) if "infos/qpos" in arrays else None,
        qvel=_matrix(arrays, "infos/qvel", where, np.float64) if "infos/qvel" in arrays else None,
        action_log_prob=_log_prob(arrays, where),
    )


def require_dims(rows: Rows, obs_dim: int, action_dim: int, where: str) -> Rows:
    """The rows, if they are as wide as their simulator's. Raises: DataError."""
    found = rows.obs.shape[1], rows.action.shape[1]
    if found != (obs_dim, action_dim):
        raise DataError(f"{where}: observations and actions must have {obs_dim} and {action_dim} columns, got {found}")
    return rows


def write(path: Path, rows: Rows) -> None:
    """An HDF5 file in D4RL's layout, atomically; the same rows give the same bytes."""
    arrays = {
        "observations": rows.obs,
        "actions": rows.action,
        "rewards": rows.reward,
        "terminals": rows.terminal,
        "timeouts": rows.timeout,
        "next_observations": rows.next_obs,
        "infos/qpos": rows.qpos,
        "infos/qvel": rows.qvel,
        "infos/action_log_probs": rows.action_log_prob,
    }
    with atomic(path) as part, h5py.File(part, "w") as file:
        for key, value in arrays.items():
            if value is not None:
                file.create_dataset(key, data=value, compression="gzip", track_times=False)


def episodes(rows: Rows) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"]]:
    """(first row, row after the last) of every episode; what follows the last flag is an episode too."""
    stops = np.flatnonzero(rows.terminal | rows.timeout) + 1
    if not len(stops) or stops[-1] < len(rows.reward):
        stops = np.append(stops, len(rows.reward))
    return np.append(0, stops[:-1]), stops


def qlearning(rows: Rows, *, terminate_on_end: bool = False) -> Transitions:
    """What `d4rl.qlearning_dataset` returns, row for row.

    The last row is always lost, `next_obs` is the following row of the file even after a terminal one (where it is the
    next episode's start), and rows that time out are left out. `terminate_on_end` keeps the latter, not as terminal.

    Source: behaviour of the d4rl package 1.1, compared in `tests/oracles`.
    """
    index = _qlearning_index(rows, terminate_on_end)
    return _transitions(rows, index, rows.obs[index + 1])


def build(rows: Rows, simulator: Any, digest: str, *, heldout: float, view: View) -> tuple[Dataset, dict[str, Any]]:
    """Split by whole episodes, then cut into transitions; and a card that says what came of it.

    Training rows of the view "episodes" are those whose next observation is known: stored, or the following row of the
    same episode. Those of "qlearning" are `qlearning(rows)`, less the held-out episodes. A file with one episode is cut
    in two at a step. `obs_std` is the true one, 0 for a constant dimension (the card lists them): who divides by it
    adds a floor.

    Raises:
        SpecError: `heldout` or `view` is out of range.
        DataError: too few rows to train on and to hold out.
    """
    if not 0 < heldout < 1:
        raise SpecError(f"heldout must be above 0 and below 1 (share of the episodes), got {heldout}")
    if view not in get_args(View):
        raise SpecError(f"view must be one of {', '.join(get_args(View))}, got {view!r}")
    starts, stops, held = _split(rows, heldout)
    known = np.ones(len(rows.reward), bool)
    if rows.next_obs is None:
        known[stops - 1] = False
    held_row = np.repeat(held, stops - starts)
    index = np.flatnonzero(known) if view == "episodes" else _qlearning_index(rows, False)
    index = index[~held_row[index]]
    stored = rows.next_obs if view == "episodes" else None
    train = _transitions(rows, index, rows.obs[index + 1] if stored is None else stored[index])
    lengths = (stops - starts - ~known[stops - 1])[held]
    first = starts[held][lengths > 0]
    lengths = lengths[lengths > 0]
    if not len(train.reward) or not len(lengths):
        raise DataError(
            f"dataset {digest[:12]}: needs rows with a known next observation both to train on and to hold out, "
            f"got {len(train.reward)} and {lengths.sum()}"
        )
    trajectories, state, exact = _heldout(rows, simulator, first, lengths)
    dataset = Dataset(
        train=train,
        episode=torch.from_numpy(np.repeat(np.arange(len(starts), dtype=np.int32), stops - starts)[index]),
        heldout=trajectories,
        heldout_state=state,
        heldout_exact=exact,
        obs_mean=train.obs.double().mean(0).float(),
        obs_std=train.obs.double().std(0, correction=0).float(),
        sha256=digest,
    )
    card = _file_card(rows) | {
        "view": view,
        "heldout": heldout,
        "split_seed": SPLIT_SEED,
        "train_rows": len(train.reward),
        "train_episodes": int((~held).sum()),
        "heldout_rows": int(lengths.sum()),
        "heldout_episodes": len(lengths),
        "dropped_rows": len(rows.reward) - len(train.reward) - int(lengths.sum()),
        "inexact_state_share": 1 - int(exact.sum()) / int(lengths.sum()),
        "constant_dims": torch.nonzero(train.obs.amax(0) == train.obs.amin(0)).flatten().tolist(),
    }
    return dataset, card


def _file_card(rows: Rows) -> dict[str, Any]:
    """What the file holds, before any split; returns are undiscounted, of the episodes that ended if any did."""
    starts, stops = episodes(rows)
    ended = (rows.terminal | rows.timeout)[stops - 1]
    returns = np.add.reduceat(rows.reward, starts, dtype=np.float64)
    returns = returns[ended] if ended.any() else returns
    return {
        "rows": len(rows.reward),
        "episodes": len(stops),
        "terminals": int(rows.terminal.sum()),
        "timeouts": int(rows.timeout.sum()),
        "unfinished_tail": not ended[-1],
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_max": float(returns.max()),
    }


def _split(rows: Rows, heldout: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(starts, stops, held out?) of the episodes; a single one becomes two."""
    starts, stops = episodes(rows)
    total = len(rows.reward)
    if len(stops) == 1:
        cut = min(max(round((1 - heldout) * total), 1), total - 1)
        return np.array([0, cut]), np.array([cut, total]), np.array([False, True])
    held = np.zeros(len(stops), bool)
    count = min(max(round(heldout * len(stops)), 1), len(stops) - 1)
    held[np.random.default_rng(SPLIT_SEED).permutation(len(stops))[:count]] = True
    return starts, stops, held


def _heldout(
    rows: Rows, simulator: Any, first: np.ndarray, lengths: np.ndarray
) -> tuple[Trajectories, Float64[Tensor, "B L X"], Bool[Tensor, "B L"]]:
    """Episodes padded to the longest: the last observation and action stay, reward 0, neither terminated nor valid."""
    step = np.arange(lengths.max())
    valid = step < lengths[:, None]
    index = first[:, None] + np.minimum(step, lengths[:, None] - 1)
    last = index[:, -1]
    final = (rows.obs[last + 1] if rows.next_obs is None else rows.next_obs[last])[:, None]
    obs = np.concatenate([np.where(valid[..., None], rows.obs[index], final), final], 1)
    trajectories = Trajectories(
        action=torch.from_numpy(rows.action[index]),
        obs=torch.from_numpy(obs),
        reward=torch.from_numpy(np.where(valid, rows.reward[index], np.float32(0))),
        terminated=torch.from_numpy(rows.terminal[index] & valid),
        valid=torch.from_numpy(valid),
    )
    real = index[valid]  # states are looked up once per row, then padded
    state, exact = simulator_state(rows, simulator, real)
    position = torch.from_numpy(np.append(0, np.cumsum(lengths)[:-1])[:, None] + np.minimum(step, lengths[:, None] - 1))
    return trajectories, state[position], exact[position] & trajectories.valid


def simulator_state(rows: Rows, simulator: Any, index: np.ndarray) -> tuple[Float64[Tensor, "M X"], Bool[Tensor, " M"]]:
    """The simulator's state at these rows and whether that is all of it.

    A stored state is believed where it looks like the observation. It is complete unless the observation had been
    clipped and the stored velocities are the clipped ones: some files were completed later from their observations.
    """
    obs = torch.from_numpy(rows.obs[index])
    restored, exact = simulator.restore(obs)
    if rows.qpos is None or rows.qvel is None or rows.qpos.shape[1] + rows.qvel.shape[1] != restored.shape[-1]:
        return restored, exact
    stored = torch.from_numpy(np.concatenate([rows.qpos[index], rows.qvel[index]], 1))
    believed = torch.isclose(simulator.observe(stored), obs.double(), rtol=1e-4, atol=1e-4).all(-1)
    velocity = slice(rows.qpos.shape[1], None)
    unclipped = (stored[:, velocity] - restored[:, velocity]).abs().amax(-1) > 1e-4
    return torch.where(believed[:, None], stored, restored), torch.where(believed, exact | unclipped, exact)


def _transitions(rows: Rows, index: np.ndarray, next_obs: np.ndarray) -> Transitions:
    return Transitions(
        obs=torch.from_numpy(rows.obs[index]),
        action=torch.from_numpy(rows.action[index]),
        reward=torch.from_numpy(rows.reward[index]),
        next_obs=torch.from_numpy(next_obs),
        terminated=torch.from_numpy(rows.terminal[index]),
    )


def _qlearning_index(rows: Rows, terminate_on_end: bool) -> Int[np.ndarray, " M"]:
    keep = np.ones(len(rows.reward) - 1, bool) if terminate_on_end else ~rows.timeout[:-1]
    return np.flatnonzero(keep)


def _datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """The datasets that we are going to read, none of them leading out of this file or too large to be true."""
    found = {key: dataset for key in REQUIRED + OPTIONAL if (dataset := _dataset(file, key, path)) is not None}
    if missing := [key for key in REQUIRED if key not in found]:
        raise DataError(f"{path}: must have the keys {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
    _require_size(found.values(), path)
    return found


def _dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset | None:
    group: Any = file
    for name in key.split("/"):
        link = group.get(name, getlink=True)
        if link is None:
            return None
        _require_hard_link(link, key, path)
        group = group[name]
    if not isinstance(group, h5py.Dataset) or group.shape is None:
        raise DataError(f"{path}: {key} must be an array, got {type(group).__name__} without a shape")
    if group.dtype.kind not in "fiub":
        raise DataError(f"{path}: {key} must be numbers, got dtype {group.dtype}")
    _require_inside(group, key, path)
    return group


def _require_hard_link(link: Any, key: str, path: Path) -> None:
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{path}: {key} must lie in this file, got a link ({type(link).__name__})")


def _require_inside(dataset: h5py.Dataset, key: str, path: Path) -> None:
    if dataset.is_virtual or dataset.external:
        kind = "a virtual dataset" if dataset.is_virtual else f"external storage {dataset.external[0][0]!r}"
        raise DataError(f"{path}: {key} must lie in this file, got {kind}")
    plist = dataset.id.get_create_plist()
    if foreign := {plist.get_filter(number)[0] for number in range(plist.get_nfilters())} - _FILTERS:
        raise DataError(f"{path}: {key} must use HDF5's own filters, got filter {foreign}")


def _require_size(datasets: Iterable[h5py.Dataset], path: Path) -> None:
    size = sum(math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize for dataset in datasets)
    limit = min(MAX_BYTES, 2**20 + _MAX_COMPRESSION * path.stat().st_size)
    if size > limit:
        raise DataError(f"{path}: declares {size} bytes of data, more than the {limit} that such a file can hold")


def _column(arrays: Mapping[str, np.ndarray], key: str, where: str) -> np.ndarray:
    value = arrays[key]
    if value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    if value.ndim != 1:
        raise DataError(f"{where}: {key} must have shape (N,) or (N, 1), got {value.shape}")
    return value


def _matrix(
    arrays: Mapping[str, np.ndarray], key: str, where: str, dtype: type[np.floating[Any]] = np.float32
) -> np.ndarray:
    value = arrays[key]
    if value.ndim != 2 or not value.shape[1]:
        raise DataError(f"{where}: {key} must have shape (N, columns), got {value.shape}")
    return _finite(value, dtype, key, where)


def _finite(value: np.ndarray, dtype: type[np.floating[Any]], key: str, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # float64 beyond float32's range becomes Inf, and is refused below
        value = np.ascontiguousarray(value, dtype=dtype)
    _refuse(~np.isfinite(value), f"{where}: {key} must be finite, got NaN or Inf")
    return value


def _action(arrays: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    action = _matrix(arrays, "actions", where)
    _refuse(
        np.abs(action) > 1 + ACTION_TOLERANCE,
        f"{where}: actions must be in [-1, 1], got |a| up to {np.abs(action).max():.4g}",
    )
    return action.clip(-1, 1)


def _log_prob(arrays: Mapping[str, np.ndarray], where: str) -> np.ndarray | None:
    key = "infos/action_log_probs"
    return _finite(_column(arrays, key, where), np.float32, key, where) if key in arrays else None


def _flag(arrays: Mapping[str, np.ndarray], key: str, where: str) -> np.ndarray:
    value = _column(arrays, key, where)
    _refuse((value != 0) & (value != 1), f"{where}: {key} must be 0 or 1, got other values")
    return value.astype(bool)


def _timeout(arrays: Mapping[str, np.ndarray], terminal: np.ndarray, where: str, max_steps: int | None) -> np.ndarray:
    if "timeouts" in arrays:
        return _flag(arrays, "timeouts", where)
    if max_steps is None:
        say(f"{where}: has no timeouts; only terminals end an episode")
        return np.zeros_like(terminal)
    say(f"{where}: has no timeouts; an episode ends at a terminal or after {max_steps} steps")
    row = np.arange(len(terminal))
    start = np.maximum.accumulate(np.where(np.append(True, terminal[:-1]), row, 0))
    return np.asarray((row - start) % max_steps == max_steps - 1)


def _refuse(bad: np.ndarray, complaint: str) -> None:
    rows = np.flatnonzero(bad.any(1) if bad.ndim == 2 else bad)
    if len(rows) > 0:
        share = f"{len(rows)} of {len(bad)} rows, {len(rows) / len(bad):.2%}"
        raise DataError(f"{complaint} in rows {rows[0]}..{rows[-1]} ({share})")
