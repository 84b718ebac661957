"""Other people's code, run from checkouts that are given by path: none of it is in this repository.

Nothing but the standard library here: the JAX peer's own interpreter imports this file, too.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["NAMES", "NotThereError", "checkout", "commit", "folder", "load"]

NAMES = ("CORL", "OfflineRL-Kit", "unifloral", "DyDiff")  # sub-folders of the folder of peers


class NotThereError(Exception):
    """Something that a comparison needs is not on this machine; the text can stand in a table."""

    def __init__(self, needs: str = "") -> None:
        super().__init__(f"not there: needs {needs}" if needs else "not there")


def folder(asked: Path | None) -> Path | None:
    """The folder of checkouts: what was asked for, else `$ROLLOUTBENCH_PEERS`."""
    known = os.environ.get("ROLLOUTBENCH_PEERS")
    return asked or (Path(known) if known else None)


def checkout(peers: Path | None, name: str) -> Path:
    """Where a peer's code lies.

    Raises:
        NotThereError: there is no such folder.
    """
    if peers is None or not (peers / name).is_dir():
        raise NotThereError
    return peers / name


def commit(root: Path) -> str | None:
    """Of a checkout; None if it is not one, or without git."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def load(file: Path, stubs: Iterable[str] = (), submodules: Iterable[str] = ()) -> ModuleType:
    """The module in a file, executed; of a package (its `__init__.py`) the named submodules are imported as well.

    Modules named in `stubs` are replaced while it is loaded: what is imported from them can be called, subclassed and
    used as a decorator, and does nothing. Afterwards `sys.modules` knows neither the stubs nor what was loaded.

    Raises:
        NotThereError: the file does not exist, or imports something that is neither installed nor a stub.
    """
    if not file.is_file():
        raise NotThereError(file.name)
    package = file.name == "__init__.py"
    name = file.parent.name if package else file.stem
    spec = spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)] if package else None)
    if spec is None or spec.loader is None:
        raise ValueError(f"file must be Python source, got {file}")
    module = module_from_spec(spec)
    stubs = list(stubs)
    with _restored([name, *stubs]):
        sys.modules.update({stub: _Stub(stub) for stub in stubs} | {name: module})
        try:
            spec.loader.exec_module(module)
            for submodule in submodules:
                import_module(f"{name}.{submodule}")
        except ModuleNotFoundError as error:
            raise NotThereError(error.name or str(error)) from error
    return module


@contextmanager
def _restored(names: list[str]) -> Iterator[None]:
    """Take these modules and all below them out of `sys.modules`, and put them back at the end."""

    def concerned() -> dict[str, ModuleType]:
        below = tuple(f"{name}." for name in names)
        return {name: module for name, module in sys.modules.items() if name in names or name.startswith(below)}

    before = concerned()
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in concerned():
            del sys.modules[name]
        sys.modules.update(before)


class _Nothing(type):
    """A class that is its own attribute and its own result, except that as a decorator it changes nothing."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *given: Any, **named: Any) -> Any:
        return given[0] if given and callable(given[0]) else cls


class _Anything(metaclass=_Nothing):
    pass


class _Stub(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything
