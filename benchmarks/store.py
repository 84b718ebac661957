"""The one file that knows the layout of a results folder; text only, written whole or not at all.

DIR/plan.json                      what the last `run` was asked for: cells, seeds, labels
DIR/<cell_id>/spec.json            the specification, and the provenance of every run that added seeds
DIR/<cell_id>/records.jsonl        one line per number: {"seed", "step", "metric", "horizon" (of curves), "value"}
DIR/<cell_id>/DONE                 finished seeds with the sha256 of their lines; written last, so it is the truth
DIR/<cell_id>/error.txt            traceback of the last failure, until a run succeeds
DIR/<cell_id>/checkpoint/          where a run that was stopped or killed goes on
DIR/<cell_id>/LEASE                who is running the cell
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, ValidationError

from benchmarks.spec import RunSpec, cell_id
from core.checkpoint import Checkpoint
from core.errors import DataError
from core.files import write_json, write_text

__all__ = ["DIVERGED", "Cell", "Record", "ResultStore"]

DIVERGED = "diverged/"  # the last metric of a seed that stopped being finite; behind the slash, the tensor that did


class Record(NamedTuple):
    """One number, and where it belongs."""

    seed: int
    step: int  # gradient updates made when it was measured
    metric: str
    value: float | None  # None: not defined here
    horizon: int | None = None  # step of the rollout, or round of the generator, from 1; None: not a curve

    @classmethod
    def parse(cls, line: str) -> "Record":
        """The opposite of `line`. Raises: ValueError: it is not a record, or a number that a record cannot hold."""
        fields = _STRICT.decode(line)
        if not isinstance(fields, dict) or fields.keys() | {"horizon"} != set(cls._fields):
            raise ValueError(f"a record must have {', '.join(cls._fields)} (horizon only where there is one)")
        seed: Any = fields["seed"]
        step: Any = fields["step"]
        metric: Any = fields["metric"]
        value: Any = fields["value"]
        horizon: Any = fields.get("horizon")
        for name in ("seed", "step"):
            if type(fields[name]) is not int or not 0 <= fields[name] < 2**63:
                raise ValueError(f"{name} must be a natural number, got {fields[name]!r}")
        if "horizon" in fields and (type(horizon) is not int or not 1 <= horizon < 2**63):
            raise ValueError(f"horizon must be at least 1, got {horizon!r}")
        if not isinstance(metric, str):
            raise ValueError(f"metric must be text, got {metric!r}")
        if value is not None and (type(value) not in (int, float) or not abs(value) <= sys.float_info.max):
            raise ValueError(f"value must be a finite number or null, got {value!r}")
        return cls(seed, step, metric, value, horizon)

    def line(self) -> str:
        """As a line of records.jsonl."""
        value = self.value if self.value is None or math.isfinite(self.value) else None
        at = {} if self.horizon is None else {"horizon": self.horizon}
        return json.dumps({"seed": self.seed, "step": self.step, "metric": self.metric, **at, "value": value})


@dataclass(frozen=True)
class Cell:
    """What a results folder holds of one cell."""

    cell_id: str
    spec: Mapping[str, Any]  # RunSpec.describe()
    variant: str
    runs: list[dict[str, Any]]  # provenance, oldest first; each names its seeds and status
    records: list[Record]  # of finished seeds only
    done: tuple[int, ...]
    error: str | None  # traceback of the last failure, or what is wrong with the files


class ResultStore:
    """Results of a suite in one folder; every number can be traced to its run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def plan(self, suite: str, specs: Iterable[RunSpec]) -> None:
        """Remember what was asked for, so that a report can name what is missing."""
        planned = [
            {"cell_id": spec.cell_id, "variant": spec.variant, "seeds": list(spec.seeds), **spec.describe()}
            for spec in specs
        ]
        write_json(self.root / "plan.json", {"suite": suite, "cells": planned})

    def planned(self) -> dict[str, Any]:
        """What `plan` wrote last; empty when nothing was planned here."""
        path = self.root / "plan.json"
        return _json(path, _Plan) if path.exists() else {}

    def missing(self, spec: RunSpec) -> tuple[int, ...]:
        """Seeds of the cell still to run.

        Raises:
            DataError: its records are torn or were edited; names the file.
        """
        done = self._lines(self.root / spec.cell_id)
        return tuple(seed for seed in spec.seeds if seed not in done)

    def runs(self) -> Iterator[list[dict[str, Any]]]:
        """The provenance of every cell that can be read, without its records."""
        for path in sorted(self.root.glob("*/spec.json")):
            with suppress(DataError):
                yield _json(path, _Described)["runs"]

    def size(self, cell_id: str) -> int:
        """Bytes of a cell's files."""
        return sum(path.stat().st_size for path in (self.root / cell_id).iterdir() if path.is_file())

    def failed(self, spec: RunSpec) -> bool:
        """Whether the cell's last run failed."""
        return (self.root / spec.cell_id / "error.txt").exists()

    def finish(self, spec: RunSpec, provenance: Mapping[str, Any], records: Iterable[Record]) -> None:
        """Add the finished seeds of one run to the cell."""
        folder = self.root / spec.cell_id
        lines = self._lines(folder)
        for record in records:
            lines.setdefault(record.seed, []).append(record.line())
        self._describe(spec, {**provenance, "status": "ok"})
        write_text(folder / "records.jsonl", "".join(line + "\n" for seed in sorted(lines) for line in lines[seed]))
        write_json(folder / "DONE", {"seeds": {str(seed): _digest(lines[seed]) for seed in sorted(lines)}})
        (folder / "error.txt").unlink(missing_ok=True)
        Checkpoint(self.checkpoint(spec.cell_id)).clear()

    def checkpoint(self, cell_id: str) -> Path:
        """Where a cell keeps its checkpoints."""
        return self.root / cell_id / "checkpoint"

    def lease(self, cell_id: str) -> Path:
        """The file that whoever runs a cell holds."""
        return self.root / cell_id / "LEASE"

    def fail(self, spec: RunSpec, provenance: Mapping[str, Any], traceback: str) -> None:
        """Record that a run failed; what was finished before stays."""
        self._describe(spec, {**provenance, "status": "failed"})
        write_text(self.root / spec.cell_id / "error.txt", traceback)

    def cells(self) -> list[Cell]:
        """Everything in the folder, by cell id; of a cell whose files are torn or edited only the reason is left.

        Raises:
            DataError: a spec.json cannot be read; names it.
        """
        return [self._cell(path.parent) for path in sorted(self.root.glob("*/spec.json"))]

    def cell(self, cell_id: str) -> Cell:
        """One cell, whole.

        Raises:
            DataError: one of its files is torn or was edited; names it.
        """
        folder = self.root / cell_id
        described = _json(folder / "spec.json", _Described)
        failure = folder / "error.txt"
        _require_name(described["spec"], folder)
        lines = self._lines(folder)
        records = [Record.parse(line) for seed in sorted(lines) for line in lines[seed]]
        error = failure.read_text(encoding="utf-8", errors="replace") if failure.exists() else None
        return Cell(
            cell_id, described["spec"], described["variant"], described["runs"], records, tuple(sorted(lines)), error
        )

    def strays(self, cell_id: str) -> list[Record]:
        """Records of seeds that DONE does not vouch for: their run was killed, or DONE was edited.

        Raises:
            DataError: the file is torn.
        """
        folder = self.root / cell_id
        path = folder / "records.jsonl"
        done = self._done(folder)
        return [record for record, _ in _records(path) if record.seed not in done] if path.exists() else []

    def _cell(self, folder: Path) -> Cell:
        try:
            return self.cell(folder.name)
        except DataError as error:
            described = _json(folder / "spec.json", _Described)
            return Cell(folder.name, described["spec"], described["variant"], described["runs"], [], (), str(error))

    def _describe(self, spec: RunSpec, run: Mapping[str, Any]) -> None:
        path = self.root / spec.cell_id / "spec.json"
        done = self._done(path.parent)
        runs = [
            earlier
            for earlier in (_json(path, _Described)["runs"] if path.exists() else [])
            if earlier["status"] != "ok" or done.keys() >= set(earlier["seeds"])  # else it was killed before DONE
        ]
        write_json(path, {"spec": spec.describe(), "variant": spec.variant, "runs": [*runs, dict(run)]})

    def _done(self, folder: Path) -> dict[int, str]:
        path = folder / "DONE"
        return {int(seed): digest for seed, digest in _json(path, _Done)["seeds"].items()} if path.exists() else {}

    def _lines(self, folder: Path) -> dict[int, list[str]]:
        """The lines of every finished seed, checked against DONE."""
        done = self._done(folder)
        lines: dict[int, list[str]] = {seed: [] for seed in done}
        if done:
            path = folder / "records.jsonl"
            for record, line in _records(path):
                if record.seed in lines:
                    lines[record.seed].append(line)
            for seed, digest in done.items():
                if _digest(lines[seed]) != digest:
                    raise DataError(
                        f"{path} does not match DONE for seed {seed}: torn or edited; delete the folder to run it again"
                    )
        return lines


