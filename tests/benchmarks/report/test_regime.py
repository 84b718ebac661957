"""Three conditions on the controls: intervals by hand, verdicts, words, and where they are shown."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report import report, score_text
from benchmarks.report.figures.style import line_styles
from benchmarks.report.regime import Regime, advice, describe, regimes, terminal, void
from benchmarks.report.results import Results, collect
from benchmarks.report.scores import behaviours
from benchmarks.report.sections import learning_curves
from benchmarks.report.sections.answer import answer_table, regime_table
from benchmarks.report.sections.improvement import change_table
from benchmarks.report.sections.scores import score_table
from benchmarks.report.verdict import verdicts
from benchmarks.spec import Settings
from benchmarks.store import ResultStore

TASK = "local/hopper-medium"
NONE = [20.0, 22.0, 24.0, 26.0, 28.0]
RUN = {"score_range": [5.0, 2005.0], "horizon": 1000}
CARD = {"return_mean": 205.0, "episodes": 9, "timeouts": 2, "rows": 5000}  # a score of 10
COPY = [0.5, -0.5, 0.0, 0.3, -0.3]  # what the controls add, seed by seed
HELP = [8.0, 9.0, 10.0, 11.0, 12.0]
CEILING_SHOWN = "simulator (ceiling)"
Folder = Callable[..., ResultStore]


@pytest.fixture
def folder(tmp_path: Path, build: Any) -> Folder:
    """Cells with these gains over NONE; a score of x is a return of 20 x + 5."""

    def make(card: Any = CARD, run: Any = RUN, scored: bool = True, **gains: list[float]) -> ResultStore:
        store = ResultStore(tmp_path / "results")
        for name, gain in {"none": [0.0] * 5, **gains}.items():
            generator, _, variant = name.partition("__")
            scores = [none + more for none, more in zip(NONE, gain, strict=False)]
            spec = build.spec(TASK, generator, len(scores), variant or "default", iterations=4 + len(variant))
            records = [
                record
                for seed, score in enumerate(scores)
                for record in (
                    Record(seed, 100, "return", 20 * score + 5),
                    Record(seed, 100, "normalized_score", score if scored else None),
                )
            ]
            told = {**run, "dataset": card} | ({} if scored else {"score_range": None})
            store.finish(spec, build.provenance(len(scores)) | RUN | told, records)
        return store

    return make


@pytest.fixture
def only(folder: Folder) -> Callable[..., Regime]:
    """The one regime of such a folder."""

    def found(**arguments: Any) -> Regime:
        (regime,) = regimes(collect(folder(**arguments)))
        return regime

    return found


def behaviour(results: Results) -> float | None:
    return next(iter(behaviours(results).values()), None)


@pytest.mark.parametrize(
    ("card", "run", "score"),
    [
        (CARD, {}, 10.0),
        (CARD | {"timeouts": 5}, {}, 10.0),
        (CARD | {"timeouts": 6}, {}, 18.2),  # 6 x 1000 steps do not fit into 5000 rows: 205 x 9 / 5 in an evaluation
        (CARD, {"horizon": None}, None),  # a run of an older version
        (CARD, {"horizon": "long"}, None),
        (CARD, {"score_range": None}, None),
        (CARD, {"score_range": [5.0, 5.0]}, None),
        (CARD | {"collected_in": {"physics": "Pendulum-v1(g=2.0)", "max_episode_steps": 1000}}, {}, None),
        ({}, {}, None),
        ({"recipe": "x"}, {}, None),
    ],
)
def test_the_behaviour_has_a_score_if_the_run_tells(folder: Folder, card: Any, run: Any, score: float | None) -> None:
    found = behaviour(collect(folder(card=card, run=run)))
    assert found == (None if score is None else pytest.approx(score))


def test_without_references_the_behaviour_is_a_return(folder: Folder) -> None:
    assert behaviour(collect(folder(scored=False))) == 205


def test_intervals_are_those_of_student(only: Callable[..., Regime]) -> None:
    """t(0.975, 4) = 2.7764: sqrt(10 / 5) of scores, paired sqrt(2.5 / 5) of the ceiling's gains."""
    regime = only(duplicate=COPY, simulator=HELP)
    assert (regime.behaviour, regime.score, regime.room) == pytest.approx((10, 24, 10))
    half = 2.7764451051977987
    found = [(x.n, x.mean, x.low, x.high) for x in regime.conditions]
    assert found[0] == pytest.approx((5, 14, 14 - half * 2**0.5, 14 + half * 2**0.5))
    assert found[1] == pytest.approx((5, 0, -half * 0.034**0.5, half * 0.034**0.5))
    assert found[2] == pytest.approx((5, 10, 10 - half * 0.5**0.5, 10 + half * 0.5**0.5))


