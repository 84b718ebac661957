"""Seconds and what they bought."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.results import collect
from benchmarks.report.sections.cost import SECTION, cost, prices
from benchmarks.store import Record, ResultStore

SECONDS = {"cost/update_seconds": 3.0, "cost/evaluate_seconds": 100.0, "cost/model_seconds": 2.0}


def fill(folder: Path, build: Any) -> ResultStore:
    """Two cells use model a, one of them model b, too."""
    store = ResultStore(folder)
    for generator, models in (("none", {}), ("ensemble", {"a": 4.0}), ("mopo", {"a": 4.0, "b": 1.0})):
        records = [
            Record(seed, 100, metric, value)
            for seed in (0, 1)
            for metric, value in (SECONDS | {"return": 5.0 + seed}).items()
        ]
        provenance = build.provenance(2) | {"models": {key: {"seconds": seconds} for key, seconds in models.items()}}
        store.finish(build.spec("toy/linear", generator, 2), provenance, records)
    return store


def test_price_is_training_generation_and_models(tmp_path: Path, build: Any) -> None:
    price = prices(collect(fill(tmp_path, build))).set_index("generator")
    assert price.loc["mopo", ["seconds", "score"]].tolist() == [5.0, 5.5]


def test_fits_are_divided_among_their_users(tmp_path: Path, build: Any) -> None:
    shared = cost(collect(fill(tmp_path, build))).query("metric == 'model_seconds_shared'")
    assert shared.set_index("generator")["value"].to_dict() == {"none": 0.0, "ensemble": 2.0, "mopo": 3.0}


def test_price_is_drawn(tmp_path: Path, build: Any) -> None:
    (plot,) = SECTION.figures
    assert [name for name, *_ in plot.pages(collect(fill(tmp_path, build)))] == ["price"]


@pytest.mark.parametrize("lost", [Record(0, 100, "cost/update_seconds", None), None])
def test_unknown_seconds_are_not_none_at_all(tmp_path: Path, build: Any, lost: Record | None) -> None:
    """A sum over what is not defined is not defined, and updates take time in every cell."""
    store = ResultStore(tmp_path)
    records = [Record(0, 100, "cost/model_seconds", 0.0), Record(0, 100, "return", 5.0), *([lost] if lost else [])]
    store.finish(build.spec("toy/linear", "none", 1), {}, records)
    assert prices(collect(store)).empty
