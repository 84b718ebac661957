"""Minari sets on the command line: environments of the user's own, broken episodes, no network."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import pytest

import run_bench
from benchmarks.store import ResultStore

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.filterwarnings("ignore::UserWarning:minari")]

Collect = Callable[..., tuple[Any, list[Any]]]
Create = Callable[..., None]

RUN = ["run", "smoke", "--out", "out", "--seeds", "1", "--jobs", "2", "--device", "cpu"]
SET = [
    'generators=["none"]',
    'algorithms=["td3bc", "bc"]',
    "updates=4",
    "evaluate_every=2",
    "episodes=1",
    "dataset_rows=100_000",
]


@pytest.fixture
def own(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, drift_module: str, collect: Collect, create: Create) -> Any:
    """A data set of an environment in a module that nobody has imported."""
    (elsewhere / "field_envs.py").write_text(drift_module)
    monkeypatch.syspath_prepend(elsewhere)
    gymnasium.register("Field/Drift-v0", "field_envs:Drift", max_episode_steps=10)
    env, buffers = collect("Field/Drift-v0", 8)
    create("drift-v0", buffers, env)
    del gymnasium.registry["Field/Drift-v0"]
    del sys.modules["field_envs"]
    yield "minari/drift-v0"
    sys.modules.pop("field_envs", None)


def test_a_users_own_environment_runs_in_processes_of_cells(
    elsewhere: Path, own: str, drift_module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench.main(["data", "verify", own]) == 1
    assert "name its module: --import field_envs" in capsys.readouterr().err
    assert run_bench.main(["data", "verify", own, "--import", "field_envs"]) == 0
    assert json.loads(capsys.readouterr().out)["physics"].startswith("Field/Drift-v0, gymnasium")
    command = [*RUN, "--set", f'tasks=["{own}"]', *SET]
    assert run_bench.main([*command, "--import", "field_envs"]) == 0
    cells = ResultStore(elsewhere / "out").cells()
    assert [cell.spec["settings"]["imports"] for cell in cells] == [["field_envs"]] * 2
    (digest,) = {cell.runs[-1]["imports"]["field_envs"] for cell in cells}
    assert len(digest) == 64
    del sys.modules["field_envs"]
    assert run_bench.main(["reproduce", f"out/{cells[0].cell_id}"]) == 0
    capsys.readouterr()
    (elsewhere / "field_envs.py").write_text(drift_module.replace("0.1 * action", "0.2 * action"))
    del sys.modules["field_envs"]
    run_bench.main(["reproduce", f"out/{cells[0].cell_id}"])
    assert f"imports: was {{'field_envs': '{digest}'}}, is " in capsys.readouterr().out


def test_modules_of_a_suite_are_joined_by_those_of_the_command(
    elsewhere: Path, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "mine.toml").write_text(
        f'tasks = ["{own}"]\ngenerators = ["none"]\nalgorithms = ["bc"]\nseeds = [0]\nimports = ["field_envs"]\n'
    )
    seen: list[Any] = []
    monkeypatch.setattr(run_bench.plan, "describe", lambda specs, store: seen.extend(specs) or "")
    assert run_bench.main(["plan", "mine.toml"]) == 0
    assert run_bench.main(["plan", "mine.toml", "--import", "json", "field_envs"]) == 0
    assert [spec.settings.imports for spec in seen] == [("field_envs",), ("field_envs", "json")]
    assert seen[0].cell_id != seen[1].cell_id


def test_a_module_that_is_not_there_ends_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench.main(["plan", "smoke", "--import", "no_such_module_here"]) == 2
    assert "imports: 'no_such_module_here' must be a module that can be imported" in capsys.readouterr().err


def shorten(group: h5py.Group) -> None:
    obs = group["observations"][:]
    del group["observations"]
    group["observations"] = obs[:-1]


def test_other_episodes_than_a_broken_one_can_be_used(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], collect: Collect, create: Create
) -> None:
    env, buffers = collect("Pendulum-v1", 8, max_episode_steps=20)
    create("short-v0", buffers, env)
    with h5py.File(elsewhere / "minari" / "short-v0" / "data" / "main_data.hdf5", "r+") as file:
        shorten(file["episode_2"])
    assert run_bench.main(["data", "fetch", "minari/short-v0"]) == 1
    said = capsys.readouterr().err
    assert "episode 2: must have one observation more than rewards" in said
    assert "got 20 observations, 20 rewards" in said
    assert "--skip-broken-episodes" in said
    assert run_bench.main(["data", "fetch", "minari/short-v0", "--skip-broken-episodes"]) == 0
    shown = capsys.readouterr()
    assert "1 of 8 episodes are left out (2): episode 2: must" in shown.err
    card = json.loads(shown.out)
    assert (card["episodes"], card["left_out_episodes"], card["rows"]) == (7, 1, 140)
    command = [*RUN, "--set", 'tasks=["minari/short-v0"]', *SET, 'algorithms=["bc"]']
    assert run_bench.main(command) == 1
    assert run_bench.main([*command, "skip_broken_episodes=true", "--out", "others"]) == 0
    (cell,) = ResultStore(elsewhere / "others").cells()
    assert cell.spec["settings"]["skip_broken_episodes"] is True
    assert cell.runs[-1]["dataset"]["left_out_episodes"] == 1


def offline(name: str) -> None:
    raise ConnectionError(f"[Errno -2] Name or service not known\nwhile asking for {name}")


def test_a_fetch_without_a_network_is_one_sentence(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minari, "download_dataset", offline)
    assert run_bench.main(["data", "fetch", "minari/field/pen-v0"]) == 1
    shown = capsys.readouterr()
    (_, line) = shown.err.splitlines()
    assert line.startswith(f"error: minari/field/pen-v0 is neither in {elsewhere / 'minari' / 'field' / 'pen-v0'} nor")
    assert "ConnectionError: [Errno -2] Name or service not known while asking for field/pen-v0" in line
    assert "`minari download field/pen-v0`" in line
    assert shown.out == ""


def test_a_run_without_a_network_asks_once_for_each_set(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(minari, "download_dataset", lambda name: asked.append(name) or offline(name))
    tasks = 'tasks=["minari/field/pen-v0", "toy/linear"]'
    assert run_bench.main([*RUN, "--set", tasks, *SET, "train_rows=5000"]) == 1
    assert asked == ["field/pen-v0"]
    said = capsys.readouterr().err
    assert "2 cells of minari/field/pen-v0 FAILED: minari/field/pen-v0 is neither in" in said
    cells = {cell.cell_id: cell for cell in ResultStore(elsewhere / "out").cells()}
    assert {bool(cell.done) for name, cell in cells.items() if name.startswith("toy")} == {True}
    errors = [str(cell.error) for name, cell in cells.items() if name.startswith("minari")]
    assert len(errors) == 2
    assert all("is neither in" in error and "Traceback" not in error for error in errors)
