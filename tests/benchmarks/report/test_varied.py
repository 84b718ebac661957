"""What a suite varied: found by itself, judged by the rule of the page, level with the best by a test."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.report import report
from benchmarks.report.aggregates import aggregate
from benchmarks.report.comparability import mixtures
from benchmarks.report.results import collect
from benchmarks.report.scores import partners
from benchmarks.report.varied import ablation, ablations
from benchmarks.report.verdict import verdicts
from metrics.statistics import equivalence_test, holm


def test_one_field_makes_a_curve(tmp_path: Path, varied: Any) -> None:
    store = varied.fill(tmp_path, '"dydiff.iterations" = [10, 0, 1]', {0: varied.NONE, 1: varied.WON, 10: varied.LOST})
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
    assert report(store) == []
    assert (store.root / "report" / "ablation.png").exists()


def test_the_verdict_is_that_of_the_page(tmp_path: Path, varied: Any) -> None:
    """A gain of 3 with a spread of 5 is noise: neither good, nor level with anything."""
    noise = [x + gain for x, gain in zip(varied.NONE, (-4, 9, 0, 8, 2), strict=True)]
    results = collect(
        varied.fill(
            tmp_path, '"dydiff.iterations" = [0, 1, 2, 10]', {0: varied.NONE, 1: varied.WON, 2: noise, 10: varied.LOST}
        )
    )
    table = ablation(results).set_index("values")
    assert table["verdict"].tolist() == ["equivalent", "helps", "undecided", "hurts"]
    assert table["verdict"].tolist() == verdicts(results)["verdict"].reindex(ablation(results).index).tolist()
    assert table["level_with_best"].tolist() == ["open", "highest", "open", "open"]


@pytest.mark.parametrize(("seeds", "level"), [(5, ["level", "highest", "open"]), (4, ["open", "highest", "open"])])
def test_level_with_the_best_takes_a_test_and_seeds(tmp_path: Path, seeds: int, level: list[str], varied: Any) -> None:
    """One point below the best, seed by seed, is within five; with four seeds nobody is told so."""
    near = [x - 1 - 0.1 * seed for seed, x in enumerate(varied.WON)]
    results = collect(
        varied.fill(tmp_path, '"dydiff.iterations" = [1, 2, 10]', {1: near, 2: varied.WON, 10: varied.LOST}, seeds)
    )
    table = ablation(results)
    assert table["level_with_best"].tolist() == level
    gaps = torch.tensor([near, varied.LOST], dtype=torch.float64) - torch.tensor(varied.WON, dtype=torch.float64)
    adjusted = holm(equivalence_test(gaps, 5.0)).tolist() if seeds == 5 else [math.nan] * 2
    assert table["p_level"].tolist() == pytest.approx([adjusted[0], math.nan, adjusted[1]], nan_ok=True)


def test_returns_have_no_level(tmp_path: Path, varied: Any) -> None:
    """Five points mean nothing where a task has no reference returns."""
    store = varied.fill(tmp_path, '"dydiff.iterations" = [0, 1]', {0: varied.NONE, 1: varied.WON})
    results = collect(store)
    records = results.records[results.records["metric"] != "normalized_score"]
    table = ablation(replace(results, records=records, computed={}))
    assert table["level_with_best"].isna().all()
    assert table["verdict"].tolist() == ["undecided", "helps"]


def test_two_fields_make_a_square(tmp_path: Path, varied: Any) -> None:
    rounds = {0: varied.NONE, 1: varied.WON}
    square = varied.fill(tmp_path, '"dydiff.iterations" = [0, 1]\n"dydiff.filter.share" = [0.25, 0.5, 1.0]', rounds)
    (group,) = ablations(collect(square))
    assert group.fields == ("filter.share", "iterations")
    assert len(group.cells) == 6
    assert group.axis(0) == [0.25, 0.5, 1.0]
    assert group.axis(1) == [0, 1]


def test_a_field_that_follows_from_another_does_not_count(tmp_path: Path, varied: Any) -> None:
    length = "dydiff = [{rollouts = 60, rollout_length = 2}, {rollouts = 30, rollout_length = 4}]"
    (group,) = ablations(collect(varied.fill(tmp_path, length, {1: varied.NONE, 2: varied.NONE})))
    assert group.fields == ("rollout_length",)
    assert list(group.cells) == [(2,), (4,)]


def test_settings_can_be_varied_for_all(tmp_path: Path, varied: Any) -> None:
    store = varied.fill(tmp_path, "real_fraction = [0.25, 1.0]", {1: varied.NONE, 2: varied.NONE})
    assert {(group.generator, group.fields) for group in ablations(collect(store))} == {
        ("none", ("real_fraction",)),
        ("dydiff", ("real_fraction",)),
    }
    assert report(store) == []
    assert (store.root / "report" / "ablation.png").exists()
    assert 'id="ablation"' in (store.root / "report" / "index.html").read_text(encoding="utf-8")


def test_sizes_of_the_training_set_are_a_curve(tmp_path: Path, varied: Any) -> None:
    """In the order of the sizes, and each beside generator `none` on as many rows."""
    store = varied.fill(tmp_path, "train_rows = [9000, 500, 2000]", {1: varied.WON, 2: varied.WON})
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


def test_nothing_varied_is_no_ablation(tmp_path: Path, varied: Any) -> None:
    assert ablations(collect(varied.fill(tmp_path, "updates = [200]", {1: varied.NONE, 2: varied.NONE}))) == []
