"""Seconds and what they bought."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.figures.palette import SURFACE
from benchmarks.report.results import collect
from benchmarks.report.sections.cost import SECTION, cost, cost_table, prices
from benchmarks.spec import Settings
from benchmarks.store import ResultStore

PLOT, FLOP_PLOT = SECTION.figures
SECONDS = {"cost/update_seconds": 3.0, "cost/evaluate_seconds": 100.0, "cost/model_seconds": 2.0}


FLOP = {"none": 4e11, "ensemble": 1e12, "mopo": 3e12}


def fill(folder: Path, build: Any, counted: bool = False) -> ResultStore:
    """Two cells use model a, one of them model b, too."""
    store = ResultStore(folder)
    for generator, models in (("none", {}), ("ensemble", {"a": 4.0}), ("mopo", {"a": 4.0, "b": 1.0})):
        records = [
            Record(seed, 100, metric, value)
            for seed in (0, 1)
            for metric, value in (SECONDS | {"return": 5.0 + seed}).items()
        ]
        if counted:
            records += [Record(seed, 100, "cost/total_flop", FLOP[generator] * (1 + seed)) for seed in (0, 1)]
        provenance = build.provenance(2) | {"models": {key: {"seconds": seconds} for key, seconds in models.items()}}
        store.finish(build.spec("toy/linear", generator, 2), provenance, records)
    return store


def test_price_is_in_runs_of_none(tmp_path: Path, build: Any) -> None:
    """Updates and models of 5 seconds each: a model belongs to the price, whoever fitted it."""
    price = prices(collect(fill(tmp_path, build))).set_index("generator")
    assert price["price"].to_dict() == {"none": 1, "ensemble": 1, "mopo": 1}
    assert price.loc["mopo", ["score", "n"]].tolist() == [5.5, 2]
    half = 12.706204736174694 * 0.5  # t(0.975, 1) times the standard error of 5 and 6
    assert price.loc["mopo", ["score_low", "score_high"]].tolist() == pytest.approx([5.5 - half, 5.5 + half])


def test_fits_are_divided_among_their_users(tmp_path: Path, build: Any) -> None:
    shared = cost(collect(fill(tmp_path, build))).query("metric == 'model_seconds_shared'")
    assert shared.set_index("generator")["value"].to_dict() == {"none": 0.0, "ensemble": 2.0, "mopo": 3.0}


def test_the_table_begins_with_the_price(tmp_path: Path, build: Any) -> None:
    table = cost_table(collect(fill(tmp_path, build)))
    assert table.head[table.head.index("generator") + 1 :][:2] == ["run, s", "runs of none"]
    assert table.head[-1] == "seconds of this cell alone"
    assert [float(row[table.head.index("runs of none")].text) for row in table.rows] == [1, 1, 1]


def test_the_csv_has_the_numbers_of_the_figure(tmp_path: Path, build: Any) -> None:
    frame = cost(collect(fill(tmp_path, build))).set_index(["generator", "metric"])["value"]
    assert frame["mopo", "run_seconds"] == 5
    assert frame["mopo", "price_multiple"] == 1


def test_price_is_drawn(tmp_path: Path, build: Any) -> None:
    results = collect(fill(tmp_path, build))
    ((name, alt, figure),) = PLOT.pages(results)
    assert name == "price"
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["ensemble", "mopo", "none"]
    assert alt == "linear, bc: from 1.0 (ensemble) to 1.0 runs of none (mopo); highest mean 5.5 (ensemble, for 1.0)."
    assert "A run of none took 5 s on linear." in PLOT.caption(results)
    assert "hollow below 5 seeds" in PLOT.caption(results)


def test_points_of_few_seeds_are_hollow(tmp_path: Path, build: Any) -> None:
    ((_, _, figure),) = PLOT.pages(collect(fill(tmp_path, build)))
    points = [line for line in figure.axes[0].lines if line.get_marker() in "XsD"]
    assert {line.get_markerfacecolor() for line in points} == {SURFACE}


def test_flop_stand_beside_seconds(tmp_path: Path, build: Any) -> None:
    """Means over two seeds, the second of which took twice as much as the first."""
    results = collect(fill(tmp_path, build, counted=True))
    table = cost_table(results)
    at = table.head.index("FLOP in all, TFLOP")
    assert table.head[at - 1] == "runs of none"
    assert table.head[at + 1] == "FLOP of none"
    shown = {row[table.head.index("generator")].text: (row[at].text, row[at + 1].text) for row in table.rows}
    assert shown == {"none": ("0.600", "1.00"), "ensemble": ("1.50", "2.50"), "mopo": ("4.50", "7.50")}
    frame = cost(results).set_index(["generator", "metric"])["value"]
    assert frame["mopo", "total_flop"] == 4.5e12
    assert frame["mopo", "flop_multiple"] == 7.5


def test_price_is_drawn_in_flop_as_well(tmp_path: Path, build: Any) -> None:
    results = collect(fill(tmp_path, build, counted=True))
    ((name, alt, figure),) = FLOP_PLOT.pages(results)
    assert name == "price_flop"
    assert figure.axes[0].get_xlabel() == "FLOP in all, over those of none"
    assert alt == (
        "linear, bc: from 2.5 (ensemble) to 7.5 times the FLOP of none (mopo); highest mean 5.5 (ensemble, for 2.5)."
    )
    assert "None took, in TFLOP: 0.6 on linear." in FLOP_PLOT.caption(results)


def test_folders_without_flop_look_as_before(tmp_path: Path, build: Any) -> None:
    results = collect(fill(tmp_path, build))
    table = cost_table(results)
    assert not [head for head in table.head if "FLOP" in head and head != "MFLOP per row"]
    assert "FLOP in all" not in table.caption
    assert not list(FLOP_PLOT.pages(results))
    assert not cost(results)["metric"].str.endswith(("_flop", "flop_multiple")).any()


def test_without_other_generators_nothing_was_bought(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    records = [Record(0, 100, metric, value) for metric, value in (SECONDS | {"return": 5.0}).items()]
    store.finish(build.spec("toy/linear", "none", 1), build.provenance(1), records)
    assert list(PLOT.pages(collect(store))) == []


def test_real_batches_buy_no_scores(tmp_path: Path, build: Any) -> None:
    """Where every batch is real, all cells train one policy."""
    store = ResultStore(tmp_path)
    records = [Record(0, 100, metric, value) for metric, value in (SECONDS | {"return": 5.0}).items()]
    for generator in ("none", "mopo"):
        spec = build.spec("toy/linear", generator, 1)
        store.finish(replace(spec, settings=Settings(real_fraction=1.0)), build.provenance(1), records)
    assert len(prices(collect(store))) == 2
    assert list(PLOT.pages(collect(store))) == []