@pytest.mark.parametrize(
    ("mean", "duplicate", "simulator", "verdicts", "whole"),
    [
        (205, COPY, HELP, "holds, holds, holds", "holds"),
        (485, COPY, HELP, "not shown, holds, holds", "not shown"),  # the behaviour scores what none does
        (805, COPY, HELP, "fails, holds, holds", "fails"),
        (205, [6.0, -6.0, 12.0, -12.0, 0.0], HELP, "holds, not shown, holds", "not shown"),  # noise is no equality
        (205, [2.0, -2.0, 2.0, -2.0, 0.0], HELP, "holds, holds, holds", "holds"),  # ± 2.5 within 10 ...
        (205, [2.0, -2.0, 2.0, -2.0, 0.0], [1.0, 1.1, 1.2, 1.3, 1.4], "holds, not shown, holds", "not shown"),  # not 2
        (205, [4.0, 5.0, 6.0, 5.0, 5.0], HELP, "holds, fails, holds", "fails"),
        (205, [-0.5, -0.6, -0.7, -0.6, -0.6], HELP, "holds, holds, holds", "holds"),  # real, but small
        (205, COPY, [-x for x in HELP], "holds, holds, fails", "fails"),
        (205, COPY, COPY, "holds, holds, fails", "fails"),  # no room
        (205, COPY, [9.0, -9.0, 3.0, -3.0, 5.0], "holds, holds, not shown", "not shown"),
    ],
)
def test_verdicts(
    only: Callable[..., Regime], mean: float, duplicate: list[float], simulator: list[float], verdicts: str, whole: str
) -> None:
    regime = only(card=CARD | {"return_mean": mean}, duplicate=duplicate, simulator=simulator)
    assert ", ".join(x.verdict for x in regime.conditions) == verdicts
    assert regime.verdict == whole


def test_few_seeds_show_nothing(only: Callable[..., Regime]) -> None:
    regime = only(none=[0.0] * 4, duplicate=COPY[:4], simulator=[-100.0, -101.0, -102.0, -103.0])
    assert [x.verdict for x in regime.conditions] == ["not shown"] * 3
    assert all("(n=4)†" in x.text for x in regime.conditions)
    assert advice(regime) == ["Fewer than 5 seeds show nothing: run more."]


def test_what_was_not_run_or_is_not_known_is_told(only: Callable[..., Regime]) -> None:
    regime = only(card={})
    assert [x.verdict for x in regime.conditions] == ["not known", "not run", "not run"]
    assert regime.verdict == "not shown"
    assert advice(regime)[0] == "Run generators duplicate and simulator with these settings, too."
    assert "left open" in advice(regime)[1]


def test_a_planned_folder_without_results_has_verdicts(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    store.plan("regime", [build.spec(TASK, name, 5) for name in ("none", "duplicate", "simulator")])
    (regime,) = regimes(collect(store))
    assert [x.text for x in regime.conditions] == ["not run"] * 3
    assert "none, duplicate" in advice(regime)[0].replace(" and ", ", ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"duplicate": [4.0, 5.0, 6.0, 5.0, 5.0], "simulator": HELP}, "rows and coupling first"),
        ({"card": CARD | {"return_mean": 805}, "duplicate": COPY, "simulator": HELP}, "more updates, a larger alpha"),
        ({"duplicate": COPY, "simulator": [-x for x in HELP]}, "regularise = real_only"),
        ({"duplicate": COPY, "simulator": COPY}, "fewer rows (train_rows) make room"),
        ({"duplicate": COPY, "simulator": [9.0, -9.0, 3.0, -3.0, 5.0]}, "more seeds, more episodes"),
    ],
)
def test_advice_says_what_to_change(only: Callable[..., Regime], arguments: Any, words: str) -> None:
    (sentence,) = advice(only(**arguments))
    assert words in sentence


