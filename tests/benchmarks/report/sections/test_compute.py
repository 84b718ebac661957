"""Tables, figures and words on what compute buys."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import report
from benchmarks.report.compute.words import as_flop, compute_words, summary
from benchmarks.report.results import Results, collect
from benchmarks.report.sections.compute import SECTION, crossing_table, exponent_table


def steep(flop: float, seed: int, h: int) -> float:
    return 240 * h * (1 + 0.01 * seed) * flop**-0.5


def flat(flop: float, seed: int, h: int) -> float:
    return 1.5 * h * (1 + 0.01 * seed) * flop**-0.3


LAWS = {
    "ensemble": flat,
    "dydiff": steep,
    "gta": lambda flop, seed, h: 3 * flat(flop, seed, h),
    "simulator": lambda flop, seed, h: 1e-7,
}


@pytest.fixture
def results(tmp_path: Path, budgets: Any) -> Results:
    return collect(budgets.fill(tmp_path, LAWS))


def test_words_name_crossings_and_their_absence(results: Results) -> None:
    headline, task = compute_words(results)
    assert headline.startswith("**Errors at h = 10 fall as FLOP^−b, fastest with b = 0.50 [0.50, 0.50] (dydiff, ")
    assert "over 4 budgets from 1.0e10 to 6.4e11 FLOP" in headline
    stays = "gta stays above the ensemble (no crossing in range)"
    assert f"at h = 10, dydiff overtakes the ensemble from 1.0e11 FLOP on, {stays}" in task


def test_no_crossing_is_said_so(tmp_path: Path, budgets: Any) -> None:
    laws = {name: LAWS[name] for name in ("ensemble", "gta")}
    _, task = compute_words(collect(budgets.fill(tmp_path, laws)))
    assert "at h = 1, gta stays above the ensemble (no crossing in range); at h = 10" in task


def test_fits_that_disagree_decide_nothing(tmp_path: Path, budgets: Any) -> None:
    laws = {"ensemble": flat, "gta": lambda flop, seed, h: flat(flop, seed, h) * (0.5, 1.1, 2.5)[seed]}
    results = collect(budgets.fill(tmp_path, laws))
    _, task = compute_words(results)
    assert "at h = 10, gta is not decided." in task
    assert "is not decided in 2" in summary(results)


def test_the_answer_counts(results: Results) -> None:
    assert summary(results) == (
        "**Compute:** in 4 comparisons with the ensemble at equal FLOP of training (tasks × generators × horizons, "
        "the policy's actions), the other generator overtakes it in 2 (always: dydiff), errs more throughout in 2 "
        "(always: gta); no claim beyond the budgets that were run."
    )


def test_tables_hold_laws_and_crossings(results: Results) -> None:
    laws = exponent_table(results)
    assert laws.head[2:9] == [
        *("generator", "actions", "budgets", "FLOP of training", "fits", "b, h = 1", "b, last step, h = 1"),
    ]  # fmt: skip
    assert [row[2].text for row in laws.rows] == ["dydiff", "dydiff", "ensemble", "ensemble", "gta", "gta"]
    assert laws.rows[0][5].text == "1.0e10 to 6.4e11"
    crossings = crossing_table(results)
    assert [row[2].text for row in crossings.rows] == ["dydiff", "dydiff", "gta", "gta"]
    assert re.fullmatch(r"below: from 1\.0e11 \[\d\.\de1\d, 1\.\de11\], 100 %", crossings.rows[0][-1].text)
    assert crossings.rows[-1][-1].text == "above: no crossing in range, 100 %"


def test_a_panel_for_every_horizon(results: Results) -> None:
    for plot in SECTION.figures:
        ((name, alt, figure),) = plot.pages(results)
        assert [ax.get_title() for ax in figure.axes] == ["h = 1", "h = 10"]
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["ensemble", "gta", "dydiff", "nothing moves"]
        assert "linear, bc, h = 10: least error at the largest budget 0.003 (dydiff, " in alt
        assert "simulator (ceiling), at most 1e−07" in plot.caption(results), name


def test_the_page_has_the_section(tmp_path: Path, budgets: Any) -> None:
    store = budgets.fill(tmp_path, LAWS, tasks=["toy/linear", "toy/other"])
    assert report(store) == []
    folder = store.root / "report"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "What compute buys" in page
    assert "overtakes the ensemble from 1.0e11 FLOP on" in page
    assert {path.name for path in folder.glob("compute*.png")} == {
        *("compute.png", "compute_logged.png", "compute_price.png"),
    }  # fmt: skip
    columns = (folder / "columns.md").read_text(encoding="utf-8")
    assert "|scaling.csv|exponent|" in columns
    assert not (folder / "ablation.png").exists()  # the same cells, less well drawn


def test_other_folders_have_no_such_section(reported: tuple[Path, list[str]]) -> None:
    folder, _ = reported
    assert "What compute buys" not in (folder / "index.html").read_text(encoding="utf-8")
    assert not [path.name for path in folder.iterdir() if path.name.startswith(("compute.", "compute_", "scaling"))]


def test_flop_are_two_digits_and_a_power() -> None:
    assert [as_flop(x) for x in (3.14e14, 9.96e9, 1e5)] == ["3.1e14", "1.0e10", "1.0e5"]
