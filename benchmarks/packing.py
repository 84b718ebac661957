"""Finished cells in few small files, so that a repository can keep a study of a thousand cells.

DIR/packed/<task>-<digest>.jsonl.xz    one line per cell of that task: a `PackedCell`
DIR/packed/plan.json.xz                plan.json

A file's name has a digest of its content, so cells that stay as they are stay in files that do.
"""

import hashlib
import json
import lzma
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from benchmarks.records import MAX_BYTES, Record, digest, finding
from core.errors import DataError
from core.files import atomic, canonical_json

__all__ = ["FOLDER", "PackedCell", "essential", "load", "read_plan", "save"]

FOLDER = "packed"
LIMIT = 900_000  # bytes of a file
_EVALUATED = ("return", "normalized_score")
_WHOLE = re.compile("generate/|compounding/[a-z]+/(median|local)$")
_NAMED = re.compile(rb'\{"cell_id":"([^"\\]+)"')
_Absent = Literal[""]


class Series(BaseModel, strict=True):
    """The records of one metric. Numbers that differ in nothing but the seed are a row."""

    at: list[tuple[NonNegativeInt, PositiveInt | None]]  # step, horizon
    single: bool  # all are numbers of single precision, written with as few digits as tell those apart
    values: list[list[FiniteFloat | _Absent | None]]  # len(at) x seeds; "": this seed has no such record

    @classmethod
    def of(cls, rows: Mapping[tuple[int, int | None], Mapping[int, float | None]], seeds: Sequence[int]) -> "Series":
        """From {(step, horizon): {seed: value}}."""
        known = np.array([x for row in rows.values() for x in row.values() if x is not None])
        with np.errstate(over="ignore"):
            single = bool(np.all(known.astype(np.float32) == known))

        def short(x: float | None) -> float | None:
            return float(str(np.float32(x))) if single and x is not None else x

        values: list[list[float | _Absent | None]] = [
            [short(row[seed]) if seed in row else "" for seed in seeds] for row in rows.values()
        ]
        return cls(at=list(rows), single=single, values=values)

    def value(self, row: int, column: int) -> float | _Absent | None:
        """As it was before it was written."""
        found = self.values[row][column]
        return float(np.float32(found)) if self.single and isinstance(found, float) else found


class PackedCell(BaseModel, strict=True):
    """A finished cell."""

    cell_id: str
    described: dict[str, Any]  # spec.json
    seeds: dict[Annotated[str, Field(pattern="^[0-9]{1,18}$")], str]  # with the sha256 of their lines, as in DONE
    left_out: NonNegativeInt  # records that were measured and are not kept here
    series: dict[str, Series]  # by metric

    @model_validator(mode="after")
    def _rectangular(self) -> "PackedCell":
        for metric, one in self.series.items():
            if len(one.values) != len(one.at) or any(len(row) != len(self.seeds) for row in one.values):
                raise ValueError(f"series {metric!r} must have {len(one.at)} rows of {len(self.seeds)} values")
        return self

    @classmethod
    def of(cls, cell_id: str, described: dict[str, Any], records: Iterable[Record], left_out: int) -> "PackedCell":
        """From what a results folder holds. Raises: DataError: two records differ in nothing but the value."""
        rows = defaultdict[str, dict[tuple[int, int | None], dict[int, float | None]]](dict)
        for record in records:
            by_seed = rows[record.metric].setdefault((record.step, record.horizon), {})
            if record.seed in by_seed:
                raise DataError(
                    f"{cell_id} must have one record per seed, step, metric and horizon, got {record} again"
                )
            by_seed[record.seed] = record.value
        seeds = sorted({seed for metric in rows.values() for row in metric.values() for seed in row})
        series = {metric: Series.of(at, seeds) for metric, at in rows.items()}
        unsigned = dict.fromkeys(map(str, seeds), "")
        cell = cls(cell_id=cell_id, described=described, seeds=unsigned, left_out=left_out, series=series)
        return cell.model_copy(update={"seeds": {str(seed): digest(lines) for seed, lines in cell.lines().items()}})

    def records(self) -> list[Record]:
        """Its records, by seed and step; those of one step by metric, in the order in which metrics came first."""
        found = [
            Record(int(seed), step, metric, value, horizon)
            for column, seed in enumerate(self.seeds)
            for metric, one in self.series.items()
            for row, (step, horizon) in enumerate(one.at)
            if (value := one.value(row, column)) != ""
        ]
        return sorted(found, key=lambda record: (record.seed, record.step))

    def lines(self) -> dict[int, list[str]]:
        """By seed, as lines of records.jsonl: what `seeds` has digests of."""
        found: dict[int, list[str]] = {int(seed): [] for seed in self.seeds}
        for record in self.records():
            found[record.seed].append(record.line())
        return found


