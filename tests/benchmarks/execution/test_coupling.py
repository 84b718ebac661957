"""How a cell's synthetic rows meet its algorithm: what the settings ask for is what the buffer holds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.execution import matrix, plan
from benchmarks.records import Record
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from core.buffer import Buffer

CPU = torch.device("cpu")
Cells = Callable[..., list[RunSpec]]


def drawn(specs: list[RunSpec], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[int]]]:
    """(slots of the buffer, rows of seed 0 that can be drawn at every refresh) of every cell."""
    found = list[tuple[int, list[int]]]()

    class Seen(Buffer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append((self.rows.shape[1], []))

        def add(self, *arguments: Any) -> None:
            super().add(*arguments)
            found[-1][1].append(int(self.filled()[0]))

    monkeypatch.setattr("benchmarks.execution.cell.Buffer", Seen)
    assert matrix.run_missing(specs, ResultStore(folder), CPU, None, partial(matrix.local, jobs=1)) == 0
    return found


@pytest.mark.parametrize(
    ("overrides", "slots", "rows"),
    [
        ((), 120, [40, 80, 120]),
        (("rollouts_from=2",), 80, [40, 80]),
        (("buffer_refreshes=2",), 80, [40, 80, 80]),
        (("buffer_refreshes=1", "rollouts_from=3"), 40, [40, 40]),
        (("buffer_refreshes=1000000000",), 120, [40, 80, 120]),
        (("buffer_refreshes=2", "buffer_rows=50"), 50, [40, 50, 50]),
    ],
)
def test_the_buffer_is_as_large_as_what_can_be_drawn(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_cells: Cells,
    overrides: tuple[str, ...],
    slots: int,
    rows: list[int],
) -> None:
    specs = tiny_cells('generators=["ensemble"]', "ensemble.refresh_every=2", *overrides)
    assert drawn(specs, tmp_path, monkeypatch) == [(slots, rows)]


@pytest.mark.parametrize(
    ("overrides", "estimate"),
    [
        (("seeds=[0, 1]",), "100 s"),  # of one seed: the other has finished
        (("rollouts_from=500",), "80 s"),
        (("ensemble.refresh_every=100",), "3 min"),
        (("updates=500", "rollouts_from=499"), "40 s"),
    ],
)
def test_estimates_follow_updates_and_refreshes(
    tmp_path: Path, tiny_cells: Cells, overrides: tuple[str, ...], estimate: str
) -> None:
    """A finished cell took 100 s, 40 of them for four refreshes: 10 s each, and 60 ms for an update."""
    base = ('generators=["ensemble"]', "seeds=[0]", "updates=1000", "ensemble.refresh_every=250")
    (done,) = tiny_cells(*base)
    store = ResultStore(tmp_path)
    refreshes = [Record(0, step, "generate/not_finite", 0.0) for step in (1, 251, 501, 751)]
    costs = [Record(0, 1000, f"cost/{name}_seconds", x) for name, x in (("generate", 4.0), ("total", 10.0))]
    store.finish(done, {"seeds": [0], "seconds": 100.0}, refreshes + costs)
    (wanted,) = tiny_cells(*base, *overrides)
    found = plan.describe([wanted], store)
    assert f"  {estimate}  " in found.splitlines()[2]
