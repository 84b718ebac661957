"""How far a results folder is: what has finished, runs, waits, failed or diverged, and why."""

import time
from collections import Counter

from tabulate import tabulate

from benchmarks.execution.lease import holder
from benchmarks.report.results import CellView, collect
from benchmarks.store import ResultStore
from core.checkpoint import Checkpoint

__all__ = ["describe"]

STATES = ("finished", "running", "interrupted", "missing", "failed", "diverged")


def describe(store: ResultStore) -> tuple[str, bool]:
    """A table as text, and whether every cell that was asked for has finished.

    Raises:
        DataError: a file of the store is torn or was edited; names it.
    """
    planned = {cell["cell_id"] for cell in store.planned().get("cells", [])}
    rows = []
    count = Counter[str]()
    for cell in collect(store).everything.cells:
        state, why = _state(store, cell)
        if cell.cell_id not in planned:
            why = "; ".join(filter(None, [why, "not asked for by the last run: the suite is another"]))
        count[state] += 1
        seeds = f"{len(cell.done)}/{len(cell.done) + len(cell.failed) + len(cell.missing)}"
        rows.append([cell.task, cell.generator, cell.algorithm, cell.variant, state, seeds, why])
    headers = ["task", "generator", "algorithm", "variant", "state", "seeds", ""]
    summary = ", ".join(f"{count[state]} {state}" for state in STATES if count[state]) or "nothing asked for yet"
    text = tabulate(rows, headers, disable_numparse=True) + f"\n\n{summary}"
    return text, set(count) <= {"finished"}


def _state(store: ResultStore, cell: CellView) -> tuple[str, str]:
    found = holder(store.lease(cell.cell_id))
    step = Checkpoint(store.checkpoint(cell.cell_id)).newest()
    at = "" if step is None else f"saved at update {step} of {cell.spec['settings']['updates']}"
    if found and found[1]:
        minutes = (time.time() - found[0].since) / 60
        return "running", "; ".join(filter(None, [f"{found[0]}, for {minutes:.0f} min", at]))
    if cell.state == "failed":
        return cell.state, cell.error or ""
    if cell.state == "missing":
        dead = f"{found[0]} has died" if found else ""
        return ("interrupted" if dead or at else cell.state), "; ".join(filter(None, [dead, at]))
    tensors = {f"seed {seed}: {tensor} at update {step}" for seed, (step, tensor) in cell.diverged.items()}
    return cell.state, "; ".join(sorted(tensors))
