"""How a locomotion set is made: shipped policies explore, in episodes run in parallel until termination.

Source: D4RL's recipes for hopper, halfcheetah and walker2d (Fu et al. 2020, arXiv:2004.07219), with small networks of
our own in place of its SAC policies; medium-replay imitates its replay buffer with checkpoints, as there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from core.policy import UniformPolicy
from core.progress import progress
from core.random import Streams
from tasks.base import Behaviour
from tasks.recipes.policies import ExploringPolicy, Policies, load_policies
from tasks.rows import Rows, joined
from tasks.simulators.base import Simulator
from tasks.simulators.locomotion import simulator

__all__ = [
    "ENV_IDS",
    "EXPERT_EXPLORATION",
    "EXPLORATION",
    "HORIZON",
    "LEVELS",
    "Level",
    "behaviour",
    "collect",
    "replay_rows",
]

Level = Literal["random", "medium", "medium-replay", "expert", "medium-expert"]
LEVELS: tuple[Level, ...] = get_args(Level)
ENV_IDS = {"hopper": "Hopper-v4", "halfcheetah": "HalfCheetah-v4", "walker2d": "Walker2d-v4"}
HORIZON = 1000
EXPLORATION = {"hopper": (0.3, 0.0), "halfcheetah": (0.3, 0.1), "walker2d": (0.3, 0.1)}  # deviation, share of uniform
EXPERT_EXPLORATION = (0.05, 0.0)  # at 0.3 the best hopper earns a third of what it earns greedily
_PARALLEL = 100  # episodes started together; another number makes another set
_GRID = 2.0**-23  # states are multiples of it, so that the last bits of a processor's arithmetic do not add up


@dataclass(frozen=True)
class _Part:
    """Rows of one behaviour policy; `checkpoint` None acts uniformly."""

    checkpoint: int | None
    size: int
    label: str
    exploration: tuple[float, float] = (0.0, 0.0)  # deviation, share of uniform actions


def collect(env: str, level: Level, size: int, rng: Streams) -> tuple[Rows, dict[str, Any]]:
    """`size` rows, and the checkpoints behind them with their exploration.

    Episodes are written whole and in the order in which they were started, so short ones are not favoured; the last one
    is cut without a flag. Where one policy's rows end and the next one's begin, the cut row is marked as a timeout.
    Random, medium and expert sets of a smaller size are prefixes of larger ones; the others share rows out by size.
    """
    shipped = load_policies(env)
    world = simulator(ENV_IDS[env])
    parts = [part for part in _parts(env, shipped, level, size) if part.size]
    with progress(f"{env}-{level}", size) as advance:
        made = []
        for part in parts:
            made.append(_episodes(world, _policy(shipped, part), part.size, rng.fork(part.label), advance))
    for rows in made[:-1]:
        rows.timeout[-1] |= not rows.terminal[-1]
    used = [_described(shipped, part) for part in parts if part.checkpoint is not None]
    return joined(made), {"checkpoints": used} if used else {}


def behaviour(env: str, level: Level) -> Behaviour | None:
    """The policy behind a set; None where there are several."""
    shipped = load_policies(env)
    parts = _parts(env, shipped, level, size=1)
    if len(parts) > 1:
        return None
    policy = _policy(shipped, parts[0])
    return UniformPolicy(simulator(ENV_IDS[env]).action_dim) if policy is None else policy


def replay_rows(policies: Policies, size: int) -> Int[np.ndarray, " M"]:
    """How many rows each checkpoint up to the medium one contributes.

    A checkpoint stands for the training steps that lie nearest to it: half of the steps to either neighbour. The
    untrained policy at step 0 so gets half of the first interval, and the medium one half of the last.
    """
    steps = policies.steps[: policies.medium + 1].double().numpy()
    bounds = np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])
    return np.diff(np.round(bounds / steps[-1] * size).astype(int))


def _parts(env: str, policies: Policies, level: Level, size: int) -> list[_Part]:
    exploration = EXPLORATION[env]
    match level:
        case "random":
            return [_Part(None, size, "random")]
        case "medium":
            return [_Part(policies.medium, size, "medium", exploration)]
        case "expert":
            return [_Part(policies.expert, size, "expert", EXPERT_EXPLORATION)]
        case "medium-expert":
            return [
                _Part(policies.medium, size // 2, "medium", exploration),
                _Part(policies.expert, size - size // 2, "expert", EXPERT_EXPLORATION),
            ]
        case "medium-replay":
            shares = replay_rows(policies, size)
            return [_Part(index, int(rows), f"{index}", exploration) for index, rows in enumerate(shares)]


def _policy(policies: Policies, part: _Part) -> ExploringPolicy | None:
    return None if part.checkpoint is None else policies.policy.pick([part.checkpoint]).exploring(*part.exploration)


def _described(policies: Policies, part: _Part) -> dict[str, Any]:
    entry = policies.card["checkpoints"][part.checkpoint]
    exploration = dict(zip(("deviation", "uniform"), part.exploration, strict=True))
    return {"steps": entry["steps"], "greedy": entry["greedy"], **exploration, "rows": part.size}


def _episodes(
    world: Simulator, policy: ExploringPolicy | None, size: int, rng: Streams, advance: Callable[[int], None]
) -> Rows:
    made = list[Rows]()
    done = 0
    while done < size:
        made.append(_wave(world, policy, size - done, rng.fork(f"{len(made)}"), advance))
        done += len(made[-1].reward)
    return joined(made)


def _wave(
    world: Simulator, policy: ExploringPolicy | None, size: int, rng: Streams, advance: Callable[[int], None]
) -> Rows:
    """Up to `size` rows of `_PARALLEL` episodes, one after the other; steps that cannot be among them are skipped."""
    state = _on_grid(world.reset(_PARALLEL, rng.fork("start"))[0])
    noise = rng.fork("policy")
    alive = torch.ones(_PARALLEL, dtype=torch.bool)
    length = torch.zeros(_PARALLEL, dtype=torch.long)
    table = []
    for step in range(HORIZON):
        # Episodes only grow: what comes after those that already fill `size` is not needed.
        needed = alive & (length.cumsum(0) < size)
        if not needed.any():
            break
        action, density = _act(world, policy, state, noise)  # for all of them: a draw must not depend on the others
        after = state.clone()
        reward = torch.zeros(_PARALLEL, dtype=torch.float64)
        ended = torch.zeros_like(alive)
        stepped, reward[needed], ended[needed] = world.step(state[needed], action[needed], None)
        after[needed] = _on_grid(stepped)
        cut = ~ended & (step == HORIZON - 1)
        table.append((state, action, density, after, reward, ended, cut))
        before = min(size, int(length.sum()))
        length += needed
        advance(min(size, int(length.sum())) - before)
        state = after
        alive = alive & ~ended
    lane, step_of = torch.nonzero(torch.arange(len(table)) < length.unsqueeze(1), as_tuple=True)
    picked = (torch.stack(column)[step_of, lane][:size] for column in zip(*table, strict=True))
    return _rows(world, *picked)


def _act(world: Simulator, policy: ExploringPolicy | None, state: Tensor, rng: Streams) -> tuple[Tensor, Tensor]:
    """Actions as they are stored, in float32, and their log-density."""
    if policy is None:
        action = 2 * rng.uniform(len(state), world.action_dim)[0] - 1
        return action, torch.full((len(state),), -world.action_dim * log(2))
    action, density = policy.sample(world.observe(state).float().unsqueeze(0), rng)
    return action[0].float(), density[0].float()


def _on_grid(state: Tensor) -> Tensor:
    return (state / _GRID).round() * _GRID


def _rows(
    world: Simulator,
    state: Tensor,
    action: Tensor,
    density: Tensor,
    after: Tensor,
    reward: Tensor,
    terminal: Tensor,
    timeout: Tensor,
) -> Rows:
    positions = state.shape[-1] // 2  # qpos and qvel are of one length in all three
    return Rows(
        obs=world.observe(state).float().numpy(),
        action=action.numpy(),
        reward=reward.float().numpy(),
        terminal=terminal.numpy(),
        timeout=timeout.numpy(),
        next_obs=world.observe(after).float().numpy(),
        qpos=state[:, :positions].numpy().copy(),
        qvel=state[:, positions:].numpy().copy(),
        action_log_prob=density.numpy(),
    )
