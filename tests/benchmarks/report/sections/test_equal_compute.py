"""Generators against none with equal FLOP."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.results import Equalled, Results, collect
from benchmarks.report.sections.equal_compute import equal_compute, equal_compute_table, words
from benchmarks.report.sections.improvement import SECTION as IMPROVEMENT

UPDATES = Equalled("updates", "300", "default").variant
WIDTH = Equalled("width", "96x96", "default").variant
FLOP = {"none": 1e12, "mopo": 3e12, "ensemble": 2e12}


def track(root: Path, build: Any, updates: Sequence[float], width: Sequence[float], spent: float = 3e12) -> Results:
    """none, mopo (10 points more, with some spread) and ensemble (as none), and none with more FLOP: gains by seed."""
    spread = [0.1 * (seed % 3) for seed in range(6)]
    gains = {"none": [0.0] * 6, "mopo": [10 + x for x in spread], "ensemble": [-x for x in spread]}
    flop = {name: [Record(seed, 100, "cost/total_flop", value) for seed in range(6)] for name, value in FLOP.items()}
    store = build.planted(root, gains, more=flop)
    base = next(cell for cell in collect(store).cells if cell.generator == "none")
    for variant, more, own, steps in ((UPDATES, updates, spent, 300), (WIDTH, width, 3e12, 100)):
        spec = build.spec("toy/linear", "none", 6, variant)
        settings = spec.settings.model_copy(update={"updates": steps, "evaluate_every": steps})
        episodes = 10 if variant == UPDATES else 11  # stands for another width: these methods have no fields
        spec = replace(spec, settings=settings.model_copy(update={"episodes": episodes}))
        records = [
            record
            for seed, gain in enumerate(more)
            for record in (
                Record(seed, steps, "return", 7 * (20.0 + 2 * seed + gain)),
                Record(seed, steps, "normalized_score", 20.0 + 2 * seed + gain),
                Record(seed, steps, "cost/total_flop", own),
            )
        ]
        store.finish(spec, build.provenance(6), records)
        assert spec.cell_id != base.cell_id
    return collect(store)


def rising(level: float) -> list[float]:
    return [level + 0.1 * (seed % 2) for seed in range(6)]


def test_generators_are_held_against_the_better_use(tmp_path: Path, build: Any) -> None:
    """mopo gains 10 over none; 12 more updates' worth turns that into a loss of 2."""
    results = track(tmp_path, build, rising(12.0), rising(1.0))
    frame = equal_compute(results).set_index(["generator", "variant"])
    assert frame.loc[("mopo", "default"), "against"] == UPDATES
    assert frame.loc[("mopo", "default"), "mean"] == pytest.approx(10.1 - 12.05)
    assert frame.loc[("mopo", "default"), "verdict"] == "hurts"
    assert frame.loc[("none", UPDATES), ["against", "verdict"]].tolist() == ["default", "helps"]
    assert frame.loc[("none", WIDTH), "mean"] == pytest.approx(1.05)
    assert frame.loc[("ensemble", "default"), ["flop", "flop_against"]].tolist() == [2e12, 3e12]
    (text,) = words(results)
    assert text.startswith(
        "**toy/linear, bc**: with the FLOP of mopo, 3 times its own, generator none scores best with 300"
    )
    assert "hurts: ensemble, mopo" in text


def test_a_generator_that_more_compute_does_not_reach_helps(tmp_path: Path, build: Any) -> None:
    results = track(tmp_path, build, rising(-3.0), rising(1.0))
    frame = equal_compute(results).set_index(["generator", "variant"])
    assert frame.loc[("mopo", "default"), ["against", "verdict"]].tolist() == [WIDTH, "helps"]
    assert "generator none scores best with layers of 96, 96" in words(results)[0]


def test_the_table_names_what_is_compared(tmp_path: Path, build: Any) -> None:
    table = equal_compute_table(track(tmp_path, build, rising(12.0), rising(1.0)))
    assert table.head == ["task", "algorithm", "generator", "FLOP in all, TFLOP", "against", "change", "verdict"]
    shown = [(row[2].text, row[3].text, row[4].text) for row in table.rows]
    assert shown == [
        ("none, 300 updates", "3.00", "none"),
        ("none, layers of 96, 96", "3.00", "none"),
        ("ensemble", "2.00", "none, 300 updates"),
        ("mopo", "3.00", "none, 300 updates"),
    ]


def test_a_cap_that_was_reached_is_named(tmp_path: Path, build: Any) -> None:
    results = track(tmp_path, build, rising(12.0), rising(1.0), spent=1.5e12)
    assert (
        words(results)[1] == "toy/linear, bc: none with 300 updates has 50 % of these FLOP only; more were not allowed."
    )


def test_the_other_sections_do_not_see_the_track(tmp_path: Path, build: Any) -> None:
    results = track(tmp_path, build, rising(12.0), rising(1.0))
    assert {cell.variant for cell in results.cells} == {"default"}
    assert set(results.records["variant"]) == {"default"}
    assert results.equal_compute is not None
    assert len(results.equal_compute.cells) == 5
    frame = IMPROVEMENT.frames["improvements"](results)
    assert len(frame) == 2


def test_without_the_track_there_is_no_section(tmp_path: Path, build: Any) -> None:
    results = collect(build.planted(tmp_path, {"none": [0.0] * 2, "mopo": [1.0] * 2}))
    assert results.equal_compute is None
    assert equal_compute(results).empty
    assert not equal_compute_table(results).rows
    assert not words(results)


def test_variants_are_read_as_they_are_written() -> None:
    for way in (Equalled("updates", "31234", "default"), Equalled("width", "96x96", "alpha=0.5, of two words")):
        assert Equalled.parse(way.variant) == way
    assert Equalled.parse("updates=31234") is None
