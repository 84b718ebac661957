"""The one file that knows the layout of a results folder; text only, written whole or not at all.

DIR/plan.json                      what the last `run` was asked for: command, cells, seeds, labels
DIR/<cell_id>/spec.json            the specification, and the provenance of every run that added seeds
DIR/<cell_id>/records.jsonl.gz     one line per number: {"seed", "step", "metric", "horizon" (of curves), "value"}
DIR/<cell_id>/DONE                 finished seeds with the sha256 of their lines; written last, so it is the truth
DIR/<cell_id>/error.txt            traceback of the last failure, until a run succeeds
DIR/<cell_id>/checkpoint/          where a run that was stopped or killed resumes; holds its records until they are done
DIR/<cell_id>/checkpoint/stack.txt where the threads were of a process that was ended because it hung, until recorded
DIR/<cell_id>/LEASE                who is running the cell

A cell may have `records.jsonl`, not compressed, instead; where both are there, the compressed one is read.
"""

import gzip
import hashlib
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AliasPath, BaseModel, Field, FiniteFloat, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from benchmarks.spec import RunSpec, cell_id
from core.checkpoint import Checkpoint
from core.errors import DataError
from core.files import atomic, write_json, write_text

__all__ = ["DIVERGED", "FORMAT", "Cell", "Record", "ResultStore"]

DIVERGED = "diverged/"  # the last metric of a seed that stopped being finite; behind the slash, the tensor that did
FORMAT = 2  # of the folder; 0.1.0 wrote none
MAX_BYTES = 2**27  # of a cell's records, decompressed: about a million
_AND = " && "  # between commands
_Natural = Annotated[int, Field(ge=0, lt=2**63)]


class Record(NamedTuple):
    """One number, and where it belongs."""

    seed: _Natural
    step: _Natural  # gradient updates made when it was measured
    metric: str
    value: FiniteFloat | None  # None: not defined here
    horizon: Annotated[int, Field(ge=1, lt=2**63)] | None = None  # step of a rollout, or round of a generator, from 1

    @classmethod
    def parse(cls, line: str) -> "Record":
        """Reads `line`. Raises: ValueError: it is not a record, or a number that a record cannot hold."""
        return _RECORD.validate_json(line, strict=True)

    def line(self) -> str:
        """As a line of records.jsonl."""
        value = self.value if self.value is None or math.isfinite(self.value) else None
        at = {} if self.horizon is None else {"horizon": self.horizon}
        return json.dumps({"seed": self.seed, "step": self.step, "metric": self.metric, **at, "value": value})


