"""The table of signatures that show."""

from pathlib import Path
from typing import Any

from benchmarks.records import Record
from benchmarks.report.results import collect
from benchmarks.report.sections.diagnostics import diagnostics, diagnostics_table
from benchmarks.store import ResultStore


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


def test_the_csv_holds_what_does_not_show_as_well(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    records = [Record(0, 300, "values/ratio", 1.5), Record(0, 300, "consistency/kl", 1.5)]
    store.finish(build.spec("toy/linear", "none", 1), {}, records)
    frame = diagnostics(collect(store)).set_index("signature")
    assert frame["number"].to_dict() == {"not the policy's actions": 1.5, "values blow up": 1.5}
    assert frame["shows"].to_dict() == {"not the policy's actions": True, "values blow up": False}


def test_rows_are_in_the_order_of_generators(tmp_path: Path, build: Any) -> None:
    """All variants of a generator together, the ceiling last."""
    store = ResultStore(tmp_path)
    for generator, variant in (("simulator", "default"), ("dydiff", "M=4"), ("mopo", "default"), ("dydiff", "M=1")):
        cell = build.spec("toy/linear", generator, 1, variant, iterations=int(variant[-1]) if "=" in variant else 0)
        store.finish(cell, {}, [Record(0, 300, "values/ratio", 4.0)])
    table = diagnostics_table(collect(store))
    where = [table.head.index(name) for name in ("generator", "variant")]
    assert [[row[i].text for i in where] for row in table.rows] == [
        ["dydiff", "M=1"],
        ["dydiff", "M=4"],
        ["mopo", "default"],
        ["simulator (ceiling)", "default"],
    ]


def test_numbers_have_minus_signs_and_words_hyphens(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    records = [Record(0, 300, "filter/rank_correlation", -0.25)]
    records += [Record(0, 300, f"compounding/policy/{name}", 1.0, 1) for name in ("median", "still")]
    store.finish(build.spec("toy/linear", "none", 1), {}, records)
    misled, learned = sorted(row[-1].text for row in diagnostics_table(collect(store)).rows)[::-1]
    assert "rank correlation of −0.25:" in misled
    assert "the open-loop error is 1 of that" in learned
