"""From a comparison to its page, beside a peer of our own."""

import json
import signal
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.parity import __main__ as parity
from benchmarks.parity.__main__ import Options, main, run
from benchmarks.parity.drivers import corl
from benchmarks.parity.export import export, load_windows
from benchmarks.parity.judge import MisreadError, read_policy
from benchmarks.parity.page.table import draw
from benchmarks.parity.plan import COMPARISONS, PEERS, Comparison, chosen, smoke
from benchmarks.parity.sides import planned, suite
from benchmarks.suite import cells, load_suite
from core.errors import SpecError
from core.interrupt import Stopped
from core.registry import build_method
from tasks import hdf5
from tasks.simulators.base import replayed

TINY = replace(smoke(chosen("td3bc")[0]), updates=4, every=2, episodes=1, rows=2000)


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda each: each.name)
@pytest.mark.parametrize("small", [False, True])
def test_our_settings_are_valid(comparison: Comparison, small: bool, tmp_path: Path) -> None:
    comparison = smoke(comparison) if small else comparison
    assert comparison.peer in PEERS
    for task in comparison.tasks:
        if comparison.kind == "model":
            name = "mopo" if comparison.method == "ensemble" else comparison.method
            build_method("generators", name, comparison.fields("ours", task))
            continue
        plan = planned(replace(comparison, rows=2000), None, tmp_path, "python", False)
        assert plan.not_there is not None
        (spec,) = cells(
            load_suite("smoke", [f"{k}={json.dumps(v)}" for k, v in _flat(suite(comparison, task)).items()])
        )
        assert spec.settings.updates == comparison.steps[-1]
        assert spec.settings.real_fraction == 1


def _flat(table: dict[str, object]) -> dict[str, object]:
    own = {key: value for key, value in table.items() if not isinstance(value, dict)}
    return own | {f"{k}.{name}": v for k, part in table.items() if isinstance(part, dict) for name, v in part.items()}


def test_both_sides_get_the_same_rows(tmp_path: Path) -> None:
    exported = export("hopper-medium", tmp_path, 2000, 8, 12)
    rows = hdf5.read(exported.file)
    train = exported.data.train
    for name, values in (("obs", train.obs), ("action", train.action), ("next_obs", train.next_obs)):
        assert np.array_equal(getattr(rows, name), values.numpy())
    assert np.array_equal(rows.reward, train.reward.numpy())
    assert np.array_equal(rows.terminal, train.terminated.numpy())
    ends = rows.terminal | rows.timeout
    assert ends.sum() == len(exported.data.episode.unique())
    assert not (rows.terminal & rows.timeout).any()
    held = load_windows(exported.windows)
    truth = replayed(exported.task.simulator, torch.from_numpy(held.state)[None], torch.from_numpy(held.action)[None])
    apart = (truth.obs[0] - torch.from_numpy(held.obs)).abs().amax(-1)[:, 1:]
    assert apart[torch.from_numpy(held.valid)].max() < 1e-3
    assert held.action.shape[:2] == (8, 12)