def test_a_regime_that_holds_is_one_line(folder: Folder) -> None:
    results = collect(folder(duplicate=COPY, simulator=HELP))
    (regime,) = regimes(results)
    assert describe(regime) == (
        "local/hopper-medium / bc: these comparisons may judge generators (none − behaviour +14.0 [10.1, 17.9] (n=5): "
        "holds; duplicate − none +0.000 [−0.512, 0.512] (n=5): holds; simulator − none +10.0 [8.0, 12.0] (n=5): holds)."
    )
    assert terminal(results).splitlines()[1:] == [f"  {describe(regime)}"]
    assert void(results) == ""
    assert "void" not in change_table(results).caption


def test_a_failing_regime_is_told_everywhere(folder: Folder) -> None:
    store = folder(duplicate=COPY, simulator=[-x for x in HELP], mopo=HELP)
    report(store)
    told = "Regime fails, comparisons of generators are void: local/hopper-medium / bc."
    assert told in change_table(collect(store)).caption
    assert "may not judge generators" in score_text(store)
    assert "Perfect rollouts do harm" in score_text(store)
    page = (store.root / "report" / "index.html").read_text()
    assert page.index("may not judge generators") < page.index("mopo (+10.0")
    for words in (told, "may not judge generators", "Perfect rollouts do harm", "a larger real_fraction"):
        assert words in page


def test_without_a_ceiling_the_terminal_says_so_once(folder: Folder) -> None:
    results = collect(folder(duplicate=COPY))
    assert len(terminal(results).splitlines()) == 1
    assert "run generator simulator" in terminal(results)
    assert void(results).startswith("Regime not shown, comparisons of generators are void: local/hopper-medium / bc.")


def test_one_ceiling_that_helps_is_enough(folder: Folder) -> None:
    """Rollouts of 1 step give no room, those of 5 do."""
    results = collect(folder(duplicate=COPY, simulator__one=COPY, simulator__fives=HELP))
    assert {(regime.variant, regime.verdict) for regime in regimes(results)} == {("one", "fails"), ("fives", "holds")}
    assert void(results) == ""


@pytest.fixture
def beside(folder: Folder, build: Any) -> ResultStore:
    """A regime that holds, and another task whose copies change much and whose ceiling is missing."""
    store = folder(duplicate=COPY, simulator=HELP, mopo=HELP)
    for generator, scores in (("none", [24.0] * 5), ("duplicate", [44.0, 45.0, 46.0, 44.5, 45.5])):
        scored = [Record(seed, 10, "normalized_score", score) for seed, score in enumerate(scores)]
        store.finish(build.spec("toy/linear", generator, 5), build.provenance(5), scored)
    return store


def test_void_comparisons_weaken_none_that_count(beside: ResultStore) -> None:
    """They are corrected by themselves: p of mopo counts twice, for the copies of its own task."""
    found = verdicts(collect(beside)).set_index(["task", "generator"])
    assert found["p_holm"][TASK, "mopo"] == pytest.approx(2 * found["p"][TASK, "mopo"])
    assert found["p_holm"]["toy/linear", "duplicate"] == found["p"]["toy/linear", "duplicate"] > 0


def test_void_controls_are_told_below_the_answer(beside: ResultStore) -> None:
    table = answer_table(collect(beside))
    assert [row[0].text for row in table.rows] == ["mopo", CEILING_SHOWN, "duplicate (control)"]
    assert [head for head in table.head if head.startswith("change")] == [f"change, {TASK}‡"]
    assert "stand below" in table.caption