class _Named(BaseModel, strict=True):
    name: str


class _Settings(BaseModel, strict=True):
    updates: PositiveInt
    evaluate_every: PositiveInt


class _Spec(BaseModel, strict=True):
    task: str
    generator: _Named
    algorithm: _Named
    settings: _Settings


class _Run(BaseModel, strict=True):
    status: str
    seeds: list[NonNegativeInt] = []


class _Described(BaseModel, strict=True):
    """What spec.json must have; what else it has is kept."""

    spec: _Spec
    variant: str
    runs: list[_Run]


class _Planned(_Spec, strict=True):
    cell_id: str
    variant: str
    seeds: list[NonNegativeInt]


class _Plan(BaseModel, strict=True):
    suite: str
    cells: list[_Planned]


class _Done(BaseModel, strict=True):
    seeds: dict[
        Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,17})$")], Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    ]


def _require_name(described: Mapping[str, Any], folder: Path) -> None:
    try:
        name = cell_id(described)
    except (ValueError, RecursionError) as error:  # an infinite number, or nested beyond measure
        raise DataError(f"{folder / 'spec.json'} must describe a cell: {error}") from None
    if name != folder.name:
        raise DataError(f"{folder / 'spec.json'} must describe the cell of its folder, got {name}: edited or renamed")


def _records(path: Path) -> Iterator[tuple[Record, str]]:
    """Every record with its line. Raises: DataError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield Record.parse(line), line
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number} is not a record: {line[:80]!r} ({error})") from None


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return found


_STRICT = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_unique)


def _json(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """The file's content, if it has what `kind` has. Raises: DataError."""
    try:
        value: dict[str, Any] = _STRICT.decode(path.read_text(encoding="utf-8"))
        kind.model_validate(value)
    except ValidationError as error:
        finding = error.errors()[0]
        where = ".".join(str(part) for part in finding["loc"])
        raise DataError(
            f"{path} is not what it should be: {where} {finding['msg']}, got {finding['input']!r:.80}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    return value
