"""Packed cells are the cells: what goes in comes out, later runs go on from there, and nothing finished is lost."""

import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import packing
from benchmarks.packing import PackedCell, essential
from benchmarks.records import Record
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from core.errors import DataError, SpecError

RECORDS = st.builds(
    Record,
    seed=st.integers(0, 3),
    step=st.integers(0, 3),
    metric=st.sampled_from(["return", "compounding/policy/median"]),
    value=st.none() | st.floats(-1e300, 1e300) | st.floats(width=32, allow_infinity=False, allow_nan=False),
    horizon=st.none() | st.integers(1, 3),
)  # fmt: skip


def records(*seeds: int, value: float | None = 1.5) -> list[Record]:
    return [Record(seed, step, "return", value) for seed in seeds for step in (10, 20)]


@pytest.fixture
def packed(store: ResultStore, spec: RunSpec) -> ResultStore:
    """A folder whose one cell is packed."""
    store.plan("smoke", [spec])
    store.finish(spec, {"seeds": [0, 1]}, [*records(0), *records(1, value=1 / 3)])
    store.pack(store, lean=False)
    return ResultStore(store.root)


def file_of(store: ResultStore) -> Path:
    (path,) = (store.root / packing.FOLDER).glob("*.jsonl.xz")
    return path


@given(
    st.lists(RECORDS, min_size=1, unique_by=lambda record: (record.seed, record.step, record.metric, record.horizon))
)
def test_records_come_back_exactly(records: list[Record]) -> None:
    cell = PackedCell.model_validate_json(PackedCell.of("a", {}, records, 0).model_dump_json())
    assert sorted(map(repr, cell.records())) == sorted(map(repr, records))  # repr: -0.0 is not 0.0
    assert cell.records() == sorted(cell.records(), key=lambda record: (record.seed, record.step))


def test_single_precision_is_written_short() -> None:
    value = 0.0006013071979396045  # of single precision
    cell = PackedCell.of("a", {}, records(0, value=value), 0)
    assert "0.0006013072" in cell.model_dump_json()
    assert [record.value for record in cell.records()] == [value, value]
    assert "0.3333333333333333" in PackedCell.of("a", {}, records(0, value=1 / 3), 0).model_dump_json()


def test_a_packed_folder_is_the_same_results(store: ResultStore, spec: RunSpec) -> None:
    store.plan("smoke", [spec], "run_bench.py run smoke")
    store.finish(spec, {"seeds": [0, 1]}, [*records(0), *records(1, value=1 / 3)])
    cells, plan = store.cells(), store.planned()
    assert store.pack(store, lean=False) == 0
    for kept in (store, ResultStore(store.root)):
        assert kept.cells() == cells
        assert kept.planned() == plan
        assert kept.missing(spec) == ()
        assert list(kept.runs()) == [cells[0].runs]
    assert {path.name for path in store.root.iterdir()} == {packing.FOLDER}


def test_elsewhere_leaves_the_folder_alone(store: ResultStore, spec: RunSpec, tmp_path: Path) -> None:
    store.finish(spec, {"seeds": [0]}, records(0))
    before = sorted(store.root.rglob("*"))
    out = ResultStore(tmp_path / "out")
    store.pack(out, lean=False)
    assert sorted(store.root.rglob("*")) == before
    assert out.cells() == store.cells()


def test_later_seeds_join_what_is_packed(packed: ResultStore, spec: RunSpec) -> None:
    more = replace(spec, seeds=(0, 1, 2))
    assert packed.missing(more) == (2,)
    packed.finish(more, {"seeds": [2]}, records(2))
    (cell,) = packed.cells()
    assert cell.done == (0, 1, 2)
    assert [run["seeds"] for run in cell.runs] == [[0, 1], [2]]
    packed.pack(packed, lean=False)
    assert ResultStore(packed.root).cells() == [cell]
    assert not (packed.root / spec.cell_id).exists()


def test_equal_cells_are_equal_files(packed: ResultStore, spec: RunSpec) -> None:
    name, content = file_of(packed).name, file_of(packed).read_bytes()
    packed.pack(packed, lean=False)
    assert (file_of(packed).name, file_of(packed).read_bytes()) == (name, content)


