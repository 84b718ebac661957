"""The maze against gymnasium-robotics' PointMaze, D4RL's reference returns, and its own promises."""

from typing import Any

import gymnasium
import gymnasium_robotics
import mujoco
import numpy as np
import pytest
import torch

from core.errors import SpecError
from core.random import Streams
from tasks.recipes.maze2d import collect, random_returns
from tasks.simulators.base import Simulator
from tasks.simulators.maze import GOALS, HORIZONS, MAPS, Maze, advance_one, cell_of, free_cells, load_maze
from tasks.sources.d4rl import reference

POINT_MAZES = {"umaze": "PointMaze_UMaze-v3", "medium": "PointMaze_Medium-v3", "large": "PointMaze_Large-v3"}
every_map = pytest.mark.parametrize("name", MAPS)


class PointMaze:
    """gymnasium-robotics' ball, spoken to in our frame: a quarter turn, and the origin elsewhere."""

    def __init__(self, name: str) -> None:
        gymnasium.register_envs(gymnasium_robotics)
        environment: Any = gymnasium.make(POINT_MAZES[name]).unwrapped
        environment.reset(seed=0)
        self.ball = environment.point_env
        self.height = len(MAPS[name])
        self.width = len(MAPS[name][0])

    def set(self, state: np.ndarray) -> None:
        x, y, vx, vy = state
        self.ball.set_state(np.array([y + 0.7 - self.width / 2, self.height / 2 - 0.7 - x]), np.array([vy, -vx]))

    def step(self, action: np.ndarray) -> np.ndarray:
        qx, qy, vqx, vqy = self.ball.step(np.array([action[1], -action[0]]))[0]
        return np.array([self.height / 2 - 0.7 - qy, qx - 0.7 + self.width / 2, -vqy, vqx])

    @property
    def touches_wall(self) -> bool:
        """A contact with anything but the ground, whose normal is vertical."""
        contacts = self.ball.data.contact
        return any(abs(contacts.frame[i][2]) < 0.5 and contacts.dist[i] < 0 for i in range(self.ball.data.ncon))


