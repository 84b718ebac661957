"""What the JSON files of a results folder must hold, and which versions of it are read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasPath, BaseModel, Field, NonNegativeInt, PositiveInt, ValidationError

from benchmarks.records import finding
from core.errors import DataError

__all__ = ["FORMAT", "Described", "Done", "Plan", "checked", "read"]

FORMAT = 2  # of the folder; 0.1.0 wrote none


class Spec(BaseModel, strict=True):
    task: str
    generator: str = Field(validation_alias=AliasPath("generator", "name"))
    algorithm: str = Field(validation_alias=AliasPath("algorithm", "name"))
    updates: PositiveInt = Field(validation_alias=AliasPath("settings", "updates"))
    evaluate_every: PositiveInt = Field(validation_alias=AliasPath("settings", "evaluate_every"))


class Run(BaseModel, strict=True):
    status: str
    seeds: list[NonNegativeInt] = []


class Described(BaseModel, strict=True):
    """What spec.json must have; what else it has is kept."""

    spec: Spec
    variant: str
    runs: list[Run]


class Planned(Spec, strict=True):
    cell_id: str
    variant: str
    seeds: list[NonNegativeInt]


class Plan(BaseModel, strict=True):
    """What plan.json must have."""

    suite: str
    command: str = ""  # 0.3.0 kept none
    cells: list[Planned]


class Done(BaseModel, strict=True):
    """What DONE must have: sha256 of the lines of every finished seed."""

    seeds: dict[Annotated[str, Field(pattern="^[0-9]{1,18}$")], str]


def read(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """The file's content, if it has this version's format and what `kind` has. Raises: DataError."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    return checked(value, path, kind)


def checked(value: Any, path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """What stood in the file, if it has this version's format and what `kind` has. Raises: DataError."""
    if kind is not Done and isinstance(value, dict) and value.get("format") != FORMAT:
        raise DataError(f"{path} {_refusal(value)}; this version reads format {FORMAT}")
    try:
        kind.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{path} is not what it should be: {finding(error)}") from None
    found: dict[str, Any] = value
    return found


def _refusal(value: Mapping[str, Any]) -> str:
    if "format" in value:
        return f"has format {value['format']!r:.80}, which only the version of RolloutBench that wrote it can read"
    return "was written by RolloutBench 0.1.0 (commit 6684090), which is the version that can read it"
