"""What to run: a suite (TOML) expands to cells, and a cell's specification is the whole truth about it."""

import hashlib
import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from core import registry
from core.config import STRICT, Count, Inner, Share, adapter, build_config, flat
from core.errors import SpecError, unknown
from core.files import canonical_json
from tasks.base import DataOptions, episode_length
from tasks.layout import View

__all__ = [
    "Method",
    "RunSpec",
    "Settings",
    "Suite",
    "cell_id",
    "cells",
    "load_suite",
    "method",
    "restore",
    "suite_names",
]

SUITES = Path(__file__).parent / "suites"
_FOLDERS = ("generators", "algorithms")


Compile = Literal["never", "auto", "always"]


class Settings(BaseModel, **STRICT, frozen=True):
    """Everything a cell shares with the others of its suite, whatever its methods."""

    updates: Count = 20_000  # gradient steps, the same for every generator
    real_fraction: Share = 0.5  # alpha: share of every batch that is real data
    evaluate_every: Count = 1000  # updates between evaluations
    episodes: Count = 10  # of every evaluation, per seed
    fidelity_starts: Count = 256  # held-out states from which rollouts are judged
    fidelity_horizon: Count = 50  # steps of those rollouts
    buffer_rows: Count = 500_000  # newest synthetic rows kept, per seed
    shared_models: bool = False  # one pretrained model for all seeds: cheap, hides variance
    dataset_rows: Count = 100_000  # size of sets that are made here (local/, toy/)
    heldout: Inner = 0.1  # share of the episodes kept back from all training
    view: View = "episodes"  # how rows become transitions: tasks/layout.py
    compile: Compile = "never"  # torch.compile on a CPU; "auto": where it pays. Seeds then agree to rounding only

    def data_options(self, data_dir: Path | None) -> DataOptions:
        """The part that concerns data."""
        return DataOptions(data_dir, self.dataset_rows, self.heldout, self.view)


class Suite(BaseModel, **STRICT, frozen=True):
    """A matrix: lists of names, settings, fields of methods, and what to vary."""

    tasks: list[str] = Field(min_length=1)
    generators: list[str] = Field(min_length=1)
    algorithms: list[str] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    settings: Settings
    methods: dict[str, dict[str, Any]]  # name of a generator or algorithm -> its fields
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]]  # "method.field", a setting, or a method -> values


@dataclass(frozen=True)
class Method:
    """A generator or an algorithm, by the name it was asked for, with all its fields."""

    name: str
    config: Any

    def describe(self) -> dict[str, Any]:
        """As JSON: the name and every field, defaults written out."""
        fields: dict[str, Any] = adapter(type(self.config)).dump_python(self.config, mode="json")
        return {"name": self.name, **fields}


@dataclass(frozen=True)
class RunSpec:
    """One cell of the matrix."""

    task: str
    generator: Method
    algorithm: Method
    settings: Settings
    seeds: tuple[int, ...]
    variant: str = "default"  # how tables call it; says what a suite varies

    def describe(self) -> dict[str, Any]:
        """Everything that determines the cell's numbers, seeds apart, as JSON."""
        return {
            "task": self.task,
            "generator": self.generator.describe(),
            "algorithm": self.algorithm.describe(),
            "settings": self.settings.model_dump(mode="json"),
        }

    @property
    def cell_id(self) -> str:
        """`cell_id` of `describe()`."""
        return cell_id(self.describe())


def cell_id(described: Mapping[str, Any]) -> str:
    """The folder's name of what `RunSpec.describe` returned: readable words, then a hash of all of it."""
    digest = hashlib.sha256(canonical_json(described).encode()).hexdigest()[:12]
    words = (described["task"], described["generator"]["name"], described["algorithm"]["name"])
    return "--".join("".join(c if c.isalnum() or c in "-_." else "-" for c in word) for word in (*words, digest))


