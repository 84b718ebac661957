"""Whether a results folder holds what it says: digests, hashes, provenance, plan, tables drawn again; only reads."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, Field, FiniteFloat, ValidationError

from benchmarks.packing import FOLDER
from benchmarks.report.aggregates import aggregate
from benchmarks.report.comparability import mixtures
from benchmarks.report.results import collect
from benchmarks.report.scores import evaluations
from benchmarks.report.tables.spreadsheet import to_csv
from benchmarks.spec import cell_id
from benchmarks.store import Cell, ResultStore
from core.errors import DataError
from metrics.intervals import METHODS

__all__ = ["summary", "verify"]

_FILES = ("spec.json", "records.jsonl", "records.jsonl.gz", "DONE", "error.txt", "LEASE")  # of a cell
_OTHERS = ("report", "tracker", FOLDER)  # folders that are no cells
_UNFINISHED = {"LEASE", "checkpoint"}  # may lie in a cell before anything else does
_DRAWN = (".csv", ".md", ".tex", ".html", ".svg", ".png", ".pdf")  # of report/
_ROUNDING = 1e-9  # what another machine may make of the same numbers


def verify(root: Path) -> list[str]:
    """Every fault of the folder, a line each: the file, the rule and what was found. Empty when everything holds.

    Nothing is opened in a folder with links or special files. Tables of the report are drawn again, and compared, when
    every cell and the plan can be read.
    """
    if not root.is_dir():
        return [f"{root} must be a folder, got {'a file' if root.exists() else 'nothing'}"]
    entries = sorted(root.rglob("*"))
    if special := [path for path in entries if path.is_symlink() or not (path.is_file() or path.is_dir())]:
        return [f"{path} must be a plain file or folder, got a link or a special file" for path in special]
    faults = [f"{path} must not be there" for path in entries if not _has_place(path.relative_to(root).parts, path)]
    store = ResultStore(root)
    cells = list[Cell]()
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name not in _OTHERS]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        if "spec.json" not in names and (not names or names - _UNFINISHED):
            faults.append(f"{folder} must hold spec.json, got {', '.join(sorted(names)) or 'nothing'}")
    try:
        described = store.names()
    except DataError as error:
        return [*faults, str(error)]
    for name in described:
        try:
            cell = store.cell(name)
            faults += _contents(store, cell)
            cells.append(cell)
        except DataError as error:
            faults.append(str(error))
    if not cells and not faults:
        faults.append(f"{root} must hold cells, got none")
    planned, wrong = _plan(store)
    faults += wrong
    for cell in cells:
        if (left := root / cell.cell_id / "checkpoint").exists() and planned.get(cell.cell_id, set()) <= set(cell.done):
            faults.append(f"{left} must be gone when every planned seed is done")
    faults += [f"{root}: {mixture.rule}" for mixture in mixtures(cells)]
    if not wrong and len(described) == len(cells):
        faults += _report(store)
    return faults


def summary(root: Path) -> str:
    """One line about a folder without faults: how much it holds, and what its plan asks for that it does not hold."""
    store = ResultStore(root)
    cells = store.cells()
    done = {cell.cell_id: set(cell.done) for cell in cells}
    planned = {entry["cell_id"]: set(entry["seeds"]) for entry in store.planned().get("cells", [])}
    missing = sum(len(seeds - done.get(name, set())) for name, seeds in planned.items())
    counts = {"cell": len(cells), "seed": sum(map(len, done.values())), "record": sum(len(c.records) for c in cells)}
    held = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items())
    left_out = sum(cell.left_out for cell in cells)
    held += f" ({left_out} more were measured and are not kept)" if left_out else ""
    return f"{held}: everything holds" + (f"; planned seeds without a result: {missing}" if missing else "")


def _has_place(parts: tuple[str, ...], path: Path) -> bool:
    is_folder = path.is_dir()
    match parts:
        case ("plan.json",):
            return not is_folder
        case ("tracker", *_) | (_, "checkpoint", *_):
            return True
        case (folder, name) if folder == FOLDER:
            return not is_folder and (name == "plan.json.xz" or name.endswith(".jsonl.xz"))
        case (_,):
            return is_folder
        case ("report", name):
            return is_folder if name == "latex" else not is_folder and name.endswith(_DRAWN)
        case ("report", "latex", name):
            return not is_folder and name.endswith(".tex")
        case (_, name):
            return not is_folder and name in _FILES
    return False


def _contents(store: ResultStore, cell: Cell) -> Iterator[str]:
    """What does not fit together in the files of one cell. Raises: DataError."""
    folder = store.root / cell.cell_id
    records = f"{folder / 'records'}.jsonl[.gz]"
    described = folder / "spec.json"
    updates = cell.spec["settings"]["updates"]
    if (folder / "records.jsonl.gz").exists() and (folder / "records.jsonl").exists():
        yield f"{folder / 'records.jsonl'} must not be beside records.jsonl.gz, which is the one that is read"
    counts = Counter((record.seed, record.step, record.metric, record.horizon) for record in cell.records)
    if twice := [key for key, count in counts.items() if count > 1]:
        seed, step, metric, horizon = twice[0]
        raise DataError(
            f"{records} must have one record per seed, step, metric and horizon, got seed {seed}, step {step}, "
            f"{metric!r}, horizon {horizon} {counts[twice[0]]} times, and {len(twice) - 1} others"
        )
    if strays := store.strays(cell.cell_id):
        yield f"{records} must hold seeds that DONE lists, got seeds {strays} too"
    if silent := sorted(set(cell.done) - {record.seed for record in cell.records}):
        yield f"{records} must hold every seed that DONE lists, got nothing of seeds {silent}"
    if late := [record.step for record in cell.records if record.step > updates]:
        yield f"{records} must end with the {updates} updates of spec.json, got step {max(late)}"
    finished = [run for run in cell.runs if run["status"] == "ok"]
    for seed in cell.done:
        if (count := sum(seed in run.get("seeds", []) for run in finished)) != 1:
            yield f"{described} must have one run with status ok for every seed, got {count} for seed {seed}"
    for run in finished:
        if set(run.get("seeds", [])) & set(cell.done):
            for rule in _broken_rules(run):
                yield f"{described}, run of seeds {run['seeds']}: {rule}"


class _Provenance(BaseModel, strict=True):
    """What every run must say of itself."""

    commit: Annotated[str, Field(pattern="^[0-9a-f]{7,64}$")]
    dirty: bool
    versions: Annotated[dict[str, str], Field(min_length=1)]
    device: Annotated[str, Field(min_length=1)]
    physics: Annotated[str, Field(min_length=1)]
    dataset_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    started: AwareDatetime
    seconds: Annotated[FiniteFloat, Field(ge=0)]


def _broken_rules(run: dict[str, Any]) -> list[str]:
    try:
        _Provenance.model_validate_json(json.dumps(run))  # as JSON: strict, yet times are text
    except ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r:.80}" for e in error.errors()]
    return []


def _plan(store: ResultStore) -> tuple[dict[str, set[int]], list[str]]:
    """The seeds that were asked for, by cell, and what is wrong with the plan."""
    path = store.root / "plan.json"
    try:
        entries = store.planned().get("cells", [])
        names = [cell_id({key: e[key] for key in ("task", "generator", "algorithm", "settings")}) for e in entries]
    except DataError as error:
        return {}, [str(error)]
    except (ValueError, RecursionError) as error:  # an infinite number, or nested beyond measure
        return {}, [f"{path} must describe cells: {error}"]
    faults = [
        f"{path} must describe the cells that it names, got {name} under {entry['cell_id']}"
        for name, entry in zip(names, entries, strict=True)
        if name != entry["cell_id"]
    ]
    return {entry["cell_id"]: set(entry["seeds"]) for entry in entries}, faults


def _report(store: ResultStore) -> Iterator[str]:
    """Where the numbers of report/ are not those of the records."""
    results = collect(store, _method(store.root / "report" / "aggregate.csv"))
    for name, frame in (("scores", evaluations(results)), ("aggregate", aggregate(results))):
        path = store.root / "report" / f"{name}.csv"
        if path.exists():
            kept = path.read_text(encoding="utf-8", errors="replace").splitlines()
            for number, (old, new) in enumerate(zip_longest(kept, to_csv(frame).splitlines(), fillvalue=""), 1):
                if not all(_close(*pair) for pair in zip_longest(old.split(","), new.split(","), fillvalue="")):
                    yield f"{path} line {number} must be {new!r} by the records, got {old!r:.200}"
                    break


def _method(path: Path) -> str:
    """Of the intervals in aggregate.csv, which its last column names; the default where it does not."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    named = lines[1].rpartition(",")[2] if len(lines) > 1 else ""
    return named if named in METHODS else "t"


def _close(one: str, other: str) -> bool:
    try:
        return one == other or math.isclose(float(one), float(other), rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    except ValueError:
        return False
