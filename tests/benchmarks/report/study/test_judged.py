"""Only cells in regimes that hold are run, and it is said when there is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.regime import left_out
from benchmarks.report.results import collect
from benchmarks.report.sections.improvement import change_table
from benchmarks.report.study.judged import judged_cells, where_judged
from benchmarks.report.words.headline import headline
from benchmarks.spec import Settings
from benchmarks.store import ResultStore
from core.errors import SpecError

SETTINGS = {"updates": 100, "evaluate_every": 100}


def specs(build: Any, **settings: Any) -> list[Any]:
    made = [build.spec(task, generator, 5) for task in ("toy/a", "toy/b") for generator in ("none", "mopo")]
    return [replace(spec, settings=Settings(**SETTINGS, **settings)) for spec in made]


def test_cells_of_regimes_that_hold_are_chosen(study: Any, build: Any) -> None:
    study.task("toy/a", {})
    study.task("toy/b", {}, {"none": 0.0, "duplicate": 0.0, "simulator": -5.0})
    found = where_judged(specs(build), study.store)
    assert [(spec.task, spec.generator.name) for spec in found] == [("toy/a", "none"), ("toy/a", "mopo")]


def test_a_fit_for_every_seed_is_no_other_regime(study: Any, build: Any) -> None:
    study.task("toy/a", {}, shared_models=True)
    assert len(where_judged(specs(build, shared_models=False), study.store)) == 2


@pytest.mark.parametrize("settings", [{"train_rows": 50}, {"regularise": "all"}])
def test_other_settings_are_another_regime(study: Any, build: Any, settings: dict[str, Any]) -> None:
    study.task("toy/a", {})
    with pytest.raises(SpecError, match=r"--judged needs a regime .* that holds in .*, got 1 that hold"):
        where_judged(specs(build, **settings), study.store)


def test_without_controls_nothing_is_judged(study: Any, build: Any) -> None:
    with pytest.raises(SpecError, match="got 0 that hold"):
        where_judged(specs(build), study.store)


def test_a_folder_of_what_holds_alone(study: Any, tmp_path: Path) -> None:
    study.task("toy/a", {"mopo": (-4.0, {})})
    study.task("toy/b", {"mopo": (-9.0, {})}, {"none": 0.0, "duplicate": 0.0, "simulator": -5.0})
    out = ResultStore(tmp_path / "judged")
    study.store.pack(out, lean=False, only=judged_cells(study.store))
    found = collect(ResultStore(out.root))
    assert {cell.task for cell in found.cells} == {"toy/a"}
    assert {cell.generator for cell in found.cells} == {"none", "duplicate", "simulator", "mopo"}


def test_what_is_judged_is_not_packed_over_the_rest(study: Any) -> None:
    study.task("toy/a", {})
    study.task("toy/b", {}, {"none": 0.0, "duplicate": 0.0, "simulator": -5.0})
    with pytest.raises(SpecError, match="must hold no seeds that"):
        study.store.pack(study.store, lean=False, only=judged_cells(study.store))


def test_nothing_is_packed_where_no_regime_holds(study: Any) -> None:
    study.task("toy/b", {}, {"none": 0.0, "duplicate": 0.0, "simulator": -5.0})
    with pytest.raises(SpecError, match=r"--judged needs a regime that holds in .*, got none"):
        judged_cells(study.store)


def test_void_comparisons_are_marked_and_not_counted(study: Any) -> None:
    study.task("toy/a", {"mopo": (-4.0, {})})
    study.task("toy/b", {"mopo": (-9.0, {})}, {"none": 0.0, "duplicate": 0.0, "simulator": -5.0})
    results = study.results()
    assert "No generator helps: mopo (−4.00 [−4.51, −3.49]) hurts." in headline(results)
    assert headline(results).endswith("Not counted: 1 comparison in settings whose controls do not hold.")
    told = {row[1].text: row[8].text for row in change_table(results).rows if row[0].text == "mopo"}
    assert told == {"toy/a": "hurts", "toy/b": "hurts (not counted)"}


def test_where_no_regime_holds_everything_is_told(study: Any) -> None:
    study.task("toy/b", {"mopo": (-9.0, {})}, {"none": 0.0, "duplicate": 0.0, "simulator": -5.0})
    results = study.results()
    assert not left_out(results)
    assert "mopo" in headline(results)
