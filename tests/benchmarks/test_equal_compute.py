"""Generator none with the FLOP of the dearest generator: planned from records, and run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import pytest
import torch

import run_bench
from benchmarks.equal_compute import equal_cells, update_flop
from benchmarks.execution.updates import Stepper
from benchmarks.probe import stand_in
from benchmarks.records import Record
from benchmarks.report.results import Equalled, collect
from benchmarks.report.sections.equal_compute import tracks
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core import registry
from core.buffer import Buffer, Mixer
from core.data import Dataset
from core.errors import SpecError
from core.random import Streams
from core.registry import build_method
from tasks.base import DataOptions, load_task

ORIGIN = {"seeds": [0, 1], "started": "2026-01-01T00:00:00+00:00", "seconds": 1.0}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return stand_in(load_task("toy/linear", DataOptions(dataset_rows=1000)))


def specs(tiny: tuple[str, ...], *overrides: str) -> list[RunSpec]:
    return cells(load_suite("smoke", [*tiny, "seeds=[0,1]", "updates=2000", "evaluate_every=190", *overrides]))


def finished(root: Path, wanted: list[RunSpec], flop: Mapping[str, float | None]) -> ResultStore:
    """Cells whose seeds took so much by generator; a tenth more or less by seed."""
    store = ResultStore(root)
    store.plan("smoke", wanted, "run_bench.py run smoke")
    for spec in wanted:
        records = [Record(seed, 2000, "return", 1.0) for seed in (0, 1)]
        if spec.generator.name in flop:
            value = flop[spec.generator.name]
            sizes = (None, None) if value is None else (0.9 * value, 1.1 * value)
            records += [Record(seed, 2000, "cost/total_flop", size) for seed, size in enumerate(sizes)]
        store.finish(spec, ORIGIN, records)
    return store


@pytest.mark.parametrize("name", registry.available("algorithms"))
@pytest.mark.parametrize("seeds", [1, 3])
def test_flop_of_updates_are_those_that_a_cell_records(name: str, seeds: int, data: Dataset) -> None:
    fields = {"dql": {"ema_start": 4}}.get(name, {})
    algorithm = build_method("algorithms", name, {"hidden": [16, 8], **fields})
    rng = Streams(range(seeds))
    mixer = Mixer(algorithm.rows(data), Buffer(seeds, 1, 4, 2, "cpu"), 0.5, algorithm.batch_size)
    update = Stepper(algorithm, algorithm.init(data, rng), mixer, rng.fork("a"), rng.fork("b"))
    for _ in range(13):
        update()
    assert [update_flop(algorithm, data, 13, seeds)] * seeds == pytest.approx(update.flop().tolist(), rel=1e-12)


def test_both_ways_spend_what_the_dearest_generator_does(tmp_path: Path, tiny: tuple[str, ...], data: Dataset) -> None:
    wanted = specs(tiny, 'generators=["none","ensemble","mopo"]')
    (none,) = (spec for spec in wanted if spec.generator.name == "none")
    own = update_flop(none.algorithm.config, data, 2000)
    store = finished(tmp_path, wanted, {"none": own, "ensemble": 7.3 * own, "mopo": 2 * own})
    more, wide = equal_cells(store)
    assert more.settings.updates == 14600
    assert more.algorithm == none.algorithm
    assert wide.settings == none.settings
    assert replace(wide.algorithm.config, hidden=none.algorithm.config.hidden) == none.algorithm.config
    first, second = wide.algorithm.config.hidden
    assert first == second > 64
    for spec in (more, wide):
        spent = update_flop(spec.algorithm.config, data, spec.settings.updates)
        assert spent == pytest.approx(7.3 * own, rel=0.01)
        assert spec.generator.name == "none"
        assert spec.seeds == (0, 1)
    evaluated = [[step for step in range(1, s.settings.updates + 1) if s.evaluation_due(step)] for s in (none, more)]
    assert len(evaluated[0]) == len(evaluated[1]) == 11


def test_a_cap_limits_updates_only(tmp_path: Path, tiny: tuple[str, ...], data: Dataset) -> None:
    wanted = specs(tiny)
    own = update_flop(wanted[0].algorithm.config, data, 2000)
    store = finished(tmp_path, wanted, {"none": own, "ensemble": 50 * own})
    more, wide = equal_cells(store, at_most=6000)
    assert more.settings.updates == 6000
    assert update_flop(wide.algorithm.config, data, 2000) == pytest.approx(50 * own, rel=0.01)


@pytest.mark.parametrize(
    ("flop", "at_most", "message"),
    [
        ({}, None, r"DIR must say its FLOP .* got none of toy/linear / none / td3bc"),
        ({"none": 1e9}, None, r"got none of toy/linear / ensemble / td3bc"),
        ({"none": 1e9, "ensemble": None}, None, r"got none of toy/linear / ensemble / td3bc"),
        ({"none": 1e9, "ensemble": 1e9}, None, r"DIR must hold a generator that took more FLOP than generator none"),
        ({"none": 1e9, "ensemble": 3e9}, 2000, r"--at-most must be above the 2000 updates of .* got 2000"),
    ],
)
def test_folders_that_cannot_be_equalled_are_refused(
    tmp_path: Path, tiny: tuple[str, ...], flop: Mapping[str, float | None], at_most: int | None, message: str
) -> None:
    store = finished(tmp_path, specs(tiny), flop)
    with pytest.raises(SpecError, match=message):
        equal_cells(store, at_most)


def test_folders_without_none_or_unfinished_are_refused(tmp_path: Path, tiny: tuple[str, ...]) -> None:
    both = {"none": 1e9, "ensemble": 3e9}
    alone = finished(tmp_path / "alone", specs(tiny, 'generators=["ensemble"]'), both)
    with pytest.raises(SpecError, match="DIR must hold generator none beside others with equal settings"):
        equal_cells(alone)
    half = finished(tmp_path / "half", specs(tiny), both)
    half.plan("smoke", specs(tiny, "seeds=[0,1,2]"))
    with pytest.raises(SpecError, match="DIR must have finished; it lacks toy/linear / none / td3bc"):
        equal_cells(half)
    with pytest.raises(SpecError, match="DIR must have finished; it lacks any cell"):
        equal_cells(ResultStore(tmp_path))


def test_the_track_finds_its_base_where_all_cells_share_a_field(tmp_path: Path, tiny: tuple[str, ...]) -> None:
    """A report leaves out of labels what all cells have; those of the track do not stop it, and keep their base."""
    wanted = specs(tiny, "vary.real_fraction=[0.25]")
    store = finished(tmp_path, wanted, {"none": 1e12, "ensemble": 4e12})
    for spec in equal_cells(store):
        assert spec.variant.endswith(" of real_fraction=0.25")
        store.finish(spec, ORIGIN, [Record(seed, spec.settings.updates, "return", 2.0) for seed in (0, 1)])
    (track,) = tracks(collect(store))
    assert track.none.variant == "default"
    assert len(track.ways) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
def test_the_track_from_run_to_report(
    tiny: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    never: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder is run, equalled, verified; the rest of its report stays as it was, and nothing runs twice."""
    changes = (
        "updates=120",
        "evaluate_every=40",
        "ensemble.dynamics.max_updates=150",
        "ensemble.dynamics.check_every=50",
    )
    options = ["--device", "cpu", "--jobs", "1"]
    assert run_bench.main(["run", "smoke", "--set", *tiny, *changes, "--seeds", "2", "--out", "out", *options]) == 0
    report = Path("out/report")
    before = {path.name: path.read_bytes() for path in report.glob("*.csv")}
    assert run_bench.main(["equal_compute", "out", "--stall-minutes", "0", *options]) == 0
    after = {path.name: path.read_bytes() for path in report.glob("*.csv")}
    assert after.keys() - before.keys() == {"equal_compute.csv"}
    assert before.items() <= after.items()
    store = ResultStore(Path("out"))
    spent = {
        (cell.variant, cell.spec["generator"]["name"]): mean(
            record.value or 0.0 for record in cell.records if record.metric == "cost/total_flop"
        )
        for cell in store.cells()
    }
    dearest = spent.pop(("default", "ensemble"))
    own = spent.pop(("default", "none"))
    assert dearest > 1.5 * own
    assert {Equalled.parse(variant).way: flop for (variant, _), flop in spent.items()} == {  # type: ignore[union-attr]
        "updates": pytest.approx(dearest, rel=0.01),
        "width": pytest.approx(dearest, rel=0.02),
    }
    frame = pd.read_csv(report / "equal_compute.csv")
    assert sorted(frame["generator"]) == ["ensemble", "none", "none"]
    assert frame["n"].tolist() == [2, 2, 2]
    assert "with the FLOP of ensemble" in (report / "index.html").read_text(encoding="utf-8")
    assert store.planned()["command"].endswith(" && run_bench.py equal_compute out")
    assert run_bench.main(["verify", "out"]) == 0
    assert run_bench.main(["status", "out"]) == 0
    assert "4 finished" in capsys.readouterr().out
    monkeypatch.setattr("benchmarks.execution.matrix.run_cell", never)
    assert run_bench.main(["equal_compute", "out", *options]) == 0
    assert store.planned()["command"].count("&&") == 1
    assert len(collect(store).cells) == 2
    assert torch.is_grad_enabled()
