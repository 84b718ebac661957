"""Logged rows stepped again in the simulator: how exact the replay is, and whether the data contradict the dynamics."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from tasks.rows import Rows, episodes, following, listed
from tasks.simulators.base import Simulator
from tasks.split import simulator_state, unlike_stored

__all__ = ["REPLAYED", "TOLERANCE", "Replay", "contradictions", "misjudged", "relabelled", "replay"]

REPLAYED = 1000  # rows drawn for the replay
TOLERANCE = 1e-6  # times 1 + |value|: eight times the rounding of float32, in which what is compared was stored
_SEED = 0
_LONG = 0.9  # a next state further off than this quantile of the simulated steps is one that no step leads to
_EXPLAINED = 0.25  # actions explain the data where the error is below this share of that under other rows' actions
_SMALL = 0.05  # ... or below this share of a median simulated step
_OFF = 0.5  # deviations of the reward by which a stored one must differ from the simulator's to contradict it
_SHARE = 0.01  # up to which rows may contradict: other versions of the physics differ in a few contacts


@dataclass(frozen=True)
class Replay:
    """Rows of a data set, each stepped once from its own state with its own action; M of them could be.

    Differences are largest ones over dimensions, in standard deviations of the data; constant dimensions are left out.
    """

    report: dict[str, Any]  # statistics: see `replay`
    wrong: Int[np.ndarray, " W"]  # rows beyond `TOLERANCE`, or with another terminal flag
    drawn: Int[np.ndarray, " D"]  # the rows looked at
    index: Int[np.ndarray, " M"]  # the rows that were stepped
    error: Float[np.ndarray, " M"]  # |simulated - stored next observation|
    move: Float[np.ndarray, " M"]  # |simulated - observation|: length of the step
    other_error: Float[np.ndarray, " M"]  # error with the action of another row
    reward_error: Float[np.ndarray, " M"]  # |simulated - stored reward| in standard deviations of the rewards


def replay(rows: Rows, simulator: Simulator, count: int = REPLAYED) -> Replay:
    """Up to `count` rows stepped once in the simulator, from the row's own state with its action; always the same rows.

    Errors of the report are |simulated - stored|: of next_obs the largest over its dimensions, in the environment's
    units and in standard deviations of the data; of reward in its own units; None where no row was replayed. `excluded`
    rows were drawn, but their state is not known exactly or their next observation is not known; `stuck` rows are those
    that the simulator cannot step.
    """
    known, next_obs = following(rows, episodes(rows)[1])
    total = len(rows.reward)
    drawn = np.sort(np.random.default_rng(_SEED).choice(total, min(count, total), replace=False))
    state, exact = simulator_state(rows, simulator, drawn)
    usable = exact & torch.from_numpy(known[drawn])
    index = drawn[usable.numpy()]
    observed, reward, ended = _stepped(simulator, state[usable], rows, index, index)
    other, _, _ = _stepped(simulator, state[usable], rows, index, np.roll(index, len(index) // 2))
    off = np.abs(observed - next_obs[index])
    off_reward = np.abs(reward - rows.reward[index])
    near = (off <= TOLERANCE * (1 + np.abs(next_obs[index]))).all(1)
    near &= ended == rows.terminal[index]
    near &= off_reward <= TOLERANCE * (1 + np.abs(rows.reward[index]))
    std = rows.obs.std(0, dtype=np.float64)
    varies = std > 0

    def in_std(difference: Float[np.ndarray, "M O"]) -> Float[np.ndarray, " M"]:
        return (np.abs(difference[:, varies]) / std[varies]).max(1, initial=0)

    report = {
        "rows": len(index),
        "excluded": len(drawn) - len(index),
        "stuck": int((~np.isfinite(observed)).any(1).sum()),
        "mismatches": int((~near).sum()),
        "next_obs": _spread(off.max(1)),
        "next_obs_in_std": _spread(in_std(off)),
        "reward": _spread(off_reward),
    }
    return Replay(
        report=report,
        wrong=index[~near],
        drawn=drawn,
        index=index,
        error=in_std(off),
        move=in_std(observed - rows.obs[index]),
        other_error=in_std(other - next_obs[index]),
        reward_error=off_reward / max(float(rows.reward.std(dtype=np.float64)), TOLERANCE),
    )


def contradictions(rows: Rows, simulator: Simulator, found: Replay) -> list[str]:
    """What in the data cannot come from this simulator, one sentence each; empty where nothing was found.

    Other versions of the physics move a step by far less than its own length, so a contradiction is: actions that
    explain the steps hardly better than those of other rows do; or else next states that no step leads to; rewards half
    a deviation off; observations unlike the stored state; terminal flags against the environment's rule. All but the
    first count from two rows on, and more than 1 % of those looked at.
    """
    said = []
    error, other, move = (float(np.median(x)) if len(x) else 0.0 for x in (found.error, found.other_error, found.move))
    reach = np.quantile(found.move, _LONG) if len(found.index) else np.inf
    teleports = found.index[found.error > reach]
    if error > _SMALL * move and error > _EXPLAINED * other:
        said.append(
            f"observations, actions and next states do not belong together: a replay is off by {error:.2g} deviations "
            f"in the median of {len(found.index)} rows, and by {other:.2g} with the actions of other rows"
        )
    elif _many(len(teleports), len(found.index)):
        said.append(f"{_rows(teleports, len(found.index))} have a next state that no step leads to")
    paid = found.index[found.reward_error > _OFF]
    if _many(len(paid), len(found.index)):
        said.append(f"{_rows(paid, len(found.index))} have another reward than the simulator pays")
    unlike = unlike_stored(rows, simulator, found.drawn)
    if _many(len(unlike), len(found.drawn)):
        said.append(f"{_rows(unlike, len(found.drawn))} have an observation that is not the one of their stored state")
    flags = misjudged(rows, simulator)
    ends = int(rows.terminal.sum()) + int((~rows.terminal[flags]).sum())
    if _many(len(flags), ends):
        said.append(f"{_rows(flags, ends, 'ends of episodes')} contradict the environment's termination rule")
    return said


def misjudged(rows: Rows, simulator: Simulator) -> Int[np.ndarray, " W"]:
    """Rows whose terminal flag differs from the environment's rule; none if the environment has no rule.

    Where the stored flag and the rule disagree on an observation, a step from the row's exact state decides:
    observations are rounded, and clipped velocities hide a clause of Hopper's rule.
    """
    if not simulator.has_termination_rule:
        return np.array([], int)
    known, next_obs = following(rows, episodes(rows)[1])
    obs = torch.from_numpy(rows.obs)
    action = torch.from_numpy(rows.action)
    judged = simulator.terminated(obs, action, torch.from_numpy(next_obs)).numpy()
    suspect = np.flatnonzero(known & (judged != rows.terminal))
    state, exact = simulator_state(rows, simulator, suspect)
    if exact.any():
        stepped = suspect[exact.numpy()]
        judged[stepped] = simulator.step(state[exact], action[stepped], None)[2].numpy()
    return suspect[judged[suspect] != rows.terminal[suspect]]


def relabelled(rows: Rows, simulator: Simulator) -> tuple[Rows, int]:
    """The rows with the rewards that the simulator pays, and how many were replaced by another number.

    Rows whose simulator state is not known exactly keep the file's reward. Every other row is stepped once.
    """
    state, exact = simulator_state(rows, simulator, np.arange(len(rows.reward)))
    index = np.flatnonzero(exact.numpy())
    _, paid, _ = _stepped(simulator, state[exact], rows, index, index)
    reward = rows.reward.copy()
    reward[index] = np.where(np.isfinite(paid), paid, reward[index])
    return replace(rows, reward=reward), int((reward != rows.reward).sum())


def _stepped(
    simulator: Simulator, state: torch.Tensor, rows: Rows, index: np.ndarray, of: np.ndarray
) -> tuple[Float[np.ndarray, "M O"], Float[np.ndarray, " M"], Bool[np.ndarray, " M"]]:
    """(observation, reward, end) of a step from these states with the actions of the rows `of`."""
    if not len(index):  # a simulator whose state cannot be set cannot step
        return np.empty((0, rows.obs.shape[1])), np.empty(0), np.empty(0, bool)
    after, reward, ended = simulator.step(state, torch.from_numpy(rows.action[of]), None)
    return simulator.observe(after).numpy(), reward.numpy(), ended.numpy()


def _many(count: int, of: int) -> bool:
    return count >= 2 and count > _SHARE * of


def _rows(index: np.ndarray, of: int, what: str = "rows") -> str:
    return f"{len(index)} of {of} {what} (rows {listed(index.tolist())})"


def _spread(error: Float[np.ndarray, " M"]) -> dict[str, float | None]:
    error = error[np.isfinite(error)]
    if not len(error):
        return {"max": None, "median": None}
    return {"max": float(error.max()), "median": float(np.median(error))}
