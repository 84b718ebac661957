"""Cells with own fits beside those with a shared one: which are paired, and the ratio of variances by hand."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import f as fisher

from benchmarks.report.results import collect
from benchmarks.report.sections.fits import fits, fits_table, spread
from benchmarks.store import ResultStore

SHARED = [1.0, 2.0, 3.0, 4.0, 5.0]  # variance 2.5
OWN = [-6.0, -2.0, 2.0, 6.0, 10.0]  # 40


def both(build: Any, folder: Path) -> ResultStore:
    build.planted(folder, {"none": [0.0] * 5, "mopo": SHARED, "pgd": SHARED}, shared_models=True)
    return build.planted(folder, {"none": [0.0] * 5, "mopo": OWN}, shared_models=False)


def test_cells_that_differ_in_their_fits_alone_are_paired(build: Any, tmp_path: Path) -> None:
    (row,) = fits(collect(both(build, tmp_path))).to_dict("records")
    assert row["generator"] == "mopo"
    assert (row["shared_mean"], row["own_mean"]) == pytest.approx((3, 2))
    assert (row["shared_std"], row["own_std"]) == pytest.approx((2.5**0.5, 40**0.5))


def test_the_ratio_of_variances_is_fishers(build: Any, tmp_path: Path) -> None:
    table = fits(collect(both(build, tmp_path)))
    found = spread(pd.concat([table, table]))
    assert (found.shared, found.own, found.ratio) == pytest.approx((2.5**0.5, 40**0.5, 16))
    assert (found.low, found.high) == pytest.approx((16 / fisher.ppf(0.975, 8, 8), 16 * fisher.ppf(0.975, 8, 8)))


def test_other_folders_have_no_such_table(build: Any, tmp_path: Path) -> None:
    results = collect(build.planted(tmp_path, {"none": [0.0] * 5, "mopo": OWN}, shared_models=False))
    assert not fits_table(results).rows
    assert math.isnan(spread(fits(results)).ratio)


def test_every_generator_has_a_row_and_all_have_one(build: Any, tmp_path: Path) -> None:
    store = both(build, tmp_path)
    build.planted(tmp_path, {"pgd": OWN}, shared_models=False)
    rows = fits_table(collect(store)).rows
    assert [row[0].text for row in rows] == ["mopo", "pgd", "all of them"]
    assert rows[-1][4].numbers[0] == pytest.approx(16)


def test_own_fits_are_compared_with_the_one_none(build: Any, tmp_path: Path) -> None:
    """none fits nothing, so it need not run twice."""
    build.planted(tmp_path, {"none": [0.0] * 5, "mopo": SHARED}, shared_models=True)
    (row,) = fits(collect(build.planted(tmp_path, {"mopo": OWN}, shared_models=False))).to_dict("records")
    assert (row["shared_mean"], row["own_mean"]) == pytest.approx((3, 2))
