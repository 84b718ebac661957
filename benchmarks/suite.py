"""From a suite (TOML) with its overrides to the cells that it spans."""

import itertools
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from benchmarks.spec import Method, RunSpec, Settings, coupling
from core import registry
from core.config import STRICT, build_config, flat, merged
from core.errors import SpecError, unknown
from core.registry import build_method, load
from tasks.base import episode_length, find_source

__all__ = ["Suite", "cells", "load_suite", "matching", "suite_names"]

SUITES = Path(__file__).parent / "suites"
_FOLDERS = ("generators", "algorithms")


class Suite(BaseModel, **STRICT, frozen=True):
    """A matrix: lists of names, settings, fields of methods, and what to vary.

    In TOML, `generators` and `algorithms` may be "all" (every file of the folder, and plug-ins), and `preset` is where
    all methods begin that have a preset of this name. `coupling` names one of `COUPLINGS`, whose settings hold unless
    the suite sets them itself; varied, it may also be a table of these settings, and `label` is how reports call it.
    """

    tasks: list[str] = Field(min_length=1)
    generators: list[str] = Field(min_length=1)
    algorithms: list[str] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    settings: Settings
    methods: dict[str, dict[str, Any]]  # name of a generator or algorithm -> its fields
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]]  # "method.field", a setting, or a method -> values


def suite_names() -> list[str]:
    """Suites that come with the project."""
    return sorted(str(path.relative_to(SUITES).with_suffix("")) for path in SUITES.rglob("*.toml"))


def load_suite(
    name: str, overrides: Iterable[str] = (), seeds: int | None = None, imports: Iterable[str] = ()
) -> Suite:
    """A suite of ours, or any `.toml` file, with `key=value` overrides and, if given, seeds 0 .. seeds-1.

    An override of `extends` replaces the suite that this one builds on; the others replace what both say. `imports` are
    modules beside the suite's own.

    Raises:
        SpecError: the suite, a key or a value is not valid.
    """
    changes = [_override(text) for text in overrides]
    table = _file(name)
    table.update((key, value) for key, value in changes if key == "extends")
    table = _extended(table, (name,))
    for key, value in changes:
        if key != "extends":
            table = _with(table, key.split("."), value, key)
    if seeds is not None:
        if seeds < 1:
            raise SpecError(f"--seeds must be at least 1, got {seeds}")
        table["seeds"] = list(range(seeds))
    own = table.get("imports", [])
    if (modules := list(imports)) and isinstance(own, list):
        table["imports"] = list(dict.fromkeys([*own, *modules]))
    return _suite(table)


def cells(suite: Suite, data_dir: Path | None = None) -> list[RunSpec]:
    """Every cell once, in the order of the suite: a method without a varied field runs once, not once per value.

    Raises:
        SpecError: a task, a method, a field or a value is not valid; nothing has been started.
    """
    for name, fields in suite.methods.items():  # tables of methods that this matrix leaves out are checked, too
        for folder in _FOLDERS:
            if name in registry.available(folder):
                build_method(folder, name, fields)
    options = suite.settings.data_options(data_dir)
    horizons = {task: episode_length(task, options) for task in suite.tasks}
    found: dict[str, RunSpec] = {}
    for task, generator, algorithm in itertools.product(suite.tasks, suite.generators, suite.algorithms):
        for choice in _choices(suite.vary, (generator, algorithm)):
            spec = _cell(suite, task, generator, algorithm, choice)
            _require_length(spec, horizons[task])
            _require_real_rows(spec)
            find_source(task, spec.settings.data_options(data_dir))  # settings may vary
            found.setdefault(spec.cell_id, spec)
    return list(found.values())


def matching(specs: list[RunSpec], pattern: str) -> list[RunSpec]:
    """Cells whose 'task generator algorithm variant' matches, `*` standing for anything. Raises: SpecError."""
    names = [f"{spec.label} {spec.variant}" for spec in specs]
    found = [spec for spec, name in zip(specs, names, strict=True) if fnmatchcase(name, pattern)]
    if not found:
        raise SpecError(f"--cells must match at least one cell ({names[0]!r}, ...), got {pattern!r}")
    return found


def _require_length(spec: RunSpec, horizon: int | None) -> None:
    """A rollout is a piece of an episode. Raises: SpecError."""
    length = spec.generator.config.rollout_length
    if horizon is not None and length > horizon:
        rule = f"should be at most {horizon}, the steps of an episode of {spec.task}"
        raise SpecError(f"{spec.generator.name}.rollout_length {rule}, got {length}")


def _require_real_rows(spec: RunSpec) -> None:
    """Behaviour terms of "real_only" are means over the real rows of a batch. Raises: SpecError."""
    settings = spec.settings
    size = spec.algorithm.config.batch_size
    if settings.regularise == "real_only" and round(settings.real_fraction * size) == 0:
        rule = f"must leave a real row in batches of {size} ({spec.algorithm.name}) where regularise is 'real_only'"
        raise SpecError(f"real_fraction {rule}, got {settings.real_fraction}")


