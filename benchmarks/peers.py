"""Other people's code, run from checkouts that are given by path: none of it is in this repository.

Only the standard library is imported here, so that a peer's own interpreter can import this file, too.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["NotThereError", "Peers", "Stub", "commit", "load"]


class NotThereError(Exception):
    """Something that a comparison needs is not on this machine; the text can stand in a table."""

    def __init__(self, needs: str = "") -> None:
        super().__init__(f"not there: needs {needs}" if needs else "not there")


class Peers:
    """Loads peers from sub-folders of one folder, and remembers their commits and who was not there."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.commits: dict[str, str | None] = {}
        self.not_there: dict[str, str] = {}

    def get(self, name: str, load: Callable[[Path], Any], turns: Sequence[str] = ()) -> Any:
        """What `load` makes of the peer's checkout, or None; `turns` are its names where not its own."""
        try:
            if self.folder is None or not (self.folder / name).is_dir():
                raise NotThereError
            found = load(self.folder / name)
        except NotThereError as error:
            self.commits[name] = None
            self.not_there |= dict.fromkeys(turns or [name], str(error))
            return None
        self.commits[name] = commit(self.folder / name)
        return found

    def record(self) -> dict[str, Any]:
        """For the json file."""
        return {"peers": self.commits, "not_there": self.not_there}


def commit(checkout: Path) -> str | None:
    """Of the checkout; None where it is none."""
    said = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or None


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
        sys.modules.update({stub: Stub(stub) for stub in stubs} | {name: module})
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
    below = tuple(f"{name}." for name in names)

    def concerned() -> dict[str, ModuleType]:
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


class Stub(ModuleType):
    """A module of which everything can be imported, called, subclassed and used as a decorator; it does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything
