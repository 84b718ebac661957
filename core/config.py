"""One rule for every configuration dataclass: fields are typed and ranged where they stand, unknown ones are errors."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from core.errors import SpecError, unknown

__all__ = [
    "STRICT",
    "ClosedUnit",
    "LeftOpenUnit",
    "OpenUnit",
    "adapter",
    "build_config",
    "configuration",
    "flat",
    "merged",
]

ClosedUnit = Annotated[float, Field(ge=0, le=1)]  # [0, 1]
LeftOpenUnit = Annotated[float, Field(gt=0, le=1)]  # (0, 1]
OpenUnit = Annotated[float, Field(gt=0, lt=1)]  # (0, 1)

STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def configuration(kind: type[_T]) -> type[_T]:
    """Class decorator: a frozen dataclass whose fields pydantic checks strictly; unknown fields are errors."""
    checked: Any = pydantic_dataclass(frozen=True, config=STRICT)(kind)
    return cast(type[_T], checked)


_ADAPTERS: dict[type[Any], Any] = {}


def adapter(kind: type[Any]) -> Any:
    """Pydantic's `TypeAdapter` of a kind of configuration; slow to build, so it is built once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def build_config(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    """`kind(**values)` for a pydantic dataclass or model, with nested tables and lists as TOML gives them.

    Raises:
        SpecError: names the key (prefixed by `where`), the rule and the value.
    """
    try:
        return adapter(kind).validate_json(json.dumps(values, default=str))  # as JSON: strict, yet tables nest
    except ValidationError as error:
        raise SpecError(_explain(error, where, kind)) from None


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested tables by its dotted name; lists are values."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, table by table."""
    tables = {key for key in base if isinstance(base[key], dict) and isinstance(changes.get(key), dict)}
    return base | changes | {key: merged(base[key], changes[key]) for key in tables}


def _explain(error: ValidationError, where: str, kind: type[Any]) -> str:
    """Pydantic's findings as lines of `key rule, got value`."""
    lines = []
    for finding in error.errors():
        path = ".".join(str(part) for part in (where, *finding["loc"]) if part != "")
        if finding["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            fields = getattr(kind, "__pydantic_fields__", {})
            for part in finding["loc"][:-1]:
                fields = getattr(fields[part].annotation, "__pydantic_fields__", {}) if part in fields else {}
            lines.append(f"unknown key {path}: {unknown('key', str(finding['loc'][-1]), fields)}")
        else:
            rule = finding["msg"].removeprefix("Value error, ").removeprefix("Input ")
            value = "" if finding["type"] == "value_error" else f", got {finding['input']!r}"  # ours say it themselves
            lines.append(f"{path} {rule}{value}".lstrip())
    return "\n".join(lines)