def essential(records: Sequence[Record]) -> list[Record]:
    """What a report of many cells needs: all evaluations, and of everything else the last measurement.

    Of that, curves over the steps of rollouts keep steps 1 and 2, the last one and the last with a value; whole are
    median errors, to which growth is fitted, those of single steps, and curves over rounds.
    """
    last = dict[tuple[int, str], int]()
    ends = dict[tuple[int, str, int, bool], int]()
    for record in records:
        key = (record.seed, record.metric)
        last[key] = max(last.get(key, 0), record.step)
        for valued in {False, record.value is not None}:
            end = (*key, record.step, valued)
            ends[end] = max(ends.get(end, 0), record.horizon or 0)

    def kept(record: Record) -> bool:
        if record.metric in _EVALUATED:
            return True
        if record.step < last[record.seed, record.metric]:
            return False
        if record.horizon in {None, 1, 2} or _WHOLE.match(record.metric):
            return True
        key = (record.seed, record.metric, record.step)
        return record.horizon in {ends.get((*key, valued)) for valued in (False, True)}

    return [record for record in records if kept(record)]


def save(root: Path, cells: Iterable[PackedCell], plan: Mapping[str, Any]) -> None:
    """Make them what `root`/packed holds. What was there before goes last."""
    folder = root / FOLDER
    lines = defaultdict[str, list[bytes]](list)
    for cell in sorted(cells, key=lambda cell: cell.cell_id):
        lines[cell.cell_id.partition("--")[0]].append(cell.model_dump_json().encode() + b"\n")
    files = {
        f"{task}-{hashlib.sha256(content).hexdigest()[:8]}.jsonl.xz": content
        for task, of_task in lines.items()
        for content in _small(of_task)
    }
    if plan:
        files["plan.json.xz"] = _compressed(canonical_json(plan).encode())
    for name, content in files.items():
        with atomic(folder / name) as part:
            part.write_bytes(content)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()


def load(root: Path) -> dict[str, Callable[[], PackedCell]]:
    """What `root`/packed holds, by cell id; a cell is read when it is asked for.

    Raises:
        DataError: a file is torn; or, when asked for, a line is no cell; names it.
    """
    found = dict[str, Callable[[], PackedCell]]()
    for path in sorted((root / FOLDER).glob("*.jsonl.xz")):
        for number, line in enumerate(_decompressed(path).splitlines(), 1):
            named = _NAMED.match(line)
            if named is None:
                raise DataError(f"{path} line {number} must begin with the id of a cell, got {line[:80]!r}")
            cell_id, cell = named[1].decode(), cache(partial(_parse, path, number, line))
            if cell_id not in found or len(cell().seeds) > len(found[cell_id]().seeds):  # twice: `save` was killed
                found[cell_id] = cell
    return found


def read_plan(root: Path) -> Any:
    """The plan that was saved; None: there is none. Raises: DataError."""
    path = root / FOLDER / "plan.json.xz"
    if not path.exists():
        return None
    try:
        return json.loads(_decompressed(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None


def _parse(path: Path, number: int, line: bytes) -> PackedCell:
    try:
        return PackedCell.model_validate_json(line)
    except ValidationError as error:
        raise DataError(f"{path} line {number} is not a packed cell: {finding(error)}") from None


def _small(lines: list[bytes]) -> Iterator[bytes]:
    content = _compressed(b"".join(lines))
    if len(content) <= LIMIT or len(lines) == 1:
        yield content
    else:
        yield from _small(lines[: len(lines) // 2])
        yield from _small(lines[len(lines) // 2 :])


def _compressed(content: bytes) -> bytes:
    return lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)


def _decompressed(path: Path) -> bytes:
    try:
        with lzma.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} must hold at most {MAX_BYTES} bytes, got more")
    return content
