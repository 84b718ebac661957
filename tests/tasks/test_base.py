"""Names of tasks: the folder of sources is the registry, and each source says what it offers."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from core.errors import SpecError
from tasks import base, sources
from tasks.audit import examine
from tasks.base import (
    SOURCES,
    DataOptions,
    Source,
    episode_length,
    find_source,
    load_source,
    load_task,
    task_names,
    termination_known,
)
from tasks.simulators.base import Simulator
from tasks.sources import toy


def test_every_file_of_the_folder_is_a_source() -> None:
    files = {path.stem for path in Path(sources.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(SOURCES) == files


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_what_it_offers(name: str) -> None:
    assert isinstance(load_source(name), Source)


@pytest.mark.parametrize("name", [name for name in task_names() if not name.startswith("minari/")])
def test_every_task_has_its_name_and_a_simulator(name: str) -> None:
    task = load_task(name, DataOptions())
    assert task.name == name
    assert isinstance(task.simulator, Simulator)


def test_the_length_of_episodes_is_known_without_remote_data() -> None:
    assert episode_length("local/maze2d-umaze", DataOptions()) == 300
    assert episode_length("minari/nobody/has-v0", DataOptions()) is None


def test_a_termination_rule_is_known_without_remote_data() -> None:
    for name in ("local/hopper-medium", "d4rl/walker2d-medium-v2", "local/maze2d-umaze", "toy/linear"):
        assert termination_known(name, DataOptions()) is True
    assert termination_known("minari/nobody/has-v0", DataOptions()) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tyo/linear", "did you mean 'toy/linear'"),
        ("toy", "task must be one of"),
        ("toy/linaer", "toy dataset must be one of linear, got 'linaer'"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        find_source(name, DataOptions())


def test_a_new_source_is_a_module_with_names_and_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(dataset: str, options: DataOptions) -> base.Task:
        return replace(toy.load("linear", options), name=f"other/{dataset}")

    module = ModuleType("tasks.sources.other")
    module.SOURCE = Source(lambda: ["one"], load, sized=True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(base, "SOURCES", (*SOURCES, "other"))
    assert "other/one" in task_names()
    assert load_task("other/one", DataOptions(dataset_rows=100)).name == "other/one"


def test_a_dataset_has_at_least_one_row() -> None:
    for field in ("dataset_rows", "train_rows"):
        with pytest.raises(SpecError, match=f"{field} must be at least 1, got 0"):
            DataOptions(**{field: 0})


@pytest.mark.parametrize("name", ["d4rl/hopper-medium-v2", "minari/nobody/has-v0"])
@pytest.mark.parametrize("use", [find_source, load_task, episode_length, examine])
def test_a_set_that_is_read_from_a_file_has_its_own_size(name: str, use: Callable[..., object]) -> None:
    rule = f"dataset_rows must be left at 100000 for {name}, which has the rows of its file .see train_rows., got 99999"
    with pytest.raises(SpecError, match=rule):
        use(name, DataOptions(dataset_rows=99_999))
    find_source(name, DataOptions(dataset_rows=100_000))
