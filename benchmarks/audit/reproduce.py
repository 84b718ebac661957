"""Run a finished cell once more and compare every number with those that were kept."""

from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.execution.cell import run_cell
from benchmarks.records import Record
from benchmarks.spec import restore
from benchmarks.store import Cell, ResultStore
from core.errors import SpecError
from tasks.base import load_task

__all__ = ["reproduce"]

_SHOWN = 10
_ORIGIN = ("commit", "physics", "dataset_sha256", "device", "threads", "versions", "imports")
_CPUS = "made on CPU {}, this is CPU {}: data made here may differ in the last digits, and every number that follows"


def reproduce(folder: Path, device: torch.device, data_dir: Path | None) -> tuple[str, bool]:
    """What differs, as text, and whether every number is equal; costs are not compared.

    Raises:
        SpecError: it is no finished cell of a results folder.
        DataError: its files are torn or were edited, or the data cannot be had.
    """
    cell = _cell(folder)
    spec = restore(cell.spec, cell.done, cell.variant)
    if spec.cell_id != cell.cell_id:
        return f"{cell.cell_id}: this version has other fields; it would be {spec.cell_id}", False
    task = load_task(spec.task, spec.settings.data_options(data_dir))
    records, origin = run_cell(spec, task, device)
    old = _values(cell.records)
    new = _values(records)
    rows = [(*key, value, new.get(key)) for key, value in sorted(old.items()) if new.get(key, key) != value]
    lines = [f"{cell.cell_id}: {len(old)} numbers of seeds {', '.join(map(str, cell.done))}, {len(rows)} differ"]
    if more := len(new.keys() - old.keys()):
        lines.append(f"{more} more numbers are measured now and were not kept")
    last = cell.runs[-1]
    then_and_now = [(name, last.get(name), origin.get(name)) for name in _ORIGIN]
    lines += [f"{name}: was {then}, is {now}" for name, then, now in then_and_now if then != now]
    if rows:
        known = [name for name in ("cpu", "vectors") if last.get(name) and origin.get(name)]  # older cells do not tell
        cpus = [", ".join(run[name] for name in known) for run in (last, origin)]
        lines += [_CPUS.format(*cpus)] if len(set(cpus)) > 1 else []
        both = [(was, now) for *_, was, now in rows if was is not None and now is not None]
        apart = [abs(was - now) / max(abs(was), abs(now)) for was, now in both]
        lines += [f"at most {max(apart):.1e} of the larger number apart"] if apart else []
        shown = [[*map(str, row)] for row in rows[:_SHOWN]]  # every digit: the last one may be all that differs
        heads = ["seed", "step", "metric", "horizon", "was", "is"]
        lines += ["", tabulate(shown, heads, disable_numparse=True)]
        lines += [f"... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return "\n".join(lines), not rows


def _cell(folder: Path) -> Cell:
    store = ResultStore(folder.parent)
    names = store.names() if folder.parent.is_dir() else []
    if folder.name in names and (cell := store.cell(folder.name)).done:
        return cell
    there = ", ".join(cell.cell_id for cell in store.cells() if cell.done) if names else ""
    raise SpecError(f"CELL must be a finished cell (DIR/<cell_id>), got {folder}; there are: {there or 'none'}")


def _values(records: list[Record]) -> dict[tuple[int, int, str, int], float | None]:
    """By seed, step, metric and horizon (0: not a curve), as they are written: what is not finite is none."""
    return {
        (kept.seed, kept.step, kept.metric, kept.horizon or 0): kept.value
        for record in records
        if not record.metric.startswith("cost/")
        for kept in [Record.parse(record.line())]
    }
