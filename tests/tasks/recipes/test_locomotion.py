"""Locomotion sets: reproducible, whole episodes, exact states, true densities, and returns that fit the policies."""

import os
import subprocess
import sys
from dataclasses import fields
from functools import cache
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import DataError
from core.random import Streams
from tasks.base import DataOptions, load_task
from tasks.hdf5 import read, write
from tasks.recipes.locomotion import ENV_IDS, EXPERT_EXPLORATION, EXPLORATION, HORIZON, Level, collect, replay_rows
from tasks.recipes.policies import load_policies
from tasks.rows import Rows, checked, ended_episodes, episodes
from tasks.simulators.base import simulate
from tasks.simulators.locomotion import simulator

ARRAYS = [field.name for field in fields(Rows) if field.name != "left_out"]


@cache
def made(env: str, level: Level, size: int) -> Rows:
    return collect(env, level, size, Streams((0,), "test"))[0]


@pytest.mark.parametrize("level", ["random", "medium-replay"])
def test_same_seed_gives_the_same_arrays(level: Level) -> None:
    again = collect("hopper", level, 500, Streams((0,), "test"))[0]
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(made("hopper", level, 500), name), getattr(again, name))
    assert (made("hopper", "random", 500).obs != collect("hopper", "random", 500, Streams((1,)))[0].obs).any()


@pytest.mark.parametrize("level", ["random", "medium"])
def test_smaller_set_is_a_prefix(level: Level) -> None:
    """Within a wave of episodes and beyond it: random needs several for 6000 rows."""
    small = made("hopper", level, 1500)
    large = made("hopper", level, 6000)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(small, name), getattr(large, name)[:1500])


@pytest.mark.parametrize(
    ("env", "level", "size"),
    [("hopper", "medium", 6000), ("walker2d", "random", 2000), ("halfcheetah", "random", 2500)],
)
def test_episodes_end_by_a_fall_or_by_time(env: str, level: Level, size: int) -> None:
    rows = made(env, level, size)
    world = simulator(ENV_IDS[env])
    starts, stops = episodes(rows)
    assert len(rows.reward) == size
    assert (stops - starts).max() <= HORIZON
    assert not (rows.terminal & rows.timeout).any()
    assert ((stops - starts)[rows.timeout[stops - 1]] == HORIZON).all()
    if env == "halfcheetah":
        assert not rows.terminal.any()
        assert rows.timeout.sum() == 2
    inside = np.setdiff1d(np.arange(size - 1), stops - 1)
    assert rows.next_obs is not None
    assert rows.qpos is not None
    np.testing.assert_array_equal(rows.next_obs[inside], rows.obs[inside + 1])
    pose = world.reset(500, Streams((3,)))[0, :, : rows.qpos.shape[1]].numpy()
    if env != "halfcheetah":  # whose reset noise on velocities is normal; positions of all three are uniform
        assert (rows.obs[starts] != rows.obs[starts[0]]).any(1).sum() == len(starts) - 1
    assert (np.abs(rows.qpos[starts] - pose.mean(0)) <= 1.1 * np.abs(pose - pose.mean(0)).max()).all()


