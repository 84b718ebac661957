"""Whether a results folder that somebody sent holds what it says; only reads."""

import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.report.aggregates import aggregate
from benchmarks.report.comparability import mixtures
from benchmarks.report.render import to_csv
from benchmarks.report.results import collect
from benchmarks.report.scores import evaluations, finals
from benchmarks.spec import cell_id
from benchmarks.store import Cell, ResultStore
from core.errors import DataError

__all__ = ["summary", "verify"]

MAX_BYTES = 2**30
_FILES = ("spec.json", "records.jsonl", "DONE", "error.txt", "LEASE")  # of a cell
_OTHERS = {"report", "tracker"}  # folders that are no cells
_UNFINISHED = {"LEASE", "checkpoint"}  # may lie in a cell before anything else does
_DRAWN = (".csv", ".md", ".tex", ".html", ".svg", ".png")  # of report/
_ROUNDING = 1e-9  # what another machine may make of the same numbers


def verify(root: Path) -> list[str]:
    """Every fault of the folder, a line each: the file, the rule and what was found. Empty when everything holds.

    A cell, or a plan, that has links, special or huge files in it is named and not opened. Tables of the report are
    drawn again, and compared, when every cell and the plan can be read.
    """
    if not root.is_dir():
        return [_one_line(f"{root} must be a folder, got {'a file' if root.exists() else 'nothing'}")]
    faults, closed = _layout(root)
    store = ResultStore(root)
    cells = list[Cell]()
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name not in closed | _OTHERS]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        if "spec.json" in names:
            try:
                cells.append(_cell(store, folder))
                faults += _contents(store, cells[-1])
            except DataError as error:
                faults.append(str(error))
        elif not names or names - _UNFINISHED:
            faults.append(f"{folder} must hold spec.json, got {', '.join(sorted(names)) or 'nothing'}")
    if not cells and not faults:
        faults.append(f"{root} must hold cells, got none")
    planned, wrong = _plan(store) if "plan.json" not in closed else ({}, [])
    faults += wrong
    for cell in cells:
        if (left := root / cell.cell_id / "checkpoint").exists() and planned.get(cell.cell_id, set()) <= set(cell.done):
            faults.append(f"{left} must be gone when every planned seed is done, got one left over")
    faults += [f"{root}: {mixture.rule}" for mixture in mixtures(cells)]
    if (
        not closed
        and not wrong
        and {path.parent.name for path in root.glob("*/spec.json")} == {c.cell_id for c in cells}
    ):
        faults += _report(store)
    return [_one_line(fault) for fault in faults]


def summary(root: Path) -> str:
    """One line about a folder without faults: how much it holds, and what its plan asks for that it does not hold."""
    store = ResultStore(root)
    cells = store.cells()
    done = {cell.cell_id: set(cell.done) for cell in cells}
    planned = {entry["cell_id"]: set(entry["seeds"]) for entry in store.planned().get("cells", [])}
    missing = sum(len(seeds - done.get(name, set())) for name, seeds in planned.items())
    counts = {"cell": len(cells), "seed": sum(map(len, done.values())), "record": sum(len(c.records) for c in cells)}
    held = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items())
    return f"{held}: everything holds" + (f"; planned seeds without a result: {missing}" if missing else "")


def _layout(root: Path) -> tuple[list[str], set[str]]:
    """What is no plain file in its place; and the entries of `root` in which something must not be opened."""
    faults = list[str]()
    closed = set[str]()

    def unreadable(error: OSError) -> None:
        faults.append(f"{error.filename} must be readable, got {error.strerror}")
        closed.add(Path(error.filename).relative_to(root).parts[0])

    for folder, folders, files in os.walk(root, onerror=unreadable):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            status = path.lstat()
            parts = path.relative_to(root).parts
            is_folder = stat.S_ISDIR(status.st_mode)
            danger = True
            if stat.S_ISLNK(status.st_mode):
                fault = f"{path} must be no symbolic link, got one to {path.readlink()}"
            elif not is_folder and not stat.S_ISREG(status.st_mode):
                fault = f"{path} must be a plain file, got mode {stat.filemode(status.st_mode)}"
            elif not is_folder and status.st_size > MAX_BYTES:
                fault = f"{path} must be at most {MAX_BYTES} bytes, got {status.st_size}"
            elif name.startswith(".") and name.endswith(".part"):
                fault = f"{path} must be gone, got what a write that was cut short has left over"
                danger = is_folder
            elif not _has_place(parts, is_folder):
                fault = f"{path} must not be there: a results folder has no such entry"
                danger = is_folder
            else:
                continue
            faults.append(fault)
            if danger:
                closed.add(parts[0])
                folders[:] = [other for other in folders if other != name]
    return faults, closed


def _has_place(parts: tuple[str, ...], is_folder: bool) -> bool:
    match parts:
        case ("plan.json",):
            return not is_folder
        case (_,) | (_, "checkpoint"):
            return is_folder
        case ("tracker", *_):  # event files of whatever looked on
            return True
        case ("report", name):
            return not is_folder and name.endswith(_DRAWN)
        case (_, "checkpoint", *_):
            return True
        case (_, name):
            return not is_folder and name in _FILES
    return False


