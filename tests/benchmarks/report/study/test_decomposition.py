"""Room, errors, mixing and coupling: they add up, pairs are the right ones, and void regimes are left out."""

from typing import Any

import pytest

from benchmarks.report import report
from benchmarks.report.sections.decomposition import SECTION, decomposition_table, parts_table
from benchmarks.report.study.decomposition import averages, decomposition
from benchmarks.store import ResultStore

HALF = 2.7764451051977987 * (0.68 / 4 / 5) ** 0.5  # of NOISE, whose squares sum to 0.68


def means(study: Any) -> dict[tuple[str, str, str], float]:
    table = decomposition(study.results())
    keys = zip(table["term"], table["generator"], table["variant"], strict=True)
    return dict(zip(keys, table["mean"], strict=True))


def test_room_and_errors_add_up_to_the_change(study: Any) -> None:
    study.task("toy/a", {"mopo": (-4.0, {}), "pgd": (3.0, {})})
    found = means(study)
    assert found["room", "simulator", "default"] == pytest.approx(10)
    assert found["errors", "mopo", "default"] == pytest.approx(-14)
    assert found["errors", "pgd", "default"] == pytest.approx(-7)
    assert found["mixing", "duplicate", "default"] == pytest.approx(0)
    for generator in ("mopo", "pgd"):
        parts = found["room", "simulator", "default"] + found["errors", generator, "default"]
        assert found["change", generator, "default"] == pytest.approx(parts)


def test_verdicts_are_those_of_the_page(study: Any) -> None:
    study.task("toy/a", {"mopo": (-4.0, {}), "pgd": (0.25, {})})
    table = decomposition(study.results()).set_index(["term", "generator"])
    assert table["verdict"]["change", "mopo"] == "hurts"
    assert table["verdict"]["change", "pgd"] == "equivalent"
    assert table["verdict"]["room", "simulator"] == "helps"
    low, high = table.loc[("change", "mopo"), ["low", "high"]]
    assert (low, high) == pytest.approx((-4 - HALF, -4 + HALF))
    assert set(table["regime"]) == {"holds"}


def test_coupling_is_all_rows_less_real_rows_only(study: Any) -> None:
    study.task("toy/a", {"mopo": (-1.0, {})}, regularise="real_only")
    study.task("toy/a", {"mopo": (-9.0, {})}, {"none": 0.0, "duplicate": 0.0, "simulator": 8.0}, regularise="all")
    found = means(study)
    assert found["coupling", "mopo", "regularise=all"] == pytest.approx(-8)
    assert found["coupling", "simulator", "regularise=all"] == pytest.approx(-2)
    assert not any(term == "coupling" and variant == "regularise=real_only" for term, _, variant in found)
    assert found["errors", "mopo", "regularise=all"] == pytest.approx(-17)  # each with the ceiling of its own setting
    assert found["errors", "mopo", "regularise=real_only"] == pytest.approx(-11)


def test_regimes_that_do_not_hold_are_in_no_average(study: Any) -> None:
    study.task("toy/a", {"mopo": (-4.0, {})})
    study.task("toy/b", {"mopo": (-2.0, {})})
    study.task("toy/c", {"mopo": (90.0, {})}, {"none": 0.0, "duplicate": 0.0, "simulator": -5.0})
    results = study.results()
    found = {own.term: own for own in averages(results) if own.generator == "mopo"}
    assert found["change"].regimes == 2
    assert found["change"].mean == pytest.approx(-3)
    assert found["errors"].mean == pytest.approx(-13)
    (row,) = decomposition_table(results).rows
    assert [entry.text for entry in row][-1] == "hurts: 2"
    told = {(row[0].text, row[4].text) for row in parts_table(results).rows if row[2].text == "mopo"}
    assert ("toy/c", "fails") in told


def test_other_folders_have_no_such_section(build: Any, tmp_path: Any) -> None:
    store: ResultStore = build.planted(tmp_path, {"none": [0.0] * 5, "mopo": [1.0] * 5, "duplicate": [0.0] * 5})
    report(store)
    for name in ("decomposition", "predictors", "study", "harm", "levels", "bought"):
        assert not list((tmp_path / "report").glob(f"{name}.*"))
    assert 'id="decomposition"' not in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_the_figure_says_what_it_shows(study: Any) -> None:
    study.task("toy/a", {"mopo": (-4.0, {}), "pgd": (3.0, {})})
    results = study.results()
    (plot,) = SECTION.figures
    ((_, alt, _),) = plot.pages(results)
    assert alt == "bc: perfect rollouts +10.0 points; errors between −7.0 (pgd) and −14.0 (mopo)."
