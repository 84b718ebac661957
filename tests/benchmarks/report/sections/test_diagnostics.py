"""The table of signatures that show."""

from pathlib import Path
from typing import Any

from benchmarks.report.results import collect
from benchmarks.report.sections.diagnostics import diagnostics_table
from benchmarks.store import Record, ResultStore


def test_the_table_names_cell_number_and_sentence(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    records = [Record(seed, 300, "values/ratio", 4.0 + seed) for seed in (0, 1)]
    store.finish(build.spec("toy/linear", "none", 2), {}, records)
    assert [[entry.text for entry in row] for row in diagnostics_table(collect(store)).rows] == [
        [
            "toy/linear",
            "bc",
            "none",
            "values blow up",
            "4.5",
            "The critic's values of generated actions are 4.5 times the size of its values of recorded ones.",
        ]
    ]
