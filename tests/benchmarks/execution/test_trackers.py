"""A tracker gets every number and changes none, whatever it does."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import run_bench
from benchmarks.execution import matrix, trackers
from benchmarks.records import Record
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite

Cells = Callable[..., list[RunSpec]]
Numbers = Callable[[list[Record]], list[str]]
Run = Callable[[str, Callable[[], "Recording"] | None], list[list[str]]]


class Recording:
    """A tracker that keeps what it gets."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.logged.append((step, dict(values)))

    @contextmanager
    def start(self, spec: RunSpec, folder: Path) -> Iterator[trackers.Log]:
        try:
            yield self.log
        finally:
            self.closed = True


class RaisingOnLog(Recording):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        raise ValueError("disk full")


class RaisingOnClose(Recording):
    @contextmanager
    def start(self, spec: RunSpec, folder: Path) -> Iterator[trackers.Log]:
        yield self.log
        raise ValueError("cannot be closed")


class Unreachable(Recording):
    def start(self, spec: RunSpec, folder: Path) -> Any:
        raise ConnectionError("no route to host")


class Leaving(Recording):
    def start(self, spec: RunSpec, folder: Path) -> Any:
        raise SystemExit("not logged in")


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_cells: Cells,
    numbers: Numbers,
) -> Run:
    """`run(folder, make)`: two cells, with a tracker each; their records, costs apart."""

    def call(folder: str, make: Callable[[], Recording] | None) -> list[list[str]]:
        store = ResultStore(tmp_path / folder)
        if make is not None:
            monkeypatch.setitem(trackers.TRACKERS, "tensorboard", lambda spec, place: make().start(spec, place))
        tracker = None if make is None else "tensorboard"
        assert matrix.run_missing(tiny_cells(), store, torch.device("cpu"), None, matrix.local, tracker) == 0
        found = store.cells()
        assert [cell.done for cell in found] == [(0, 1), (0, 1)]
        return [numbers(cell.records) for cell in found]

    return call


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """The tracker called wandb."""
    tracker = Recording()
    monkeypatch.setitem(trackers.TRACKERS, "wandb", tracker.start)
    return tracker


def tracked(folder: Path) -> Any:
    return trackers.tracking("wandb", "cell", first(), folder)


def test_a_tracker_gets_all_numbers_and_changes_none(
    tmp_path: Path, run: Run, tiny_cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Recording] = []

    def make() -> Recording:
        made.append(Recording())
        return made[-1]

    plain = run("plain", None)
    assert run("tracked", make) == plain
    assert [tracker.closed for tracker in made] == [True, True]
    assert "given up" not in capsys.readouterr().err
    store = ResultStore(tmp_path / "tracked")
    for spec, tracker in zip(tiny_cells(), made, strict=True):
        steps = [step for step, _ in tracker.logged]
        assert steps == sorted(steps)
        told = {(step, name): value for step, values in tracker.logged for name, value in values.items()}
        for seed, step, metric, value, horizon in store.cell(spec.cell_id).records:
            name = metric if horizon is None else f"{metric}/{horizon}"
            if value is not None:
                assert told[step, f"seed{seed}/{name}"] == value, name
        one = told[6, "seed0/return"]
        two = told[6, "seed1/return"]
        assert one != two
        assert told[6, "return"] == pytest.approx((one + two) / 2)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Unreachable, "ConnectionError: no route to host"),
        (RaisingOnLog, "ValueError: disk full"),
        (RaisingOnClose, "ValueError: cannot be closed"),
        (Leaving, "SystemExit: not logged in"),
    ],
)
def test_a_failing_tracker_is_given_up_with_one_line_per_cell(
    run: Run, capsys: pytest.CaptureFixture[str], kind: type[Recording], problem: str
) -> None:
    plain = run("plain", None)
    assert run("tracked", kind) == plain
    lines = [line for line in capsys.readouterr().err.splitlines() if "given up" in line]
    assert [line.startswith(f"[{number}/2] toy/linear") for number, line in enumerate(lines, 1)] == [True, True]
    assert all(line.endswith(f"tracker tensorboard is given up, the run continues: {problem}") for line in lines)


def test_means_are_over_the_seeds_that_have_a_value(tmp_path: Path, seen: Recording) -> None:
    with tracked(tmp_path) as observe:
        observe([Record(0, 5, "a", 1.0), Record(7, 5, "a", 2.0), Record(0, 5, "b", None), Record(7, 5, "b", math.inf)])
        observe([])
    assert seen.logged == [
        (5, {"a": 1.5, "b": math.inf, "seed0/a": 1.0, "seed7/a": 2.0, "seed7/b": math.inf}),
    ]


def test_a_cell_that_fails_closes_its_tracker(tmp_path: Path, seen: Recording) -> None:
    with pytest.raises(ArithmeticError), tracked(tmp_path):
        raise ArithmeticError
    assert seen.closed


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """A module of that name, as if installed."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def first() -> RunSpec:
    return cells(load_suite("smoke"))[0]


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

        def __enter__(self) -> "Writer":
            return self

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def __exit__(self, *error: Any) -> None:
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
def test_a_missing_package_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    assert run_bench.main(["run", "smoke", "--tracker", name, "--out", "out"]) == 2
    message = f"--tracker {name} needs the package {name}: pip install -e .[{name}]"
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_hands_the_tracker_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Recording, tiny: tuple[str, ...]
) -> None:
    fake(monkeypatch, "wandb")
    monkeypatch.chdir(tmp_path)
    command = ["run", "smoke", "--set", *tiny[1:], 'generators=["none"]', "--jobs", "1", "--out", "out"]
    assert run_bench.main([*command, "--stall-minutes", "0", "--tracker", "wandb"]) == 0  # in this process
    assert seen.closed
    assert seen.logged


def test_an_unknown_tracker_gives_the_nearest_name() -> None:
    with pytest.raises(trackers.SpecError, match="tracker must be one of tensorboard, wandb, got 'wandbb'; did you"):
        trackers.require_tracker("wandbb")
