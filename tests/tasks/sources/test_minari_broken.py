"""An episode that breaks a rule is named, and the others can be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from core.errors import DataError
from tasks.base import DataOptions, load_task

Collect = Callable[..., tuple[Any, list[Any]]]
Create = Callable[..., None]
Damage = Callable[[h5py.Group], None]

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:minari"), pytest.mark.usefixtures("folder")]


def changed(episode: h5py.Group, key: str, value: np.ndarray) -> None:
    del episode[key]
    episode[key] = value


def no_final_observation(episode: h5py.Group) -> None:
    changed(episode, "observations", episode["observations"][:-1])


def fewer_rewards(episode: h5py.Group) -> None:
    changed(episode, "rewards", episode["rewards"][:-2])


def fewer_truncations(episode: h5py.Group) -> None:
    changed(episode, "truncations", episode["truncations"][:-1])


def nan_observation(episode: h5py.Group) -> None:
    episode["observations"][3, 1] = np.nan


def infinite_reward(episode: h5py.Group) -> None:
    episode["rewards"][4] = np.inf


def action_out_of_range(episode: h5py.Group) -> None:
    episode["actions"][0] = 3.0


def no_rewards(episode: h5py.Group) -> None:
    del episode["rewards"]


def wide_observations(episode: h5py.Group) -> None:
    changed(episode, "observations", np.zeros((11, 4)))


def half_terminated(episode: h5py.Group) -> None:
    changed(episode, "terminations", np.full(10, 0.5))


CASES = [
    (
        no_final_observation,
        "must have one observation more than rewards.*, got 10 observations, 10 rewards",
    ),
    (fewer_rewards, "must have one observation more than rewards.*, got 11 observations, 8 rewards"),
    (fewer_truncations, "got 11 observations, 10 rewards, 10 actions, 10 terminations, 9 truncations"),
    (nan_observation, "observations must be finite, got NaN or Inf in rows 3..3"),
    (infinite_reward, "rewards must be finite, got NaN or Inf in rows 4..4"),
    (action_out_of_range, r"actions must be in \[-1, 1\], got .a. up to 1.5 in rows 0..0"),
    (no_rewards, "must have all that an episode has, got KeyError"),
    (wide_observations, r"observations and actions must have 3 and 1 columns, got \(4, 1\)"),
    (half_terminated, "terminals must be 0 or 1, got other values"),
]


@pytest.fixture
def pendulum(collect: Collect, create: Create) -> list[Any]:
    """Five episodes of ten steps."""
    env, buffers = collect("Pendulum-v1", max_episode_steps=10)
    create("five-v0", buffers, env)
    return buffers


def damage(folder: Path, number: int, how: Damage) -> None:
    with h5py.File(folder / "five-v0" / "data" / "main_data.hdf5", "r+") as file:
        how(file[f"episode_{number}"])


def read(skip: bool) -> Any:
    return load_task("minari/five-v0", DataOptions(skip_broken_episodes=skip)).rows()[0]


@pytest.mark.parametrize(("how", "rule"), CASES, ids=[how.__name__ for how, _ in CASES])
def test_a_broken_episode_is_named_and_can_be_left_out(
    folder: Path, pendulum: list[Any], capsys: pytest.CaptureFixture[str], how: Damage, rule: str
) -> None:
    damage(folder, 2, how)
    with pytest.raises(DataError, match=rf"minari/five-v0 .*, episode 2: .*{rule}.*; 1 of 5 .*skip_broken_episodes"):
        read(skip=False)
    capsys.readouterr()
    rows = read(skip=True)
    assert "1 of 5 episodes are left out (2): episode 2: " in capsys.readouterr().err
    assert (len(rows.reward), rows.left_out) == (40, 1)
    rest = np.concatenate([buffer.rewards for number, buffer in enumerate(pendulum) if number != 2])
    assert np.allclose(rows.reward, rest)
    assert np.flatnonzero(rows.timeout).tolist() == [9, 19, 29, 39]


def test_leaving_out_nothing_changes_nothing(pendulum: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    (plain, digest), (skipping, same) = (
        load_task("minari/five-v0", DataOptions(skip_broken_episodes=skip)).rows() for skip in (False, True)
    )
    assert digest == same
    assert plain.left_out == skipping.left_out == 0
    assert capsys.readouterr().err == ""


def test_every_broken_episode_is_named_at_once(folder: Path, pendulum: list[Any]) -> None:
    for number in (1, 3, 4):
        damage(folder, number, no_final_observation)
    with pytest.raises(DataError, match=r"episode 1: .*; 3 of 5 episodes break a rule \(1, 3, 4\); "):
        read(skip=False)
    for number in (0, 2):
        damage(folder, number, no_rewards)
    with pytest.raises(DataError, match="must have at least one episode to use, got 0"):
        read(skip=True)


def test_an_episode_without_a_step_holds_nothing(
    folder: Path, pendulum: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def empty(episode: h5py.Group) -> None:
        changed(episode, "observations", episode["observations"][:1])
        for key in ("actions", "rewards", "terminations", "truncations"):
            changed(episode, key, episode[key][:0])

    damage(folder, 0, empty)
    assert len(read(skip=False).reward) == 40
    assert "1 episodes have no step: 0" in capsys.readouterr().err


def test_a_damaged_file_is_no_broken_episode(folder: Path, pendulum: list[Any]) -> None:
    file = folder / "five-v0" / "data" / "main_data.hdf5"
    task = load_task("minari/five-v0", DataOptions(skip_broken_episodes=True))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"must be a readable Minari dataset: .*truncated"):
        task.rows()
