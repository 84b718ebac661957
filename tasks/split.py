"""Rows split into held-out episodes and training transitions, with simulator states and a card of the split."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int
from torch import Tensor

from core.data import Dataset, Trajectories, Transitions
from core.errors import DataError, SpecError
from tasks.rows import Rows, ended_episodes, episodes, following
from tasks.simulators.base import Simulator

__all__ = ["SPLIT_SEED", "View", "build", "qlearning", "simulator_state", "unlike_stored"]

View = Literal["episodes", "qlearning"]
_LOOKED_AT = 1000  # rows from which it is seen whether stored states are those of the observations
SPLIT_SEED = 0  # which episodes are held out must not depend on a run's seeds


def qlearning(rows: Rows, *, terminate_on_end: bool = False) -> Transitions:
    """What `d4rl.qlearning_dataset` returns, row for row.

    The last row is always lost, `next_obs` is the following row of the file even after a terminal one (where it is the
    next episode's start), and rows that time out are left out. `terminate_on_end` keeps the latter, not as terminal.

    Source: behaviour of the d4rl package 1.1, compared in `tests/oracles`.
    """
    index = _qlearning_index(rows, terminate_on_end)
    return _transitions(rows, index, rows.obs[index + 1])


def build(
    rows: Rows, simulator: Simulator, digest: str, *, heldout: float, view: View, train_rows: int | None = None
) -> tuple[Dataset, dict[str, Any]]:
    """Split by whole episodes, then cut into transitions; and a card with the statistics of the split.

    Training rows of the view "episodes" are those whose next observation is known: stored, or the following row of the
    same episode. Those of "qlearning" are `qlearning(rows)`, less the held-out episodes. A file with one episode is cut
    in two at a step. The view "episodes" leaves out `stale_rows`: first rows of an episode whose stored simulator state
    contradicts the observation, as where D4RL's maze2d repeats an observation behind a reached goal, so that two steps
    would look like one. `train_rows` keeps whole training episodes up to so many rows, the first ones of a random order
    that depends on the file alone: a smaller set is part of every larger one, and the held-out episodes are those of
    the full set. `obs_std` is 0 for a constant dimension (the card lists them): add a floor before dividing by it.

    Raises:
        SpecError: `heldout`, `view` or `train_rows` is out of range.
        DataError: too few rows to train on and to hold out.
    """
    _require(heldout, view)
    starts, stops, held, order = _split(rows, heldout)
    known, next_obs = following(rows, stops)
    episode = np.repeat(np.arange(len(starts), dtype=np.int32), stops - starts)
    stale = np.isin(np.arange(len(rows.reward)), unlike_stored(rows, simulator, starts))
    usable = np.flatnonzero(known & ~stale) if view == "episodes" else _qlearning_index(rows, False)
    usable = usable[~held[episode[usable]]]
    index, order = (usable, order) if train_rows is None else _first(usable, episode, order, train_rows, digest)
    train = _transitions(rows, index, next_obs[index] if view == "episodes" else rows.obs[index + 1])
    starts = starts + stale[starts]
    lengths = (stops - starts - ~known[stops - 1])[held]
    first = starts[held][lengths > 0]
    lengths = lengths[lengths > 0]
    _require_rows(digest, len(train.reward), int(lengths.sum()))
    trajectories, state, exact = _heldout(rows, next_obs, simulator, first, lengths)
    recorded_obs, recorded_state = _recorded(rows, simulator)
    dataset = Dataset(
        train=train,
        episode=torch.from_numpy(episode[index]),
        heldout=trajectories,
        heldout_state=state,
        heldout_exact=exact,
        recorded_obs=recorded_obs,
        recorded_state=recorded_state,
        obs_mean=train.obs.double().mean(0).float(),
        obs_std=train.obs.double().std(0, correction=0).float(),
        sha256=digest,
    )
    card = _file_card(rows, simulator) | {
        "view": view,
        "heldout": heldout,
        "split_seed": SPLIT_SEED,
        "train_rows": len(train.reward),
        "train_episodes": len(order),
        "heldout_rows": int(lengths.sum()),
        "heldout_episodes": len(lengths),
        "left_out_rows": len(usable) - len(index),
        "stale_rows": int(stale.sum()),
        "dropped_rows": len(rows.reward) - len(usable) - int(lengths.sum()),
        "inexact_state_share": 1 - int(exact.sum()) / int(lengths.sum()),
        "constant_dims": torch.nonzero(train.obs.amax(0) == train.obs.amin(0)).flatten().tolist(),
    }
    return dataset, card


def _require(heldout: float, view: str) -> None:
    if not 0 < heldout < 1:
        raise SpecError(f"heldout must be above 0 and below 1 (share of the episodes), got {heldout}")
    if view not in get_args(View):
        raise SpecError(f"view must be one of {', '.join(get_args(View))}, got {view!r}")


def _require_rows(digest: str, train: int, heldout: int) -> None:
    if not train or not heldout:
        rule = "needs rows with a known next observation both to train on and to hold out"
        raise DataError(f"dataset {digest[:12]}: {rule}, got {train} and {heldout}")


def _file_card(rows: Rows, simulator: Simulator) -> dict[str, Any]:
    """What the file holds, before any split; returns are those of `ended_episodes`."""
    _, returns = ended_episodes(rows)
    return {
        "rows": len(rows.reward),
        "episodes": len(episodes(rows)[0]),
        "terminals": int(rows.terminal.sum()),
        "timeouts": int(rows.timeout.sum()),
        "termination": _termination(rows, simulator),
        "unfinished_tail": not (rows.terminal[-1] or rows.timeout[-1]),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_max": float(returns.max()),
        **({"left_out_episodes": rows.left_out} if rows.left_out else {}),
    }


def _termination(rows: Rows, simulator: Simulator) -> str:
    """Where generated rollouts end."""
    if simulator.has_termination_rule:
        return "rule of the environment"
    return "learned from the terminals" if rows.terminal.any() else "never: no terminals"


def _split(rows: Rows, heldout: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, Int[np.ndarray, " T"]]:
    """(starts, stops, held out?) of the episodes, and the others in random order; a single one becomes two."""
    starts, stops = episodes(rows)
    total = len(rows.reward)
    if len(stops) == 1:
        cut = min(max(round((1 - heldout) * total), 1), total - 1)
        return np.array([0, cut]), np.array([cut, total]), np.array([False, True]), np.array([0])
    held = np.zeros(len(stops), bool)
    count = min(max(round(heldout * len(stops)), 1), len(stops) - 1)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(stops))
    held[order[:count]] = True
    return starts, stops, held, order[count:]


def _first(
    index: Int[np.ndarray, " M"],
    episode: Int[np.ndarray, " N"],
    order: Int[np.ndarray, " T"],
    train_rows: int,
    digest: str,
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " F"]]:
    """Of these rows those of the first episodes in this order, until one no longer fits; and these episodes."""
    total = np.cumsum(np.bincount(episode[index], minlength=order.max() + 1)[order])
    if train_rows > total[-1]:
        raise SpecError(f"train_rows must be at most {total[-1]}, the training rows of {digest[:12]}, got {train_rows}")
    least = total[total > 0][0]
    if train_rows < least:
        rule = f"must be at least {least}, the rows of the first kept episode of {digest[:12]}"
        raise SpecError(f"train_rows {rule}, got {train_rows}")
    chosen = order[total <= train_rows]
    return index[np.isin(episode[index], chosen)], chosen


def _heldout(
    rows: Rows, next_obs: np.ndarray, simulator: Simulator, first: np.ndarray, lengths: np.ndarray
) -> tuple[Trajectories, Float64[Tensor, "B L X"], Bool[Tensor, "B L"]]:
    """Episodes padded to the longest: the last observation and action stay, reward 0, neither terminated nor valid."""
    step = np.arange(lengths.max())
    valid = step < lengths[:, None]
    index = first[:, None] + np.minimum(step, lengths[:, None] - 1)
    final = next_obs[index[:, -1:]]
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


def _recorded(rows: Rows, simulator: Simulator) -> tuple[Float32[Tensor, "R O"], Float64[Tensor, "R X"]]:
    """Observations that determine no state of the simulator, where the rows have stored it; and that state."""
    lost = np.flatnonzero(~simulator.restore(torch.from_numpy(rows.obs))[1].numpy())
    state, exact = simulator_state(rows, simulator, lost)
    return torch.from_numpy(rows.obs[lost])[exact], state[exact]


def simulator_state(
    rows: Rows, simulator: Simulator, index: np.ndarray
) -> tuple[Float64[Tensor, "M X"], Bool[Tensor, " M"]]:
    """The simulator's state at these rows and whether that is all of it.

    A stored state is used where it agrees with the observation. It is complete unless the observation was clipped and
    the stored velocities are the clipped ones: in some files, states were added later from the observations. Where the
    two contradict each other the observation's state is returned, and not as exact.
    """
    restored, exact = simulator.restore(torch.from_numpy(rows.obs[index]))
    stored = _stored_state(rows, simulator, index)
    if stored is None or rows.qpos is None:
        return restored, exact
    agrees = _agrees(rows, simulator, stored, index)
    velocity = slice(rows.qpos.shape[1], None)
    unclipped = (stored[:, velocity] - restored[:, velocity]).abs().amax(-1) > 1e-4
    return torch.where(agrees[:, None], stored, restored), agrees & (exact | unclipped)


def _stored_state(rows: Rows, simulator: Simulator, index: np.ndarray) -> Float64[Tensor, "M X"] | None:
    """What the file says of the simulator's state at these rows.

    None if it says nothing, or speaks of another simulator or another moment: most of its states are then unlike their
    observations.
    """
    width = simulator.restore(torch.from_numpy(rows.obs[:1]))[0].shape[-1]
    if rows.qpos is None or rows.qvel is None or rows.qpos.shape[1] + rows.qvel.shape[1] != width:
        return None
    qpos, qvel = rows.qpos, rows.qvel

    def stored(index: np.ndarray) -> Float64[Tensor, "M X"]:
        return torch.from_numpy(np.concatenate([qpos[index], qvel[index]], 1)).double()

    some = np.arange(0, len(rows.reward), -(-len(rows.reward) // _LOOKED_AT))
    return stored(index) if _agrees(rows, simulator, stored(some), some).double().mean() > 0.5 else None


def _agrees(rows: Rows, simulator: Simulator, stored: Float64[Tensor, "M X"], index: np.ndarray) -> Bool[Tensor, " M"]:
    seen = simulator.observe(stored)
    return torch.isclose(seen, torch.from_numpy(rows.obs[index]).double(), rtol=1e-4, atol=1e-4).all(-1)


def unlike_stored(rows: Rows, simulator: Simulator, index: np.ndarray) -> Int[np.ndarray, " W"]:
    """Those of these rows whose stored simulator state contradicts the observation."""
    stored = _stored_state(rows, simulator, index)
    return index[:0] if stored is None else index[~_agrees(rows, simulator, stored, index).numpy()]


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
