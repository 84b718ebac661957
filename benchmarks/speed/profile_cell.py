"""Where the wall time of one whole cell goes: python -m benchmarks.speed.profile_cell.

The cell runs in a process of its own as a matrix would run it, its models fitted afresh. Every activity counts without
what is nested in it: a checkpoint in the middle of a fit is a checkpoint. What is not the work itself (hashes, files,
bookkeeping) should stay below five per cent each. The start (imports, reading the suite) is told apart: a matrix pays
it once for all its cells, whose processes are copies of one that has imported everything.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.speed.turns import Figure
from core.files import write_json

__all__ = ["OVERHEAD", "Stopwatch", "figures", "main", "profile"]

_ROOT = Path(__file__).resolve().parents[2]
_LIMIT = 0.05  # share of one activity that is not the work
WORK = ("data", "fit", "generate", "batches", "update", "evaluate", "fidelity")
OVERHEAD = ("hashes", "model files", "checkpoints", "records", "provenance", "other")


class Stopwatch:
    """Seconds by activity; of nested activities only the innermost runs."""

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)
        self._running = ["other"]
        self._since = time.perf_counter()

    @contextmanager
    def __call__(self, activity: str) -> Iterator[None]:
        """This activity from here to the end of the block."""
        self._lap()
        self._running.append(activity)
        try:
            yield
        finally:
            self._lap()
            self._running.pop()

    def around(self, owner: Any, name: str, activity: str) -> None:
        """From now on `owner.name` is an activity."""
        inner: Callable[..., Any] = getattr(owner, name)

        @wraps(inner)
        def timed(*given: Any, **named: Any) -> Any:
            with self(activity):
                return inner(*given, **named)

        setattr(owner, name, timed)

    def stop(self) -> dict[str, float]:
        """What has been counted."""
        self._lap()
        return dict(self.seconds)

    def _lap(self) -> None:
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now


def profile(suite: str, overrides: list[str], device: str) -> dict[str, Any]:
    """Seconds and shares by activity of the first cell of a suite."""
    command = [sys.executable, "-m", "benchmarks.speed.profile_cell", "--suite", suite, "--device", device, "--here"]
    started = time.time()
    ran = subprocess.run(
        [*command, *(part for override in overrides for part in ("--set", override))],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    total = time.time() - started
    said = json.loads(ran.stdout.splitlines()[-1])
    seconds = said.pop("seconds")
    made = seconds.pop("made once", 0.0)  # a dataset of this machine, at its first use: of no cell
    start = seconds.pop("start") + said.pop("began") - started  # with the interpreter itself
    total -= made + start
    seconds["other"] += total - sum(seconds.values())  # the end of the process
    shares = {name: seconds.get(name, 0.0) / total for name in (*WORK, *OVERHEAD)}
    above = {name: shares[name] for name in OVERHEAD if shares[name] > _LIMIT}
    return {**said, "start_seconds": start, "seconds": seconds, "shares": shares, "overhead_above_limit": above}


def _run(suite: str, overrides: list[str], device_name: str) -> dict[str, Any]:
    """The cell in this process."""
    began = time.time()
    watch = Stopwatch()
    with watch("start"):
        import torch

        from benchmarks.execution import cell, matrix, resume
        from benchmarks.execution.costs import Clock
        from benchmarks.speed.timing import machine
        from benchmarks.store import ResultStore
        from benchmarks.suite import cells, load_suite
        from core.buffer import Mixer
        from core.checkpoint import Checkpoint
        from models.cache import ModelCache
        from tasks.base import Task
        from tasks.sources import local

        for name in matrix._IMPORTS:
            import_module(name)
        spec = cells(load_suite(suite, overrides))[0]
    device = torch.device(device_name)
    for owner, name, activity in (
        (Task, "dataset", "data"),
        (local, "_make", "made once"),
        (matrix, "load_task", "data"),
        (ModelCache, "_keys", "hashes"),
        (ModelCache, "_load", "model files"),
        (Checkpoint, "save", "checkpoints"),
        (Checkpoint, "load", "checkpoints"),
        (ResultStore, "finish", "records"),
        (ResultStore, "missing", "records"),
        (matrix, "acquire", "records"),
        (cell, "provenance", "provenance"),
        (resume, "canonical_json", "provenance"),
        (Mixer, "batch", "batches"),
    ):
        watch.around(owner, name, activity)
    clocked = Clock.__call__

    @contextmanager
    def both(self: Any, activity: str) -> Iterator[None]:
        with watch(activity), clocked(self, activity):
            yield

    Clock.__call__ = both  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        store = ResultStore(Path(folder))
        if matrix.run_missing([spec], store, device, None, matrix.local, models_folder=Path(folder, "models")):
            raise RuntimeError(f"the cell failed:\n{store.cells()[0].error}")
    ran = {"cell": spec.cell_id, "seeds": list(spec.seeds), "updates": spec.settings.updates}
    return {"began": began, **ran, "machine": machine(device), "seconds": watch.stop()}


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Lines of the table of figures."""
    name, share = max(((name, found["shares"][name]) for name in OVERHEAD), key=lambda item: item[1])
    work = sorted(((found["shares"][name], name) for name in WORK), reverse=True)
    shares = ", ".join(f"{name} {share:.0%}" for share, name in work if share >= 0.01)
    return [
        Figure("Share of a whole cell that is not work: the largest", "<= 5 %", f"{share:.1%} ({name})"),
        Figure("Share of a whole cell by activity", "", shares),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print a table, write json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="demo", help="whose first cell is run")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="json file to write")
    parser.add_argument("--quick", action="store_true", help="a tiny cell: does it run?")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.suite = "smoke"
        asked.overrides = ["generators=['dydiff']", "seeds=[0]"]
    if asked.here:
        print(json.dumps(_run(asked.suite, asked.overrides, asked.device)))
        return
    from tabulate import tabulate

    defaults = ["tasks=['local/hopper-medium-replay']", "generators=['dydiff']"] if asked.suite == "demo" else []
    found = profile(asked.suite, [*defaults, *asked.overrides], asked.device)
    total = sum(found["seconds"].values())
    rows = [
        [name, "" if name in WORK else "no", share * total, 100 * share]
        for name, share in sorted(found["shares"].items(), key=lambda item: -item[1])
    ]
    print(f"{found['cell']}, {len(found['seeds'])} seeds, {found['updates']} updates: {total:.1f} s")
    print(tabulate(rows, ["activity", "work", "seconds", "%"], floatfmt=".2f"))
    print(f"Once for all cells of a matrix: start of the process and imports, {found['start_seconds']:.1f} s.")
    print(f"Not work and above {_LIMIT:.0%}: {', '.join(found['overhead_above_limit']) or 'nothing'}.")
    if asked.out:
        write_json(asked.out, found)


if __name__ == "__main__":
    main()
