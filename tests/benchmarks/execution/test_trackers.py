"""A tracker sees every number and changes none, whatever it does."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import run_bench
from benchmarks.execution import matrix, trackers
from benchmarks.spec import RunSpec
from benchmarks.store import Record, ResultStore
from benchmarks.suite import cells, load_suite

TINY = (
    'generators=["none","ensemble"]', "updates=6", "evaluate_every=3", "episodes=2", "dataset_rows=1000",
    "fidelity_starts=4", "fidelity_horizon=3", "ensemble.dynamics.max_updates=4", "ensemble.dynamics.check_every=2",
    "ensemble.rollouts=8",
)  # fmt: skip


class Recording:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.logged.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


class Raising(Recording):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        raise ValueError("disk full")


class Hanging(Recording):
    def __init__(self, until: threading.Event) -> None:
        super().__init__()
        self.until = until

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.until.wait()


def unreachable() -> Recording:
    raise ConnectionError("no route to host")


def leaving() -> Recording:
    raise SystemExit("not logged in")


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Set only when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "PATIENCE", 0.2)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, start: Callable[[], Recording] | None) -> list[list[str]]:
    """The two cells of the suite, observed by what `start` makes; their records, costs apart."""
    specs = cells(load_suite("smoke", TINY))
    store = ResultStore(folder)
    if start is not None:
        monkeypatch.setitem(trackers.TRACKERS, "tensorboard", lambda spec, place: start())
    tracker = None if start is None else "tensorboard"
    assert matrix.run_missing(specs, store, torch.device("cpu"), None, matrix.local, tracker) == 0
    found = store.cells()
    assert len(found) == 2
    assert all(cell.done == (0, 1) for cell in found)
    return [[record.line() for record in cell.records if not record.metric.startswith("cost/")] for cell in found]


def test_numbers_are_the_same_and_the_tracker_is_told_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Recording] = []

    def start() -> Recording:
        seen.append(Recording())
        return seen[-1]

    plain = run(monkeypatch, tmp_path / "plain", None)
    assert run(monkeypatch, tmp_path / "tracked", start) == plain
    assert len(seen) == 2
    assert all(tracker.closed for tracker in seen)
    assert "given up" not in capsys.readouterr().err
    for cell, tracker in zip(cells(load_suite("smoke", TINY)), seen, strict=True):
        steps = [step for step, _ in tracker.logged]
        assert steps == sorted(steps)
        told = {(step, name): value for step, values in tracker.logged for name, value in values.items()}
        (stored,) = [other for other in ResultStore(tmp_path / "tracked").cells() if other.cell_id == cell.cell_id]
        for seed, step, metric, value, _ in stored.records:
            if value is not None:
                assert told[step, f"seed{seed}/{metric}"] == value, metric
        one, two = (told[6, f"seed{seed}/return"] for seed in (0, 1))
        assert one != two
        assert told[6, "return"] == pytest.approx((one + two) / 2)


@pytest.mark.parametrize(
    ("start", "problem"),
    [
        (unreachable, "ConnectionError: no route to host"),
        (Raising, "ValueError: disk full"),
        (leaving, "SystemExit: not logged in"),
    ],
)
def test_a_tracker_that_fails_is_given_up_with_one_line_per_cell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    start: Callable[[], Recording],
    problem: str,
) -> None:
    plain = run(monkeypatch, tmp_path / "plain", None)
    assert run(monkeypatch, tmp_path / "tracked", start) == plain
    lines = [line for line in capsys.readouterr().err.splitlines() if "given up" in line]
    assert len(lines) == 2
    assert all(line.endswith(problem) and "tracker tensorboard" in line for line in lines)
    assert lines[0].startswith("[1/2] toy/linear none")
    assert lines[1].startswith("[2/2] toy/linear ensemble")


def test_a_tracker_that_hangs_is_given_up_at_the_end_of_the_cell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    never: threading.Event,
    quick: None,
) -> None:
    plain = run(monkeypatch, tmp_path / "plain", None)
    assert run(monkeypatch, tmp_path / "tracked", lambda: Hanging(never)) == plain
    lines = [line for line in capsys.readouterr().err.splitlines() if "given up" in line]
    assert len(lines) == 2
    assert all("it has not closed within 0.2 s" in line for line in lines)


def test_a_tracker_that_falls_behind_delays_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], never: threading.Event
) -> None:
    monkeypatch.setattr(trackers, "ROOM", 3)
    started = time.monotonic()
    with trackers.observed("cell", lambda: Hanging(never)) as observe:
        for step in range(100):
            observe([Record(0, step, "return", 1.0)])
    assert time.monotonic() - started < trackers.PATIENCE  # nobody waited for it, not even at the end
    assert capsys.readouterr().err == "cell is given up, the run goes on: it is 3 messages behind\n"


def test_means_are_over_the_seeds_that_have_a_value() -> None:
    seen = Recording()
    with trackers.observed("cell", lambda: seen) as observe:
        observe([Record(0, 5, "a", 1.0), Record(7, 5, "a", 2.0), Record(0, 5, "b", None), Record(7, 5, "b", math.inf)])
        observe([])
    assert seen.logged == [
        (5, {"a": 1.5, "b": math.inf, "seed0/a": 1.0, "seed7/a": 2.0, "seed7/b": math.inf}),
    ]


def test_a_cell_that_fails_closes_its_tracker() -> None:
    seen = Recording()
    with pytest.raises(ArithmeticError), trackers.observed("cell", lambda: seen):
        raise ArithmeticError
    assert seen.closed


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """A module of that name, as if installed."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def first() -> RunSpec:
    return cells(load_suite("smoke", TINY))[0]


