"""The measurements run, and compare equal things; their ratios are for people to read, not for a test."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks.peers import NotThereError, Peers, load
from benchmarks.report.results import Results
from benchmarks.speed import __main__ as command
from benchmarks.speed import libraries, solvers, unet, updates
from benchmarks.speed.harness import Options, Turn, also_compiled, hopper_sized, ratio_figures, take_turns
from benchmarks.speed.peers import Worker
from core.random import Streams
from models import compiled
from tasks.simulators.locomotion import Locomotion

ROOT = Path(__file__).resolve().parents[3]
QUICK = Options(quick=True)

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
    monkeypatch.setattr(libraries, "find_spec", lambda _: None)


@pytest.fixture
def corl(tmp_path: Path) -> Path:
    file = tmp_path / "CORL/algorithms/offline/td3_bc.py"
    file.parent.mkdir(parents=True)
    file.write_text(CORL)
    return file


def test_a_peer_is_loaded_with_stubs_that_go_again(corl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym", json)  # whatever was there comes back
    before = dict(sys.modules)
    module = load(corl, ["d4rl", "gym", "pyrallis", "wandb"])
    assert sys.modules == before
    assert module.SEEN == ["d4rl", "gym", "pyrallis", "wandb"]
    assert module.train(None) == "decorated"
    assert isinstance(module.Wrapper, type)
    assert module.gym.make("Hopper").anything is not None


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit/__init__.py").write_text("")
    (tmp_path / "kit/one.py").write_text("from kit.two import number\nfrom kit.stubbed import nothing\n")
    (tmp_path / "kit/two.py").write_text("number = 2\n")
    (tmp_path / "kit/three.py").write_text("import no_such_module_anywhere\n")
    return tmp_path / "kit/__init__.py"


def test_a_package_is_loaded_with_its_submodules(kit: Path) -> None:
    before = dict(sys.modules)
    assert load(kit, ["kit.stubbed"], ["one"]).one.number == 2
    assert sys.modules == before


def test_what_a_peer_needs_is_named(kit: Path) -> None:
    before = dict(sys.modules)
    with pytest.raises(NotThereError, match="not there: needs no_such_module_anywhere"):
        load(kit, submodules=["three"])
    with pytest.raises(NotThereError, match=r"not there: needs four\.py"):
        load(kit.with_name("four.py"))
    assert sys.modules == before


@pytest.mark.parametrize("folder", [None, Path("nowhere")])
def test_absent_peers_are_recorded(folder: Path | None) -> None:
    peers = Peers(folder)
    assert peers.get("CORL", lambda root: root, ["first", "second"]) is None
    assert peers.record() == {"peers": {"CORL": None}, "not_there": dict.fromkeys(["first", "second"], "not there")}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_peers_are_known_by_commit() -> None:
    peers = Peers(ROOT.parent)
    assert peers.get(ROOT.name, lambda root: root) == ROOT
    assert len(str(peers.commits[ROOT.name])) == 40


def test_other_networks_are_not_compared(corl: Path) -> None:
    with pytest.raises(RuntimeError, match=r"equally many parameters, got .*'CORL': 66, 'ours'"):
        updates.compare(QUICK._replace(peers=corl.parents[3]), rows=100, updates=2)


def test_a_jax_peer_needs_jax(tmp_path: Path) -> None:
    file = tmp_path / "td3_bc.py"
    file.write_text("import wandb\nimport no_such_module_anywhere\n")
    with pytest.raises(NotThereError, match="needs no_such_module_anywhere"):
        Worker(Path(sys.executable), file, rows=10, obs_dim=2, action_dim=1)
    for python in (None, tmp_path / "python"):
        with pytest.raises(NotThereError, match="needs --jax, an interpreter with JAX"):
            Worker(python, file, rows=10, obs_dim=2, action_dim=1)


@pytest.fixture
def turns() -> dict[str, Any]:
    """Three rounds of ours, plain and compiled, beside a peer that is there and one that is not."""
    now = [0.0]

    def turn(work: int, *seconds: float) -> Turn:
        left = [1.0, *seconds]  # the first one warms up
        return Turn(lambda: now.append(now.pop() + left.pop(0)), work)

    three = {"a": turn(1, 1, 2, 4), "ours": turn(3, 1, 2, 12), "ours, compiled": turn(4, 1, 2, 4)}
    return take_turns("u/s", {**three, "c": None}, ["a", "c"], 3, lambda: now[0])


def test_ratios_are_taken_within_a_round(turns: dict[str, Any]) -> None:
    assert turns["rates"]["a"] == {"median": 0.5, "lowest": 0.25, "highest": 1.0}
    assert turns["rates"]["ours"] == {"median": 1.5, "lowest": 0.25, "highest": 3.0}
    assert turns["ratios"] == {"ours": {"a": 3.0, "c": None}, "ours, compiled": {"a": 4.0, "c": None}}


def test_plain_and_compiled_stand_side_by_side(turns: dict[str, Any]) -> None:
    found = {"measured": {"training": turns}, "not_there": {"c": "not there: needs c"}}
    lines = list(ratio_figures(found, lambda part, own, peer: f"{part}, {own}, {peer}", {"training, ours, a": 2.0}.get))
    assert lines[0] == ("training, ours, a", ">= 2x, compiled", "3.00x", "4.00x", "met")
    assert lines[1] == ("training, ours, c", "", "not there: needs c", "not there: needs c", "")


@pytest.mark.parametrize(
    ("ratio", "shown", "met"),
    [
        (0.5, "0.50x (slower)", "missed"),
        (1.1, "1.10x (level)", "missed"),
        (4.9, "4.90x", "missed"),
        (5, "5.00x", "met"),
    ],
)
def test_slower_and_level_are_said_and_targets_judged(ratio: float, shown: str, met: str) -> None:
    found = {"measured": {"rollout": {"ratios": {"ours": {"a": ratio, "b": None}}}}, "not_there": {}}
    here, gone = ratio_figures(found, lambda part, own, peer: part, lambda line: 5)
    assert here == ("rollout", ">= 5x", shown, "", met)
    assert gone == ("rollout", ">= 5x", "not there", "", "")


def test_losses_are_compiled_in_turns_that_say_so() -> None:
    seen = []
    both = also_compiled({"ours": Turn(lambda: seen.append(compiled._on), 3)})
    for turn in both.values():
        turn.call()
    assert {name: turn.work for name, turn in both.items()} == {"ours": 3, "ours, compiled": 3}
    assert seen == [False, True]
    assert not compiled._on


@pytest.mark.parametrize("name", ["updates", "ensemble", "unet", "libraries"])
def test_a_measurement_runs_without_peers(tmp_path: Path, name: str) -> None:
    threads = torch.get_num_threads()
    assert command.main([name, "--quick", "--out", str(tmp_path)]) == 0
    assert torch.get_num_threads() == threads
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["machine"]["cpu"]
    rates = [rate for part in found["measured"].values() for rate in part["rates"].values()]
    assert min(rate["lowest"] for rate in rates) > 0
    page = (tmp_path / "README.md").read_text()
    assert page.count("not measured") == len(command.MEASURED) - 1
    assert f"[{name}.json]({name}.json)" in page
    assert found["machine"]["cpu"] in page
    assert "not there" in page


def test_a_failure_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        asked.append(command[3:])
        return subprocess.CompletedProcess(command, "updates" in command)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(command, "table", lambda folder: "")
    options = ["--peers=there", "--jax=python3", f"--out={tmp_path}"]
    assert command.main(["updates", "libraries", *options]) == 1
    assert asked == [["updates", *options], ["libraries", *options]]


def test_a_file_stays_where_nothing_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers, "RESULTS", tmp_path / "nowhere")
    assert command.main(["solvers", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "solvers.json").exists()


def test_an_unknown_measurement_is_refused() -> None:
    with pytest.raises(SystemExit):
        command.main(["nothing"])


def test_the_table_is_that_of_the_files_beside_it() -> None:
    assert (ROOT / "results/speed/README.md").read_text() == command.table(ROOT / "results/speed")


def test_sizes_are_those_of_the_models_that_we_use() -> None:
    found = unet.measure(QUICK)
    model = unet.MODEL.init(unet.OBS, unet.ACTION, Streams((0,)))
    assert found["sizes"]["ours"]["parameters"] == sum(part.numel() for part in model.net.parameters())
    assert found["sizes"]["ours"]["flops"] == found["our_count_of_flops"]


def test_episodes_have_a_thousand_rows() -> None:
    assert hopper_sized(2_500).episode.bincount().tolist() == [1000, 1000, 500]


def test_replay_is_compared_on_equal_states(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Locomotion.replay
    monkeypatch.setattr(Locomotion, "replay", lambda *given: right(*given) + 1e-15)
    with pytest.raises(RuntimeError, match="states must be equal, got a difference of 1"):
        libraries.replay(rows=3, steps=4, rounds=1)


def test_intervals_can_be_timed_without_rliable() -> None:
    found = libraries.intervals(torch.device("cpu"), resamples=20, repeats=2)
    assert found["seconds"] > 0
    assert found["ratio"] is None
    assert [tuple(x.shape) for x in libraries.scores(torch.device("cpu"))] == [(10, 12)] * 5


def test_errors_of_samplers_are_compared_by_seed() -> None:
    """Two settings of half and a tenth of the released one's FLOP, the second 1.2 times as wrong."""
    rows = []
    for setting, flops, factor in ((solvers.RELEASED, 100.0, 1.0), (solvers.OURS, 50.0, 1.05), ("dpm++ 2", 10.0, 1.2)):
        for seed, error in ((0, 1.0), (1, 3.0)):
            row = {"cell_id": setting, "task": "t", "variant": setting, "seed": seed, "step": 9}
            rows.append({**row, "metric": "cost/flops_per_transition", "horizon": None, "value": flops})
            for kind in solvers.KINDS:
                curve = {**row, "metric": f"compounding/{kind}/median"}
                rows += [{**curve, "horizon": h, "value": h * factor * error} for h in (1, 2)]
    found = solvers.compare(Results("", (), pd.DataFrame(rows)))
    by_name = {(row["setting"], row["actions"]): row for row in found}
    assert len(found) == 6
    assert by_name[solvers.OURS, "policy"]["error"] == pytest.approx(2 * 1.05 * 2)
    assert by_name["dpm++ 2", "logged"]["ratio"] == pytest.approx(1.2)
    assert by_name["dpm++ 2", "logged"]["fewer_flops"] == pytest.approx(10)
    default, cheapest = solvers.figures({"rows": found})
    assert default.plain == "error 1.05x at most, 2.0x fewer FLOP"
    assert solvers.OURS in cheapest.figure


@pytest.mark.slow
def test_compiling_is_timed() -> None:
    program = """
from benchmarks.speed import updates
step, *_ = updates.training(updates.TD3BC(hidden=(8, 8)), updates.hopper_sized(1_000), 1, updates._CPU)
row = updates.paid_back("td3bc", step, 0.1)
assert row["plain_ms"] > 0
assert row["compiling_s"] > 0
assert (row["pays_from"] is None) == (row["compiled_ms"] >= row["plain_ms"])
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)  # shapes are not checked there
