"""D4RL's names, numbers and files; the files are made here, in D4RL's layout, by gymnasium's own Hopper."""

import http.server
import threading
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from core.errors import DataError, SpecError
from core.files import sha256
from tasks import download
from tasks.base import DataOptions, load_task
from tasks.hdf5 import write
from tasks.rows import Rows
from tasks.sources import d4rl


def hopper_rows(episodes: int = 12) -> Rows:
    """Uniformly random actions in Hopper-v4, with the simulator's state before every step."""
    env = gymnasium.make("Hopper-v4")
    env.action_space.seed(0)
    model = env.unwrapped
    columns: dict[str, list[np.ndarray]] = {
        key: [] for key in ("obs", "action", "reward", "next_obs", "qpos", "qvel", "end")
    }
    for seed in range(episodes):
        obs = env.reset(seed=seed)[0]
        ended = False
        while not ended:
            action = env.action_space.sample()
            qpos = model.data.qpos.copy()
            qvel = model.data.qvel.copy()
            next_obs, reward, ended, _, _ = env.step(action)
            for key, value in zip(columns, (obs, action, reward, next_obs, qpos, qvel, ended), strict=True):
                columns[key].append(value)
            obs = next_obs
    table = {key: np.array(value) for key, value in columns.items()}
    single = {key: table[key].astype(np.float32) for key in ("obs", "action", "reward", "next_obs")}
    end = table["end"].astype(bool)
    return Rows(**single, terminal=end, timeout=np.zeros_like(end), qpos=table["qpos"], qvel=table["qvel"])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or fills, the user's own folders."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ROLLOUTBENCH_D4RL_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    monkeypatch.setattr(download, "BACKOFF", 0.0)


@pytest.fixture(scope="module")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "hopper_medium-v2.hdf5"
    write(path, hopper_rows())
    return path


def test_references_are_d4rls() -> None:
    assert len(d4rl.names()) == 42
    hopper = d4rl.reference("hopper-medium-replay-v2")
    maze = d4rl.reference("maze2d-large-dense-v1")
    assert (hopper.ref_min, hopper.ref_max, hopper.max_episode_steps) == (-20.272305, 3234.3, 1000)
    assert hopper.url_path == "gym_mujoco_v2/hopper_medium_replay-v2.hdf5"
    assert (maze.ref_min, maze.max_episode_steps, maze.obs_dim, maze.act_dim) == (30.569041, 800, 4, 2)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SpecError, match="got 'hopper-medum-v2'; did you mean 'hopper-medium-v2'"):
        load_task("d4rl/hopper-medum-v2", DataOptions())


@pytest.mark.parametrize("name", d4rl.names())
def test_every_name_has_a_simulator_of_its_size(name: str) -> None:
    task = load_task(f"d4rl/{name}", DataOptions())
    declared = d4rl.reference(name)
    assert (task.simulator.obs_dim, task.simulator.action_dim) == (declared.obs_dim, declared.act_dim)
    assert task.horizon == declared.max_episode_steps
    assert task.score_range == (declared.ref_min, declared.ref_max)
    if name.startswith("maze2d"):
        assert task.simulator.dense == ("-dense-" in name)


def test_a_set_from_the_users_folder(hopper: Path) -> None:
    task = load_task("d4rl/hopper-medium-v2", DataOptions(data_dir=hopper.parent))
    dataset, card = task.dataset()
    assert dataset.sha256 == sha256(hopper)
    assert card["episodes"] == card["terminals"] == 12
    assert card["dropped_rows"] == 0
    assert task.simulator.physics.startswith("Hopper-v4, mujoco ")
    assert card["inexact_state_share"] == 0  # the file holds the states, also where velocities are clipped
    state = dataset.heldout_state
    action = dataset.heldout.action
    after, reward, ended = task.simulator.step(state, action, None)
    valid = dataset.heldout.valid
    assert (task.simulator.observe(after) - dataset.heldout.obs[:, 1:])[valid].abs().max() < 1e-4
    assert (reward - dataset.heldout.reward)[valid].abs().max() < 1e-4
    assert torch.equal(ended[valid], dataset.heldout.terminated[valid])