@pytest.mark.slow
def test_from_a_peer_to_the_page(peers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every seed of theirs, ours by the command line, both judged; run again, here or elsewhere, nothing is done."""
    options = Options(peers, work=tmp_path / "work", out=tmp_path / "out", jobs=2, any_commit=True)
    assert run([TINY], options) == 0
    found = json.loads((tmp_path / "out/td3bc.json").read_text())
    measured = {(side, seed, update) for side, _, seed, _, _, update, _ in found["values"]}
    assert measured == {(side, seed, step) for side in ("theirs", "ours") for seed in (0, 1) for step in (2, 4)}
    page = (tmp_path / "out/README.md").read_text()
    assert "| TD3+BC   | CORL" in page
    assert "policies.svg" in page
    assert {name for _, name, *_ in found["lockstep"]} > {"actor", "critic1", "target_critic2"}
    networks = [rest for _, name, *rest in found["lockstep"] if not name.startswith("states_")]
    assert all(moved == 0 and apart > 1e-6 for moved, apart, *_ in networks)  # this peer learns nothing
    states = [apart for _, name, _, apart, *_ in found["lockstep"] if name.startswith("states_")]
    assert len(states) == 2 and max(states) < 1e-5  # noqa: PT018
    assert "in lockstep" in page
    lockstep = found["about"]["lockstep"]["hopper-medium"]
    assert {name.partition("-")[0] for name in lockstep["seconds"]} == {"lockstep", "compared"}
    assert "commit" in lockstep["facts"]
    facts = found["about"]["theirs"]["hopper-medium"]["facts"]
    assert facts["ignored"] == ["max_traj_len"]
    assert facts["settings"]["normalize"] is True
    assert tomllib.loads((tmp_path / "work/suites/ours-td3bc-hopper-medium.toml").read_text())["updates"] == 4
    capsys.readouterr()
    assert run([TINY], replace(options, again=True)) == 0
    assert capsys.readouterr().out.count(": kept") == 6
    elsewhere = replace(options, work=tmp_path / "elsewhere", minutes=0.0)  # without the jobs' files
    assert run([TINY], elsewhere) == 0
    assert json.loads((tmp_path / "out/td3bc.json").read_text()) == found
    assert run([replace(TINY, episodes=2)], elsewhere) == 1  # another budget is another question


def test_lockstep_alone_trains_nothing(peers: Path, tmp_path: Path) -> None:
    options = Options(peers, work=tmp_path / "work", out=tmp_path / "out", any_commit=True, lockstep=True)
    assert run([TINY], options) == 0
    assert "in lockstep" in (tmp_path / "out/README.md").read_text()
    assert {path.name.partition("-")[0] for path in (tmp_path / "work").iterdir()} >= {"lockstep", "compared"}
    assert not [path for path in (tmp_path / "work").iterdir() if path.name.startswith(("ours", "theirs"))]


@pytest.mark.slow
def test_a_failing_peer_leaves_the_others(peers: Path, tmp_path: Path) -> None:
    file = peers / "CORL/algorithms/offline/td3_bc.py"
    file.write_text(file.read_text().replace("wandb.log(", "undefined("))
    options = Options(peers, work=tmp_path / "work", out=tmp_path / "out", any_commit=True)
    assert run([TINY], options) == 1
    page = (tmp_path / "out/README.md").read_text()
    assert "theirs-td3bc-hopper-medium-seed1 failed" in page
    assert "NameError: name 'undefined' is not defined" in page
    assert str(tmp_path) not in page
    found = json.loads((tmp_path / "out/td3bc.json").read_text())
    assert {value[0] for value in found["values"]} == {"ours"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda peers: peers.rename(peers.with_name("moved")), "a checkout of tinkoff-ai/CORL"),
        (lambda peers: (peers / "CORL/algorithms/offline/td3_bc.py").unlink(), "td3_bc.py in"),
        (lambda peers: None, "CORL at 6afec90, found no commit"),
    ],
)
def test_a_missing_or_other_checkout_is_named(change, said: str, peers: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    change(peers)
    options = Options(peers, work=tmp_path / "work", out=tmp_path / "out")
    assert run([TINY], options) == 1
    assert said in (tmp_path / "out/README.md").read_text()


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "td3bc,nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
    with pytest.raises(SpecError, match="--only must be of td3bc"):
        chosen("nothing")


def test_a_stop_has_its_own_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(*arguments: object) -> int:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(parity, "run", stopped)
    assert main(["--smoke"]) == 75
    assert "stopped by SIGTERM" in capsys.readouterr().err


def test_more_seeds_begin_with_those_there_are(peers: Path, tmp_path: Path) -> None:
    """The peer's first five runs are the comparison's: they are run and counted once."""
    five, ten = (
        planned(replace(each, rows=2000, tasks=("hopper-medium",)), peers, tmp_path, "python", True)
        for each in chosen("td3bc,td3bc-seeds")
    )
    fewer, more = five.theirs["hopper-medium"], ten.theirs["hopper-medium"]
    assert [(job.name, job.asked) for job in more[:5]] == [(job.name, job.asked) for job in fewer]
    assert len({job.name for job in more}) == 10


def test_controls_run_where_they_are_asked_for() -> None:
    usual = [each.name for each in chosen(None)]
    assert not any(each.control for each in chosen(None))
    assert [each.name for each in chosen(None, controls=True) if not each.control] == usual
    assert [each.name for each in chosen("dydiff-network")] == ["dydiff-network"]


def test_controls_have_a_table_and_a_sum_of_their_own(tmp_path: Path) -> None:
    for name, control, seconds in (("dydiff", False, 7200), ("dydiff-network", True, 3600)):
        values = [
            (side, "t", seed, "e(1)", "ratio", None, 1.0 + seed) for side in ("ours", "theirs") for seed in (0, 1)
        ]
        about = {"ours": {"t": {"seconds": {"ours": 3600}}}, "theirs": {"t": {"seconds": {name: seconds}}}}
        content = {"title": name, "kind": "model", "control": control, "peer": "DyDiff", "peer_commit": None}
        content |= {"not_there": None, "purpose": [], "failed": {}, "waiting": [], "lockstep": [], "values": values}
        budget = {"seeds": 2, "updates": 1, "every": 1}
        (tmp_path / f"{name}.json").write_text(json.dumps(content | {"about": about, "budget": budget}))
    draw(tmp_path)
    page = (tmp_path / "README.md").read_text()
    before, _, after = page.partition("## Controls")
    assert "| dydiff " in before and "dydiff-network" not in before  # noqa: PT018
    assert "| dydiff-network " in after
    assert "all but the controls, with judging: 3.0 core hours" in page
    assert "- all, with judging: 4.0 core hours" in page  # our jobs are shared


def test_weights_that_are_misread_are_refused(tmp_path: Path) -> None:
    actor = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    actor.act = lambda state, device: actor(torch.as_tensor(state, dtype=torch.float32)).tanh().detach().numpy()
    states = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    content = corl.policy(actor, states, states.mean(0), states.std(0))
    np.savez(tmp_path / "policy-1.npz", **content)
    act = read_policy([tmp_path / "policy-1.npz"] * 2).act(torch.from_numpy(states)[None].expand(2, -1, -1), None)
    assert act[1].numpy() == pytest.approx(actor.act((states - states.mean(0)) / states.std(0), "cpu"), abs=1e-6)
    np.savez(tmp_path / "policy-1.npz", **content | {"bias1": content["bias1"] + 0.1})
    with pytest.raises(MisreadError, match=r"policy-1\.npz: must act as the peer's code"):
        read_policy([tmp_path / "policy-1.npz"])