def test_the_csv_has_the_numbers(folder: Folder, rows: Callable[[Path], list[dict[str, str]]]) -> None:
    store = folder(duplicate=COPY, simulator=HELP)
    report(store)
    (row,) = rows(store.root / "report" / "regime.csv")
    assert (row["task"], row["unit"], row["verdict"], row["learns"]) == (TASK, "score", "holds", "holds")
    numbers = [float(row[name]) for name in ("behaviour", "none", "room", "ceiling_mean", "ceiling_low")]
    assert numbers == pytest.approx([10, 24, 10, 10, 10 - 2.7764451051977987 * 0.5**0.5])


def test_settings_apart_are_regimes_of_their_own(folder: Folder, build: Any) -> None:
    store = folder(duplicate=COPY, simulator=HELP)
    other = replace(build.spec(TASK, "none", 5), settings=Settings(updates=7), variant="updates=7")
    store.finish(other, build.provenance(5), build.evaluations(5, 0.0))
    table = regime_table(collect(store))
    said = {
        row[table.head.index("variant")].text: row[table.head.index("these comparisons")].text for row in table.rows
    }
    assert said == {"default": "may judge generators", "updates=7": "not shown"}


def test_void_regimes_are_counted_when_none_is_left(folder: Folder, build: Any) -> None:
    store = folder()
    store.finish(build.spec("toy/linear", "none", 5), build.provenance(5), build.evaluations(5, 0.0))
    assert void(collect(store)).startswith("Regime not shown, comparisons of generators are void: all of them.")


def test_the_ceiling_is_last_and_never_ranked(folder: Folder) -> None:
    """mopo is bold beside a ceiling that lies above it; controls and the ceiling are the last rows and legends."""
    results = collect(folder(duplicate=COPY, simulator=[80.0] * 5, synther=COPY, mopo=[40.0] * 5))
    table = score_table(results)
    names = ["behaviour (data)", "none", "duplicate", "mopo", "synther", CEILING_SHOWN]
    assert [row[0].text for row in table.rows] == names
    assert [row[0].text for row in table.rows if any(entry.bold for entry in row)] == ["mopo"]
    gains = change_table(results)
    assert [row[0].text for row in gains.rows] == ["mopo", "synther", CEILING_SHOWN, "duplicate"]
    assert [row[0].text for row in gains.rows if any(entry.bold for entry in row)] == ["mopo"]
    answer = answer_table(results)
    assert [row[0].text for row in answer.rows] == ["mopo", "synther", CEILING_SHOWN, "duplicate (control)"]
    assert [row[0].text for row in answer.rows if any(entry.bold for entry in row)] == ["mopo"]
    assert [style.label for style in line_styles(results).values()][-1] == CEILING_SHOWN
    assert line_styles(results)["simulator", "default"].dash != "-"
    assert "never ranked" in table.caption


def test_the_ceiling_is_no_comparison_to_correct_for(folder: Folder) -> None:
    by_name = verdicts(collect(folder(mopo=HELP, simulator=HELP))).set_index("generator")
    assert by_name["p_holm"]["mopo"] == by_name["p"]["mopo"] > 0
    assert math.isnan(by_name["p_holm"]["simulator"])
    assert by_name["p"]["simulator"] == by_name["p"]["mopo"]


def test_the_behaviour_stands_above_the_scores(folder: Folder) -> None:
    table = score_table(collect(folder()))
    assert [entry.text for entry in table.rows[0]] == ["behaviour (data)", "default", "10.0"]
    assert "behaviour: mean score of the episodes" in table.caption


def test_an_unknown_behaviour_has_no_row(folder: Folder) -> None:
    table = score_table(collect(folder(card={})))
    assert [row[0].text for row in table.rows] == ["none"]
    assert "behaviour" not in table.caption


def test_the_behaviour_is_dotted_among_learning_curves(tmp_path: Path, build: Any) -> None:
    store = ResultStore(tmp_path)
    run = build.provenance(5) | RUN | {"dataset": CARD}
    store.finish(build.spec(TASK, "none", 5), run, build.evaluations(5, 0.0))
    (plot,) = learning_curves.SECTION.figures
    ((_, _, figure),) = plot.pages(collect(store))
    (dotted,) = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert list(dotted.get_ydata()) == pytest.approx([10, 10])
    assert "behaviour" in [text.get_text() for text in figure.legends[0].get_texts()]
