"""One row per environment step: what every source of data returns, and what is checked of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from core.errors import DataError
from core.progress import say

__all__ = [
    "BrokenRowsError",
    "Rows",
    "checked",
    "ended_episodes",
    "episodes",
    "following",
    "joined",
    "listed",
    "require_dims",
]

ACTION_TOLERANCE = 1e-6  # rounding of what was clipped in float64


class BrokenRowsError(DataError):
    """Some rows break a rule that each row can keep for itself; the episodes without them can be used."""


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
    left_out: int = 0  # episodes of the file that break a rule and were skipped


def checked(
    arrays: Mapping[str, np.ndarray], where: str, max_steps: int | None = None, *, skip_broken: bool = False
) -> Rows:
    """Arrays under D4RL's keys as rows: cast, squeezed, and every value checked.

    With `skip_broken`, episodes with values that are not finite or actions out of range are left out; a line says so.

    Raises:
        DataError: names `where`, the key, the rule and the rows.
        BrokenRowsError: the like, where `skip_broken` would leave them out.
    """
    reward = _column(arrays, "rewards", where)
    if not len(reward):
        raise DataError(f"{where}: must have at least one row, got 0")
    if scalars := [key for key, value in arrays.items() if not value.ndim]:
        raise DataError(f"{where}: {', '.join(scalars)} must have rows, got a single number")
    lengths = {key: len(value) for key, value in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: all keys must have the same number of rows, got {lengths}")
    left_out = 0
    if skip_broken:
        arrays, left_out = _whole(arrays, where, max_steps)
        reward = arrays["rewards"]
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
        left_out=left_out,
    )


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several `Rows` with the same fields, one after the other."""
    found: dict[str, Any] = {}
    for field in fields(Rows):
        values = [getattr(part, field.name) for part in parts]
        found[field.name] = np.concatenate(values) if isinstance(values[0], np.ndarray) else values[0]
    return Rows(**{**found, "left_out": sum(part.left_out for part in parts)})


def require_dims(rows: Rows, obs_dim: int, action_dim: int, where: str) -> Rows:
    """The rows, if they are as wide as their simulator's. Raises: DataError."""
    found = rows.obs.shape[1], rows.action.shape[1]
    if found != (obs_dim, action_dim):
        raise DataError(f"{where}: observations and actions must have {obs_dim} and {action_dim} columns, got {found}")
    return rows


def episodes(rows: Rows) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"]]:
    """(first row, row after the last) of every episode; rows after the last flag are an episode, too."""
    stops = np.flatnonzero(rows.terminal | rows.timeout) + 1
    if not len(stops) or stops[-1] < len(rows.reward):
        stops = np.append(stops, len(rows.reward))
    return np.append(0, stops[:-1]), stops


def listed(numbers: Sequence[int]) -> str:
    """The first ten, for a message."""
    return ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")


def ended_episodes(rows: Rows) -> tuple[Int[np.ndarray, " E"], Float64[np.ndarray, " E"]]:
    """(length, undiscounted return) of the episodes that ended; of all episodes if none did."""
    starts, stops = episodes(rows)
    ended = (rows.terminal | rows.timeout)[stops - 1]
    ended |= ~ended.any()
    returns = np.add.reduceat(rows.reward, starts, dtype=np.float64)
    return (stops - starts)[ended], returns[ended]


def following(rows: Rows, stops: Int[np.ndarray, " E"]) -> tuple[Bool[np.ndarray, " N"], Float32[np.ndarray, "N O"]]:
    """Whether a row's next observation is known, and what it is: stored, or the following row of the same episode.

    `stops` are the rows after the last one of each episode.
    """
    known = np.ones(len(rows.reward), bool)
    if rows.next_obs is not None:
        return known, rows.next_obs
    known[stops - 1] = False
    return known, np.roll(rows.obs, -1, 0)


def _whole(arrays: Mapping[str, np.ndarray], where: str, max_steps: int | None) -> tuple[dict[str, np.ndarray], int]:
    """The episodes whose rows are all usable, and how many are not. Raises: DataError."""
    kept = {**arrays, "rewards": _column(arrays, "rewards", where), "terminals": _flag(arrays, "terminals", where)}
    kept["timeouts"] = _timeout(arrays, kept["terminals"], where, max_steps)
    stops = np.flatnonzero(kept["terminals"] | kept["timeouts"]) + 1
    episode = np.searchsorted(stops, np.arange(len(kept["rewards"])), side="right")
    with np.errstate(over="ignore"):  # float64 beyond float32's range is not usable either
        usable = [np.isfinite(value.astype(np.float32)).reshape(len(value), -1).all(1) for value in kept.values()]
    usable += [(np.abs(kept["actions"]) <= 1 + ACTION_TOLERANCE).reshape(len(episode), -1).all(1)]
    broken = np.unique(episode[~np.all(usable, 0)])
    if not len(broken):
        return kept, 0
    total = int(episode[-1]) + 1
    rule = "with values that are not finite or actions beyond [-1, 1]"
    if len(broken) == total:
        raise DataError(f"{where}: must have an episode to use, got {total} {rule}")
    say(f"{where}: {len(broken)} of {total} episodes are left out, {rule}: {listed(broken.tolist())}")
    keep = ~np.isin(episode, broken)
    return {key: value[keep] for key, value in kept.items()}, len(broken)


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
        raise BrokenRowsError(f"{complaint} in rows {rows[0]}..{rows[-1]} ({share})")
