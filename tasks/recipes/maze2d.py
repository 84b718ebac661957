"""How a maze2d set is made: plan a route over the grid, follow it with noisy actions, and never reset.

Source: D4RL's recipe for maze2d (Fu et al. 2020, arXiv:2004.07219). Where we differ on purpose:
- Rewards are the environment's, paid on the next state; D4RL's own files were relabelled with the current state.
- The controller acts on the present state; D4RL's released generator repeats a stale one when a goal is reached.
- A goal is a cell other than the ball's own. D4RL's may be the same cell, and is jittered by 0.1, which its controller
  ignores: it steers for the cell.
"""

from collections import deque
from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from jaxtyping import Float64

from core.policy import UniformPolicy
from core.progress import progress
from core.random import Streams
from tasks.rows import Rows
from tasks.simulators.base import simulate
from tasks.simulators.maze import GOALS, HORIZONS, MAPS, Maze, advance_one, cell_of, free_cells, load_maze

__all__ = ["collect", "controller_returns", "random_returns", "route", "steer"]

REACHED = 0.1  # distance at which a waypoint, or the goal itself, counts as reached
ACTION_NOISE = 0.5
_CORNER_JITTER = 0.2  # towards the middle of the corridor, which lies 0.2 below the integers

Cell = tuple[int, int]
Vector = Float64[np.ndarray, "2"]


def route(name: str, start: Cell, goal: Cell) -> list[Cell]:
    """The cells of a shortest way, without the start; always the same one among equals.

    Raises:
        ValueError: no way leads from `start` to `goal`.
    """
    onward: dict[Cell, Cell | None] = {goal: None}  # searched backwards from the goal
    queue = deque([goal])
    while start not in onward and queue:
        i, j = cell = queue.popleft()
        for near in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if near not in onward and MAPS[name][near[0]][near[1]] == ".":
                onward[near] = cell
                queue.append(near)
    if start not in onward:
        raise ValueError(f"route from {start} to {goal} must exist in the {name} map, got none")
    cells = []
    cell_next = onward[start]
    while cell_next is not None:
        cells.append(cell_next)
        cell_next = onward[cell_next]
    return cells


def steer(waypoint: Vector, state: Float64[np.ndarray, "4"]) -> Vector:
    """The PD controller, before any noise."""
    action: Vector = np.clip(10 * (waypoint - state[:2]) - state[2:], -1, 1)
    return action


@dataclass
class _Trip:
    """The waypoints still ahead; the last one is the goal."""

    ahead: deque[Vector]

    @classmethod
    def plan(cls, name: str, position: Vector, goal: Cell, rng: Streams) -> "_Trip":
        """Through the middle of the cells of `route`, with jitter, and then to the goal itself."""
        cells = np.array(route(name, cell_of(*position), goal) or [goal], dtype=float)
        cells[:-1] -= _CORNER_JITTER * rng.uniform(len(cells), 2)[0, :-1].double().cpu().numpy()
        return cls(deque(cells))

    def action(self, state: Float64[np.ndarray, "4"]) -> Vector:
        """Towards the next waypoint, after removing those that are reached."""
        while len(self.ahead) > 1 and _near(self.ahead[0], state):
            self.ahead.popleft()
        return steer(self.ahead[0], state)

    def over(self, state: Float64[np.ndarray, "4"]) -> bool:
        """Whether the goal is reached."""
        return _near(self.ahead[-1], state)


def _near(point: Vector, state: Float64[np.ndarray, "4"]) -> bool:
    return float(np.hypot(*(point - state[:2]))) < REACHED


def collect(name: str, size: int, rng: Streams) -> tuple[Rows, dict[str, int]]:
    """`size` rows of one stream with one goal after the other, and the numbers of goals reached and given up.

    `timeout` is True on the row that leads to a goal, or on which one is given up after `HORIZONS` steps; the ball
    moves on from there. Actions are rounded to float32 before they are executed: the stored ones are the executed ones.
    """
    noise = ACTION_NOISE * rng.fork("noise").normal(size, 2)[0].double().cpu().numpy()
    maze = Maze(name)
    planning = rng.fork("planning")
    scratch = mujoco.MjData(load_maze(name))
    states = np.empty((size + 1, 4))
    actions = np.empty((size, 2), np.float32)
    timeout = np.zeros(size, bool)
    reached = 0
    age = 0
    states[0] = maze.reset(1, rng.fork("start"))[0, 0].numpy()
    trip = _next_trip(name, states[0], planning)
    with progress(f"maze2d-{name}", size) as advance:
        for row in range(size):
            actions[row] = np.clip(trip.action(states[row]) + noise[row], -1, 1)
            states[row + 1] = advance_one(scratch, states[row], actions[row])
            age += 1
            there = trip.over(states[row + 1])
            if there or age == HORIZONS[name]:
                timeout[row] = True
                reached = reached + there
                age = 0
                trip = _next_trip(name, states[row + 1], planning)
            advance(1)
    rows = Rows(
        obs=states[:-1].astype(np.float32),
        action=actions,
        reward=maze.reward(torch.from_numpy(states[1:])).float().numpy(),
        terminal=np.zeros(size, bool),
        timeout=timeout,
        next_obs=states[1:].astype(np.float32),
        qpos=states[:-1, :2].copy(),
        qvel=states[:-1, 2:].copy(),
    )
    return rows, {"goals_reached": int(reached), "goals_given_up": int(timeout.sum() - reached)}


def _next_trip(name: str, state: Float64[np.ndarray, "4"], rng: Streams) -> _Trip:
    here = cell_of(*state[:2])
    others = [cell for cell in map(tuple, free_cells(name).tolist()) if cell != here]
    return _Trip.plan(name, state[:2], others[int(rng.integers(len(others), 1)[0, 0])], rng)


def controller_returns(maze: Maze, episodes: int, rng: Streams) -> Float64[np.ndarray, " episodes"]:
    """Returns of the controller without noise, steering to the task's own goal."""
    scratch = mujoco.MjData(load_maze(maze.name))
    goal = cell_of(*GOALS[maze.name])
    path = np.empty((HORIZONS[maze.name] + 1, episodes, 4))
    path[0] = maze.reset(episodes, rng.fork("start"))[0].numpy()
    for episode in range(episodes):
        trip = _Trip.plan(maze.name, path[0, episode, :2], goal, rng)
        for step, state in enumerate(path[:-1, episode]):
            path[step + 1, episode] = advance_one(scratch, state, trip.action(state))
    return maze.reward(torch.from_numpy(path[1:])).sum(0).numpy()


def random_returns(maze: Maze, episodes: int, rng: Streams) -> Float64[np.ndarray, " episodes"]:
    """Returns of uniformly random actions."""
    start = maze.reset(episodes, rng.fork("start"))
    policy = UniformPolicy(maze.action_dim)
    trajectories = simulate(maze, policy, start, HORIZONS[maze.name], rng, greedy=False)
    return trajectories.reward[0].double().sum(-1).cpu().numpy()
