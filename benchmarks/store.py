"""The one file that knows the layout of a results folder; text only, written whole or not at all.

DIR/plan.json                      what the last `run` was asked for: command, cells, seeds, labels
DIR/<cell_id>/spec.json            the specification, and the provenance of every run that added seeds
DIR/<cell_id>/records.jsonl.gz     one line per number: {"seed", "step", "metric", "horizon" (of curves), "value"}
DIR/<cell_id>/DONE                 finished seeds with the sha256 of their lines; written last, so it is the truth
DIR/<cell_id>/error.txt            traceback of the last failure, until a run succeeds
DIR/<cell_id>/checkpoint/          where a run that was stopped or killed resumes; holds its records until they are done
DIR/<cell_id>/checkpoint/stack.txt where the threads were of a process that was ended because it hung, until recorded
DIR/<cell_id>/LEASE                who is running the cell

A cell may have `records.jsonl`, not compressed, instead; where both are there, the compressed one is read. Finished
cells may lie in DIR/packed instead (packing.py): what is not in a cell's folder, or not in DIR, is looked for there.
"""

import gzip
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import packing, schema
from benchmarks.records import Record, digest, read_lines
from benchmarks.spec import RunSpec, cell_id
from core.checkpoint import Checkpoint
from core.errors import DataError, SpecError
from core.files import atomic, write_json, write_text

__all__ = ["Cell", "ResultStore"]

