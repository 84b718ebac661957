"""Where rows were collected, where policies are scored, and whose code that is."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.wrappers import ClipReward

from benchmarks.evaluation.policy import evaluate_policy
from core import registry
from core.errors import DataError, SpecError
from core.policy import UniformPolicy
from core.random import Streams
from tasks.audit import card, examine
from tasks.base import DataOptions, Task, load_task
from tasks.simulators.base import simulate
from tasks.simulators.gym import GymSimulator
from tasks.simulators.locomotion import Locomotion

Collect = Callable[..., tuple[Any, list[Any]]]
Create = Callable[..., None]

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:minari"), pytest.mark.usefixtures("folder")]


def edit(folder: Path, dataset: str, **changes: Any) -> None:
    """Change the metadata of a dataset."""
    file = folder / dataset / "data" / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def reward_range(task: Task) -> tuple[float, float]:
    """Of a few uniformly random episodes where policies are scored."""
    rng = Streams((0,))
    start = task.scored_in.reset(2, rng.fork("reset"))
    reward = simulate(
        task.scored_in, UniformPolicy(task.simulator.action_dim), start, 10, rng.fork("noise"), greedy=False
    ).reward
    return reward.min().item(), reward.max().item()


def test_policies_are_scored_in_the_evaluation_environment(collect: Collect, create: Create) -> None:
    env, buffers = collect("Pendulum-v1", max_episode_steps=500, g=10.0)
    scored = gymnasium.make("Pendulum-v1", max_episode_steps=7, g=2.0)
    create("two-v0", buffers, env, eval_env=scored, ref_min_score=-50.0, ref_max_score=0.0)
    task = load_task("minari/two-v0", DataOptions())
    assert isinstance(task.scored_in, GymSimulator)
    assert isinstance(task.simulator, GymSimulator)
    assert (task.scored_in.spec.kwargs, task.simulator.spec.kwargs) == ({"g": 2.0}, {"g": 10.0})
    assert task.horizon == 7
    found = card(task)
    assert found["scored_in"]["max_episode_steps"] == 7
    assert found["collected_in"]["max_episode_steps"] == 500
    assert "Pendulum-v1(g=10.0)" in found["collected_in"]["physics"]
    assert "Pendulum-v1(g=10.0)" in task.physics
    assert "scored in Pendulum-v1(g=2.0)" in task.physics
    report = examine("minari/two-v0", DataOptions())
    assert not [rule for rule in report["broken_rules"] if "at most" in rule]  # 500 rows are no episode too long


def test_a_score_is_a_return_of_the_evaluation_environment(collect: Collect, create: Create) -> None:
    """At rest in a world without gravity Pendulum pays -angle^2 for every one of its steps."""

    class Still:
        def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
            return torch.zeros(*obs.shape[:2], 1)

    env, buffers = collect("Pendulum-v1", max_episode_steps=20)
    create("still-v0", buffers, env, eval_env=gymnasium.make("Pendulum-v1", max_episode_steps=1, g=0.0))
    task = load_task("minari/still-v0", DataOptions())
    rng = Streams((0,))
    start = task.scored_in.observe(task.scored_in.reset(4, rng.fork("reset")))
    angle = torch.atan2(start[..., 1], start[..., 0])
    expected = -(angle**2 + 0.1 * start[..., 2] ** 2).mean(-1)
    ((name, value),) = evaluate_policy(task, Still(), 4, rng)
    assert name == "return"
    assert torch.allclose(value.double(), expected, atol=1e-5)


def test_one_environment_twice_is_one_simulator(collect: Collect, create: Create) -> None:
    """Only the time limit differs: the horizon is the evaluation's, and the card says so."""
    env, buffers = collect("Pendulum-v1", max_episode_steps=50)
    create("same-v0", buffers, env, eval_env=gymnasium.make("Pendulum-v1", max_episode_steps=9))
    task = load_task("minari/same-v0", DataOptions())
    assert task.evaluator is None
    assert (task.horizon, task.collected_horizon) == (9, 50)
    assert task.notes["scored_in"]["max_episode_steps"] == 9
    create("plain-v0", buffers, env)
    assert load_task("minari/plain-v0", DataOptions()).notes == {}


def test_an_evaluation_environment_of_another_shape_is_refused(collect: Collect, create: Create) -> None:
    env, buffers = collect("Hopper-v5", episodes=2)
    scored = gymnasium.make("Hopper-v5", exclude_current_positions_from_observation=False)
    create("wide-v0", buffers, env, eval_env=scored)
    with pytest.raises(DataError, match=r"as wide in the evaluation environment, .*, got 12 and 11"):
        load_task("minari/wide-v0", DataOptions())


def test_wrappers_belong_to_the_environment(collect: Collect, create: Create) -> None:
    env, buffers = collect("HalfCheetah-v5", max_episode_steps=10)
    clipped = ClipReward(env, -0.1, 0.1)
    create("clip-v0", buffers, clipped)
    create("plain-v0", buffers, env)
    assert isinstance(load_task("minari/plain-v0", DataOptions()).simulator, Locomotion)
    task = load_task("minari/clip-v0", DataOptions())
    assert reward_range(task) == pytest.approx((-0.1, 0.1))
    assert "HalfCheetah-v5 + ClipReward(max_reward=0.1, min_reward=-0.1)" in task.physics


