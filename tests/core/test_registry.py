import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from core import registry
from core.errors import SpecError

PLAIN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    rollouts: int = 1
"""
PARTIAL = """
from dataclasses import dataclass
from generators.base import Generator

@dataclass(frozen=True)
class Mine(Generator):
    rollout_length: int = 1
"""


def test_every_name_loads_a_class_with_a_docstring() -> None:
    for folder in ("generators", "algorithms"):
        names = registry.available(folder)
        assert names
        assert all(registry.load(folder, name).__doc__ for name in names)


def test_a_plug_in_is_named_by_module_and_class() -> None:
    assert registry.load("generators", "generators.none:RealOnly") is registry.load("generators", "none")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("class Mine(", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError: "),
        ("Mine = 3", "must be a class, got int"),
        (PLAIN, "must derive from generators.base.Generator, got Mine"),
        (PARTIAL, "must define fit, refresh_every, rollouts, missing in Mine"),
    ],
)
def test_a_broken_plug_in_is_named_and_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    (tmp_path / "broken_plug_in.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_plug_in", raising=False)
    entry = EntryPoint("broken", "broken_plug_in:Mine", "rolloutbench.generators")
    monkeypatch.setattr(registry, "_plugins", lambda folder: [entry])
    assert {"broken", "none"} < set(registry.available("generators"))
    assert registry.load("generators", "none").__name__ == "RealOnly"
    for name in ("broken", "broken_plug_in:Mine"):
        with pytest.raises(SpecError, match=f"generators plug-in '{name}' .*{reason}"):
            registry.load("generators", name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ensembel", "generator must be one of .*got 'ensembel'; did you mean 'ensemble'"),
        ("no_such_module:X", "cannot be imported: No module named 'no_such_module'"),
        ("generators.none:Missing", "cannot be imported"),
        ("generators.none:__all__", "must be a class, got list"),
        ("builtins:int", "must be a dataclass, got int"),
        (":X", "cannot be imported: ValueError: Empty module name"),
        (".none:X", "cannot be imported"),
    ],
)
def test_what_cannot_be_loaded_is_named(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        registry.load("generators", name)


def test_packages_declare_modules_with_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("drift", "field_envs.drift", "rolloutbench.environments")
    monkeypatch.setattr(registry, "_plugins", lambda folder: [entry] if folder == "environments" else [])
    assert registry.environment_modules() == ["field_envs.drift"]
    assert "field_envs" not in sys.modules  # their code is run where a data set needs it
