"""Sets made on this machine: deterministic, described by their card, made once, and remade when damaged."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest
import torch

from core.errors import DataError, SpecError
from core.files import sha256
from tasks import hdf5
from tasks.base import DataOptions, load_task
from tasks.simulators.maze import GOALS
from tasks.sources import local
from tasks.sources.local import RECIPES, card, intact, location, make, names

SMALL = DataOptions(dataset_rows=2000)


@pytest.fixture(autouse=True)
def _quick_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_EPISODES", {"random policy": 20, "waypoint controller": 4})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path))
    return tmp_path / "datasets"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small set, made once for the tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(local, "_EPISODES", {"random policy": 20, "waypoint controller": 4})
        return make("maze2d-umaze", SMALL)


def test_names_and_scales() -> None:
    levels = ("random", "medium", "medium-replay", "expert", "medium-expert")
    locomotion = [f"{env}-{level}" for env in ("hopper", "halfcheetah", "walker2d") for level in levels]
    assert names() == ["maze2d-umaze", "maze2d-medium", "maze2d-large", *locomotion]
    task = load_task("local/maze2d-medium", SMALL)
    assert (task.name, task.horizon, task.score_range) == ("local/maze2d-medium", 600, (13.13, 277.39))
    assert task.simulator.physics.startswith("maze2d-medium")
    with pytest.raises(SpecError, match="did you mean 'maze2d-umaze'"):
        load_task("local/maze2d-umaz", SMALL)


def test_the_file_has_d4rls_keys_and_types(made: Path) -> None:
    with h5py.File(made) as file:
        found = {
            key: (file[key].shape, file[key].dtype.name) for key in ("observations", "actions", "next_observations")
        }
        assert found == {
            "observations": ((2000, 4), "float32"),
            "actions": ((2000, 2), "float32"),
            "next_observations": ((2000, 4), "float32"),
        }
        assert {key: file[key].dtype.name for key in ("terminals", "timeouts", "infos/qpos", "infos/qvel")} == {
            "terminals": "bool",
            "timeouts": "bool",
            "infos/qpos": "float64",
            "infos/qvel": "float64",
        }


def test_rows_are_one_stream_with_rewards_of_the_next_state(made: Path) -> None:
    rows = hdf5.read(made)
    assert rows.next_obs is not None
    assert rows.qpos is not None
    assert rows.qvel is not None
    assert np.abs(rows.action).max() <= 1
    assert not rows.terminal.any()
    assert rows.timeout.sum() > 5
    assert np.array_equal(rows.next_obs[:-1], rows.obs[1:])
    assert np.array_equal(np.hstack([rows.qpos, rows.qvel]).astype(np.float32), rows.obs)
    distance = np.linalg.norm(rows.next_obs[:, :2] - np.array(GOALS["umaze"]), axis=-1)
    clear = np.abs(distance - 0.5) > 1e-5
    assert np.array_equal(rows.reward[clear], (distance <= 0.5)[clear])  # of the next state
    assert 0 < rows.reward.sum() < 2000


def test_stored_states_replay_exactly(made: Path) -> None:
    rows = hdf5.read(made)
    assert rows.qpos is not None
    assert rows.qvel is not None
    state = torch.from_numpy(np.hstack([rows.qpos, rows.qvel]))
    after, reward, _ = RECIPES["maze2d-umaze"].simulator.step(state, torch.from_numpy(rows.action), None)
    assert torch.equal(after[:-1], state[1:])
    assert np.array_equal(reward.numpy(), rows.reward)


def test_the_card_describes_the_file(made: Path) -> None:
    described = card(made)
    rows = hdf5.read(made)
    assert described["sha256"] == sha256(made)
    assert described["physics"] == f"maze2d-umaze, mujoco {mujoco.__version__}"
    assert described["versions"].keys() == {"mujoco", "numpy", "torch"}
    assert (described["name"], described["size"], described["seed"]) == ("local/maze2d-umaze", 2000, 0)
    assert described["recipe_version"] == RECIPES["maze2d-umaze"].version
    assert "next state" in described["recipe"]
    assert described["mean_reward"] == rows.reward.mean()
    assert described["goals_reached"] == rows.timeout.sum()
    returns = described["returns"]
    assert returns["waypoint controller"]["mean"] > 100 > returns["random policy"]["mean"] >= 0
    assert returns["random policy"]["episodes"] == 20


def test_the_name_tells_everything_apart(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {location(name, DataOptions(dataset_rows=size)) for name in names() for size in (10, 20)}
    monkeypatch.setattr(mujoco, "__version__", "0.0")
    found |= {location(name, DataOptions(dataset_rows=size)) for name in names() for size in (10, 20)}
    assert len(found) == 4 * len(names())
    assert {path.parent for path in found} == {cache}


def test_a_set_made_again_has_the_same_bytes(made: Path, cache: Path) -> None:
    again = make("maze2d-umaze", SMALL)
    assert again.parent == cache
    with h5py.File(made) as first, h5py.File(again) as second:
        keys = ("observations", "actions", "rewards", "timeouts", "infos/qpos", "infos/qvel")
        assert all(first[key][()].tobytes() == second[key][()].tobytes() for key in keys)


def test_rows_are_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, digest = load_task("local/maze2d-umaze", SMALL).rows()
    assert digest == sha256(location("maze2d-umaze", SMALL))
    monkeypatch.setattr(local, "_make", None)  # calling it would be an error
    again, same = load_task("local/maze2d-umaze", SMALL).rows()
    assert digest == same
    assert np.array_equal(rows.obs, again.obs)


def test_a_damaged_file_is_put_aside_and_remade(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make("maze2d-umaze", SMALL)
    whole = path.read_bytes()
    damaged = whole[:-100] + bytes(100)
    path.write_bytes(damaged)
    assert not intact(path)
    capsys.readouterr()
    assert make("maze2d-umaze", SMALL) == path
    assert intact(path)
    bad = path.with_name(f"{path.name}.bad")
    assert bad.read_bytes() == damaged
    assert path.name in (said := capsys.readouterr().err)
    assert bad.name in said


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_file_without_a_readable_card_is_remade(cache: Path, content: str | None) -> None:
    path = make("maze2d-umaze", SMALL)
    beside = path.with_suffix(".json")
    beside.unlink() if content is None else beside.write_text(content)
    if content != "{}":
        with pytest.raises(DataError, match=beside.name):
            card(path)
    make("maze2d-umaze", SMALL)
    assert intact(path)
    assert json.loads(beside.read_text())["size"] == 2000


IN_ANOTHER_PROCESS = """
from tasks.sources import local
from tasks.base import DataOptions
really = local._make
def logged(*args):
    print("made")
    really(*args)
local._EPISODES = {"random policy": 20, "waypoint controller": 4}
local._make = logged
local.make("maze2d-umaze", DataOptions(dataset_rows=2000))
"""


def test_two_processes_make_it_once(cache: Path) -> None:
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS]
    root = Path(__file__).parents[3]
    workers = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum("made" in line for line in said) == 1
    assert intact(location("maze2d-umaze", SMALL))


def test_the_task_builds_a_dataset(cache: Path) -> None:
    dataset, _ = load_task("local/maze2d-umaze", SMALL).dataset()
    assert dataset.train.obs.shape[-1] == 4
    assert dataset.heldout.obs.shape[0] == dataset.heldout_state.shape[0] >= 1
    assert len(dataset.train.obs) + int(dataset.heldout.valid.sum()) <= 2000
