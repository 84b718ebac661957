"""The folder is the registry: a name is a file, its class the first name in the file's `__all__`.

A plug-in outside the tree is named by `module:Class`, or by an entry point in the group `rolloutbench.<folder>`.
Modules with environments of the user's own are named, too, or stand in the group `rolloutbench.environments`.
"""

import hashlib
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from core.config import adapter, build_config, merged
from core.errors import SpecError, in_one_line, unknown

__all__ = [
    "available",
    "build_method",
    "environment_modules",
    "import_modules",
    "load",
    "loadable",
    "module_digests",
]

_ROOT = Path(__file__).resolve().parent.parent
_NOT_METHODS = {"__init__", "base"}


def available(folder: str) -> list[str]:
    """Names that `load` knows in `generators` or `algorithms`, plug-ins among them."""
    files = {path.stem for path in (_ROOT / folder).glob("*.py")} - _NOT_METHODS
    return sorted(files | {entry.name for entry in _plugins(folder)})


def loadable(folder: str) -> list[type[Any]]:
    """The classes behind all names that can be imported."""
    found = []
    for name in available(folder):
        with suppress(SpecError):
            found.append(load(folder, name))
    return found


def load(folder: str, name: str) -> type[Any]:
    """The class behind a name.

    Raises:
        SpecError: no such name, or its module cannot be imported, whatever the reason.
    """
    if ":" not in name and name not in available(folder):
        raise unknown(folder.removesuffix("s"), name, available(folder))
    try:
        found = _imported(folder, name)
    except Exception as error:  # a module can fail in any way; the other modules stay usable
        reason = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise SpecError(f"{folder} plug-in {name!r} cannot be imported: {reason}") from error
    if not isinstance(found, type):
        raise SpecError(f"{folder} plug-in {name!r} must be a class, got {type(found).__name__}")
    if not is_dataclass(found):
        raise SpecError(f"{folder} plug-in {name!r} must be a dataclass, got {found.__name__}")
    base = getattr(import_module(f"{folder}.base"), folder.removesuffix("s").capitalize())
    if not issubclass(found, base):
        rule = f"must derive from {base.__module__}.{base.__name__}"
        raise SpecError(f"{folder} plug-in {name!r} {rule}, got {found.__name__}")
    if missing := _undefined(found, base):
        raise SpecError(f"{folder} plug-in {name!r} must define {', '.join(missing)}, missing in {found.__name__}")
    return found


def build_method(folder: str, name: str, fields: dict[str, Any]) -> Any:
    """A generator or an algorithm by name; `fields` may name a `preset`, which others refine. Raises: SpecError."""
    kind = load(folder, name)
    fields = dict(fields)
    preset = fields.pop("preset", None)
    presets = kind.presets
    if preset is not None:
        if not isinstance(preset, str) or preset not in presets:
            raise unknown(f"{name}.preset", str(preset), presets)
        fields = merged(presets[preset], fields)
    return build_config(kind, merged(_tables(kind), fields), name)


def import_modules(names: Iterable[str]) -> None:
    """Import modules that the user has named, which may register environments with gymnasium.

    Raises:
        SpecError: one is no name of a module, or cannot be imported, whatever the reason.
    """
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise SpecError(f"imports must be names of modules such as 'package.module', got {name!r}")
        try:
            import_module(name)
        except Exception as error:  # a module can fail in any way
            reason = str(error) if isinstance(error, ImportError) else in_one_line(error)
            rule = "must be a module that can be imported (a folder is added by PYTHONPATH=FOLDER)"
            raise SpecError(f"imports: {name!r} {rule}: {reason}") from error


def environment_modules() -> list[str]:
    """Modules that installed packages declare as environments of the user's."""
    return sorted({entry.module for entry in _plugins("environments")})


def module_digests(names: Iterable[str]) -> dict[str, str]:
    """sha256 of the source of imported modules, of a package with all its modules; by name."""
    found = {}
    for name in sorted(names):
        module = sys.modules[name]
        files = [path for folder in getattr(module, "__path__", ()) for path in sorted(Path(folder).rglob("*.py"))]
        if not files and getattr(module, "__file__", None):
            files = [Path(str(module.__file__))]
        found[name] = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return found


def _tables(kind: type[Any]) -> dict[str, Any]:
    """The default of every field that is a table itself: who names one of its fields leaves the others as they are."""
    defaults = {field.name: field.default for field in dataclass_fields(kind) if is_dataclass(field.default)}
    return {name: adapter(type(default)).dump_python(default, mode="json") for name, default in defaults.items()}


def _undefined(kind: type[Any], base: type[Any]) -> list[str]:
    """Names that the base class demands and `kind` neither inherits nor has as a field."""
    named = {field.name for field in dataclass_fields(kind)}
    demanded = {name for name in base.__annotations__ if not hasattr(kind, name)}
    return sorted((demanded - named) | kind.__abstractmethods__)


def _imported(folder: str, name: str) -> Any:
    if ":" in name:
        module, _, attribute = name.partition(":")
        return getattr(import_module(module), attribute)
    for entry in _plugins(folder):
        if entry.name == name:
            return entry.load()
    module_ = import_module(f"{folder}.{name}")
    return getattr(module_, module_.__all__[0])


@cache
def _plugins(folder: str) -> list[EntryPoint]:
    """Those of installed packages; looking for them opens a file for every package."""
    return list(entry_points(group=f"rolloutbench.{folder}"))
