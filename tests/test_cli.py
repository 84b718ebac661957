"""The command line: what it prints, what it writes, and with which code it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer

import run_bench
from benchmarks.execution.cell import run_cell
from benchmarks.store import ResultStore
from benchmarks.suite import suite_names
from core import registry
from tasks.hdf5 import write
from tasks.rows import Rows
from tasks.sources import toy

TWO = 'generators=["none","ensemble"]'
TINY = (
    TWO, "updates=6", "evaluate_every=3", "episodes=2", "dataset_rows=1000", "fidelity_starts=4", "fidelity_horizon=3",
    "ensemble.dynamics.max_updates=4", "ensemble.dynamics.check_every=2", "ensemble.rollouts=8",
)  # fmt: skip
ROOT = Path(run_bench.__file__).parent


FRAGILE = """
from dataclasses import dataclass

from generators.base import Generator


@dataclass(frozen=True)
class Fragile(Generator):
    rollouts = 1
    rollout_length = 1
    refresh_every = None

    def fit(self, *arguments):
        raise ArithmeticError("the model fell over")
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder, with nobody's datasets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def never(*arguments: Any) -> Any:
    raise AssertionError("nothing was to be run")


def scores(folder: Path) -> bytes:
    return (folder / "report" / "scores.csv").read_bytes()