def restore(described: Mapping[str, Any], seeds: Iterable[int], variant: str) -> RunSpec:
    """The opposite of `RunSpec.describe`.

    Raises:
        SpecError: a method or a field does not exist in this version.
    """
    methods = {}
    for folder, kind in (("generators", "generator"), ("algorithms", "algorithm")):
        name, fields = described[kind]["name"], {k: v for k, v in described[kind].items() if k != "name"}
        methods[kind] = Method(name, method(folder, name, fields))
    settings = build_config(Settings, described["settings"], "")
    return RunSpec(described["task"], methods["generator"], methods["algorithm"], settings, tuple(seeds), variant)


def suite_names() -> list[str]:
    """Suites that come with the project."""
    return sorted(str(path.relative_to(SUITES).with_suffix("")) for path in SUITES.rglob("*.toml"))


def load_suite(name: str, overrides: Iterable[str] = (), seeds: int | None = None) -> Suite:
    """A suite of ours, or any `.toml` file, with `key=value` overrides and, if given, seeds 0 .. seeds-1.

    Raises:
        SpecError: the suite, a key or a value is not valid.
    """
    table = _read(name)
    for override in overrides:
        _override(table, override)
    if seeds is not None:
        if seeds < 1:
            raise SpecError(f"--seeds must be at least 1, got {seeds}")
        table["seeds"] = list(range(seeds))
    return _suite(table)


def cells(suite: Suite, data_dir: Path | None = None) -> list[RunSpec]:
    """Every cell once, in the order of the suite: a method without a varied field runs once, not once per value.

    Raises:
        SpecError: a task, a method, a field or a value is not valid; nothing has been started.
    """
    for name, fields in suite.methods.items():  # tables of methods that this matrix leaves out are checked, too
        for folder in _FOLDERS:
            if name in registry.available(folder):
                method(folder, name, fields)
    options = suite.settings.data_options(data_dir)
    horizons = {task: episode_length(task, options) for task in suite.tasks}
    found: dict[str, RunSpec] = {}
    for task, generator, algorithm in itertools.product(suite.tasks, suite.generators, suite.algorithms):
        for choice in _choices(suite.vary, (generator, algorithm)):
            spec = _cell(suite, task, generator, algorithm, choice)
            _require_length(spec, horizons[task])
            found.setdefault(spec.cell_id, spec)
    return list(found.values())


def _require_length(spec: RunSpec, horizon: int | None) -> None:
    """A rollout is a piece of an episode. Raises: SpecError."""
    length = spec.generator.config.rollout_length
    if horizon is not None and length > horizon:
        rule = f"should be at most {horizon}, the steps of an episode of {spec.task}"
        raise SpecError(f"{spec.generator.name}.rollout_length {rule}, got {length}")


def _read(name: str, children: tuple[str, ...] = ()) -> dict[str, Any]:
    """The suite's table on top of the one it `extends`, table by table; lists are replaced."""
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
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SpecError(f"suite {name} is not valid TOML: {error}") from None
    parent = table.pop("extends", None)
    if parent is None:
        return table
    if not isinstance(parent, str) or parent in (line := (*children, name)):
        raise SpecError(f"extends must name another suite that does not extend this one, got {parent!r} in {name}")
    return _merged(_read(parent, line), table)


def _suite(table: dict[str, Any]) -> Suite:
    axes: dict[str, Any] = {
        key: table.pop(key) for key in ("tasks", "generators", "algorithms", "seeds", "vary") if key in table
    }
    names = {name for folder in _FOLDERS for name in _strings(axes.get(folder))}
    known = names.union(*(registry.available(folder) for folder in _FOLDERS))
    methods = {key: table.pop(key) for key in list(table) if key in known}
    for key in table:
        if key not in Settings.model_fields:
            raise unknown(
                "suite key", key, {*Settings.model_fields, *Suite.model_fields, *known} - {"settings", "methods"}
            )
    for key, value in {**methods, "vary": axes.get("vary", {})}.items():
        if not isinstance(value, dict):
            raise SpecError(f"{key} must be a table, got {value!r}")
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
        if not dot and key not in {*Settings.model_fields, *names}:
            raise unknown("varied key", key, Settings.model_fields)
        if key in names and not all(isinstance(value, dict) for value in vary[key]):
            raise SpecError(f"vary.{key} must be a list of tables of its fields, got {vary[key]!r}")
        if dot and head not in names:
            raise unknown(f"varied key {key!r}: method of this suite", head, names)
    return suite


