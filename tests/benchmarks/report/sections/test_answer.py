"""The answer of planted folders: its words where they matter, its table, its csv."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report import report, score_text
from benchmarks.report.results import Results, collect
from benchmarks.report.sections import SECTIONS
from benchmarks.report.sections.answer import answer, answer_table, words
from benchmarks.report.words.headline import headline
from benchmarks.report.words.limits import limits
from benchmarks.report.words.reasons import price, why
from benchmarks.report.words.sureness import by_task, sureness
from benchmarks.spec import Settings
from benchmarks.store import ResultStore

NONE = [0.0] * 5
WINNER = [8.0, 9.0, 10.0, 11.0, 12.0]
LOSER = [-x for x in WINNER]
TIE = [0.5, -0.5, 0.0, 0.3, -0.3]
NOISE = [9.0, -9.0, 3.0, -3.0, 5.0]
Gains = Mapping[str, Sequence[float]]


def planted(folder: Path, build: Any, gains: Gains, **more: Any) -> Results:
    return collect(build.planted(folder, {"none": NONE, **gains}, **more))


def errors(curves: Mapping[int, Sequence[float]]) -> list[Record]:
    """Open-loop errors of seeds 0, 1, ... by step."""
    return [
        Record(seed, 100, "compounding/policy/median", value, step)
        for step, values in curves.items()
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({"mopo": WINNER}, "**mopo (+10.0 [8.0, 12.0]) helps.**"),
        ({"mopo": LOSER}, "**No generator helps: mopo (−10.0 [−12.0, −8.0]) hurts.**"),
        (
            {"mopo": TIE},
            "**No generator helps: mopo (+0.000 [−0.512, 0.512]) is equivalent to real data only within 5 points.**",
        ),
        ({"mopo": NOISE}, "**No generator can be told apart from real data only.**"),
        ({"mopo": NOISE, "pgd": NOISE}, "**No generator can be told apart from real data only.**"),
        ({"mopo": WINNER[:1]}, "**Indication only, 1 seed: no generator can be told apart from real data only.**"),
        ({"mopo": WINNER[:4]}, "**Indication only, 4 seeds: no generator can be told apart from real data only.**"),
        (
            {"mopo": WINNER, "pgd": LOSER, "synther": TIE, "oneshot": NOISE},
            "**mopo (+10.0 [8.0, 12.0]) helps; pgd (−10.0 [−12.0, −8.0]) hurts; synther (+0.0 [−0.5, 0.5]) is "
            "equivalent to real data only within 5 points; oneshot cannot be told apart from real data only.**",
        ),
        (
            {"mopo": LOSER, "pgd": NOISE, "synther": NOISE, "oneshot": NOISE},
            "**No generator helps: mopo (−10.00 [−11.96, −8.04]) hurts; the other 3 cannot be told apart from real "
            "data only.**",
        ),
        (
            {"mopo": WINNER, "pgd": WINNER, "synther": WINNER, "oneshot": [2 * x for x in WINNER]},
            "**4 of 4 generators help, most oneshot (+20.0 [16.1, 23.9]).**",
        ),
    ],
)
def test_the_headline_says_the_verdicts(tmp_path: Path, build: Any, gains: Gains, said: str) -> None:
    assert headline(planted(tmp_path, build, gains)) == said


def test_controls_and_the_ceiling_are_no_generators_that_help(tmp_path: Path, build: Any) -> None:
    results = planted(tmp_path, build, {"mopo": NOISE, "simulator": WINNER, "duplicate": TIE})
    assert headline(results) == "**No generator can be told apart from real data only.**"


def test_controls_alone_say_in_how_many_settings(tmp_path: Path, build: Any) -> None:
    results = planted(tmp_path, build, {"duplicate": TIE, "simulator": WINNER})
    assert (
        headline(results)
        == "**Only controls were run. Of 1 setting 0 may judge generators and 0 may not; 1 is not shown.**"
    )
    assert "controls" not in sureness(results)


def test_real_data_alone_are_held_against_the_data(tmp_path: Path, build: Any) -> None:
    results = planted(tmp_path, build, {})
    assert headline(results) == (
        "**No generator was run. Of 1 setting real data only score above the data's own episodes in 0 and below them "
        "in 0; 1 is not shown.**"
    )


def test_real_batches_compare_the_rollouts(tmp_path: Path, build: Any) -> None:
    curves = {"mopo": errors({1: [0.1] * 5, 6: [0.3] * 5})}
    store = build.planted(tmp_path, {"none": NONE, "mopo": NONE, "duplicate": NONE}, real_fraction=1.0, more=curves)
    results = collect(store)
    assert words(results)[0] == (
        "**Every batch is real (real_fraction = 1), so all cells train the same policies and no scores are compared; "
        "what follows compares the rollouts.**"
    )
    table = answer_table(results)
    assert table.head == ["generator", "variant", "algorithm", "error at the last step", "off the policy", "price"]
    assert [row[0].text for row in table.rows] == ["mopo", "duplicate (control)"]
    assert "points" not in " ".join(words(results))
    titles = {table.title for section in SECTIONS for make in section.tables if (table := make(results)).rows}
    assert not titles & {"Scores", "Change against real data only", "Scores under other selection rules"}
    drawn = {plot.name for section in SECTIONS for plot in section.figures if plot.rows(results)}
    assert not drawn & {"scores", "improvement", "wins", "aggregate"}
    report(store)
    assert "Every batch is real" in score_text(store)


def test_without_none_nothing_says_what_helps(tmp_path: Path, build: Any) -> None:
    results = collect(build.planted(tmp_path, {"mopo": WINNER}))
    assert headline(results) == "**Generator none was not run: nothing says whether any generator helps.**"


def test_what_is_unfinished_comes_first(tmp_path: Path, build: Any) -> None:
    store = build.planted(tmp_path, {"none": NONE, "mopo": WINNER, "pgd": NOISE[:3]})
    specs = [build.spec("toy/linear", name, 5, name) for name in ("synther", "oneshot")]
    store.fail(specs[0], build.provenance(5), "ValueError: broken")
    store.plan("planted", [*(replace(cell, seeds=tuple(range(5))) for cell in planned(store, build)), *specs])
    assert headline(collect(store)) == (
        "**Unfinished:** of 25 seeds in 5 cells 7 are missing and 5 failed. **mopo (+10.0 [8.0, 12.0]) helps; pgd "
        "cannot be told apart from real data only.**"
    )


def planned(store: ResultStore, build: Any) -> list[Any]:
    """The cells of a planted folder, as they were planned."""

    settings = Settings(updates=100, evaluate_every=100)
    return [replace(build.spec("toy/linear", name, 5), settings=settings) for name in ("none", "mopo", "pgd")]


def test_nothing_has_finished(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    store.plan("planted", [build.spec("toy/linear", "none", 5)])
    found = words(collect(store))
    assert found == ["**Unfinished:** of 5 seeds in 1 cell 5 are missing. **No cell has finished yet.**"]


def test_failing_controls_come_before_any_comparison(tmp_path: Path, build: Any) -> None:
    results = planted(tmp_path, build, {"mopo": WINNER, "duplicate": [x / 2 for x in WINNER], "simulator": LOSER})
    assert headline(results) == (
        "**These comparisons may not judge generators: copies of real rows (duplicate) change the score (+5.00 [4.02, "
        "5.98]) and perfect rollouts (simulator) hurt (−10.0 [−12.0, −8.0]).** **mopo (+10.0 [8.0, 12.0]) helps.**"
    )


def test_controls_that_show_nothing_are_told(tmp_path: Path, build: Any) -> None:
    results = planted(tmp_path, build, {"mopo": NOISE, "duplicate": TIE})
    assert sureness(results) == (
        "About 18 seeds (median) would show a difference of 5 points with power 80 %, before correction. The controls "
        "do not show that these comparisons judge generators: none − behaviour not known and simulator − none not run."
    )


def test_returns_have_no_points(tmp_path: Path, build: Any) -> None:
    results = planted(tmp_path, build, {"mopo": WINNER, "pgd": TIE}, scored=False)
    assert headline(results) == "**mopo (+70.0 [56.3, 83.7]) helps; pgd cannot be told apart from real data only.**"
    said = sureness(results)
    assert "toy/linear has no reference scores: returns are compared, in no points, and not for equivalence." in said
    assert "Changes in units of return lie between +0.0 [−3.6, 3.6] (pgd) and +70.0 [56.3, 83.7] (mopo); " in said
    assert "; verdicts are corrected for 2 comparisons, intervals are not." in said
    assert "5 points" not in said


def test_several_tasks_have_a_sentence_each(tmp_path: Path, build: Any) -> None:
    undecided = {"none": NONE, "mopo": NOISE, "pgd": NOISE, "synther": NOISE}
    build.planted(tmp_path, undecided | {"mopo": WINNER})
    results = collect(build.planted(tmp_path, undecided, tasks=["toy/b"]))
    assert headline(results) == (
        "**mopo on toy/linear (+10.00 [8.04, 11.96]) helps; the other 5 cannot be told apart from real data only.**"
    )
    assert by_task(results) == (
        "**toy/b:** No generator can be told apart from real data only. **toy/linear:** mopo (+10.00 [8.04, 11.96]) "
        "helps; pgd and synther cannot be told apart from real data only. The mean change over all tasks lies between "
        "+1.00 [−4.16, 6.16] (pgd) and +5.50 [1.16, 9.84] (mopo)."
    )
    assert by_task(collect(build.planted(tmp_path / "none", undecided, tasks=["toy/b", "toy/c"]))) == (
        "The mean change over all tasks lies between +1.00 [−4.16, 6.16] (mopo) and +1.00 [−4.16, 6.16] (synther)."
    )
    table = answer_table(results)
    assert table.head[3:6] == ["change, toy/b", "change, toy/linear", "verdict"]
    assert table.rows[0][5].text == "cannot be told apart: toy/b; helps: toy/linear"


def test_many_tasks_share_one_column(tmp_path: Path, build: Any) -> None:
    tasks = [f"toy/{name}" for name in "abcde"]
    results = planted(tmp_path, build, {"mopo": WINNER}, tasks=tasks)
    table = answer_table(results)
    assert table.head[3:5] == ["change, mean over tasks", "verdict"]
    assert [entry.text for entry in table.rows[0][3:5]] == ["+10.0 [9.3, 10.7]", "helps"]
    assert headline(results) == "**5 of 5 comparisons help, most mopo on toy/a (+10.0 [8.0, 12.0]).**"


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (NOISE, "**Of 3 values of iterations of dydiff none can be told apart from real data only.**"),
        (
            LOSER,
            "**Of 3 values of iterations of dydiff none helps: 1 hurts (iterations=2: −10.00 [−11.96, −8.04]) and 2 "
            "cannot be told apart from real data only.**",
        ),
        (
            WINNER,
            "**Of 3 values of iterations of dydiff 1 helps (iterations=2: +10.00 [8.04, 11.96]) and 2 cannot be told "
            "apart from real data only.**",
        ),
    ],
)
def test_an_ablation_is_told_by_its_values(tmp_path: Path, build: Any, second: list[float], said: str) -> None:
    gains = {"dydiff__iterations=1": NOISE, "dydiff__iterations=2": second, "dydiff__iterations=3": NOISE}
    results = planted(tmp_path, build, gains)
    assert headline(results) == said


def test_variants_of_several_methods_are_summed_up(tmp_path: Path, build: Any) -> None:
    gains = {"dydiff__iterations=1": NOISE, "dydiff__iterations=2": LOSER, "mopo__iterations=1": NOISE}
    results = planted(tmp_path, build, gains | {"mopo__iterations=2": NOISE})
    assert headline(results) == (
        "**No generator helps: dydiff [iterations=2] (−10.00 [−11.96, −8.04]) hurts; the other 3 cannot be told apart "
        "from real data only.**"
    )
    assert by_task(results) == (
        "**toy/linear:** Of 2 values of iterations of dydiff none helps: 1 hurts (iterations=2: −10.00 [−11.96, "
        "−8.04]) and 1 cannot be told apart from real data only. Of 2 values of iterations of mopo none can be "
        "told apart from real data only."
    )


def test_the_least_error_is_named_only_apart_from_the_next(tmp_path: Path, build: Any) -> None:
    """Ranges of seeds overlap or not; single transitions are left out, shorter rollouts, too."""
    gains = {"mopo": NOISE, "pgd": NOISE, "synther": NOISE, "oneshot": NOISE}
    more = {
        "mopo": errors({1: [0.2], 6: [0.2, 0.3]}),
        "pgd": errors({1: [0.1], 6: [0.4, 0.5]}),
        "synther": errors({1: [0.01]}),
        "oneshot": errors({1: [0.01], 3: [0.02]}),
    }
    assert why(planted(tmp_path / "apart", build, gains, more=more)) == (
        "**Why:** least open-loop error after 6 steps: mopo (0.25, next 0.45). Single transitions (synther) have no "
        "such step."
    )
    more["pgd"] = errors({1: [0.1], 6: [0.3, 0.5]})
    assert "after 6 steps: mopo and pgd are level (0.25 to 0.4)." in why(
        planted(tmp_path / "level", build, gains, more=more)
    )


def test_signs_of_failure_are_told(tmp_path: Path, build: Any) -> None:
    more = {name: [Record(0, 100, "values/ratio", value)] for name, value in (("mopo", 9.0), ("pgd", 1.0))}
    results = planted(tmp_path, build, {"mopo": NOISE, "pgd": NOISE}, more=more)
    assert why(results) == "**Why:** signs of failure: values blow up: mopo."
    assert [row[-1].text for row in answer_table(results).rows] == ["values blow up", ""]


def test_price_is_in_runs_of_none(tmp_path: Path, build: Any) -> None:
    seconds = {"none": 10.0, "mopo": 31.0, "pgd": 15.0}
    more = {name: [Record(0, 100, "cost/update_seconds", value)] for name, value in seconds.items()}
    results = planted(tmp_path, build, {"mopo": NOISE, "pgd": NOISE}, more=more)
    assert (
        price(results) == "**Price** of a run (updates, generation and fits) in runs of none: pgd 1.5× and mopo 3.1×."
    )
    assert answer(results)["price"].tolist() == [3.1, 1.5]


def test_limits_change_the_reading(tmp_path: Path, build: Any) -> None:
    settings = {"updates": 100, "episodes": 4, "real_fraction": 0.6, "shared_models": True}
    gains = {"none": NONE[:3], "mopo": NOISE[:3]}
    results = collect(build.planted(tmp_path, gains, tasks=["local/hopper-medium"], **settings))
    assert limits(results) == (
        "**Limits:** bc on hopper-medium, 3 seeds per cell (fewer than 5: an indication only); scores of 100 updates; "
        "4 episodes per evaluation; 60 % of every batch is real data; all seeds of a cell share one pretrained model: "
        "the variance of fitting is not in the intervals; local/ data are of this project's own recipes: no scores to "
        "put beside published D4RL numbers. Cells come from a tree with uncommitted changes."
    )


def test_the_table_is_sorted_and_marks_who_is_not_ranked(tmp_path: Path, build: Any) -> None:
    gains = {"pgd": LOSER, "mopo": WINNER, "duplicate": TIE, "simulator": WINNER, "synther": WINNER[:2]}
    table = answer_table(planted(tmp_path, build, gains))
    shown = {row[0].text: [entry.text for entry in row[3:5]] for row in table.rows}
    assert list(shown) == ["mopo", "synther", "pgd", "simulator (ceiling)", "duplicate (control)"]
    assert shown["mopo"] == ["+10.0 [8.0, 12.0]", "helps"]
    assert shown["synther"][1] == "cannot be told apart"
    assert shown["synther"][0].endswith("†")
    assert [row[0].text for row in table.rows if row[4].bold] == ["mopo"]


def test_hostile_names_stay_text_on_the_page(store: ResultStore) -> None:
    report(store)
    page = (store.root / "report" / "index.html").read_text()
    assert '<script>alert("x")' not in page
