"""Cells side by side in processes of their own."""

from pathlib import Path

import pytest
import torch

from benchmarks import matrix
from benchmarks.spec import RunSpec, cells, load_suite
from benchmarks.store import ResultStore

CPU = torch.device("cpu")
QUICK = ["updates=40", "evaluate_every=20", "seeds=[0]", "fidelity_starts=8", "ensemble.dynamics.max_updates=40"]
DYING = """
import os
from generators.none import RealOnly

class Dying(RealOnly):
    "Takes its process with it, as the kernel does when memory is short."

    def fit(self, task, data, models, rng):
        os._exit(9)
"""


def specs(*overrides: str) -> list[RunSpec]:
    return cells(load_suite("smoke", [*QUICK, *overrides]))


def test_numbers_do_not_depend_on_how_many_run_at_once(tmp_path: Path) -> None:
    stores, wanted = (ResultStore(tmp_path / "one"), ResultStore(tmp_path / "two")), specs('generators=["none","mopo"]')
    for jobs, store in enumerate(stores, 1):
        assert matrix.run_missing(wanted, store, CPU, None, jobs) == 0
    one, two = (
        [record for cell in store.cells() for record in cell.records if not record.metric.startswith("cost/")]
        for store in stores
    )
    assert len(one) > 100
    assert one == two


def test_a_cell_whose_process_dies_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying_example.py").write_text(DYING, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    store = ResultStore(tmp_path / "out")
    wanted = specs('generators=["dying_example:Dying", "none"]')
    assert matrix.run_missing(wanted, store, CPU, None, 2) == 1
    dead, alive = sorted(store.cells(), key=lambda cell: bool(cell.done))
    assert dead.error == "the cell's process ended with exit code 9\n"
    assert dead.runs[-1]["status"] == "failed"
    assert alive.done == (0,)