def _strings(values: Any) -> list[str]:
    """The names in what may not be a list of names: `Suite` complains about the others."""
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _choices(vary: dict[str, list[Any]], methods: tuple[str, str]) -> Iterator[dict[str, Any]]:
    known = {*Settings.model_fields, *methods}
    relevant = {key: values for key, values in vary.items() if key.partition(".")[0] in known}
    for values in itertools.product(*relevant.values()):
        yield dict(zip(relevant, values, strict=True))


def _cell(suite: Suite, task: str, generator: str, algorithm: str, choice: dict[str, Any]) -> RunSpec:
    methods = {name: dict(suite.methods.get(name, {})) for name in (generator, algorithm)}
    settings, words = suite.settings.model_dump(), list[str]()
    for key, value in choice.items():
        head, dot, field = key.partition(".")
        if dot:
            methods[head] = _with(methods[head], field.split("."), value, key)
        elif head in methods:  # several fields at once; "label" is how tables call them
            if not isinstance(value.get("label", ""), str):
                raise SpecError(f"vary.{key}.label must be text, got {value['label']!r}")
            fields = {name: x for name, x in value.items() if name != "label"}
            methods[head] = _merged(methods[head], fields)
            words.append(value.get("label") or ", ".join(f"{name}={x}" for name, x in fields.items()) or "default")
            continue
        else:
            settings[key] = value
        words.append(f"{key.removeprefix(f'{generator}.')}={value}")
    return RunSpec(
        task,
        Method(generator, method("generators", generator, methods[generator])),
        Method(algorithm, method("algorithms", algorithm, methods[algorithm])),
        build_config(Settings, settings, ""),
        tuple(suite.seeds),
        ", ".join(words) or "default",
    )


def method(folder: str, name: str, fields: dict[str, Any]) -> Any:
    """A generator or an algorithm by name; `fields` may name a `preset`, which others refine. Raises: SpecError."""
    kind, fields = registry.load(folder, name), dict(fields)
    preset, presets = fields.pop("preset", None), getattr(kind, "presets", {})
    if preset is not None:
        if not isinstance(preset, str) or preset not in presets:
            raise unknown(f"{name}.preset", str(preset), presets)
        fields = _merged(presets[preset], fields)
    return build_config(kind, _merged(_tables(kind), fields), name)


def _tables(kind: type[Any]) -> dict[str, Any]:
    """The default of every field that is a table itself: who names one of its fields leaves the others as they are."""
    defaults = {field.name: field.default for field in dataclass_fields(kind) if is_dataclass(field.default)}
    return {name: adapter(type(default)).dump_python(default, mode="json") for name, default in defaults.items()}


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, table by table."""
    tables = {key for key in base if isinstance(base[key], dict) and isinstance(changes.get(key), dict)}
    return base | changes | {key: _merged(base[key], changes[key]) for key in tables}


def _override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise SpecError(f"--set must be key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        raise SpecError(f"--set {key}: the value must be TOML (strings in quotes), got {text!r}") from None
    table.update(_with(table, key.split("."), value, key))


def _with(table: dict[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """A copy of `table` with `value` at `path`."""
    head, *rest = path
    if not rest:
        return {**table, head: value}
    inner = table.get(head, {})
    if not isinstance(inner, dict):
        raise SpecError(f"{key}: {head} must be a table to have the field {rest[0]!r}, got {inner!r}")
    return {**table, head: _with(inner, rest, value, key)}
