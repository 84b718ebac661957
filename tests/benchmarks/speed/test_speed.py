"""The scripts that measure speed run, and compare equal things; their ratios are for people to read, not for a test."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.report.results import Results
from benchmarks.report.style import draw
from benchmarks.speed import __main__ as perf
from benchmarks.speed import ensemble, hotpaths, inputs, intervals, peers, replay, solvers, turns, unet, updates
from benchmarks.speed.jax_worker import Worker
from core import registry
from models import compiled
from tasks.simulators.locomotion import Locomotion

ROOT = Path(__file__).resolve().parents[3]

# As little of CORL's file as can be loaded: it wants modules that nobody has, decorates with one, subclasses another.
CORL = """
import copy, sys
from typing import Optional

import d4rl
import gym
import pyrallis
import torch
import wandb
from wandb import init

SEEN = [name for name in ("d4rl", "gym", "pyrallis", "wandb") if name in sys.modules]


class Wrapper(gym.Wrapper):
    pass


class Actor(torch.nn.Linear):
    def __init__(self, obs: int, action: int, limit: float, env: Optional[gym.Env] = None):
        super().__init__(obs, action)


class Critic(torch.nn.Linear):
    def __init__(self, obs: int, action: int):
        super().__init__(obs + action, 1)


class ReplayBuffer:
    def __init__(self, *sizes):
        self.size = sizes[-1]

    def load_d4rl_dataset(self, data):
        assert all(len(rows) == self.size for rows in data.values())


class TD3_BC:
    def __init__(self, limit, *parts):
        assert len(parts) == 6


@pyrallis.wrap()
def train(config):
    return "decorated"