def _file(name: str) -> dict[str, Any]:
    path = Path(name) if name.endswith(".toml") else SUITES / f"{name}.toml"
    try:
        found = path.is_file()
    except OSError:  # a name that is too long for any file
        found = False
    if not found:
        raise (
            SpecError(f"suite file {name} does not exist")
            if name.endswith(".toml")
            else unknown("suite", name, suite_names())
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SpecError(f"suite {name} is not valid TOML: {error}") from None


def _extended(table: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A suite's table on top of the one it `extends`, table by table; lists are replaced. `names`: itself, last."""
    parent = table.pop("extends", None)
    if parent is None:
        return table
    if not isinstance(parent, str) or parent in names:
        raise SpecError(f"extends must name another suite that does not extend this one, got {parent!r} in {names[-1]}")
    return merged(_extended(_file(parent), (*names, parent)), table)


def _suite(table: dict[str, Any]) -> Suite:
    axes: dict[str, Any] = {
        key: table.pop(key) for key in ("tasks", "generators", "algorithms", "seeds", "vary") if key in table
    }
    for folder in _FOLDERS:
        if axes.get(folder) == "all":
            axes[folder] = registry.available(folder)
    names = {name for folder in _FOLDERS for name in _strings(axes.get(folder))}
    known = names.union(*(registry.available(folder) for folder in _FOLDERS))
    preset = table.pop("preset", None)
    if "coupling" in table:
        table = coupling(str(table.pop("coupling"))) | table
    methods = {key: table.pop(key) for key in list(table) if key in known}
    for key in table:
        if key not in Settings.model_fields:
            keys = {*Settings.model_fields, *Suite.model_fields, *known, "coupling", "preset"}
            raise unknown("suite key", key, keys - {"settings", "methods"})
    for key, value in {**methods, "vary": axes.get("vary", {})}.items():
        if not isinstance(value, dict):
            raise SpecError(f"{key} must be a table, got {value!r}")
    if preset is not None:
        if not isinstance(preset, str):
            raise SpecError(f"preset must be text, got {preset!r}")
        methods = _with_preset(methods, preset, axes)
    settings = build_config(Settings, table, "")
    vary = dict(flat(axes.pop("vary", {})))
    suite: Suite = build_config(
        Suite, {**axes, "settings": settings.model_dump(), "methods": methods, "vary": vary}, ""
    )
    for axis in ("tasks", "generators", "algorithms", "seeds"):
        values = getattr(suite, axis)
        if len(set(values)) < len(values):
            raise SpecError(f"{axis} must not repeat a value, got {values}")
    for key in vary:
        head, dot, _ = key.partition(".")
        if not dot and key not in {*Settings.model_fields, "coupling", *names}:
            raise unknown("varied key", key, {*Settings.model_fields, "coupling"})
        if key in names and not all(isinstance(value, dict) for value in vary[key]):
            raise SpecError(f"vary.{key} must be a list of tables of its fields, got {vary[key]!r}")
        if dot and head not in names:
            raise unknown(f"varied key {key!r}: method of this suite", head, names)
    return suite


def _with_preset(methods: dict[str, Any], preset: str, axes: dict[str, Any]) -> dict[str, Any]:
    """The tables of all methods of the matrix that have this preset, begun with it; a table's own `preset` wins."""
    known = {name for folder in _FOLDERS for kind in registry.loadable(folder) for name in kind.presets}
    found = {name: load(folder, name).presets for folder in _FOLDERS for name in _strings(axes.get(folder))}
    if preset not in known.union(*found.values()):
        raise unknown("preset", str(preset), known)
    begun = {name: {"preset": preset, **methods.get(name, {})} for name, presets in found.items() if preset in presets}
    return {**methods, **begun}


def _strings(values: Any) -> list[str]:
    """The names in what may not be a list of names: `Suite` complains about the others."""
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _choices(vary: dict[str, list[Any]], methods: tuple[str, str]) -> Iterator[dict[str, Any]]:
    known = {*Settings.model_fields, "coupling", *methods}
    relevant = {key: values for key, values in vary.items() if key.partition(".")[0] in known}
    for values in itertools.product(*relevant.values()):
        yield dict(zip(relevant, values, strict=True))


def _cell(suite: Suite, task: str, generator: str, algorithm: str, choice: dict[str, Any]) -> RunSpec:
    methods = {name: dict(suite.methods.get(name, {})) for name in (generator, algorithm)}
    settings = suite.settings.model_dump()
    if "coupling" in choice:  # first: a setting that is varied as well has the last word
        settings |= coupling(_unlabelled(choice["coupling"]))
    words = list[str]()
    for key, value in choice.items():
        head, dot, field = key.partition(".")
        if dot:
            methods[head] = _with(methods[head], field.split("."), value, key)
        elif head in methods:
            methods[head] = merged(methods[head], _unlabelled(value))
        elif head != "coupling":
            settings[key] = value
        if isinstance(value, dict) and not dot:
            words.append(_label(key, value))
        else:
            words.append(f"{key.removeprefix(f'{generator}.')}={value}")
    return RunSpec(
        task,
        Method(generator, build_method("generators", generator, methods[generator])),
        Method(algorithm, build_method("algorithms", algorithm, methods[algorithm])),
        build_config(Settings, settings, ""),
        tuple(suite.seeds),
        ", ".join(words) or "default",
    )


def _unlabelled(choice: Any) -> Any:
    """A table without its label; other values as they are."""
    return {name: x for name, x in choice.items() if name != "label"} if isinstance(choice, dict) else choice


def _label(key: str, table: dict[str, Any]) -> str:
    """How reports call several fields at once. Raises: SpecError."""
    if not isinstance(table.get("label", ""), str):
        raise SpecError(f"vary.{key}.label must be text, got {table['label']!r}")
    fields = _unlabelled(table).items()
    return table.get("label") or ", ".join(f"{name}={x}" for name, x in fields) or "default"


def _override(override: str) -> tuple[str, Any]:
    """Key and value of `key=value`; what is no TOML value is a string."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise SpecError(f"--set must be key=value, got {override!r}")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return key, text.strip()


def _with(table: dict[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """A copy of `table` with `value` at `path`."""
    head, *rest = path
    if not rest:
        return {**table, head: value}
    inner = table.get(head, {})
    if not isinstance(inner, dict):
        raise SpecError(f"{key}: {head} must be a table to have the field {rest[0]!r}, got {inner!r}")
    return {**table, head: _with(inner, rest, value, key)}