def test_run_then_nothing_to_do_then_report(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", "smoke", "--set", *TINY, "--out", "out", "--device", "cpu", "--jobs", "1"]
    assert run_bench.main(command) == 0
    first = capsys.readouterr()
    out = elsewhere / "out"
    assert "td3bc" in first.out
    assert "ensemble" in first.out
    assert "done in" in first.err
    assert {"scores.csv", "compounding.csv", "scores.md", "scores.tex", "index.html"} <= {
        path.name for path in (out / "report").iterdir()
    }
    assert [cell.done for cell in ResultStore(out).cells()] == [(0, 1), (0, 1)]
    before = scores(out)
    monkeypatch.setattr("benchmarks.execution.matrix.run_cell", never)
    assert run_bench.main(command) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("already there") == 2
    assert scores(out) == before
    (out / "report" / "scores.csv").unlink()
    assert run_bench.main(["report", "out"]) == 0
    assert capsys.readouterr().out == first.out
    assert scores(out) == before


def test_without_out_results_lie_under_the_suites_name(elsewhere: Path) -> None:
    (elsewhere / "mine.toml").write_text(
        'tasks = ["toy/linear"]\ngenerators = ["none"]\nalgorithms = ["td3bc"]\nseeds = [5]\n'
    )
    tiny = [pair for pair in TINY if not pair.startswith(("ensemble", "generators"))]
    assert run_bench.main(["run", "mine.toml", "--set", *tiny, "--seeds", "1", "--jobs", "1"]) == 0
    assert [cell.done for cell in ResultStore(elsewhere / "results" / "mine").cells()] == [(0,)]


@pytest.mark.parametrize(
    "options",
    [
        ["--set", "updates=7", "episodes=3"],
        ["--set", "updates=7", "--set", "episodes=3"],
        ["--set=updates=7", "--set", "episodes=3"],
        ["--set", "updates=9", "updates=7", "--seeds", "2", "--set", "episodes=3"],
    ],
)
def test_set_takes_one_pair_or_many_once_or_often(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    asked = []
    monkeypatch.setattr(run_bench.plan, "describe", lambda specs, store: asked.extend(specs) or "")
    for command in (
        ["plan", "smoke", "--set", TWO, *options],
        ["plan", *options, "--set", TWO, "smoke"],
    ):
        assert run_bench.main(command) == 0
    assert {(spec.settings.updates, spec.settings.episodes) for spec in asked} == {(7, 3)}
    assert len(asked) == 4


def test_plan_starts_nothing(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr("benchmarks.execution.matrix.run_cell", never)
    assert run_bench.main(["plan", "smoke", "--set", TWO, "--out", "out", "--seeds", "3"]) == 0
    text = capsys.readouterr().out
    assert "2 cells, 6 seeds to run" in text
    assert "unknown" in text
    assert "toy-linear--ensemble--td3bc--" in text
    assert "Dynamics" in text
    assert list(elsewhere.iterdir()) == []
    assert not list(own_cache.rglob("*.safetensors"))


def test_plan_estimates_from_what_has_been_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench.main(["run", "smoke", "--set", *TINY, "--out", "out", "--jobs", "1"]) == 0
    capsys.readouterr()
    assert run_bench.main(["plan", "smoke", "--set", *TINY, "--out", "out", "--seeds", "4"]) == 0
    text = capsys.readouterr().out
    assert "2 cells, 4 seeds to run" in text
    assert "unknown" not in text


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failing_cell_ends_with_one_and_is_named(
    elsewhere: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, jobs: str
) -> None:
    (elsewhere / "fragile.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(elsewhere)
    command = ["run", "smoke", "--set", *TINY, 'generators=["fragile:Fragile","none"]', "--out", "out", "--jobs", jobs]
    assert run_bench.main(command) == 1
    shown = capfd.readouterr()
    assert "fragile:Fragile td3bc (default): FAILED: ArithmeticError: the model fell over" in shown.err
    assert [line for line in shown.err.splitlines() if line.startswith("problem:") and "fragile:Fragile" in line]
    assert run_bench.main(["report", "out"]) == 1
    assert "fragile:Fragile" in capfd.readouterr().err
    found = {cell.spec["generator"]["name"]: cell for cell in ResultStore(elsewhere / "out").cells()}
    assert "in fit" in str(found["fragile:Fragile"].error)
    assert found["none"].done == (0, 1)


def test_list_names_everything_in_the_registries(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench.main(["list"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for folder in ("generators", "algorithms"):
        assert set(registry.available(folder)) < set(lines)
    assert {"toy/linear", "local/maze2d-umaze", "d4rl/hopper-medium-v2", *suite_names()} < set(lines)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["run", "smoek"], 2, "suite must be one of .*got 'smoek'; did you mean 'smoke'"),
        (["run", "smoke", "--set", "updates=0"], 2, "updates should be greater than 0, got 0"),
        (["run", "smoke", "--set", "update=3"], 2, "did you mean 'updates'"),
        (["run", "smoke", "--set", "smoke"], 2, "--set must be key=value, got 'smoke'"),
        (
            ["plan", "smoke", "--set", "ensemble.rolouts=3"],
            2,
            "unknown key ensemble.rolouts: .*did you mean 'rollouts'",
        ),
        (
            ["plan", "smoke", "--set", "dydiff.filter.share=2"],
            2,
            "dydiff.filter.share should be less than or equal to 1",
        ),
        (["plan", "smoke", "--set", "ensemble.rollout_length=51"], 2, "should be at most 50, .* toy/linear, got 51"),
        (["plan", "smoke", "--set", "seeds=[0, 0]"], 2, "seeds must not repeat a value"),
        (["run", "smoke", "--seeds", "0"], 2, "--seeds must be at least 1, got 0"),
        (["run", "smoke", "--data-dir", "gone"], 2, "data_dir must be a folder, got .gone."),
        (["run", "smoke", "--jobs", "0"], 2, "--jobs must be at least 1, got 0"),
        (["run", "smoke", "--out", "file"], 2, "--out must be a folder, got file"),
        (["plan", "gone.toml"], 2, "suite file gone.toml does not exist"),
        (["report", "gone"], 2, "DIR must be a results folder, got gone"),
        (["report", "file"], 2, "DIR must be a results folder, got file"),
        (["data", "verify", "local/maze2d-umaze"], 1, "local/maze2d-umaze is not on this machine"),
        (["data", "verify", "d4rl/hopper-medium-v2"], 1, "d4rl/hopper-medium-v2 is not on this machine"),
        (["data", "verify", "minari/nobody/has-v0"], 1, "minari/nobody/has-v0 is not on this machine"),
        (["data", "verify", "toy/linaer"], 2, "toy dataset must be one of linear, got 'linaer'"),
        (["data", "verify", "tyo/linear"], 2, "did you mean 'toy/linear'"),
        (["data", "make", "d4rl/hopper-medium-v2"], 2, "data make must be given a task of local/ or toy/"),
        (["data", "fetch", "toy/linear"], 2, "data fetch must be given a task of d4rl/ or minari/"),
        (["data", "make"], 2, "data make must be given the NAME of a task, got none"),
        (["data", "make", "toy/linear", "--dataset-rows", "0"], 2, "dataset_rows must be at least 1, got 0"),
        (["data", "list", "--data-dir", "gone"], 2, "data_dir must be a folder, got 'gone'"),
    ],
)
def test_mistakes_are_explained_and_leave_nothing_behind(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], command: list[str], code: int, message: str
) -> None:
    (elsewhere / "file").touch()
    assert run_bench.main(command) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert re.search(message, shown.err)
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


def test_a_device_that_is_not_there_leaves_nothing_behind(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run_bench.main(["run", "smoke", "--device", "cuda", "--out", "out"]) == 2
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_a_signal_ends_with_its_own_code(
    number: int, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), number)
        time.sleep(10)

    before = signal.signal(number, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C, and so do we
    monkeypatch.setattr("benchmarks.execution.matrix.run_cell", interrupted)
    try:
        assert run_bench.main(["run", "smoke", "--out", "out", "--jobs", "1"]) == code
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert "the same command resumes" in capsys.readouterr().err


def test_torn_results_end_with_one_and_are_named(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench.main(["run", "smoke", "--set", *TINY, 'generators=["none"]', "--out", "out", "--jobs", "1"]) == 0
    (torn,) = (elsewhere / "out").rglob("records.jsonl.gz")
    torn.write_bytes(torn.read_bytes()[:-20])
    capsys.readouterr()
    assert run_bench.main(["report", "out"]) == 1
    assert "records.jsonl.gz" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["run", "plan", "report", "list", "data"]),
        (["run"], ["SUITE", "--set", "KEY=VALUE", "--seeds", "--device", "--jobs", "--data-dir", "--out", "Exit code"]),
        (["plan"], ["SUITE", "--set", "--seeds", "--data-dir", "--out", "start nothing"]),
        (["report"], ["DIR", "--allow-mixed"]),
        (["verify"], ["DIR", "Exit code"]),
        (["list"], ["tasks", "generators", "algorithms", "suites"]),
        (["data"], ["list", "make", "fetch", "verify", "NAME", "--dataset-rows", "ROWS", "--data-dir"]),
    ],
)
def test_help_mentions_every_argument(capsys: pytest.CaptureFixture[str], command: list[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run_bench.main([*command, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    assert all(word in shown for word in words)


@pytest.mark.parametrize(
    "command",
    [["run", "smoke", "--bogus"], ["run"], ["fly"], [], ["data", "burn"], ["run", "smoke", "--device", "tpu"]],
)
def test_unknown_options_and_commands_end_with_two(command: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run_bench.main(command)
    assert left.value.code == 2


@pytest.mark.parametrize(("command", "code"), [(["list"], 0), (["run", "smoek"], 2)])
def test_the_process_ends_with_that_code(command: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "run_bench.py", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr


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
    pairs = [f'tasks=["{task}"]', *settings, *fields]
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
    assert "compounding/logged/mean/1" in {record.metric for cell in cells for record in cell.records}
    assert task in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::UserWarning:minari", "ignore::DeprecationWarning:gymnasium")
def test_where_no_state_can_be_set_only_the_replays_are_missing(elsewhere: Path) -> None:
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
    settings = ['tasks=["minari/quick-v0"]', 'generators=["ensemble"]', "updates=4", "evaluate_every=2", "episodes=1"]
    fields = ["ensemble.rollouts=8", "ensemble.dynamics.max_updates=4", "ensemble.dynamics.check_every=2"]
    command = ["run", "smoke", "--out", "out", "--seeds", "1", "--jobs", "1", "--set", *settings, *fields]
    assert run_bench.main(command) == 0
    (cell,) = ResultStore(elsewhere / "out").cells()
    values = {record.metric: record.value for record in cell.records}
    assert values["return"] is not None
    assert values["compounding/starts_excluded"] == 1
    assert {metric for metric in values if metric.startswith("compounding/")} == {"compounding/starts_excluded"}


def test_some_cells_or_only_those_that_failed(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(elsewhere))
    (elsewhere / "fragile_example.py").write_text(FRAGILE, encoding="utf-8")
    command = ["run", "smoke", "--set", *TINY[1:], "--jobs", "1", "--out", "out"]
    all_three = ["--set", 'generators=["none","ensemble","fragile_example:Fragile"]']
    assert run_bench.main([*command, *all_three, "--cells", "* ensemble *"]) == 1
    assert [cell.spec["generator"]["name"] for cell in ResultStore(elsewhere / "out").cells()] == ["ensemble"]
    assert "missing: toy/linear / none" in capsys.readouterr().err
    assert run_bench.main([*command, *all_three, "--cells", "*fragile*"]) == 1
    capsys.readouterr()
    assert run_bench.main([*command, *all_three, "--only-failed"]) == 1
    again = capsys.readouterr().err
    assert again.count("td3bc (default): seeds 0, 1") == 1
    assert "FAILED: ArithmeticError" in again
    assert run_bench.main([*command, *all_three, "--cells", "* mopo *"]) == 2
    assert "--cells must match at least one cell ('toy/linear none td3bc default', ...), got '* mopo *'" in (
        capsys.readouterr().err
    )


def test_another_physics_is_named_wherever_it_was_used(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = ['generators=["none"]', *[pair for pair in TINY[1:] if not pair.startswith("ensemble")]]
    command = ["run", "smoke", "--set", *none, "--jobs", "1", "--out", "out"]
    assert run_bench.main([*command, "--seeds", "1"]) == 0
    old = toy.SYSTEMS["linear"].physics
    monkeypatch.setitem(toy.SYSTEMS, "linear", replace(toy.SYSTEMS["linear"], physics="linear system, version 99"))
    assert run_bench.main([*command, "--seeds", "2"]) == 1
    assert f"must have one physics, got {old!r}" in capsys.readouterr().err
    assert run_bench.main(["report", "out", "--allow-mixed"]) == 0
    (cell,) = ResultStore(elsewhere / "out").cells()
    assert [(run["seeds"], run["physics"]) for run in cell.runs] == [([0], old), ([1], "linear system, version 99")]
    assert f"{old}; linear system, version 99" in (elsewhere / "out" / "report" / "index.html").read_text()
    monkeypatch.setitem(toy.SYSTEMS, "linear", replace(toy.SYSTEMS["linear"], physics=old))
    capsys.readouterr()
    run_bench.main(["reproduce", f"out/{cell.cell_id}"])
    assert f"physics: was linear system, version 99, is {old}" in capsys.readouterr().out


def test_reproduce_runs_a_cell_again_and_names_what_differs(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_bench.main(["run", "smoke", "--set", *TINY, "--jobs", "1", "--out", "out"]) == 0
    cell = ResultStore(elsewhere / "out").cells()[0]
    before = {path: path.read_bytes() for path in (elsewhere / "out").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run_bench.main(["reproduce", f"out/{cell.cell_id}"]) == 0
    assert re.search(r"\d+ numbers of seeds 0, 1, 0 differ", capsys.readouterr().out)
    right = run_cell

    def wrong(*arguments: Any) -> Any:
        records, origin = right(*arguments)
        return [record._replace(value=5.0) if record.metric == "return" else record for record in records], origin

    monkeypatch.setattr("benchmarks.audit.reproduce.run_cell", wrong)
    assert run_bench.main(["reproduce", f"out/{cell.cell_id}"]) == 1
    told = capsys.readouterr().out
    assert "4 differ" in told
    assert "return" in told
    assert {path: path.read_bytes() for path in (elsewhere / "out").rglob("*") if path.is_file()} == before
    assert run_bench.main(["reproduce", "out/nothing"]) == 2
    assert "CELL must be the folder of a finished cell (DIR/<cell_id>), got out/nothing" in capsys.readouterr().err