_AND = " && "  # between commands
_FINISHED = {"spec.json", "records.jsonl", "records.jsonl.gz", "DONE"}  # files of a cell to which nothing is left to do


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
    left_out: int = 0  # numbers that were measured and are not kept any more


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
        for name in self.names():
            self._described(name)
        self._write_plan(suite, command, [_planned(spec) for spec in specs])

    def extend(self, specs: Iterable[RunSpec], command: str) -> None:
        """Add cells to what was asked for, and the command that did so. Raises: DataError: the plan cannot be read."""
        plan = {"suite": "", "command": "", "cells": []} | self.planned()
        cells = {entry["cell_id"]: entry for entry in (*plan["cells"], *map(_planned, specs))}
        commands = dict.fromkeys(filter(None, (*plan["command"].split(_AND), command)))
        self._write_plan(plan["suite"], _AND.join(commands), list(cells.values()))

    def _write_plan(self, suite: str, command: str, planned: list[dict[str, Any]]) -> None:
        write_json(self._plan, {"format": schema.FORMAT, "suite": suite, "command": command, "cells": planned})

    def planned(self) -> dict[str, Any]:
        """What `plan` wrote last; empty when nothing was planned here."""
        if self._plan.exists():
            return schema.read(self._plan, schema.Plan)
        packed = packing.read_plan(self.root)
        return {} if packed is None else schema.checked(packed, self.root / packing.FOLDER, schema.Plan)

    def missing(self, spec: RunSpec) -> tuple[int, ...]:
        """Seeds of the cell still to run.

        Raises:
            DataError: its records are torn or were edited; names the file.
        """
        done = self._finished(spec.cell_id)
        return tuple(seed for seed in spec.seeds if seed not in done)

    def runs(self) -> Iterator[list[dict[str, Any]]]:
        """The provenance of every cell that can be read, without its records."""
        for name in self.names():
            with suppress(DataError):
                yield self._described(name)["runs"]

    def names(self) -> list[str]:
        """Ids of all cells that are described. Raises: DataError: a packed file is torn."""
        return sorted({path.parent.name for path in self.root.glob("*/spec.json")} | self._packed.keys())

    def size(self, cell_id: str) -> int:
        """Bytes of a cell's files; of a packed one about what they would be."""
        if cell_id in self._packed and not (self.root / cell_id).exists():
            return len(gzip.compress("".join(chain(*self._packed[cell_id]().lines().values())).encode()))
        return sum(path.stat().st_size for path in (self.root / cell_id).iterdir() if path.is_file())

    def failed(self, spec: RunSpec) -> bool:
        """Whether the cell's last run failed."""
        return (self.root / spec.cell_id / "error.txt").exists()

    def finish(self, spec: RunSpec, provenance: Mapping[str, Any], records: Iterable[Record]) -> None:
        """Add the finished seeds of one run to the cell."""
        folder = self.root / spec.cell_id
        lines = {seed: [line for _, line in kept] for seed, kept in self._finished(spec.cell_id).items()}
        for record in records:
            lines.setdefault(record.seed, []).append(record.line())
        self._describe(spec, {**provenance, "status": "ok"})
        text = "".join(line + "\n" for seed in sorted(lines) for line in lines[seed])
        with atomic(folder / "records.jsonl.gz") as part:
            part.write_bytes(gzip.compress(text.encode(), mtime=0))  # no time: equal records are equal bytes
        write_json(folder / "DONE", {"seeds": {str(seed): digest(lines[seed]) for seed in sorted(lines)}})
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
        for name in self.names():
            try:
                found.append(self.cell(name))
            except DataError as error:
                kept = self._described(name)
                found.append(Cell(name, kept["spec"], kept["variant"], kept["runs"], [], (), str(error)))
        return found

    def cell(self, cell_id: str) -> Cell:
        """One cell, whole.

        Raises:
            DataError: one of its files is torn or was edited; names it.
        """
        kept = self._described(cell_id)
        _require_name(kept["spec"], self.root / cell_id)
        finished = self._finished(cell_id)
        records = [record for seed in sorted(finished) for record, _ in finished[seed]]
        failure = self.root / cell_id / "error.txt"
        error = failure.read_text(encoding="utf-8", errors="replace") if failure.exists() else None
        left_out = self._packed[cell_id]().left_out if cell_id in self._packed else 0
        done = tuple(sorted(finished))
        return Cell(cell_id, kept["spec"], kept["variant"], kept["runs"], records, done, error, left_out)

    def pack(self, out: "ResultStore", lean: bool, only: Collection[str] | None = None) -> int:
        """Write all finished seeds and the plan into the packed files of `out`, which may be this folder.

        Folders of cells in `out` are then deleted, except where a run failed, was stopped or goes on. `lean`: only the
        `packing.essential` records. `only`: no other cells. Returns how many records `lean` left out.

        Raises:
            DataError: a file of a cell is torn or was edited; names it.
            SpecError: `out` holds seeds that are not finished here.
        """
        packed = list[packing.PackedCell]()
        dropped = 0
        for name in self.names():
            if only is not None and name not in only:
                continue
            cell = self.cell(name)
            if not cell.done:
                continue
            records = packing.essential(cell.records) if lean else cell.records
            fewer = len(cell.records) - len(records)
            packed.append(packing.PackedCell.of(name, self._described(name), records, cell.left_out + fewer))
            dropped += fewer
        kept = {cell.cell_id: {int(seed) for seed in cell.seeds} for cell in packed}
        if lost := [name for name in out.names() if not out._done(name).keys() <= kept.get(name, set())]:
            rule = f"must hold no seeds that {self.root} lacks"
            raise SpecError(f"--out {rule}, got some of {lost[0]} and {len(lost) - 1} other cells")
        plan = self.planned()
        if plan and only is not None:
            plan["cells"] = [cell for cell in plan["cells"] if cell["cell_id"] in only]
        packing.save(out.root, packed, plan)
        out._plan.unlink(missing_ok=True)
        for folder in (out.root / name for name in kept):
            if {path.name for path in folder.glob("*")} <= _FINISHED:
                shutil.rmtree(folder, ignore_errors=True)
        del out._packed
        return dropped

    def take(self, other: "ResultStore", specs: Iterable[RunSpec]) -> int:
        """Copy the finished cells of `other` that this folder lacks, named as in `specs`; returns how many.

        Raises:
            DataError: a file of such a cell is torn or was edited, or was written by a version with another format.
        """
        absent = set(other.names()).difference(self.names())
        new = list[packing.PackedCell]()
        for spec in specs:
            if spec.cell_id in absent and (cell := other.cell(spec.cell_id)).done:
                described = {**other._described(spec.cell_id), "variant": spec.variant}
                new.append(packing.PackedCell.of(spec.cell_id, described, cell.records, cell.left_out))
        if new:
            own = [read() for read in self._packed.values()]
            packing.save(self.root, [*own, *new], packing.read_plan(self.root) or {})
            del self._packed
        return len(new)

    def strays(self, cell_id: str) -> list[int]:
        """Seeds with records that DONE does not list: their run was killed, or DONE was edited.

        Raises:
            DataError: the file is torn.
        """
        path = _records_path(self.root / cell_id)
        found = {record.seed for record, _ in read_lines(path)} if path.exists() else set()
        return sorted(found - self._done(cell_id).keys())

    @property
    def _plan(self) -> Path:
        return self.root / "plan.json"

    @cached_property
    def _packed(self) -> dict[str, Callable[[], packing.PackedCell]]:
        return packing.load(self.root)

    def _described(self, cell_id: str) -> dict[str, Any]:
        """What spec.json holds. Raises: DataError."""
        path = self.root / cell_id / "spec.json"
        if path.exists() or cell_id not in self._packed:
            return schema.read(path, schema.Described)
        return schema.checked(self._packed[cell_id]().described, self.root / packing.FOLDER, schema.Described)

    def _describe(self, spec: RunSpec, run: Mapping[str, Any]) -> None:
        path = self.root / spec.cell_id / "spec.json"
        done = self._done(spec.cell_id)
        known = path.exists() or spec.cell_id in self._packed
        runs = [
            earlier
            for earlier in (self._described(spec.cell_id)["runs"] if known else [])
            if earlier["status"] != "ok" or done.keys() >= set(earlier["seeds"])  # else it was killed before DONE
        ]
        described = {"spec": spec.describe(), "variant": spec.variant, "runs": [*runs, dict(run)]}
        write_json(path, {"format": schema.FORMAT, **described})

    def _done(self, cell_id: str) -> dict[int, str]:
        path = self.root / cell_id / "DONE"
        if path.exists() or cell_id not in self._packed:
            seeds = schema.read(path, schema.Done)["seeds"] if path.exists() else {}
        else:
            seeds = self._packed[cell_id]().seeds
        return {int(seed): expected for seed, expected in seeds.items()}

    def _finished(self, cell_id: str) -> dict[int, list[tuple[Record, str]]]:
        """The records of every finished seed with their lines, checked against DONE."""
        done = self._done(cell_id)
        if not done:
            return {}
        folder = self.root / cell_id
        if (folder / "DONE").exists():
            path, remedy = _records_path(folder), "delete the folder to run it again"
            lines = read_lines(path)
        else:
            path, remedy = self.root / packing.FOLDER, f"cell {cell_id}"
            lines = ((record, record.line()) for record in self._packed[cell_id]().records())
        found = defaultdict[int, list[tuple[Record, str]]](list)
        for record, line in lines:
            found[record.seed].append((record, line))
        for seed, expected in done.items():
            if digest(line for _, line in found[seed]) != expected:
                raise DataError(f"{path} does not match DONE for seed {seed}: torn or edited; {remedy}")
        return {seed: found[seed] for seed in done}


def _planned(spec: RunSpec) -> dict[str, Any]:
    return {"cell_id": spec.cell_id, "variant": spec.variant, "seeds": list(spec.seeds), **spec.describe()}


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
