"""Datasets made with Minari's own API are read back row by row."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from gymnasium import spaces

from core.errors import DataError, SpecError
from tasks.base import DataOptions, load_task, task_names
from tasks.simulators.gym import GymSimulator
from tasks.simulators.locomotion import Locomotion
from tasks.sources.minari import _flat, names

Plant = Callable[[h5py.Group, Path], None]
Collect = Callable[..., tuple[Any, list[Any]]]
Create = Callable[..., None]

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:minari"), pytest.mark.usefixtures("folder")]


def test_a_locomotion_set(folder: Path, collect: Collect, create: Create) -> None:
    env, buffers = collect("Hopper-v5")
    create("mujoco/hopper/tiny-v0", buffers, env, ref_min_score=1.0, ref_max_score=50.0)
    assert "minari/mujoco/hopper/tiny-v0" in task_names()
    task = load_task("minari/mujoco/hopper/tiny-v0", DataOptions(heldout=0.3))
    assert isinstance(task.simulator, Locomotion)
    assert (task.horizon, task.score_range) == (1000, (1.0, 50.0))
    rows, digest = task.rows()
    assert np.allclose(rows.reward, np.concatenate([buffer.rewards for buffer in buffers]))
    assert np.allclose(rows.action, np.concatenate([buffer.actions for buffer in buffers]))
    assert np.allclose(rows.obs, np.concatenate([buffer.observations[:-1] for buffer in buffers]))
    assert rows.next_obs is not None
    assert np.allclose(rows.next_obs, np.concatenate([buffer.observations[1:] for buffer in buffers]))
    assert (rows.terminal.sum(), rows.timeout.sum()) == (5, 0)
    assert task.rows()[1] == digest
    dataset, card = task.dataset()
    assert (card["episodes"], card["heldout_episodes"], card["dropped_rows"]) == (5, 2, 0)
    exact = dataset.heldout_exact
    after, _, _ = task.simulator.step(dataset.heldout_state[exact], dataset.heldout.action[exact], None)
    assert (task.simulator.observe(after) - dataset.heldout.obs[:, 1:][exact]).abs().max() < 1e-3


def test_time_limits_are_timeouts_of_the_tasks_horizon(collect: Collect, create: Create) -> None:
    env, buffers = collect("HalfCheetah-v5", max_episode_steps=20)
    create("cheetah-v0", buffers, env)
    task = load_task("minari/cheetah-v0", DataOptions())
    assert (task.horizon, task.score_range) == (20, None)
    rows, _ = task.rows()
    assert rows.terminal.sum() == 0
    assert np.flatnonzero(rows.timeout).tolist() == [19, 39, 59, 79, 99]


def test_another_environment_with_another_range_of_actions(collect: Collect, create: Create) -> None:
    env, buffers = collect("InvertedPendulum-v5")
    create("pendulum-v0", buffers, env)
    task = load_task("minari/pendulum-v0", DataOptions())
    assert isinstance(task.simulator, GymSimulator)
    assert not task.simulator.has_termination_rule
    rows, _ = task.rows()
    assert np.allclose(3 * rows.action, np.concatenate([buffer.actions for buffer in buffers]), atol=1e-6)
    dataset, card = task.dataset()
    assert card["inexact_state_share"] == 1
    assert card["termination"] == "learned from the terminals"
    assert dataset.train.obs.shape[1] == 4


def test_changed_arguments_are_not_the_plain_environment(collect: Collect, create: Create) -> None:
    env, buffers = collect("Hopper-v5", frame_skip=2)
    create("quick-v0", buffers, env)
    assert isinstance(load_task("minari/quick-v0", DataOptions()).simulator, GymSimulator)


def test_observations_are_flattened_as_gymnasium_does() -> None:
    space = spaces.Dict({
        "velocity": spaces.Box(-9, 9, (2,)), "at": spaces.Tuple((spaces.Box(-9, 9, (2, 2)), spaces.Discrete(3))),
    })  # fmt: skip
    samples = [space.sample() for _ in range(4)]
    stacked = {
        "velocity": np.stack([sample["velocity"] for sample in samples]),
        "at": tuple(np.stack([sample["at"][part] for sample in samples]) for part in (0, 1)),
    }
    expected = np.stack([spaces.flatten(space, sample) for sample in samples])
    assert np.array_equal(_flat(space, stacked), expected)


def test_discrete_actions_are_refused_by_name(collect: Collect, create: Create) -> None:
    env, buffers = collect("CartPole-v1", episodes=2)
    create("cartpole-v0", buffers, env)
    with pytest.raises(SpecError, match=r"minari/cartpole-v0 .*: actions must be a bounded Box, got Discrete\(2\)"):
        load_task("minari/cartpole-v0", DataOptions())


def test_values_are_checked_as_in_any_file(collect: Collect, create: Create) -> None:
    env, buffers = collect("HalfCheetah-v5", episodes=2, max_episode_steps=10)
    buffers[1].rewards[3] = float("nan")
    create("broken-v0", buffers, env)
    with pytest.raises(
        DataError, match=r"minari/broken-v0 .*, episode 1: rewards must be finite, got NaN or Inf in rows 3\.\.3"
    ):
        load_task("minari/broken-v0", DataOptions()).dataset()


def test_a_truncated_file_is_refused(folder: Path, collect: Collect, create: Create) -> None:
    env, buffers = collect("HalfCheetah-v5", episodes=2, max_episode_steps=10)
    create("cut-v0", buffers, env)
    task = load_task("minari/cut-v0", DataOptions())
    file = folder / "cut-v0" / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"minari/cut-v0 .*: must be a readable Minari dataset: .*truncated"):
        task.dataset()


def test_a_dataset_without_an_environment_is_refused(collect: Collect, create: Create) -> None:
    _, buffers = collect("HalfCheetah-v5", episodes=1, max_episode_steps=5)
    box = spaces.Box(-np.inf, np.inf, (17,), np.float64)
    create("homeless-v0", buffers, None, observation_space=box, action_space=spaces.Box(-1, 1, (6,)))
    with pytest.raises(DataError, match=r"minari/homeless-v0 .*: must name its environment, got none"):
        load_task("minari/homeless-v0", DataOptions())


@pytest.mark.parametrize(
    ("entry_point", "rule"),
    [
        ("gymnasium_robotics.nowhere:Nowhere", "its environment Nowhere-v0 cannot be made"),
        (
            "subprocess:check_output",
            "code that nobody has named here: subprocess:check_output; .* --import subprocess, ",
        ),
    ],
)
def test_an_unknown_environment_is_refused(
    folder: Path, entry_point: str, rule: str, collect: Collect, create: Create
) -> None:
    env, buffers = collect("InvertedPendulum-v5", episodes=1)
    create("lost-v0", buffers, env)
    file = folder / "lost-v0" / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    spec = json.loads(metadata["env_spec"]) | {"id": "Nowhere-v0", "entry_point": entry_point}
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    with pytest.raises(DataError, match=rf"minari/lost-v0 .*: .*{rule}"):
        load_task("minari/lost-v0", DataOptions())


def test_no_code_is_run_to_learn_a_space(folder: Path, tmp_path: Path, collect: Collect, create: Create) -> None:
    """Minari makes the environment of a dataset that does not declare its spaces: that is, it calls any function."""
    env, buffers = collect("InvertedPendulum-v5", episodes=1)
    create("blank-v0", buffers, env)
    file = folder / "blank-v0" / "data" / "metadata.json"
    made = tmp_path / "made"
    metadata = json.loads(file.read_text())
    del metadata["observation_space"]
    spec = json.loads(metadata["env_spec"]) | {"id": "Made-v0", "entry_point": "os:mkdir"}
    spec["kwargs"] = {"path": str(made)}
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    with pytest.raises(DataError, match=r"minari/blank-v0 .*: Made-v0 is made by code that nobody has named here"):
        load_task("minari/blank-v0", DataOptions())
    assert not made.exists()


def link_elsewhere(episode: h5py.Group, other: Path) -> None:
    del episode["actions"]
    episode["actions"] = h5py.ExternalLink(str(other), "actions")


def virtual(episode: h5py.Group, other: Path) -> None:
    layout = h5py.VirtualLayout(shape=episode["actions"].shape, dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "actions", shape=episode["actions"].shape)
    del episode["actions"]
    episode.create_virtual_dataset("actions", layout)


def absurd(episode: h5py.Group, other: Path) -> None:
    del episode["actions"]
    episode.create_dataset("actions", (10**12, 6), "f4", chunks=(1024, 6))


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (link_elsewhere, r"episode_0/actions must lie in this file, got a link \(ExternalLink\)"),
        (virtual, "episode_0/actions must lie in this file, got a virtual dataset"),
        (absurd, r"declares \d+ bytes of data, more than the \d+ that such a file can hold"),
    ],
)
def test_files_that_lead_elsewhere_are_refused(
    folder: Path, plant: Plant, rule: str, collect: Collect, create: Create
) -> None:
    env, buffers = collect("HalfCheetah-v5", episodes=1, max_episode_steps=5)
    create("far-v0", buffers, env)
    path = folder / "far-v0" / "data" / "main_data.hdf5"
    with h5py.File(path, "a") as file:
        plant(file["episode_0"], folder / "other.hdf5")
    with pytest.raises(DataError, match=rf"main_data\.hdf5: {rule}"):
        load_task("minari/far-v0", DataOptions())


def test_impossible_names_are_refused(folder: Path) -> None:
    assert names() == []  # no folder yet, and asking does not make one
    assert not folder.exists()
    with pytest.raises(SpecError, match="minari dataset must be one of"):
        load_task("minari/../../etc-v0", DataOptions())
    with pytest.raises(SpecError, match="minari dataset must be one of"):
        load_task("minari/no-version", DataOptions())


def test_without_the_extra_there_are_no_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("tasks.sources.minari.find_spec", lambda name: None if name == "minari" else find_spec(name))
    assert names() == []
    with pytest.raises(SpecError, match=r"needs the package minari: pip install rolloutbench\[minari\]"):
        load_task("minari/a/b-v0", DataOptions())


def test_two_readings_are_the_same_dataset(collect: Collect, create: Create) -> None:
    env, buffers = collect("HalfCheetah-v5", episodes=3, max_episode_steps=10)
    create("twice-v0", buffers, env)
    (one, _), (two, _) = (load_task("minari/twice-v0", DataOptions()).dataset() for _ in range(2))
    assert torch.equal(one.train.obs, two.train.obs)
    assert one.sha256 == two.sha256
