"""A replay of logged rows: sound data say nothing, data that contradict the simulator are named."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.random import Streams
from tasks.base import DataOptions, Task, load_task
from tasks.recipes.maze2d import collect
from tasks.replay import contradictions, relabelled, replay
from tasks.rows import Rows
from tasks.simulators.base import Simulator
from tasks.simulators.maze import Maze
from tasks.split import build, simulator_state


def said(rows: Rows, simulator: Simulator) -> str:
    return "; ".join(contradictions(rows, simulator, replay(rows, simulator)))


@pytest.fixture(scope="module")
def hopper() -> tuple[Rows, Simulator]:
    """Random actions; without what D4RL's files do not have."""
    from tasks.simulators.locomotion import simulator

    world = simulator("Hopper-v4")
    rng = Streams((0,))
    state = world.reset(1, rng)[0]
    lines = []
    for _ in range(1200):
        action = 2 * rng.uniform(1, 3)[0] - 1
        after, reward, ended = world.step(state, action, None)
        seen = [world.observe(x)[0].float().numpy() for x in (state, after)]
        lines.append((seen[0], action[0].numpy(), float(reward), bool(ended), seen[1], *state[0].split(6)))
        state = world.reset(1, rng)[0] if ended else after
    obs, action, reward, ended, next_obs, qpos, qvel = (np.stack(column) for column in zip(*lines, strict=True))
    return Rows(obs, action, reward.astype(np.float32), ended, ~ended & False, next_obs, qpos, qvel), world


def bare(rows: Rows) -> Rows:
    return replace(rows, next_obs=None, qpos=None, qvel=None)


def zero_block(rows: Rows) -> Rows:
    obs = rows.obs.copy()
    obs[100:160] = 0
    return replace(rows, obs=obs, next_obs=None)


@pytest.mark.parametrize("task", ["toy/linear", "local/maze2d-umaze", "local/walker2d-medium-replay"])
def test_sound_sets_say_nothing(task: str) -> None:
    loaded = load_task(task, DataOptions(dataset_rows=600))
    assert said(loaded.rows()[0], loaded.simulator) == ""


@pytest.mark.parametrize("reduce", [lambda rows: rows, bare])
def test_sound_rows_say_nothing_with_and_without_states(
    hopper: tuple[Rows, Simulator], reduce: Callable[[Rows], Rows]
) -> None:
    rows, world = hopper
    assert said(reduce(rows), world) == ""


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lambda rows: replace(bare(rows), terminal=np.roll(rows.terminal, 3)), "next state that no step leads to"),
        (lambda rows: replace(rows, terminal=np.roll(rows.terminal, 3)), "environment's termination rule"),
        (lambda rows: replace(rows, action=np.zeros_like(rows.action)), "do not belong together"),
        (lambda rows: replace(rows, action=np.roll(rows.action, 7, 0)), "do not belong together"),
        (lambda rows: replace(rows, next_obs=np.roll(rows.next_obs, 11, 0)), "do not belong together"),
        (lambda rows: replace(bare(rows), reward=np.roll(rows.reward, 5)), "another reward than the simulator pays"),
        (zero_block, "environment's termination rule"),
        (zero_block, "not the one of their stored state"),
    ],
)
def test_contradictions_are_named(hopper: tuple[Rows, Simulator], fault: Callable[[Rows], Rows], sentence: str) -> None:
    rows, world = hopper
    assert sentence in said(fault(rows), world)


def test_a_few_odd_rows_are_no_contradiction(hopper: tuple[Rows, Simulator]) -> None:
    """Another version of the physics differs in a few contacts."""
    rows, world = hopper
    odd = rows.next_obs.copy()  # type: ignore[union-attr]
    odd[::200] += 3
    assert said(replace(rows, next_obs=odd), world) == ""


@pytest.fixture(scope="module")
def stream() -> Rows:
    """A maze stream as D4RL's generator writes it, but for what the tests change."""
    return replace(collect("umaze", 4000, Streams((0,)))[0], next_obs=None)


def test_a_stored_state_that_disagrees_is_not_exact(stream: Rows) -> None:
    """D4RL's generator repeats the observation before a reached goal: the row behind it is two steps in one."""
    behind = np.flatnonzero(stream.timeout)[:-1] + 1
    obs = stream.obs.copy()
    obs[behind] = obs[behind - 1]
    stale = replace(stream, obs=obs)
    maze = Maze("umaze")
    assert not simulator_state(stale, maze, behind)[1].any()
    assert simulator_state(stream, maze, behind)[1].all()
    (sound, card), (data, stale_card) = (
        build(rows, maze, "x", heldout=0.1, view="episodes") for rows in (stream, stale)
    )
    assert (card["stale_rows"], stale_card["stale_rows"]) == (0, len(behind))
    lost = len(sound.train.obs) - len(data.train.obs) + card["heldout_rows"] - stale_card["heldout_rows"]
    assert lost == len(behind)
    step = maze.step(data.train.obs.double(), data.train.action, None)[0]
    assert (maze.observe(step) - data.train.next_obs).abs().max() < 1e-5
    assert stale_card["inexact_state_share"] == 0


def test_rewards_can_be_those_that_the_simulator_pays(stream: Rows) -> None:
    """D4RL's maze2d files pay the current state; the simulator pays the next one."""
    maze = Maze("umaze")
    file = replace(stream, reward=maze.reward(torch.from_numpy(stream.obs)).numpy())
    task = Task("maze", maze, 300, None, lambda: (file, "x"), DataOptions(rewards="simulator"))
    rows, changed = relabelled(file, maze)
    assert changed == (file.reward != stream.reward).sum() > 0
    assert (rows.reward == stream.reward).all()
    data, card = task.dataset()
    assert (card["rewards"], card["relabelled_rows"]) == ("simulator", changed)
    assert data.train.reward.sum() == maze.reward(data.train.next_obs).sum()
