"""Names of tasks: the folder of sources is the registry, and each source says what it offers."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from core.errors import SpecError
from tasks import base, sources
from tasks.base import SOURCES, DataOptions, Source, episode_length, find_source, load_source, load_task, task_names
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
        find_source(name)


def test_a_new_source_is_a_module_with_names_and_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(dataset: str, options: DataOptions) -> base.Task:
        return replace(toy.load("linear", options), name=f"other/{dataset}")

    module = ModuleType("tasks.sources.other")
    module.SOURCE = Source(lambda: ["one"], load)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(base, "SOURCES", (*SOURCES, "other"))
    assert "other/one" in task_names()
    assert load_task("other/one", DataOptions(dataset_rows=100)).name == "other/one"


def test_a_dataset_has_at_least_one_row() -> None:
    with pytest.raises(SpecError, match="dataset_rows must be at least 1, got 0"):
        DataOptions(dataset_rows=0)