"""


@pytest.fixture(autouse=True)
def without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROLLOUTBENCH_PEERS", raising=False)


@pytest.fixture
def corl(tmp_path: Path) -> Path:
    file = tmp_path / "CORL/algorithms/offline/td3_bc.py"
    file.parent.mkdir(parents=True)
    file.write_text(CORL)
    return file


def test_a_peer_is_loaded_with_stubs_that_are_gone_afterwards(corl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym", json)  # whatever was there comes back
    before = dict(sys.modules)
    module = peers.load(corl, ["d4rl", "gym", "pyrallis", "wandb"])
    assert sys.modules == before
    assert module.SEEN == ["d4rl", "gym", "pyrallis", "wandb"]
    assert module.train(None) == "decorated"
    assert isinstance(module.Wrapper, type)
    assert module.gym.make("Hopper").anything is not None


def test_a_package_is_loaded_with_the_submodules_that_were_asked_for(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit/__init__.py").write_text("")
    (tmp_path / "kit/one.py").write_text("from kit.two import number\nfrom kit.stubbed import nothing\n")
    (tmp_path / "kit/two.py").write_text("number = 2\n")
    (tmp_path / "kit/three.py").write_text("import no_such_module_anywhere\n")
    before = dict(sys.modules)
    kit = peers.load(tmp_path / "kit/__init__.py", ["kit.stubbed"], ["one"])
    assert kit.one.number == 2
    assert sys.modules == before
    with pytest.raises(peers.NotThereError, match="not there: needs no_such_module_anywhere"):
        peers.load(tmp_path / "kit/__init__.py", submodules=["three"])
    with pytest.raises(peers.NotThereError, match=r"not there: needs four\.py"):
        peers.load(tmp_path / "kit/four.py")
    assert sys.modules == before


def test_peers_are_found_by_folder_and_known_by_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peers.folder(None) is None
    monkeypatch.setenv("ROLLOUTBENCH_PEERS", str(tmp_path))
    assert peers.folder(None) == tmp_path
    assert peers.folder(Path("other")) == Path("other")
    for missing in (None, tmp_path):
        with pytest.raises(peers.NotThereError, match=r"^not there$"):
            peers.checkout(missing, "CORL")
    (tmp_path / "CORL").mkdir()
    assert peers.commit(peers.checkout(tmp_path, "CORL")) is None
    if (ROOT / ".git").exists():
        assert len(str(peers.commit(ROOT))) == 40


def test_other_networks_are_not_compared(corl: Path) -> None:
    with pytest.raises(RuntimeError, match=r"equally many parameters, got .*'CORL': 66, 'ours'"):
        updates.compare(corl.parents[3], None, 1, rows=100, updates=2)


def test_a_jax_peer_needs_jax(tmp_path: Path) -> None:
    file = tmp_path / "td3_bc.py"
    file.write_text("import wandb\nimport no_such_module_anywhere\n")
    with pytest.raises(peers.NotThereError, match="needs no_such_module_anywhere"):
        Worker(Path(sys.executable), file, rows=10, obs_dim=2, action_dim=1)
    with pytest.raises(peers.NotThereError, match="needs an interpreter with JAX"):
        Worker(tmp_path / "python", file, rows=10, obs_dim=2, action_dim=1)


def test_ratios_are_taken_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def turn(work: int, *seconds: float) -> turns.Turn:
        left = [1.0, *seconds]  # the first one warms up
        return turns.Turn(lambda: clock.append(clock.pop() + left.pop(0)), work)

    found = turns.take_turns("u/s", {"a": turn(1, 1, 2, 4), "b": turn(3, 1, 2, 12), "c": None}, ["a", "c"], 3)
    assert found["rates"] == {
        "a": {"median": 0.5, "lowest": 0.25, "highest": 1.0},
        "b": {"median": 1.5, "lowest": 0.25, "highest": 3.0},
        "c": None,
    }
    assert found["ratios"] == {"a": {"c": None}, "b": {"a": 3.0, "c": None}, "c": {"a": None}}
    assert turns.ratio_text(found, "b", "a", {}) == "3.00x"
    assert turns.ratio_text(found, "b", "c", {"c": "not there: needs c"}) == "not there: needs c"
    assert turns.ratio_text(found, "d", "a", {}) == "not measured"
    table = turns.turns_table(found, {"c": "not there: needs c"})
    assert "not there: needs c" in table
    assert "x a" in table


def test_losses_are_compiled_in_the_turns_that_say_so_only() -> None:
    seen = []
    both = turns.also_compiled({"ours": turns.Turn(lambda: seen.append(compiled._on), 3)})
    for turn in both.values():
        turn.call()
    assert list(both) == ["ours", "ours, compiled"]
    assert both["ours, compiled"].work == 3
    assert seen == [False, True]
    assert not compiled._on


def test_every_comparison_runs_without_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, options: list[str]) -> int:
        import_module(f"benchmarks.speed.{name}").main(options)  # in this process: to start five takes longer
        return 0

    monkeypatch.setattr(perf, "run", run)
    monkeypatch.setattr(intervals, "find_spec", lambda _: None)
    threads = torch.get_num_threads()
    names = ["updates", "ensemble", "unet", "intervals", "replay"]  # the others have tests of their own
    assert perf.main([*names, "--quick", "--out", str(tmp_path)]) == 0
    assert torch.get_num_threads() == threads
    found = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in names}
    for name, who in {"updates": "CORL", "ensemble": "OfflineRL-Kit", "unet": "DyDiff"}.items():
        assert found[name]["peers"][who] is None
        assert found[name]["not_there"][who] == "not there"
        for measured in found[name]["measured"].values():
            assert measured["rates"][who] is None
            assert all(rates["median"] > 0 for own, rates in measured["rates"].items() if own.startswith("ours"))
            assert all(ratios.get(who) is None for ratios in measured["ratios"].values())
    page = (tmp_path / "README.md").read_text()
    assert page in capsys.readouterr().out
    left_out = 5 + len(perf.COMPARISONS) - len(names)  # what is compiled is not quick, either
    assert page.count("not there") == 7
    assert page.count("not measured") == left_out
    assert ">= 2.2x" in page
    assert "[updates.json](updates.json)" in page


def test_a_comparison_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(name: str, options: list[str]) -> int:
        asked.append((name, options))
        return int(name == "updates")

    monkeypatch.setattr(perf, "run", run)
    given = ["--threads", "2", "--peers", "there", "--jax", "python3", "--out", str(tmp_path)]
    assert perf.main(["updates", "intervals", *given]) == 1
    options = ["--threads", "2", "--peers", "there", "--jax", "python3", "--out", f"{tmp_path}/updates.json"]
    assert asked == [("updates", options), ("intervals", ["--out", f"{tmp_path}/intervals.json"])]
    assert (tmp_path / "README.md").read_text().count("not measured") == len(perf.COMPARISONS)
    with pytest.raises(SystemExit):
        perf.main(["nothing"])


def test_the_table_is_that_of_the_files_beside_it() -> None:
    assert (ROOT / "results/speed/README.md").read_text() == perf.table(ROOT / "results/speed")


def test_sizes_are_those_of_the_models_that_we_use() -> None:
    found = unet.compare(None, 1, **unet.QUICK)
    model = unet._MODEL.init(inputs.OBS, inputs.ACTION, unet.Streams((0,)))
    assert found["sizes"]["ours"]["parameters"] == sum(part.numel() for part in model.net.parameters())
    assert found["sizes"]["ours"]["flops"] == found["flops_of_ours_as_we_count_them"]
    data = inputs.hopper_sized(2_500)
    assert data.episode.bincount().tolist() == [1000, 1000, 500]
    assert ensemble.FULL.keys() == ensemble.QUICK.keys()
    assert updates.FULL.keys() == updates.QUICK.keys()


def test_replay_is_compared_on_equal_states(monkeypatch: pytest.MonkeyPatch) -> None:
    found = replay.compare(rows=3, steps=4, repeats=1)
    assert found["states"] == "equal bit for bit"
    assert found["ratio_wall"] == found["gymnasium"]["wall"] / found["ours"]["wall"] > 0
    right = Locomotion.replay
    monkeypatch.setattr(Locomotion, "replay", lambda *given: right(*given) + 1e-15)
    with pytest.raises(RuntimeError, match="states must be equal, got a difference of 1"):
        replay.compare(rows=3, steps=4, repeats=1)


def test_intervals_can_be_timed_without_rliable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "find_spec", lambda _: None)
    found = intervals.compare(torch.device("cpu"), ["mean", "iqm"], reps=20, repeats=2)
    assert found["ours"]["wall"] > 0
    assert found["rliable"] is None
    matrices = intervals.scores(torch.device("cpu"))
    assert [tuple(x.shape) for x in matrices] == [(10, 12)] * 5
    low, high = intervals.ours(matrices, lambda x: x.mean((-2, -1)), 100, seed=0).unbind(1)
    assert (low < high).all()


def test_every_hot_path_is_timed_beside_the_reference(tmp_path: Path) -> None:
    paths = dict(hotpaths.hot_paths(tmp_path))
    assert {"generate dydiff", "update td3bc", "update dql", "bootstrap", "replay"} <= paths.keys()
    assert {f"update {name}" for name in registry.available("algorithms")} <= paths.keys()
    ratios = hotpaths.measure(repeats=1)
    assert ratios.keys() == paths.keys()
    assert min(ratios.values()) > 0


def test_errors_of_samplers_are_compared_seed_by_seed() -> None:
    """Two settings of half and a tenth of the released one's FLOP, the second 1.2 times as wrong."""
    rows = []
    for setting, flops, factor in ((solvers.RELEASED, 100.0, 1.0), (solvers.OURS, 50.0, 1.05), ("dpm++ 2", 10.0, 1.2)):
        for seed, error in ((0, 1.0), (1, 3.0)):
            cell = {"cell_id": setting, "task": "t", "generator": "dydiff", "algorithm": "td3bc", "variant": setting}
            curves = {f"compounding/{kind}/median/{h}": h * factor * error for kind in solvers._KINDS for h in (1, 2)}
            for metric, value in (curves | {"cost/flops_per_transition": flops}).items():
                rows.append({**cell, "seed": seed, "step": 9, "metric": metric, "value": value})
    found = solvers.compare(Results("", (), pd.DataFrame(rows)))
    by_name = {(row["setting"], row["actions"]): row for row in found}
    assert len(found) == 6
    assert by_name[solvers.OURS, "policy"]["error"] == pytest.approx(2 * 1.05 * 2)
    assert by_name["dpm++ 2", "logged"]["ratio"] == pytest.approx(1.2)
    assert by_name["dpm++ 2", "logged"]["fewer_flops"] == pytest.approx(10)
    default, cheapest = solvers.figures({"rows": found})
    assert default.measured == "error 1.05x at most, 2.0x fewer FLOP"
    assert solvers.OURS in cheapest.figure
    draw(solvers.figure, pd.DataFrame(found))


@pytest.mark.slow
def test_compiling_is_timed(tmp_path: Path) -> None:
    out = tmp_path / "compiling.json"
    command = [sys.executable, "-m", "benchmarks.speed.compiling", "--quick", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["name"] == "bc"
    assert row["plain_ms"] > 0
    assert row["compiling_s"] > 0
    assert (row["pays_from"] is None) == (row["compiled_ms"] >= row["plain_ms"])
