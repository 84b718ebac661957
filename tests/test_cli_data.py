"""Datasets on the command line: listed, made and verified, and files of a user that run end to end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer

import run_bench
from benchmarks.store import ResultStore
from tasks.hdf5 import write
from tasks.rows import Rows

TWO = 'generators=["none","ensemble"]'
pytestmark = pytest.mark.usefixtures("elsewhere")
Step = tuple[np.ndarray, np.ndarray, float, bool, np.ndarray, np.ndarray, np.ndarray]


def hops(environment: Any, episodes: int) -> Iterator[list[Step]]:
    """Random hopping until it falls: (s, a, r, d, s', qpos, qvel) of every step, one list per episode."""
    environment.action_space.seed(0)
    for seed in range(episodes):
        obs = environment.reset(seed=seed)[0]
        steps = list[Step]()
        ended = False
        while not ended:
            physics = environment.unwrapped.data
            qpos = physics.qpos.copy()
            qvel = physics.qvel.copy()
            action = environment.action_space.sample()
            after, reward, ended, truncated, _ = environment.step(action)
            assert not truncated
            steps.append((obs, action, float(reward), ended, after, qpos, qvel))
            obs = after
        yield steps


def d4rl_file(folder: Path) -> str:
    """Some hundred rows of Hopper-v4 in D4RL's layout."""
    steps = [step for episode in hops(gymnasium.make("Hopper-v4"), 20) for step in episode]
    obs, action, reward, terminal, _, qpos, qvel = (np.array(column) for column in zip(*steps, strict=True))
    rows = Rows(
        obs=obs.astype(np.float32),
        action=action.astype(np.float32),
        reward=reward.astype(np.float32),
        terminal=terminal,
        timeout=np.zeros(len(steps), bool),
        qpos=qpos,
        qvel=qvel,
    )
    assert len(steps) > 200
    assert terminal.sum() == 20
    write(folder / "hopper_medium-v2.hdf5", rows)
    return "d4rl/hopper-medium-v2"


def bare_d4rl_file(folder: Path) -> str:
    """The same without anything that may be missing: what ends an episode, states and next observations."""
    task = d4rl_file(folder)
    with h5py.File(folder / "hopper_medium-v2.hdf5", "a") as file:
        for key in set(file) - {"observations", "actions", "rewards", "terminals"}:
            del file[key]
        assert len(file) == 4
    return task


def minari_set(folder: Path) -> str:
    """The like, made with Minari's own API."""
    environment = gymnasium.make("Hopper-v5")
    buffers = [
        EpisodeBuffer(
            seed,
            seed,
            None,
            [step[0] for step in steps] + [steps[-1][4]],
            [step[1] for step in steps],
            [step[2] for step in steps],
            [step[3] for step in steps],
            [False] * len(steps),
            {},
        )
        for seed, steps in enumerate(hops(environment, 20))
    ]
    minari.create_dataset_from_buffers(
        "mujoco/hopper/tiny-v0", buffers, env=environment, ref_min_score=0.0, ref_max_score=100.0
    )
    return "minari/mujoco/hopper/tiny-v0"


def test_data_list_make_and_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench.main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert [line.split(maxsplit=1)[1] for line in listed.splitlines() if "local/maze2d-umaze" in line] == [
        "not here yet"
    ]
    assert "d4rl/hopper-medium-v2" in listed
    assert "made in memory" in listed
    for action in ("make", "verify"):
        assert run_bench.main(["data", action, "toy/linear", "--dataset-rows", "500"]) == 0
        card = json.loads(capsys.readouterr().out)
        assert (card["task"], card["rows"], card["episodes"]) == ("toy/linear", 500, 10)


@pytest.mark.filterwarnings("ignore::UserWarning:minari", "ignore::DeprecationWarning:gymnasium")
@pytest.mark.parametrize(
    "make", [d4rl_file, *(pytest.param(other, marks=pytest.mark.slow) for other in (bare_d4rl_file, minari_set))]
)
def test_a_users_own_file_runs_end_to_end(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], str]
) -> None:
    folder = elsewhere / "mine"
    folder.mkdir()
    task = make(folder)
    assert run_bench.main(["data", "list", "--data-dir", "mine"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{task} "))
    assert "not here yet" not in line
    assert run_bench.main(["data", "verify", task, "--data-dir", "mine"]) == 0
    assert json.loads(capsys.readouterr().out)["terminals"] == 20
    settings = ["updates=40", "evaluate_every=20", "episodes=2", "fidelity_starts=8", "fidelity_horizon=5"]
    fields = ["ensemble.rollouts=50", "ensemble.dynamics.max_updates=40", "ensemble.dynamics.check_every=20"]
    pairs = [f'tasks=["{task}"]', "dataset_rows=100_000", *settings, *fields]
    options = ["--data-dir", "mine", "--out", "out", "--seeds", "1", "--jobs", "1"]
    assert run_bench.main(["run", "smoke", *options, "--set", TWO, *pairs]) == 0
    cells = ResultStore(elsewhere / "out").cells()
    assert {cell.spec["generator"]["name"] for cell in cells} == {"none", "ensemble"}
    for cell in cells:
        values = {record.metric: record.value for record in cell.records if record.step == 40}
        assert values["return"] is not None
        assert values["normalized_score"] is not None
        assert cell.runs[-1]["physics"].startswith("Hopper")
        assert cell.runs[-1]["dataset"]["terminals"] == 20
    assert "compounding/logged/mean" in {record.metric for cell in cells for record in cell.records}
    assert task in capsys.readouterr().out


def test_verify_ends_with_one_for_data_that_contradict(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = elsewhere / "mine"
    folder.mkdir()
    task = d4rl_file(folder)
    with h5py.File(folder / "hopper_medium-v2.hdf5", "r+") as file:
        file["actions"][:] = 0
    assert run_bench.main(["data", "verify", task, "--data-dir", "mine"]) == 1
    shown = capsys.readouterr()
    (sentence,) = json.loads(shown.out)["contradictions"]
    assert f"{task}: the data contradict the simulator: {sentence}" in shown.err.splitlines()
    assert "do not belong together" in sentence
    few = ["updates=4", "evaluate_every=2", "episodes=1", 'generators=["none"]', "dataset_rows=100_000"]
    options = ["--data-dir", "mine", "--out", "out", "--seeds", "1", "--jobs", "1"]
    assert run_bench.main(["run", "smoke", *options, "--set", f'tasks=["{task}"]', *few]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "contradict" in line)
    assert line.startswith(f"{task}: the data contradict the simulator: observations, actions and next states")
    assert "data contradict the simulator" in Path("out/report/index.html").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::UserWarning:minari", "ignore::DeprecationWarning:gymnasium")
def test_only_replays_are_missing_where_no_state_can_be_set(elsewhere: Path) -> None:
    """A cheetah with another frame skip is not one of ours: it can be run, but not put into a state."""
    environment = gymnasium.make("HalfCheetah-v5", frame_skip=2, max_episode_steps=30)
    environment.action_space.seed(0)
    buffers = []
    for seed in range(10):
        obs = [environment.reset(seed=seed)[0]]
        actions = []
        rewards = []
        for _ in range(30):
            actions.append(environment.action_space.sample())
            after, reward, *_ = environment.step(actions[-1])
            obs.append(after)
            rewards.append(float(reward))
        ends = [False] * 29 + [True]
        buffers.append(EpisodeBuffer(seed, seed, None, obs, actions, rewards, [False] * 30, ends, {}))
    minari.create_dataset_from_buffers("quick-v0", buffers, env=environment)
    settings = ['generators=["ensemble"]', "updates=4", "evaluate_every=2", "episodes=1"]
    fields = [
        "dataset_rows=100_000",
        "ensemble.rollouts=8",
        "ensemble.dynamics.max_updates=4",
        "ensemble.dynamics.check_every=2",
    ]
    command = ["run", "smoke", "--out", "out", "--seeds", "1", "--jobs", "1", "--set", 'tasks=["minari/quick-v0"]']
    assert run_bench.main([*command, *settings, *fields]) == 0
    (cell,) = ResultStore(elsewhere / "out").cells()
    values = {record.metric: record.value for record in cell.records}
    assert values["return"] is not None
    assert values["compounding/starts_excluded"] == 1
    assert {metric for metric in values if metric.startswith("compounding/")} == {"compounding/starts_excluded"}
    assert run_bench.main([*command, *settings, *fields, 'generators=["simulator"]']) == 1
    (failed,) = (cell for cell in ResultStore(elsewhere / "out").cells() if cell.error)
    assert "simulator must be given a task whose simulator can be set to states of the data" in str(failed.error)