@pytest.mark.parametrize(("variable", "mode"), [(None, "offline"), ("online", "online"), ("", "offline")])
def test_wandb_gets_name_configuration_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, mode: str
) -> None:
    calls: list[Any] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            calls.append((step, values))

        def finish(self) -> None:
            calls.append("finished")

    def init(**arguments: Any) -> Run:
        assert Path(arguments["dir"]).is_dir()
        calls.append(arguments)
        return Run()

    fake(monkeypatch, "wandb", init=init, Settings=lambda **settings: settings)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    trackers.require_tracker("wandb")
    with trackers.tracking("wandb", "cell", first(), tmp_path) as observe:
        assert observe is not None
        observe([Record(0, 3, "return", 2.0)])
    arguments, *rest = calls
    assert (arguments["project"], arguments["name"]) == ("rolloutbench", first().cell_id)
    assert (arguments["dir"], arguments["mode"]) == (str(tmp_path / "tracker"), mode)
    assert arguments["config"]["task"] == "toy/linear"
    assert arguments["config"]["seeds"] == [0, 1]
    assert rest == [(3, {"return": 2.0, "seed0/return": 2.0}), "finished"]


def test_tensorboard_gets_a_folder_per_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            calls.append(folder)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def close(self) -> None:
            calls.append("closed")

    fake(monkeypatch, "tensorboard")
    fake(monkeypatch, "torch.utils.tensorboard", SummaryWriter=Writer)
    trackers.require_tracker("tensorboard")
    with trackers.tracking("tensorboard", "cell", first(), tmp_path) as observe:
        assert observe is not None
        observe([Record(1, 3, "return", 2.0)])
    folder = str(tmp_path / "tracker" / first().cell_id)
    assert calls == [folder, ("return", 2.0, 3), ("seed1/return", 2.0, 3), "closed"]


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_not_installed_is_named_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    assert run_bench.main(["run", "smoke", "--tracker", name, "--out", "out"]) == 2
    message = f"--tracker {name} needs the package {name}: pip install rolloutbench[{name}]"
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_hands_the_tracker_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Path, Recording]] = []

    def start(spec: RunSpec, place: Path) -> Recording:
        seen.append((spec.cell_id, place, Recording()))
        return seen[-1][2]

    fake(monkeypatch, "wandb")
    monkeypatch.setitem(trackers.TRACKERS, "wandb", start)
    monkeypatch.chdir(tmp_path)
    command = ["run", "smoke", "--set", *TINY[1:], 'generators=["none"]', "--jobs", "1", "--out", "out"]
    assert run_bench.main([*command, "--tracker", "wandb"]) == 0
    ((cell_id, place, tracker),) = seen
    assert cell_id == first().cell_id
    assert place == Path("out/tracker")
    assert tracker.closed
    assert tracker.logged


def test_an_unknown_tracker_is_told_the_nearest_one() -> None:
    with pytest.raises(trackers.SpecError, match="tracker must be one of tensorboard, wandb, got 'wandbb'; did you"):
        trackers.require_tracker("wandbb")
