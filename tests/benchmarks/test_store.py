"""A results folder survives kills and later seeds, and gives back what was put into it."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import store as module
from benchmarks.records import Record
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore


def records(*seeds: int, value: float | None = 1.5) -> list[Record]:
    """Two numbers of every seed."""
    return [Record(seed, step, "return", value) for seed in seeds for step in (10, 20)]


def origin(*seeds: int) -> dict[str, Any]:
    return {"seeds": list(seeds), "seconds": 1.0}


def kept(store: ResultStore, spec: RunSpec) -> Path:
    return store.root / spec.cell_id / "records.jsonl.gz"


def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def test_what_is_finished_is_not_missing_and_reads_back(store: ResultStore, spec: RunSpec) -> None:
    assert store.missing(spec) == (0, 1)
    assert store.cells() == []
    store.finish(spec, origin(0, 1), records(0, 1))
    (cell,) = store.cells()
    assert store.missing(spec) == ()
    assert (cell.cell_id, cell.variant, cell.done, cell.error) == (spec.cell_id, "default", (0, 1), None)
    assert cell.spec == spec.describe()
    assert cell.records == records(0, 1)
    assert cell.runs == [{**origin(0, 1), "status": "ok"}]


def test_records_of_mixed_seeds_are_kept_by_seed_in_their_order(store: ResultStore, spec: RunSpec) -> None:
    mixed = [Record(seed, step, "return", None) for step in (10, 20) for seed in (1, 0)]
    store.finish(spec, origin(0, 1), mixed)
    assert [(record.seed, record.step) for record in store.cells()[0].records] == [(0, 10), (0, 20), (1, 10), (1, 20)]


def test_later_seeds_leave_the_lines_of_earlier_ones_alone(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(1), records(1))
    before = text_of(kept(store, spec)).splitlines()
    more = replace(spec, seeds=(0, 1, 7))
    assert store.missing(more) == (0, 7)
    store.finish(more, origin(0, 7), records(0, 7, value=2.5))
    assert store.missing(more) == ()
    (cell,) = store.cells()
    assert cell.done == (0, 1, 7)
    assert [record for record in cell.records if record.seed == 1] == records(1)
    assert [run["seeds"] for run in cell.runs] == [[1], [0, 7]]
    assert set(before) < set(text_of(kept(store, spec)).splitlines())


def test_cells_do_not_mix(store: ResultStore, spec: RunSpec) -> None:
    other = replace(spec, settings=spec.settings.model_copy(update={"updates": 3}))
    store.finish(spec, origin(0), records(0))
    store.finish(other, origin(1), records(1))
    assert store.missing(spec) == (1,)
    assert store.missing(other) == (0,)
    assert [cell.cell_id for cell in store.cells()] == sorted([spec.cell_id, other.cell_id])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
def test_what_is_not_finite_becomes_null(store: ResultStore, spec: RunSpec, value: float | None) -> None:
    store.finish(spec, origin(0), records(0, value=value))
    assert "NaN" not in (text := text_of(kept(store, spec)))
    assert "Inf" not in text
    assert [json.loads(line)["value"] for line in text.splitlines()] == [None, None]
    assert store.cells()[0].records == records(0, value=None)


def test_values_read_back_exactly(store: ResultStore, spec: RunSpec) -> None:
    values = (0.1 + 0.2, 1e-300, -0.0, 2.0**60)
    store.finish(spec, origin(0), [Record(0, 1, "x", value) for value in values])
    assert [record.value for record in store.cells()[0].records] == list(values)


def test_a_failure_is_kept_until_a_run_succeeds(store: ResultStore, spec: RunSpec) -> None:
    store.fail(spec, {"seeds": [0, 1]}, "Traceback: no luck")
    (cell,) = store.cells()
    assert (cell.error, cell.done, cell.records) == ("Traceback: no luck", (), [])
    assert [run["status"] for run in cell.runs] == ["failed"]
    assert store.missing(spec) == (0, 1)
    store.finish(spec, origin(0, 1), records(0, 1))
    (cell,) = store.cells()
    assert cell.error is None
    assert [run["status"] for run in cell.runs] == ["failed", "ok"]
    assert not (store.root / spec.cell_id / "error.txt").exists()


def test_a_failure_leaves_finished_seeds_alone(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    store.fail(spec, {"seeds": [1]}, "Traceback")
    (cell,) = store.cells()
    assert cell.done == (0,)
    assert cell.records == records(0)
    assert cell.error == "Traceback"
    assert store.missing(spec) == (1,)


def test_a_kill_before_done_runs_the_seeds_again(
    store: ResultStore, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.finish(spec, origin(0), records(0))
    write = module.write_json

    def killed(path: Path, value: Any) -> None:
        if path.name == "DONE":
            raise KeyboardInterrupt
        write(path, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_json", killed)
        store.finish(spec, origin(1), records(1, value=9.0))
    assert "9.0" in text_of(kept(store, spec))
    assert store.missing(spec) == (1,)
    assert store.cells()[0].records == records(0)  # what DONE does not vouch for does not count
    store.finish(spec, origin(1), records(1))
    assert store.cells()[0].records == records(0, 1)
    assert store.missing(spec) == ()


def test_a_kill_before_the_first_done(store: ResultStore, spec: RunSpec) -> None:
    folder = store.root / spec.cell_id
    store.finish(spec, origin(0, 1), records(0, 1))
    (folder / "DONE").unlink()
    assert store.missing(spec) == (0, 1)
    assert store.cells()[0].records == []
    store.finish(spec, origin(0, 1), records(0, 1))
    assert store.cells()[0].records == records(0, 1)


def test_equal_records_are_equal_bytes_on_disk(tmp_path: Path, spec: RunSpec) -> None:
    written = []
    for name in ("one", "two"):
        store = ResultStore(tmp_path / name)
        store.finish(spec, origin(0), records(0))
        written.append(kept(store, spec).read_bytes())
    assert written[0] == written[1]
    assert written[0][3:8] == bytes(5)  # no name of a file, no time


def unpack(store: ResultStore, spec: RunSpec) -> Path:
    path = kept(store, spec)
    plain = path.with_suffix("")
    plain.write_text(text_of(path))
    return plain


def test_plain_records_are_read_too(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    plain = unpack(store, spec)
    kept(store, spec).unlink()
    assert store.cells()[0].records == records(0)
    store.finish(spec, origin(1), records(1))
    assert store.cells()[0].records == records(0, 1)
    assert not plain.exists()


def test_of_plain_and_compressed_records_the_latter_count(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, origin(0), records(0))
    unpack(store, spec).write_text("something else")
    assert store.cells()[0].records == records(0)


def test_a_curve_keeps_its_horizons(store: ResultStore, spec: RunSpec) -> None:
    curve = [Record(0, 10, "compounding/policy/median", 0.5 * h, h) for h in (1, 2)]
    store.finish(spec, origin(0), curve)
    assert store.cells()[0].records == curve


def test_a_run_that_was_killed_before_done_is_no_run(store: ResultStore, spec: RunSpec) -> None:
    """Its seeds run again, and only that run is remembered."""
    store.finish(spec, origin(0), records(0))
    (store.root / spec.cell_id / "DONE").unlink()
    store.finish(spec, origin(0, 1), records(0, 1))
    (cell,) = store.cells()
    assert [run["seeds"] for run in cell.runs] == [[0, 1]]


def test_the_plan_is_what_was_asked_for_last(store: ResultStore, spec: RunSpec) -> None:
    assert store.planned() == {}
    store.plan("first", [spec], "run_bench.py run first")
    assert store.planned()["command"] == "run_bench.py run first"
    store.plan("second", [replace(spec, seeds=(4,), variant="updates=4")])
    plan = store.planned()
    assert plan["suite"] == "second"
    (cell,) = plan["cells"]
    assert (cell["cell_id"], cell["seeds"], cell["variant"]) == (spec.cell_id, [4], "updates=4")
    assert {key: cell[key] for key in spec.describe()} == spec.describe()
    assert store.cells() == []
    assert store.missing(spec) == (0, 1)