def test_actions_of_the_data_are_those_of_the_environment(folder: Path, collect: Collect, create: Create) -> None:
    env, buffers = collect("Pendulum-v1", max_episode_steps=10)
    create("narrow-v0", buffers, env, action_space=gymnasium.spaces.Box(-9, 9, (1,)))
    with pytest.raises(DataError, match=r"actions must be those of its environment Pendulum-v1, Box\(-2.0, 2.0"):
        load_task("minari/narrow-v0", DataOptions())


@pytest.mark.parametrize(
    ("low", "high", "kept"),
    [
        (-100.0, -1500.0, False),
        (5.0, 5.0, False),
        (float("nan"), 5.0, False),
        (0.0, float("inf"), False),
        (-1500.0, -100.0, True),
    ],
)
def test_references_the_wrong_way_round_are_none(
    folder: Path,
    collect: Collect,
    create: Create,
    capsys: pytest.CaptureFixture[str],
    low: float,
    high: float,
    kept: bool,
) -> None:
    env, buffers = collect("Pendulum-v1", max_episode_steps=10)
    create("scored-v0", buffers, env)
    edit(folder, "scored-v0", ref_min_score=low, ref_max_score=high)
    task = load_task("minari/scored-v0", DataOptions())
    said = capsys.readouterr().err
    if kept:
        assert (task.score_range, said) == ((low, high), "")
        return
    assert task.score_range is None
    (line,) = said.splitlines()
    assert f"must be below ref_max_score, both finite, got {low} and {high}" in line
    assert f"got {low} and {high}" in card(task)["reference_returns"]


@pytest.fixture
def drift(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drift_module: str, collect: Collect, create: Create
) -> str:
    """A dataset of an environment in a module `field_envs` that nobody has imported."""
    (tmp_path / "field_envs.py").write_text(drift_module)
    monkeypatch.syspath_prepend(tmp_path)
    gymnasium.register("Field/Drift-v0", "field_envs:Drift", max_episode_steps=20)
    env, buffers = collect("Field/Drift-v0")
    create("drift-v0", buffers, env)
    del gymnasium.registry["Field/Drift-v0"]
    del sys.modules["field_envs"]
    return "minari/drift-v0"


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    yield
    sys.modules.pop("field_envs", None)


def test_an_environment_of_the_users_own_is_named_to_be_used(drift: str) -> None:
    with pytest.raises(DataError, match=r"field_envs:Drift; if it is yours, name its module: --import field_envs,"):
        load_task(drift, DataOptions())
    assert "field_envs" not in sys.modules
    task = load_task(drift, DataOptions(imports=("field_envs",)))
    assert task.horizon == 20
    assert reward_range(task)[1] <= 0
    assert "Field/Drift-v0, gymnasium" in task.physics
    assert task.dataset()[1]["episodes"] == 5


def test_other_code_than_what_was_named_is_not_run(folder: Path, drift: str) -> None:
    spec = json.loads(json.loads((folder / "drift-v0" / "data" / "metadata.json").read_text())["env_spec"])
    edit(folder, "drift-v0", env_spec=json.dumps(spec | {"entry_point": "field_envs_too:Drift"}))
    with pytest.raises(DataError, match="field_envs_too:Drift"):
        load_task(drift, DataOptions(imports=("field_envs",)))


def test_an_evaluation_environment_is_foreign_code_too(folder: Path, drift: str) -> None:
    spec = json.loads(json.loads((folder / "drift-v0" / "data" / "metadata.json").read_text())["env_spec"])
    edit(folder, "drift-v0", eval_env_spec=json.dumps(spec | {"entry_point": "os:mkdir", "kwargs": {"path": "made"}}))
    with pytest.raises(DataError, match=r"nobody has named here: os:mkdir"):
        load_task(drift, DataOptions(imports=("field_envs",)))


def test_an_installed_package_may_declare_its_environments(drift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.simulators.declared.environment_modules", lambda: ["field_envs"])
    assert load_task(drift, DataOptions()).horizon == 20


def test_changed_code_of_an_environment_is_another_physics(drift: str, drift_module: str, tmp_path: Path) -> None:
    options = DataOptions(imports=("field_envs",))
    before = load_task(drift, options).physics
    (tmp_path / "field_envs.py").write_text(drift_module.replace("0.1 * action", "0.2 * action"))
    assert load_task(drift, options).physics != before


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("field_envs.py-", r"imports must be names of modules such as 'package.module', got 'field_envs.py-'"),
        ("no_such_module_here", r"imports: 'no_such_module_here' must be a module .*PYTHONPATH=FOLDER.*: No module"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(name: str, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        load_task("toy/linear", DataOptions(imports=(name,)))


def test_digests_of_modules_follow_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "field_envs").mkdir()
    (tmp_path / "field_envs" / "__init__.py").write_text("")
    part = tmp_path / "field_envs" / "part.py"
    part.write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.import_modules(["field_envs"])
    before = registry.module_digests(["field_envs"])
    part.write_text("x = 2\n")
    assert registry.module_digests(["field_envs"]) != before