def _cell(store: ResultStore, folder: Path) -> Cell:
    """The cell, if its numbers can be read in one way only. Raises: DataError."""
    cell = store.cell(folder.name)
    counts = Counter((record.seed, record.step, record.metric) for record in cell.records)
    if twice := [key for key, count in counts.items() if count > 1]:
        seed, step, metric = twice[0]
        raise DataError(
            f"{folder / 'records.jsonl'} must have one record per seed, step and metric, got seed {seed}, step {step}, "
            f"{metric!r} {counts[twice[0]]} times{f' and {len(twice) - 1} others' if len(twice) > 1 else ''}"
        )
    return cell


def _contents(store: ResultStore, cell: Cell) -> Iterator[str]:
    """What does not fit together in the files of one cell. Raises: DataError."""
    folder = store.root / cell.cell_id
    records = folder / "records.jsonl"
    described = folder / "spec.json"
    updates = cell.spec["settings"]["updates"]
    if strays := sorted({record.seed for record in store.strays(cell.cell_id)}):
        yield f"{records} must hold seeds that DONE lists, got {_listed(strays)} too"
    if silent := sorted(set(cell.done) - {record.seed for record in cell.records}):
        yield f"{records} must hold every seed that DONE lists, got nothing of {_listed(silent)}"
    if late := [record for record in cell.records if record.step > updates]:
        yield f"{records} must end with the {updates} updates of spec.json, got step {max(r.step for r in late)}"
    finished = [run for run in cell.runs if run["status"] == "ok"]
    for seed in cell.done:
        if (count := sum(seed in run.get("seeds", []) for run in finished)) != 1:
            yield f"{described} must have one run with status ok for every seed, got {count} for seed {seed}"
    for run in finished:
        if set(run.get("seeds", [])) & set(cell.done):
            for name, (rule, holds) in _ORIGIN.items():
                if not holds(run.get(name)):
                    seeds = _listed(run["seeds"])
                    yield f"{described}: {name} must be {rule} in the run of {seeds}, got {run.get(name)!r:.80}"


def _plan(store: ResultStore) -> tuple[dict[str, set[int]], list[str]]:
    """The seeds that were asked for, by cell, and what is wrong with the plan."""
    try:
        entries = store.planned().get("cells", [])
    except DataError as error:
        return {}, [str(error)]
    faults = []
    for entry in entries:
        try:
            name = cell_id({key: entry[key] for key in ("task", "generator", "algorithm", "settings")})
        except (ValueError, RecursionError) as error:
            name = str(error)
        if name != entry["cell_id"]:
            path = store.root / "plan.json"
            faults.append(f"{path} must describe the cells that it names, got {name} under {entry['cell_id']}")
    return {entry["cell_id"]: set(entry["seeds"]) for entry in entries}, faults


def _report(store: ResultStore) -> Iterator[str]:
    """Where the numbers of report/ are not those of the records."""
    results = collect(store)
    for name, frame in (("scores", evaluations(results)), ("aggregate", aggregate(finals(results)))):
        path = store.root / "report" / f"{name}.csv"
        if path.exists():
            kept = path.read_text(encoding="utf-8", errors="replace").splitlines()
            for number, (old, new) in enumerate(zip_longest(kept, to_csv(frame).splitlines(), fillvalue=""), 1):
                if not _equal(old, new):
                    yield f"{path} line {number} must be {new!r} by the records, got {old!r:.200}"
                    break


def _equal(old: str, new: str) -> bool:
    """Whether two lines of a table say the same."""
    pairs = list(zip_longest(old.split(","), new.split(","), fillvalue=""))
    return old == new or all(one == other or _close(one, other) for one, other in pairs)


def _close(one: str, other: str) -> bool:
    try:
        return math.isclose(float(one), float(other), rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    except ValueError:
        return False


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _utc(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except (TypeError, ValueError):
        return False


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_ORIGIN: dict[str, tuple[str, Callable[[Any], bool]]] = {  # of every run: field -> rule
    "commit": ("a commit", _matches("[0-9a-f]{7,64}")),
    "dirty": ("true or false", lambda value: isinstance(value, bool)),
    "versions": (
        "versions by package",
        lambda value: isinstance(value, dict) and bool(value) and all(map(_text, value.values())),
    ),
    "device": ("a device", _text),
    "physics": ("a simulator with its version", _text),
    "dataset_sha256": ("64 hexadecimal digits", _matches("[0-9a-f]{64}")),
    "started": ("a time in UTC", _utc),
    "seconds": ("a number of seconds", lambda value: type(value) in (int, float) and 0 <= value < math.inf),
}


def _listed(seeds: list[int]) -> str:
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def _one_line(text: str) -> str:
    """Whatever names and values hold, one line that a terminal can show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