@pytest.mark.parametrize(("env", "level"), [("hopper", "medium"), ("walker2d", "random"), ("halfcheetah", "random")])
def test_every_row_can_be_replayed(env: str, level: Level) -> None:
    rows = made(env, level, 1500)
    world = simulator(ENV_IDS[env])
    assert rows.qpos is not None
    assert rows.qvel is not None
    assert rows.next_obs is not None
    state = torch.from_numpy(np.concatenate([rows.qpos, rows.qvel], 1))
    after, reward, ended = world.step(state, torch.from_numpy(rows.action), None)
    np.testing.assert_allclose(world.observe(after).float().numpy(), rows.next_obs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(world.observe(state).float().numpy(), rows.obs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(reward.float().numpy(), rows.reward, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(ended.numpy(), rows.terminal)
    assert rows.action.dtype == np.float32
    assert rows.qpos.dtype == np.float64


def test_density_is_that_of_the_behaviour_policy() -> None:
    rows = made("hopper", "medium", 1500)
    shipped = load_policies("hopper")
    policy = shipped.policy.pick([shipped.medium]).exploring(*EXPLORATION["hopper"])
    density = policy.log_prob(torch.from_numpy(rows.obs).unsqueeze(0), torch.from_numpy(rows.action).unsqueeze(0))[0]
    assert 50 < (np.abs(rows.action) == 1).any(1).sum() < 1450
    assert rows.action_log_prob is not None
    np.testing.assert_allclose(rows.action_log_prob, density.numpy(), rtol=1e-4, atol=1e-4)
    uniform = made("walker2d", "random", 1500).action_log_prob
    assert uniform is not None
    np.testing.assert_allclose(uniform, -6 * log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("env", "size", "published", "slack"),
    [("hopper", 6000, 18.0, 3.0), ("walker2d", 6000, 2.0, 3.0), ("halfcheetah", 6500, -280.0, 30.0)],
)
def test_random_returns_are_d4rls(env: str, size: int, published: float, slack: float) -> None:
    """Within four standard errors and the slack that rounded references of unknown error deserve."""
    _, returns = ended_episodes(made(env, "random", size))
    assert abs(returns.mean() - published) < slack + 4 * returns.std(ddof=1) / len(returns) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("env", list(ENV_IDS))
def test_returns_are_those_of_a_policy_that_explores(env: str) -> None:
    """The medium set against episodes of its policy in `simulate`, within four standard errors."""
    shipped = load_policies(env)
    policy = shipped.policy.pick([shipped.medium]).exploring(*EXPLORATION[env])
    world = simulator(ENV_IDS[env])
    rng = Streams((3,), "test")
    alone = simulate(world, policy, world.reset(40, rng.fork("start")), HORIZON, rng, greedy=False).reward.sum(-1)[0]
    _, returns = ended_episodes(made(env, "medium", 20_000))
    error = (returns.std(ddof=1) ** 2 / len(returns) + alone.var().item() / 40) ** 0.5
    assert abs(returns.mean() - alone.mean().item()) < 4 * error


@pytest.mark.slow
def test_medium_expert_has_both_halves() -> None:
    size = 3001
    shipped = load_policies("hopper")
    rows, statistics = collect("hopper", "medium-expert", size, Streams((0,), "test"))
    used = statistics["checkpoints"]
    assert [entry["rows"] for entry in used] == [1500, 1501]
    assert [entry["steps"] for entry in used] == shipped.steps[[shipped.medium, shipped.expert]].tolist()
    alone = [made("hopper", "medium", 1500), collect("hopper", "expert", 1501, Streams((0,), "test"))[0]]
    np.testing.assert_array_equal(rows.obs, np.concatenate([part.obs for part in alone]))
    assert (rows.terminal | rows.timeout)[1499]
    explored = [(entry["deviation"], entry["uniform"]) for entry in used]
    assert explored == [EXPLORATION["hopper"], EXPERT_EXPLORATION]


@pytest.mark.parametrize("env", list(ENV_IDS))
def test_replay_shares_are_those_of_the_training_steps(env: str) -> None:
    shipped = load_policies(env)
    steps = shipped.steps.double().numpy()
    rows = replay_rows(shipped, 100_000)
    last = shipped.medium
    assert len(rows) == last + 1
    assert rows.sum() == 100_000
    assert (rows > 0).all()
    assert abs(rows[0] - 1e5 * steps[1] / 2 / steps[last]) <= 1
    assert abs(rows[last] - 1e5 * (steps[last] - steps[last - 1]) / 2 / steps[last]) <= 1


_OTHER_PROCESSOR = """
import sys
from pathlib import Path
from core.random import Streams
from tasks.hdf5 import write
from tasks.recipes.locomotion import collect
for name in sys.argv[2:]:
    write(Path(sys.argv[1], f"{name}.hdf5"), collect(name, "medium-replay", 3000, Streams((0,), "test"))[0])
"""


@pytest.mark.slow
def test_another_kind_of_processor_makes_the_same_rows(tmp_path: Path) -> None:
    """One without AVX2 and FMA, for all that torch and the C library know: rounding to grids absorbs the difference."""
    kind = {"ATEN_CPU_CAPABILITY": "default", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-FMA,-FMA_Usable"}
    command = [sys.executable, "-c", _OTHER_PROCESSOR, str(tmp_path), *ENV_IDS]
    subprocess.run(command, env=os.environ | kind, check=True, cwd=Path(__file__).parents[3])
    for env in ENV_IDS:
        here = made(env, "medium-replay", 3000)
        there = read(tmp_path / f"{env}.hdf5")
        for name in ("obs", "action", "reward", "next_obs", "terminal", "timeout"):
            np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=2e-7, atol=2e-7, err_msg=name)


def test_log_density_survives_the_file(tmp_path: Path) -> None:
    rows = made("hopper", "medium", 1500)
    write(tmp_path / "set.hdf5", rows)
    again = read(tmp_path / "set.hdf5")
    assert again.action_log_prob is not None
    assert again.action_log_prob.dtype == np.float32
    np.testing.assert_array_equal(again.action_log_prob, rows.action_log_prob)
    arrays = {"observations": rows.obs, "actions": rows.action, "rewards": rows.reward, "terminals": rows.terminal}
    assert checked(arrays | {"timeouts": rows.timeout}, "here").action_log_prob is None
    broken = np.where(np.arange(1500) == 7, np.nan, 0.0)
    with pytest.raises(DataError, match=r"here: infos/action_log_probs must be finite, .* rows 7\.\.7"):
        checked(arrays | {"timeouts": rows.timeout, "infos/action_log_probs": broken}, "here")


def test_task_reads_its_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path))
    task = load_task("local/hopper-medium-replay", DataOptions(dataset_rows=2000))
    dataset, described = task.dataset()
    assert (task.horizon, task.simulator.physics) == (1000, simulator("Hopper-v4").physics)
    assert described["rows"] == 2000 == described["train_rows"] + described["heldout_rows"] + described["dropped_rows"]
    assert dataset.train.obs.shape[1] == 11