def test_the_users_folders_come_before_the_cache(hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = DataOptions()
    content = hopper.read_bytes()
    assert d4rl.find("hopper-medium-v2", options) is None
    places = [
        tmp_path / "cache" / "datasets" / "hopper_medium-v2.hdf5",
        tmp_path / "home" / ".d4rl" / "datasets" / "hopper_medium-v2.hdf5",
        tmp_path / "named" / "hopper-medium-v2.hdf5",
        tmp_path / "given" / "hopper-medium-v2.hdf5",
        tmp_path / "given" / "hopper_medium-v2.hdf5",
    ]
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "named"))
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        options = DataOptions(data_dir=tmp_path / "given") if "given" in place.parts else options
        assert d4rl.find("hopper-medium-v2", options) == place
        assert d4rl.fetch("hopper-medium-v2", options) == place
    with pytest.raises(SpecError, match="data_dir must be a folder, got"):
        d4rl.find("hopper-medium-v2", DataOptions(data_dir=tmp_path / "nowhere"))


def test_what_cannot_be_had_says_where_to_put_it(tmp_path: Path) -> None:
    task = load_task("d4rl/walker2d-expert-v2", DataOptions())  # nothing is fetched before the rows are needed
    with pytest.raises(DataError) as caught:
        task.dataset()
    assert "http://127.0.0.1:9/gym_mujoco_v2/walker2d_expert-v2.hdf5" in str(caught.value)
    assert f"can be put at {tmp_path / 'cache' / 'datasets' / 'walker2d_expert-v2.hdf5'}" in str(caught.value)


def test_a_set_is_downloaded_once(hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site" / "gym_mujoco_v2"
    site.mkdir(parents=True)
    (site / hopper.name).write_bytes(hopper.read_bytes())
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=site.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("ROLLOUTBENCH_D4RL_URL", f"http://127.0.0.1:{server.server_port}/")
        dataset, _ = load_task("d4rl/hopper-medium-v2", DataOptions()).dataset()
        server.shutdown()
    again, _ = load_task("d4rl/hopper-medium-v2", DataOptions()).dataset()
    assert dataset.sha256 == again.sha256 == sha256(hopper)


def test_a_file_of_another_environment_is_refused(hopper: Path, tmp_path: Path) -> None:
    path = tmp_path / "walker2d_medium-v2.hdf5"
    path.write_bytes(hopper.read_bytes())
    with pytest.raises(DataError, match=r"walker2d_medium-v2\.hdf5: .* must have 17 and 6 columns, got \(11, 3\)"):
        load_task("d4rl/walker2d-medium-v2", DataOptions(data_dir=tmp_path)).dataset()


def test_what_maze_files_do_otherwise_is_named() -> None:
    assert [
        len(load_task("d4rl/maze2d-umaze-v1", DataOptions(rewards=rewards)).conventions)
        for rewards in ("file", "simulator")
    ] == [2, 1]
    assert load_task("d4rl/hopper-medium-v2", DataOptions()).conventions == ()


def test_episodes_with_nan_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = hopper_rows()
    first = int(np.flatnonzero(rows.terminal)[0]) + 1
    rows.reward[first + 2] = np.nan  # in the second episode
    write(tmp_path / "hopper_medium-v2.hdf5", rows)
    with pytest.raises(DataError, match=r"rewards must be finite, .*; skip_broken_episodes leaves them out \(--set"):
        load_task("d4rl/hopper-medium-v2", DataOptions(tmp_path)).dataset()
    _, card = load_task("d4rl/hopper-medium-v2", DataOptions(tmp_path, skip_broken_episodes=True)).dataset()
    assert (card["episodes"], card["left_out_episodes"]) == (11, 1)
    assert "1 of 12 episodes are left out" in capsys.readouterr().err
