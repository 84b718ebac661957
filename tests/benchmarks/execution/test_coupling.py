"""How a cell's synthetic rows meet its algorithm: what the settings ask for is what the buffer holds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.execution import matrix
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
