"""The numbers of a cell: one line of JSON each."""

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from core.errors import DataError

__all__ = ["DIVERGED", "MAX_BYTES", "Record", "digest", "finding", "read_lines"]

DIVERGED = "diverged/"  # the last metric of a seed that stopped being finite; behind the slash, the tensor that did
MAX_BYTES = 2**27  # of a cell's records, decompressed: about a million
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


def read_lines(path: Path) -> Iterator[tuple[Record, str]]:
    """Every record of records.jsonl or records.jsonl.gz with its line. Raises: DataError."""
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
            raise DataError(f"{path} line {number} is not a record: {finding(error)}") from None


def digest(lines: Iterable[str]) -> str:
    """What DONE has of the lines of a seed."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def finding(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} {first['msg']}, got {first['input']!r:.80}".lstrip()
