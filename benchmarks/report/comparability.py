"""Cells of one task with different physics or data must not stand in one table; different commits are only named."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.report.results import CellView
from benchmarks.report.text import natural
from benchmarks.store import Cell

__all__ = ["Mixture", "data_notes", "mixtures", "origins", "refusal"]

_MADE_HERE = ("local/", "toy/")  # sets that are as large as `dataset_rows` says


@dataclass(frozen=True)
class Mixture:
    """Finished cells of one task that do not share what makes their numbers comparable."""

    task: str
    what: str  # physics or dataset_sha256
    cells: Mapping[str, tuple[str, ...]]  # version -> ids of the cells that have seeds of it

    @property
    def rule(self) -> str:
        """What is broken, with one cell of every version."""
        versions = " and ".join(f"{version!r} (cell {cells[0]})" for version, cells in self.cells.items())
        return f"finished cells of {self.task} must have one {self.what}, got {versions}"

    @property
    def footnote(self) -> str:
        """Which versions there are, and how many cells have each."""
        versions = " and ".join(f"{version} ({_cells(len(cells))})" for version, cells in self.cells.items())
        return f"mixed {self.what}: {self.task} has {versions}; its numbers are not comparable."


def mixtures(cells: Iterable[Cell | CellView]) -> list[Mixture]:
    """Every task whose finished seeds have more than one physics or data set.

    Fields that a run does not record are skipped. Sets that are made here differ with `dataset_rows`, so they are
    compared among cells of equal `dataset_rows`. Cells that differ in `train_rows` share a data set: they are variants.
    """
    found: dict[tuple[str, str, int | None], dict[str, list[str]]] = {}
    for cell in cells:
        task = cell.spec["task"]
        size = cell.spec["settings"].get("dataset_rows") if task.startswith(_MADE_HERE) else None
        for run in _finished(cell):
            for key in ((task, "physics", None), (task, "dataset_sha256", size)):
                if run.get(key[1]) is not None:
                    ids = found.setdefault(key, {}).setdefault(str(run[key[1]]), [])
                    ids += [cell.cell_id] if cell.cell_id not in ids else []
    return [
        Mixture(task, what, {version: tuple(versions[version]) for version in sorted(versions)})
        for (task, what, _), versions in found.items()
        if len(versions) > 1
    ]


def data_notes(cells: Iterable[Cell | CellView]) -> list[str]:
    """What is known to be odd about the data of finished cells, one sentence each, by task."""
    found: dict[str, str] = {}
    for cell in cells:
        task = cell.spec["task"]
        for run in _finished(cell):
            card = run.get("dataset") or {}
            found |= {f"{task}: {x}.": task for x in card.get("conventions", ())}
            found |= {f"{task}: the data contradict the simulator: {x}.": task for x in card.get("contradictions", ())}
    return sorted(found, key=lambda sentence: natural(found[sentence]))


def refusal(mixed: Iterable[Mixture]) -> str:
    """Why there is no report, and how to get one."""
    return "\n".join(
        [*(mixture.rule for mixture in mixed), "run_bench.py report DIR --allow-mixed draws them together"]
    )


def origins(cells: Iterable[Cell | CellView]) -> str:
    """One sentence if finished cells differ in commit or packages, or had uncommitted changes; else empty."""
    runs = [run for cell in cells for run in _finished(cell)]
    commits = sorted({str(run["commit"])[:8] for run in runs if run.get("commit")})
    versions: dict[str, set[str]] = {}
    for run in runs:
        for name, version in (run.get("versions") or {}).items():
            versions.setdefault(name, set()).add(str(version))
    parts = [f"{len(commits)} commits ({', '.join(commits)})"] if len(commits) > 1 else []
    parts += ["a tree with uncommitted changes"] if any(run.get("dirty") for run in runs) else []
    parts += [
        f"{name} {' and '.join(sorted(several, key=natural, reverse=True))}"
        for name, several in sorted(versions.items())
        if len(several) > 1
    ]
    return f"Cells come from {', '.join(parts)}." if parts else ""


def _finished(cell: Cell | CellView) -> list[Mapping[str, Any]]:
    """The runs that its finished seeds come from."""
    done = set(cell.done)
    return [run for run in cell.runs if run.get("status") == "ok" and done & set(run.get("seeds", done))]


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count > 1)}"