def test_a_failure_hides_no_packed_seed(packed: ResultStore, spec: RunSpec) -> None:
    packed.fail(spec, {"seeds": [2]}, "Traceback")
    (cell,) = packed.cells()
    assert (cell.done, cell.error) == ((0, 1), "Traceback")
    packed.pack(packed, lean=False)
    assert ResultStore(packed.root).cells() == [cell]  # the folder with the traceback is still there


def test_a_kill_before_done_hides_no_packed_seed(packed: ResultStore, spec: RunSpec) -> None:
    packed.finish(spec, {"seeds": [2]}, records(2))
    (packed.root / spec.cell_id / "DONE").unlink()
    assert packed.cells()[0].done == (0, 1)


def test_a_kill_before_the_old_files_go(packed: ResultStore, spec: RunSpec) -> None:
    old = file_of(packed).read_bytes()
    packed.finish(spec, {"seeds": [2]}, records(2))
    packed.pack(packed, lean=False)
    for name in ("a-00000000.jsonl.xz", "z-00000000.jsonl.xz"):
        (packed.root / packing.FOLDER / name).write_bytes(old)
        assert ResultStore(packed.root).cells()[0].done == (0, 1, 2), name
        (packed.root / packing.FOLDER / name).unlink()


def test_what_is_there_is_not_replaced_by_less(packed: ResultStore, spec: RunSpec, tmp_path: Path) -> None:
    less = ResultStore(tmp_path / "less")
    less.finish(spec, {"seeds": [0]}, records(0))
    with pytest.raises(SpecError, match=f"--out must hold no seeds that .*less lacks, got some of {spec.cell_id}"):
        less.pack(packed, lean=False)
    assert packed.cells()[0].done == (0, 1)


def test_nothing_is_kept_of_two_for_one(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, {"seeds": [0]}, [*records(0), Record(0, 20, "return", 2.0)])
    with pytest.raises(DataError, match=f"{spec.cell_id} must have one record per seed, step, metric and horizon, got"):
        store.pack(store, lean=False)
    assert len(store.cells()[0].records) == 3


def torn(content: bytes) -> bytes:
    return content[:-20]


def edited(content: bytes) -> bytes:
    return lzma.compress(lzma.decompress(content).replace(b"0.3333333333333333", b"0.3333333333333334"))


def widened(content: bytes) -> bytes:
    return lzma.compress(lzma.decompress(content).replace(b"[1.5,", b"[1.5,1.5,"))


def nameless(content: bytes) -> bytes:
    return lzma.compress(lzma.decompress(content).replace(b"cell_id", b"cell"))


@pytest.mark.parametrize(
    ("tamper", "rule"),
    [
        (torn, r"\.jsonl\.xz cannot be read"),
        (edited, "packed does not match DONE for seed 1: torn or edited; cell toy-linear"),
        (widened, "jsonl.xz line 1 is not a packed cell: .*series 'return' must have 2 rows of 2 values"),
        (nameless, "jsonl.xz line 1 must begin with the id of a cell, got"),
    ],
)
def test_damage_is_named(packed: ResultStore, spec: RunSpec, tamper: Callable[[bytes], bytes], rule: str) -> None:
    path = file_of(packed)
    path.write_bytes(tamper(path.read_bytes()))
    with pytest.raises(DataError, match=rule):
        ResultStore(packed.root).cell(spec.cell_id)


def test_a_damaged_plan_is_named(packed: ResultStore) -> None:
    (packed.root / packing.FOLDER / "plan.json.xz").write_bytes(lzma.compress(b"{"))
    with pytest.raises(DataError, match=r"plan\.json\.xz is not JSON"):
        packed.planned()


def test_files_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LIMIT", 700)
    cells = [PackedCell.of(f"task--{i}", {"i": i}, records(0, value=i / 3), 0) for i in range(20)]
    packing.save(tmp_path, cells, {})
    files = list((tmp_path / packing.FOLDER).glob("task-*.jsonl.xz"))
    assert len(files) > 1
    assert max(path.stat().st_size for path in files) <= 700
    assert {name: cell() for name, cell in packing.load(tmp_path).items()} == {cell.cell_id: cell for cell in cells}
    packing.save(tmp_path, cells[:1], {})
    assert list(packing.load(tmp_path)) == ["task--0"]