_RECORD = TypeAdapter(Record)


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

    def plan(self, suite: str, specs: Iterable[RunSpec], command: str = "") -> None:
        """Remember what was asked for, and by which command, so that a report can name what is missing.

        Raises:
            DataError: the folder was written by a version with another format, or a file of it cannot be read.
        """
        self.planned()
        for path in self.root.glob("*/spec.json"):
            _json(path, _Described)
        self._write_plan(suite, command, [_planned(spec) for spec in specs])

    def extend(self, specs: Iterable[RunSpec], command: str) -> None:
        """Add cells to what was asked for, and the command that did so. Raises: DataError: the plan cannot be read."""
        plan = {"suite": "", "command": "", "cells": []} | self.planned()
        cells = {entry["cell_id"]: entry for entry in (*plan["cells"], *map(_planned, specs))}
        commands = dict.fromkeys(filter(None, (*plan["command"].split(_AND), command)))
        self._write_plan(plan["suite"], _AND.join(commands), list(cells.values()))

    def _write_plan(self, suite: str, command: str, planned: list[dict[str, Any]]) -> None:
        write_json(self.root / "plan.json", {"format": FORMAT, "suite": suite, "command": command, "cells": planned})

    def planned(self) -> dict[str, Any]:
        """What `plan` wrote last; empty when nothing was planned here."""
        path = self.root / "plan.json"
        return _json(path, _Plan) if path.exists() else {}

    def missing(self, spec: RunSpec) -> tuple[int, ...]:
        """Seeds of the cell still to run.

        Raises:
            DataError: its records are torn or were edited; names the file.
        """
        done = self._finished(self.root / spec.cell_id)
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
        lines = {seed: [line for _, line in kept] for seed, kept in self._finished(folder).items()}
        for record in records:
            lines.setdefault(record.seed, []).append(record.line())
        self._describe(spec, {**provenance, "status": "ok"})
        text = "".join(line + "\n" for seed in sorted(lines) for line in lines[seed])
        with atomic(folder / "records.jsonl.gz") as part:
            part.write_bytes(gzip.compress(text.encode(), mtime=0))  # no time: equal records are equal bytes
        write_json(folder / "DONE", {"seeds": {str(seed): _digest(lines[seed]) for seed in sorted(lines)}})
        for leftover in ("records.jsonl", "error.txt"):
            (folder / leftover).unlink(missing_ok=True)
        Checkpoint(self.checkpoint(spec.cell_id)).clear()

    def checkpoint(self, cell_id: str) -> Path:
        """Where a cell keeps its checkpoints."""
        return self.root / cell_id / "checkpoint"

    def stack(self, cell_id: str) -> Path:
        """Where the threads of a cell's process were when it was ended for giving no sign of life."""
        return self.checkpoint(cell_id) / "stack.txt"

    def lease(self, cell_id: str) -> Path:
        """The cell's lease: the file that the process running it holds."""
        return self.root / cell_id / "LEASE"

    def take_stack(self, cell_id: str) -> str:
        """Read and delete what `stack` names; empty where no process was ended so."""
        path = self.stack(cell_id)
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        path.unlink(missing_ok=True)
        return text

    def fail(self, spec: RunSpec, provenance: Mapping[str, Any], traceback: str) -> None:
        """Record that a run failed; what was finished before stays."""
        self._describe(spec, {**provenance, "status": "failed"})
        write_text(self.root / spec.cell_id / "error.txt", traceback)

    def cells(self) -> list[Cell]:
        """Everything in the folder, by cell id; of a cell whose files are torn or edited only the reason is left.

        Raises:
            DataError: a spec.json cannot be read; names it.
        """
        found = []
        for path in sorted(self.root.glob("*/spec.json")):
            try:
                found.append(self.cell(path.parent.name))
            except DataError as error:
                kept = _json(path, _Described)
                name = path.parent.name
                found.append(Cell(name, kept["spec"], kept["variant"], kept["runs"], [], (), str(error)))
        return found

    def cell(self, cell_id: str) -> Cell:
        """One cell, whole.

        Raises:
            DataError: one of its files is torn or was edited; names it.
        """
        folder = self.root / cell_id
        kept = _json(folder / "spec.json", _Described)
        _require_name(kept["spec"], folder)
        finished = self._finished(folder)
        records = [record for seed in sorted(finished) for record, _ in finished[seed]]
        failure = folder / "error.txt"
        error = failure.read_text(encoding="utf-8", errors="replace") if failure.exists() else None
        return Cell(cell_id, kept["spec"], kept["variant"], kept["runs"], records, tuple(sorted(finished)), error)

    def strays(self, cell_id: str) -> list[int]:
        """Seeds with records that DONE does not list: their run was killed, or DONE was edited.

        Raises:
            DataError: the file is torn.
        """
        folder = self.root / cell_id
        path = _records_path(folder)
        found = {record.seed for record, _ in _records(path)} if path.exists() else set()
        return sorted(found - self._done(folder).keys())

    def _describe(self, spec: RunSpec, run: Mapping[str, Any]) -> None:
        path = self.root / spec.cell_id / "spec.json"
        done = self._done(path.parent)
        runs = [
            earlier
            for earlier in (_json(path, _Described)["runs"] if path.exists() else [])
            if earlier["status"] != "ok" or done.keys() >= set(earlier["seeds"])  # else it was killed before DONE
        ]
        described = {"spec": spec.describe(), "variant": spec.variant, "runs": [*runs, dict(run)]}
        write_json(path, {"format": FORMAT, **described})

    def _done(self, folder: Path) -> dict[int, str]:
        path = folder / "DONE"
        return {int(seed): digest for seed, digest in _json(path, _Done)["seeds"].items()} if path.exists() else {}

    def _finished(self, folder: Path) -> dict[int, list[tuple[Record, str]]]:
        """The records of every finished seed with their lines, checked against DONE."""
        done = self._done(folder)
        if not done:
            return {}
        path = _records_path(folder)
        found = defaultdict[int, list[tuple[Record, str]]](list)
        for record, line in _records(path):
            found[record.seed].append((record, line))
        for seed, digest in done.items():
            if _digest([line for _, line in found[seed]]) != digest:
                raise DataError(
                    f"{path} does not match DONE for seed {seed}: torn or edited; delete the folder to run it again"
                )
        return {seed: found[seed] for seed in done}


def _planned(spec: RunSpec) -> dict[str, Any]:
    return {"cell_id": spec.cell_id, "variant": spec.variant, "seeds": list(spec.seeds), **spec.describe()}


class _Spec(BaseModel, strict=True):
    task: str
    generator: str = Field(validation_alias=AliasPath("generator", "name"))
    algorithm: str = Field(validation_alias=AliasPath("algorithm", "name"))
    updates: PositiveInt = Field(validation_alias=AliasPath("settings", "updates"))
    evaluate_every: PositiveInt = Field(validation_alias=AliasPath("settings", "evaluate_every"))


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
    command: str = ""  # 0.3.0 kept none
    cells: list[_Planned]


class _Done(BaseModel, strict=True):
    seeds: dict[Annotated[str, Field(pattern="^[0-9]{1,18}$")], str]


def _require_name(described: Mapping[str, Any], folder: Path) -> None:
    try:
        name = cell_id(described)
    except (ValueError, RecursionError) as error:  # an infinite number, or nested beyond measure
        raise DataError(f"{folder / 'spec.json'} must describe a cell: {error}") from None
    if name != folder.name:
        raise DataError(f"{folder / 'spec.json'} must describe the cell of its folder, got {name}: edited or renamed")


def _records_path(folder: Path) -> Path:
    compressed = folder / "records.jsonl.gz"
    plain = folder / "records.jsonl"
    return plain if plain.exists() and not compressed.exists() else compressed


def _records(path: Path) -> Iterator[tuple[Record, str]]:
    """Every record with its line. Raises: DataError."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} must hold at most {MAX_BYTES} bytes of records, got more")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            yield Record.parse(line), line
        except ValidationError as error:
            raise DataError(f"{path} line {number} is not a record: {_finding(error)}") from None


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _json(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """The file's content, if it has this version's format and what `kind` has. Raises: DataError."""
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
        if kind is not _Done and isinstance(value, dict) and value.get("format") != FORMAT:
            raise DataError(f"{path} {_refusal(value)}; this version reads format {FORMAT}")
        kind.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{path} is not what it should be: {_finding(error)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    return value


def _refusal(value: Mapping[str, Any]) -> str:
    if "format" in value:
        return f"has format {value['format']!r:.80}, which only the version of RolloutBench that wrote it can read"
    return "was written by RolloutBench 0.1.0 (commit 6684090), which is the version that can read it"


def _finding(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} {first['msg']}, got {first['input']!r:.80}".lstrip()
