"""The command line: what it prints, what it writes, and with which code it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run_bench
from benchmarks.store import ResultStore
from benchmarks.suite import suite_names
from core import registry

TWO = 'generators=["none","ensemble"]'
ROOT = Path(run_bench.__file__).parent
pytestmark = pytest.mark.usefixtures("elsewhere")


def scores(folder: Path) -> bytes:
    return (folder / "report" / "scores.csv").read_bytes()


def test_run_then_nothing_to_do_then_report(
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny: tuple[str, ...],
    never: Callable[..., Any],
) -> None:
    command = ["run", "smoke", "--set", *tiny, "--out", "out", "--device", "cpu", "--jobs", "1"]
    assert run_bench.main(command) == 0
    first = capsys.readouterr()
    out = elsewhere / "out"
    assert "td3bc" in first.out
    assert "ensemble" in first.out
    assert "done in" in first.err
    assert {"scores.csv", "compounding.csv", "tables.md", "columns.md", "index.html"} <= {
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


def test_results_lie_under_the_suites_name_without_out(elsewhere: Path, tiny: tuple[str, ...]) -> None:
    (elsewhere / "mine.toml").write_text(
        'tasks = ["toy/linear"]\ngenerators = ["none"]\nalgorithms = ["td3bc"]\nseeds = [5]\n'
    )
    tiny = [pair for pair in tiny if not pair.startswith(("ensemble", "generators"))]
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
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    own_cache: Path,
    never: Callable[..., Any],
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


def test_list_names_everything_in_the_registries(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench.main(["list"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for folder in ("generators", "algorithms"):
        assert set(registry.available(folder)) < set(lines)
    assert any(line.startswith("fresh: real_fraction=0.5, regularise=real_only,") for line in lines)
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
        (["run", "smoke", "--stall-minutes", "-1"], 2, "--stall-minutes must be between 0 and a week, got -1"),
        (["run", "smoke", "--out", "file"], 2, "--out must be a folder, got file"),
        (["plan", "gone.toml"], 2, "suite file gone.toml does not exist"),
        (["report", "gone"], 2, "DIR must be a results folder, got gone"),
        (["run", "smoke", "--take", "gone"], 2, "--take must be a results folder, got gone"),
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
        (["data", "fetch", "d4rl/hopper-medium-v2", "--dataset-rows", "5"], 2, "must be left at 100000 .* got 5"),
        (["plan", "smoke", "--set", 'tasks=["d4rl/hopper-medium-v2"]'], 2, "must be left at 100000 .* got 10000"),
        (["plan", "smoke", "--set", "train_rows=0"], 2, "train_rows should be greater than 0, got 0"),
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


def test_a_missing_device_leaves_nothing_behind(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        here = ["--jobs", "1", "--stall-minutes", "0"]  # in this process, where `run_cell` is another function
        assert run_bench.main(["run", "smoke", "--out", "out", *here]) == code
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert "the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["run", "plan", "report", "list", "data"]),
        (["run"], ["SUITE", "--set", "KEY=VALUE", "--seeds", "--device", "--jobs", "--data-dir", "--out", "Exit code"]),
        (["plan"], ["SUITE", "--set", "--seeds", "--data-dir", "--import", "MODULE", "--out", "start nothing"]),
        (["report"], ["DIR", "--allow-mixed"]),
        (["verify"], ["DIR", "Exit code"]),
        (["list"], ["tasks", "generators", "algorithms", "suites"]),
        (["data"], ["list", "make", "fetch", "verify", "NAME", "--dataset-rows", "ROWS", "--data-dir", "--import"]),
        (["data"], ["--skip-broken-episodes"]),
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