def test_essential_numbers() -> None:
    def curve(metric: str, values: list[float | None], step: int = 20) -> list[Record]:
        return [Record(0, step, metric, value, h) for h, value in enumerate(values, 1)]

    kept = essential(
        [
            *(
                Record(0, step, metric, 1.0)
                for step in (10, 20)
                for metric in ("return", "normalized_score", "train/q")
            ),
            *curve("returns/gap", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, None, None]),
            *curve("compounding/policy/median", [1.0, 1.0, 1.0, 1.0]),
            *curve("generate/residual", [1.0, 1.0, 1.0], step=11),
            *curve("generate/residual", [2.0, 2.0, 2.0], step=18),
        ]
    )
    plain = [(record.metric, record.step) for record in kept if record.horizon is None]
    assert plain == [
        ("return", 10),
        ("normalized_score", 10),
        ("return", 20),
        ("normalized_score", 20),
        ("train/q", 20),
    ]
    curves = {
        record.metric: [r.horizon for r in kept if r.metric == record.metric] for record in kept if record.horizon
    }
    assert curves == {
        "returns/gap": [1, 2, 7, 9],
        "compounding/policy/median": [1, 2, 3, 4],
        "generate/residual": [1, 2, 3],
    }
    assert {record.step for record in kept if record.metric == "generate/residual"} == {18}


def test_lean_says_what_it_left_out(store: ResultStore, spec: RunSpec) -> None:
    store.finish(spec, {"seeds": [0]}, [*records(0), *(Record(0, step, "train/q", 1.0) for step in (1, 2, 3))])
    assert store.pack(store, lean=True) == 2
    (cell,) = store.cells()
    assert (len(cell.records), cell.left_out) == (3, 2)
    assert store.pack(store, lean=False) == 0
    assert ResultStore(store.root).cells() == [cell]


def test_the_format_is_checked(packed: ResultStore) -> None:
    path = file_of(packed)
    line = json.loads(lzma.decompress(path.read_bytes()))
    line["described"]["format"] = 1
    path.write_bytes(lzma.compress(json.dumps(line, separators=(",", ":")).encode()))
    with pytest.raises(DataError, match="packed has format 1, which only the version"):
        ResultStore(packed.root).cells()


def test_cells_are_taken_as_they_are_under_the_name_of_here(packed: ResultStore, spec: RunSpec, tmp_path: Path) -> None:
    here, renamed = ResultStore(tmp_path / "here"), replace(spec, variant="budget=1", seeds=(0, 1, 2))
    other = replace(spec, task="toy/other")
    here.finish(other, {"seeds": [0]}, records(0))
    here.pack(here, lean=False)
    assert here.take(packed, [renamed, other]) == 1
    for kept in (here, ResultStore(here.root)):
        taken = kept.cell(spec.cell_id)
        assert taken == replace(packed.cell(spec.cell_id), variant="budget=1")
        assert (kept.missing(renamed), kept.cell(other.cell_id).done) == ((2,), (0,))
    assert here.take(packed, [renamed]) == 0  # it is there


def test_seeds_of_here_are_not_replaced_by_taken_ones(packed: ResultStore, spec: RunSpec, tmp_path: Path) -> None:
    here = ResultStore(tmp_path / "here")
    here.finish(spec, {"seeds": [0]}, records(0, value=7.0))
    assert here.take(packed, [spec]) == 0
    assert here.cell(spec.cell_id).records == records(0, value=7.0)


def test_a_cell_that_failed_here_is_not_taken_but_run_again(packed: ResultStore, spec: RunSpec, tmp_path: Path) -> None:
    here = ResultStore(tmp_path / "here")
    here.fail(spec, {"seeds": [0, 1]}, "ValueError: no")
    assert here.take(packed, [spec]) == 0
    assert here.missing(spec) == (0, 1)


def test_a_torn_cell_is_not_taken(packed: ResultStore, spec: RunSpec, tmp_path: Path) -> None:
    path = file_of(packed)
    path.write_bytes(lzma.compress(lzma.decompress(path.read_bytes()).replace(b"1.5", b"2.5", 1)))
    with pytest.raises(DataError, match="does not match DONE for seed 0"):
        ResultStore(tmp_path / "here").take(ResultStore(packed.root), [spec])
    assert not (tmp_path / "here").exists()