def path(name: str, rows: int, seed: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States and actions of a push that changes every 40 steps: fast enough to be clipped and to hit walls."""
    rng = Streams((seed,), "test")
    push = 2.4 * rng.uniform(rows, -(-steps // 40), 2).double() - 1.2
    action = push.repeat_interleave(40, -2)[..., :steps, :]
    maze = Maze(name)
    return maze.replay(maze.reset(rows, rng), action), action


@every_map
def test_one_step_agrees_with_point_maze(name: str) -> None:
    oracle = PointMaze(name)
    states, actions = (x[0] for x in path(name, 8, seed=0, steps=160))
    worst = 0.0
    touching = 0
    fast = 0
    for before, after, action in zip(
        states[:, :-1].reshape(-1, 4).numpy(),
        states[:, 1:].reshape(-1, 4).numpy(),
        actions.reshape(-1, 2).numpy(),
        strict=True,
    ):
        oracle.set(before)
        worst = max(worst, float(np.abs(oracle.step(action) - after).max()))
        touching += oracle.touches_wall
        fast += bool((np.abs(before[2:]) > 5).any())
    assert touching > 50  # of 1280: we get 100 to 140
    assert fast > 100  # we get 250 to 340
    assert worst < 1e-12  # we get 4e-14


@every_map
def test_a_hundred_steps_agree_with_point_maze(name: str) -> None:
    """Open loop: contacts amplify what rounding the change of frame leaves."""
    oracle = PointMaze(name)
    states, actions = (x[0].numpy() for x in path(name, 12, seed=1, steps=100))
    worst = 0.0
    touching = 0
    for episode, string in zip(states, actions, strict=True):
        oracle.set(episode[0])
        for after, action in zip(episode[1:], string, strict=True):
            worst = max(worst, float(np.abs(oracle.step(action) - after).max()))
            touching += oracle.touches_wall
    assert touching > 50  # of 1200: we get 110 to 120
    assert worst < 1e-9  # we get 5e-13


@every_map
def test_random_policy_earns_what_d4rl_says(name: str) -> None:
    """Within 3 standard errors of the difference; D4RL's own, of 100 episodes, is the larger part of it.

    2000 episodes gave 27.3 +- 1.2, 17.4 +- 1.3 and 10.8 +- 1.0, D4RL says 23.85, 13.13 and 6.7: 0.6 to 0.9 errors off.
    """
    returns = random_returns(Maze(name), 300, Streams((0,)))
    error = returns.std(ddof=1) * (1 / 100 + 1 / len(returns)) ** 0.5
    assert abs(returns.mean() - reference(f"maze2d-{name}-v1").ref_min) < 3 * error


@every_map
def test_replay_from_exact_states(name: str) -> None:
    maze = Maze(name)
    states, actions = path(name, 50, seed=2, steps=120)
    state, exact = maze.restore(states[..., :-1, :])
    assert exact.all()
    assert torch.equal(maze.step(state, actions, None)[0], states[..., 1:, :])


@every_map
def test_replay_from_float32_observations(name: str) -> None:
    """Rounding an observation moves a step of the recipe's data by at most 1.5e-5, under random actions by 3e-4."""
    maze = Maze(name)
    rows, _ = collect(name, 3000, Streams((0,)))
    assert rows.qpos is not None
    assert rows.qvel is not None
    after = maze.step(maze.restore(torch.from_numpy(rows.obs))[0], torch.from_numpy(rows.action), None)[0].numpy()
    assert 0 < np.abs(after[:-1] - np.hstack([rows.qpos, rows.qvel])[1:]).max() < 1.5e-5  # we get 0.7e-5 to 1.2e-5
    states, actions = path(name, 100, seed=2, steps=200)
    after_crash = maze.step(maze.restore(states[..., :-1, :].float())[0], actions, None)[0]
    assert (after_crash - states[..., 1:, :]).abs().max() < 3e-4  # we get up to 1.2e-4


@every_map
def test_starts_are_free_cells_with_noise(name: str) -> None:
    """Every free cell equally often, the goal's too; U(-0.1, 0.1) around it; velocity 0.1 N(0, I)."""
    start = Maze(name).reset(20_000, Streams((0, 1)))
    assert start.shape == (2, 20_000, 4)
    assert start.dtype == torch.float64
    assert not torch.equal(start[0], start[1])
    position = start[0, :, :2]
    velocity = start[0, :, 2:]
    cell = position.round()
    visited, counts = torch.unique(cell, dim=0, return_counts=True)
    assert visited.tolist() == free_cells(name).tolist()
    assert list(GOALS[name]) in visited.tolist()
    expected = 20_000 / len(visited)
    assert ((counts - expected).abs() < 5 * expected**0.5).all()
    offset = position - cell
    assert 0.0999 < offset.abs().max() <= 0.1
    assert abs(offset.std() - 0.1 / 3**0.5) < 0.001
    assert abs(velocity.std() - 0.1) < 0.002


def test_reward_on_the_edge_of_the_goal_disc() -> None:
    maze = Maze("umaze")
    dense = Maze("umaze", dense=True)
    around = torch.tensor(
        [[1.5, 1.0], [1.0, 0.5], [1.5 + 1e-9, 1.0], [1.3, 1.4 - 1e-9], [1.3, 1.4 + 1e-9], [1.0, 1.0]],
        dtype=torch.float64,
    )
    obs = torch.nn.functional.pad(around, (0, 2), value=3.0)  # velocities must not count
    assert maze.reward(obs).tolist() == [1, 1, 0, 1, 0, 1]
    assert torch.allclose(
        dense.reward(obs), torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.0]).double().neg().exp(), atol=1e-8
    )


