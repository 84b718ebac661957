"""What a suite varied: found by itself, as curves over one field and heat maps over two."""

from pathlib import Path

import pytest

from benchmarks.report import report
from benchmarks.report.aggregates import aggregate
from benchmarks.report.comparability import mixtures
from benchmarks.report.results import collect
from benchmarks.report.scores import partners
from benchmarks.report.sections.ablation import ablation, ablations
from benchmarks.spec import RunSpec
from benchmarks.store import Record, ResultStore
from benchmarks.suite import cells, load_suite


def fill(folder: Path, vary: str, score: dict[int, float], seeds: int = 5) -> ResultStore:
    """The cells of a suite, with scores by number of rounds; `none` has 10."""
    (folder / "suite.toml").write_text(f'extends = "smoke"\ngenerators = ["none", "dydiff"]\n[vary]\n{vary}\n')
    store = ResultStore(folder / "out")
    specs = cells(load_suite(str(folder / "suite.toml"), seeds=seeds))
    store.plan("ablation", specs)
    for spec in specs:
        made = {"seeds": list(spec.seeds), "status": "ok", "dataset_sha256": "ab" * 32}
        store.finish(spec, made, [*_records(spec, score)])
    return store


def _records(spec: RunSpec, score: dict[int, float]) -> list[Record]:
    rounds = getattr(spec.generator.config, "iterations", None)
    level = 10.0 if rounds is None else score[rounds]
    return [
        Record(seed, step, metric, value, horizon)
        for seed in spec.seeds
        for step in (50, 100)
        for metric, value, horizon in (
            ("return", level, None),
            ("normalized_score", level + seed, None),
            *([("compounding/policy/median", 0.1 + level / 100, 1)] if step == 100 else []),
            *([("generate/lag", 1 / rounds, None)] if rounds else []),
        )
    ]


def test_one_field_makes_a_curve(tmp_path: Path) -> None:
    store = fill(tmp_path, '"dydiff.iterations" = [10, 0, 1]', {0: 10.0, 1: 20.0, 10: 2.0})
    results = collect(store)
    (group,) = ablations(results)
    assert group.fields == ("iterations",)
    assert list(group.cells) == [(0,), (1,), (10,)]
    table = ablation(results).set_index("values")
    assert table["fields"].unique().tolist() == ["iterations"]
    assert table["mean"].tolist() == [12.0, 22.0, 4.0]
    assert table["gain_mean"].tolist() == pytest.approx([0.0, 10.0, -8.0])
    assert table["lag"].tolist()[1:] == pytest.approx([1.0, 0.1])
    assert table["error"].tolist() == pytest.approx([0.2, 0.3, 0.12])
    assert table["robust"].tolist() == [False, True, False]
    assert table["failure"].tolist() == [False, False, True]


def test_two_fields_make_a_heat_map(tmp_path: Path) -> None:
    rounds = {0: 10.0, 1: 20.0}
    square = fill(tmp_path, '"dydiff.iterations" = [0, 1]\n"dydiff.filter.share" = [0.25, 0.5, 1.0]', rounds)
    (group,) = ablations(collect(square))
    assert group.fields == ("filter.share", "iterations")
    assert len(group.cells) == 6
    assert group.axis(0) == [0.25, 0.5, 1.0]
    assert group.axis(1) == [0, 1]
    assert report(square) == []
    assert {path.name for path in (square.root / "report").glob("*.png")} >= {"heat.png", "scores.png"}


def test_a_field_that_follows_from_another_does_not_count(tmp_path: Path) -> None:
    length = "dydiff = [{rollouts = 60, rollout_length = 2}, {rollouts = 30, rollout_length = 4}]"
    (group,) = ablations(collect(fill(tmp_path, length, {1: 1.0, 2: 1.0})))
    assert group.fields == ("rollout_length",)
    assert list(group.cells) == [(2,), (4,)]


def test_settings_can_be_varied_for_all(tmp_path: Path) -> None:
    store = fill(tmp_path, "real_fraction = [0.25, 1.0]", {1: 1.0, 2: 1.0})
    assert {(group.generator, group.fields) for group in ablations(collect(store))} == {
        ("none", ("real_fraction",)),
        ("dydiff", ("real_fraction",)),
    }
    assert report(store) == []
    assert (store.root / "report" / "ablation.png").exists()
    assert 'id="ablation"' in (store.root / "report" / "index.html").read_text(encoding="utf-8")


def test_sizes_of_the_training_set_are_a_curve(tmp_path: Path) -> None:
    """In the order of the sizes, and each beside generator `none` on as many rows."""
    store = fill(tmp_path, "train_rows = [9000, 500, 2000]", {1: 15.0, 2: 15.0})
    results = collect(store)
    groups = {group.generator: group for group in ablations(results)}
    assert {group.fields for group in groups.values()} == {("train_rows",)}
    assert list(groups["dydiff"].cells) == [(500,), (2000,), (9000,)]
    assert {cell.variant for cell in results.cells} == {"train_rows=500", "train_rows=2000", "train_rows=9000"}
    none = {cell.cell_id: cell.spec["settings"]["train_rows"] for cell in groups["none"].cells.values()}
    partner = partners(results)
    assert [none[partner[cell.cell_id]] for cell in groups["dydiff"].cells.values()] == [500, 2000, 9000]
    assert mixtures(results.cells) == []
    assert set(aggregate(results)["variant"]) == {"train_rows=500", "train_rows=2000", "train_rows=9000"}


def test_nothing_varied_is_no_ablation(tmp_path: Path) -> None:
    assert ablations(collect(fill(tmp_path, "updates = [200]", {1: 1.0, 2: 1.0}))) == []