def test_reward_is_that_of_the_next_state() -> None:
    """A step into the disc has reward 1, a step out of it 0."""
    maze = Maze("umaze")
    state = torch.tensor([[1.0, 1.51, 0, -4.0], [1.0, 1.49, 0, 4.0]]).double()
    after, reward, terminated = maze.step(state, torch.zeros(2, 2), None)
    assert after[0, 1] < 1.5 < after[1, 1]
    assert reward.tolist() == [1, 0]
    assert not terminated.any()


def test_velocity_and_action_are_clipped_before_the_step() -> None:
    maze = Maze("large")
    state = torch.tensor([2.8, 4.8, 0, 0]).double().repeat(3, 1)
    state[:, 2:] = torch.tensor([[5.0, -5.0], [9.0, -7.0], [4.9, -5.0]])
    action = torch.tensor([[1.0, -1.0], [3.0, -1.5], [1.0, -1.0]])
    after, _, _ = maze.step(state, action, None)
    assert torch.equal(after[0], after[1])
    assert not torch.equal(after[0], after[2])
    assert after[0, 2] > 5  # the limit is not enforced on the state a step ends in
    assert torch.equal(state[1, 2:], torch.tensor([9.0, -7.0]).double())  # nor written into the caller's state


@every_map
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    maze = Maze(name)
    states, actions = path(name, 60, seed=3, steps=100)
    before = states[0, :, 90]
    after = states[0, :, 91]
    action = actions[0, :, 90]
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert torch.equal(maze.step(before[order], action[order], None)[0], after[order])
    assert torch.equal(maze.step(before[7], action[7], None)[0], after[7])
    assert torch.equal(maze.step(before.view(5, 4, 3, 4), action.view(5, 4, 3, 2), None)[0], after.view(5, 4, 3, 4))
    scratch = mujoco.MjData(load_maze(name))
    alone = [advance_one(scratch, x.numpy(), u.numpy()) for x, u in zip(before, action, strict=True)]
    assert np.array_equal(np.stack(alone), after.numpy())


def test_replay_repeats_step() -> None:
    maze = Maze("medium")
    states, actions = path("medium", 20, seed=4, steps=60)
    assert states.shape == (1, 20, 61, 4)
    for step in range(60):
        assert torch.equal(maze.step(states[..., step, :], actions[..., step, :], None)[0], states[..., step + 1, :])
    assert maze.replay(states[..., 0, :], actions[..., :0, :]).shape == (1, 20, 1, 4)


def test_only_a_row_that_cannot_be_stepped_is_nan() -> None:
    maze = Maze("umaze")
    state = maze.reset(4, Streams((0,)))[0]
    good, _, _ = maze.step(state, torch.zeros(4, 2), None)
    broken = state.clone()
    action = torch.zeros(4, 2)
    broken[0, 0] = torch.inf
    broken[1, 3] = torch.nan
    action[2, 1] = torch.nan
    after, _, _ = maze.step(broken, action, None)
    assert after[:3].isnan().any(-1).all()
    assert torch.equal(after[3], good[3])


@every_map
def test_the_ball_stays_in_the_maze(name: str) -> None:
    """In 400 random steps its centre never enters a wall's cell."""
    states, _ = path(name, 100, seed=5, steps=400)
    free = set(map(tuple, free_cells(name).tolist()))
    assert {cell_of(x, y) for x, y in states[..., :2].reshape(-1, 2).tolist()} <= free


def test_a_maze_is_a_simulator_that_never_terminates() -> None:
    maze = Maze("large")
    assert isinstance(maze, Simulator)
    assert (maze.obs_dim, maze.action_dim, HORIZONS["large"]) == (4, 2, 800)
    assert maze.physics == f"maze2d-large, mujoco {mujoco.__version__}"
    assert not maze.terminated(torch.zeros(3, 2, 4), torch.zeros(3, 2, 2), torch.zeros(3, 2, 4)).any()
    with pytest.raises(SpecError, match="did you mean 'umaze'"):
        Maze("umaz")
