"""A small results folder with everything that goes wrong in it, and what the report makes of it."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.report import render, report, score_text
from benchmarks.report.aggregates import aggregate
from benchmarks.report.plots import figures
from benchmarks.report.results import collect
from benchmarks.report.scores import comparisons, estimates, finals, resolution
from benchmarks.report.tables import Entry, Table, detail_table, score_table, values
from benchmarks.spec import Method, RunSpec, Settings
from benchmarks.store import Record, ResultStore
from core.config import configuration

HOSTILE = '<script>alert("x")</script>, =cmd|\\input{/etc/passwd} $x$ `#'
HOME = "/home/somebody/project"


@configuration
class Nothing:
    """A method without fields."""


@configuration
class Iterated:
    iterations: int = 4


def spec(task: str, generator: str, seeds: int, variant: str = "default", iterations: int = 4) -> RunSpec:
    config: Any = Nothing() if generator == "none" else Iterated(iterations)
    return RunSpec(task, Method(generator, config), Method("bc", Nothing()), Settings(), tuple(range(seeds)), variant)


def evaluations(seeds: int, level: float, scored: bool = True, steps: int = 4) -> list[Record]:
    """Seed s scores level + s, growing by 10 per evaluation: 4 evaluations average to level + s + 25 by the rule."""
    return [
        record
        for seed in range(seeds)
        for step in range(steps)
        for record in (
            Record(seed, 100 * step, "return", 7 * (level + seed + 10 * step)),
            Record(seed, 100 * step, "normalized_score", level + seed + 10 * step if scored else None),
            Record(seed, 100 * step, "train/loss", 0.5),
        )
    ]


def fidelity(seeds: int, horizon: int = 6) -> list[Record]:
    found = [
        Record(seed, 300, f"compounding/{actions}/{quantity}/{h}", size * h)
        for seed in range(seeds)
        for h in range(1, horizon + 1)
        for actions in ("policy", "logged")
        for quantity, size in (
            ("median", 0.01),
            ("mean", 0.02),
            ("floor", 1e-9),
            ("chaos", 1e-12),
            ("alive", 0.1),
            ("still", 0.3),
            ("local", 0.01),
            ("capped", 0.0),
            *([("closed", 0.02)] if actions == "policy" else []),
        )
    ]
    return [
        *found,
        *(
            Record(seed, 300, metric, 3.0)
            for seed in range(seeds)
            for metric in (
                "compounding/starts_excluded",
                "compounding/leakage",
                "cost/fit_seconds",
                "cost/updates_per_second",
            )
        ),
    ]


def provenance(seeds: int) -> dict[str, Any]:
    return {
        "seeds": list(range(seeds)),
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 12.0,
        "commit": "0123abcd",
        "dirty": True,
        "versions": {"torch": "2.13.0"},
        "device": "cpu",
        "threads": 2,
        "physics": "toy v1",
        "dataset_sha256": "ab" * 32,
        "dataset": {"recipe": f"{HOME}/recipe.toml"},
    }


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return fill(tmp_path)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The report of that folder, to look at only."""
    store = fill(tmp_path_factory.mktemp("reported"))
    return store.root / "report", report(store)


def fill(tmp_path: Path) -> ResultStore:
    """none and mopo on a scored task, a cell that fails, seeds missing, a task without reference returns."""
    store = ResultStore(tmp_path / "results")
    good = {generator: spec("toy/linear", generator, 6) for generator in ("none", "mopo")}
    few = spec("local/hopper-medium", "none", 3)
    hostile = spec("local/hopper-medium", "mopo", 3, HOSTILE, iterations=1)
    broken = spec("toy/linear", "dydiff", 6)
    never = spec("local/hopper-medium", "dydiff", 2)
    store.plan(f"{HOME}/mine.toml", [*good.values(), few, hostile, broken, never])
    store.finish(good["none"], provenance(6), evaluations(6, 0.0))
    store.finish(good["mopo"], provenance(6), evaluations(6, 20.0) + fidelity(6))
    store.finish(few, provenance(2), evaluations(2, 0.0, scored=False))
    store.finish(hostile, {}, evaluations(3, 1.0, scored=False) + fidelity(3))
    store.fail(
        broken, provenance(6), f'Traceback\n  File "{HOME}/x.py"\nValueError: <b>bad</b> {HOME}/data/x.hdf5 is torn\n'
    )
    return store


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


class Page(HTMLParser):
    """Tags with their attributes; insists that what is opened is closed."""

    void = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_problems_are_named(reported: tuple[Path, list[str]]) -> None:
    _, problems = reported
    assert "failed: toy/linear / dydiff / bc, seeds 0, 1, 2, 3, 4, 5: ValueError: <b>bad</b> x.hdf5 is torn" in problems
    assert "missing: local/hopper-medium / none / bc, seed 2" in problems
    assert "missing: local/hopper-medium / dydiff / bc, seeds 0, 1" in problems
    assert len(problems) == 3


def test_csv_columns_and_rows(reported: tuple[Path, list[str]]) -> None:
    folder, _ = reported
    head = {
        name: (folder / f"{name}.csv").read_text().splitlines()[0]
        for name in ("scores", "aggregate", "compounding", "cost")
    }
    assert head == {
        "scores": "task,generator,algorithm,variant,seed,step,return,normalized_score,status",
        "aggregate": "generator,algorithm,metric,value,low,high,n_seeds,n_tasks,variant",
        "compounding": "task,generator,variant,algorithm,seed,horizon,median,mean,floor,alive,closed,actions,"
        "chaos,still,q10,q90,local,capped,lived",
        "cost": "task,generator,variant,algorithm,metric,value",
    }
    scores = rows(folder / "scores.csv")
    assert len(scores) == 4 * (6 + 6 + 2 + 3) + 6 + 1 + 2
    by_status = pd.Series([row["status"] for row in scores]).value_counts().to_dict()
    assert by_status == {"ok": 68, "failed": 6, "missing": 3}
    absent = next(row for row in scores if row["status"] == "failed")
    assert (absent["seed"], absent["step"], absent["return"], absent["normalized_score"]) == ("0", "", "", "")
    assert {row["normalized_score"] for row in scores if row["task"] == "local/hopper-medium"} == {""}
    errors = rows(folder / "compounding.csv")
    assert len(errors) == (6 + 3) * 6 * 2
    assert {row["closed"] == "" for row in errors if row["actions"] == "logged"} == {True}
    assert all(float(row["median"]) == 0.01 * int(row["horizon"]) for row in errors)


def test_two_folders_with_the_same_results_have_the_same_bytes(
    store: ResultStore, reported: tuple[Path, list[str]]
) -> None:
    report(store)
    first, second = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (reported[0], store.root / "report")
    )
    assert first == second
    assert {
        "scores.csv",
        "aggregate.csv",
        "compounding.csv",
        "cost.csv",
        "scores.md",
        "scores.tex",
        "index.html",
    } <= set(first)
    for name in ("scores", "learning_curves", "compounding"):
        assert first[f"{name}.png"].startswith(b"\x89PNG")
        assert len(first[f"{name}.png"]) > 10_000
        assert b"<svg" in first[f"{name}.svg"]
        assert b"<dc:date>" not in first[f"{name}.svg"]
    for name, content in first.items():
        assert b"\r\n" not in content or name.endswith(".png")
        assert b"somebody" not in content, name
        assert str(store.root).encode() not in content, name


def test_nothing_escapes(store: ResultStore) -> None:
    store.finish(spec("toy/linear", "mopo", 1, "=1+1", iterations=9), {}, evaluations(1, 5.0))
    report(store)
    folder = store.root / "report"
    variants = {row["variant"] for row in rows(folder / "scores.csv")}
    assert {"'=1+1", HOSTILE} <= variants
    assert "<script>" not in (folder / "scores.md").read_text()
    latex = (folder / "scores.tex").read_text()
    assert "\\input" not in latex
    assert r"\textless{}script\textgreater{}" in latex
    assert latex.isascii()
    assert not any("<script>" in path.read_text() for path in folder.glob("*.svg"))
    page = (folder / "index.html").read_text()
    assert page.count("<script>") == 1  # ours
    assert "<b>bad" not in page


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "\r@"])
def test_no_text_is_a_formula_in_a_spreadsheet_and_numbers_stay_numbers(start: str) -> None:
    text = render.to_csv(pd.DataFrame({"text": [f"{start}1+1"], "number": [-1.5]})).split("\n", 1)[1]
    numbers = "-1.5\n"
    assert text.lstrip('"').startswith(f"'{start}1+1")
    assert text.endswith(numbers)


def test_no_text_steers_a_terminal_or_fakes_a_row() -> None:
    hostile = "\x1b[2Jcleared\r\nfake | row\x9b1m"
    table = Table("scores", "Scores", "caption", [hostile], [[Entry(hostile)]])
    for write in (render.to_text, render.to_markdown, render.to_latex):
        text = write(table)
        assert not set(text) & set("\x1b\r\x9b"), write
        assert "cleared\n" not in text, write


def test_page_is_whole_and_alone(reported: tuple[Path, list[str]]) -> None:
    text = (reported[0] / "index.html").read_text()
    page = Page(text)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert not re.search(r"(?:src|href)=\"//|@import|url\((?!#)", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = {
        (attributes.get("href") or "")[1:]
        for tag, attributes in page.tags
        if tag == "a" and (attributes.get("href") or "").startswith("#")
    }
    assert links <= set(ids)
    assert [tag for tag, _ in page.tags].count("svg") == 3
    titles = [attributes["title"] or "" for tag, attributes in page.tags if tag == "a" and "title" in attributes]
    assert any(
        "0123abcd + uncommitted changes" in title and "ab" * 32 in title and "toy v1" in title for title in titles
    )
    assert any("commit: unknown" in title for title in titles)
    for section in (
        "about",
        "problems",
        "scores",
        "improvement",
        "curves",
        "compounding",
        "cost",
        "provenance",
        "reproduce",
    ):
        assert section in ids


def test_scores_follow_the_rule(store: ResultStore) -> None:
    final = finals(collect(store))
    one = final.query("task == 'toy/linear' and generator == 'mopo' and seed == 2")
    assert one[["final", "last", "best", "unit"]].to_numpy().tolist() == [[20 + 2 + 25, 52, 52, "score"]]
    assert set(final.query("task == 'local/hopper-medium'")["unit"]) == {"return"}
    long = spec("toy/linear", "mopo", 1, "long", iterations=7)
    store.finish(long, {}, evaluations(1, 0.0, steps=12))
    rows = finals(collect(store))
    assert rows[rows["variant"] == "long"]["final"].item() == pytest.approx(
        sum(10 * step for step in range(2, 12)) / 10
    )


def test_intervals_and_improvement(store: ResultStore) -> None:
    results = collect(store)
    final = finals(results)
    mopo = next(cell.cell_id for cell in results.cells if (cell.task, cell.generator) == ("toy/linear", "mopo"))
    n, mean, _, high = values(estimates(final).loc[mopo])
    assert (n, mean) == (6, 47.5)
    assert high - mean == pytest.approx(2.5705818366147395 * 3.5**0.5 / 6**0.5)  # t(0.975, 5) s / sqrt(n)
    gain = comparisons(results, final).loc[mopo]
    assert values(gain[["n", "mean", "low", "high", "std", "better", "p"]]) == [6, 20, 20, 20, 0, 1, 0]  # paired
    total = aggregate(final).set_index(["generator", "metric"])
    assert values(total.loc[("mopo", "mean"), ["value", "n_seeds", "n_tasks"]]) == [47.5, 6, 1]
    assert total.loc[("mopo", "optimality_gap"), "value"] == pytest.approx(0.525)


def test_several_tasks_are_aggregated_on_common_seeds(store: ResultStore) -> None:
    store.finish(spec("toy/other", "mopo", 5), {}, evaluations(5, 40.0))
    total = aggregate(finals(collect(store))).set_index(["generator", "metric"]).loc["mopo"]
    assert values(total.loc["mean", ["value", "n_seeds", "n_tasks"]]) == [(47 + 67) / 2, 5, 2]
    assert (total["low"] < total["value"]).all()
    assert (total["value"] < total["high"]).all()


def test_figures_over_all_tasks(tmp_path: Path) -> None:
    """mopo beats none on every run of one task and on half of the pairs of the other; one task has no such figures."""
    store = ResultStore(tmp_path)
    tasks = ("toy/linear", "local/hopper-medium")
    specs = {(task, name): spec(task, name, 5) for task in tasks for name in ("none", "mopo")}
    for (task, name), each in specs.items():
        level = 100.0 if (task, name) == ("toy/linear", "mopo") else 0.0
        store.finish(each, provenance(5), evaluations(5, level))
    store.plan("two", list(specs.values()))
    drawn = dict(figures(collect(store)))
    assert [len(drawn[name].axes) for name in ("aggregate", "profiles", "improvement")] == [4, 1, 1]
    (value,) = drawn["improvement"].axes[0].collections
    assert value.get_segments()[0][:, 0] == pytest.approx([0.75, 0.75])
    none, mopo = (line.get_ydata() for line in drawn["profiles"].axes[0].lines)
    assert (none[0], mopo[0]) == (0.8, 0.9)
    assert max(mopo - none) == 0.5
    assert min(mopo - none) == 0
    assert "aggregate" not in dict(figures(collect(fill(tmp_path / "one"))))


def test_marks(store: ResultStore) -> None:
    """Bold needs five seeds and separate intervals, fewer seeds have a dagger, one seed has no interval."""
    store.finish(spec("toy/alone", "mopo", 1), {}, evaluations(1, 30.0))
    results = collect(store)
    table = score_table(results, finals(results))
    default = [row for row in table.rows if row[2].text == "default"]
    texts = {(row[0].text, name): entry for row in default for name, entry in zip(table.head, row, strict=True)}
    assert texts["toy/linear", "mopo"].text == "47.5 ± 2.0 (n=6)"
    assert texts["toy/linear", "mopo"].bold
    assert not texts["toy/linear", "none"].bold
    assert texts["toy/linear", "dydiff"].text == "failed"
    assert texts["toy/alone", "mopo"].text == "55.0 (n=1)†"
    assert texts["local/hopper-medium‡ (return)", "none"].text == "178.5 ± 44.5 (n=2/3)†"
    assert "D4RL's reference returns" in table.caption
    assert "mean over its last 10 evaluations" in table.caption
    assert "oracle selection" in detail_table(results, finals(results)).caption
    assert "47.5 ± 2.0 (n=6)" in score_text(store)


def test_overlapping_intervals_are_not_bold(store: ResultStore) -> None:
    for generator, level in (("none", 0.0), ("mopo", 1.0)):
        store.finish(spec("toy/near", generator, 6), {}, evaluations(6, level))
    results = collect(store)
    row = next(row for row in score_table(results, finals(results)).rows if row[0].text == "toy/near")
    assert not any(entry.bold for entry in row)


def test_cells_that_look_alike_are_told_apart(store: ResultStore) -> None:
    twin = spec("toy/linear", "mopo", 6, iterations=9)
    store.finish(twin, {}, evaluations(6, 0.0))
    variants = {cell.variant for cell in collect(store).cells if (cell.task, cell.generator) == ("toy/linear", "mopo")}
    assert f"default#{twin.cell_id[-12:-6]}" in variants
    assert len(variants) == 2


def test_an_evaluation_without_a_return_leaves_no_score_and_is_named(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    undefined = [record if record.step < 300 else record._replace(value=None) for record in evaluations(1, 0.0)]
    store.finish(spec("toy/linear", "mopo", 1), {}, undefined)
    assert report(store) == [
        "undefined: toy/linear / mopo / bc, seed 0: no score, an evaluation that counts has no return"
    ]


@pytest.mark.parametrize(("noticed", "score"), [(100, 0.0), (300, 0.0), (400, 11.0)])
def test_a_diverged_seed_counts_with_zero_from_there_on(tmp_path: Path, noticed: int, score: float) -> None:
    """Evaluated after 100, 200, 300 and 400 updates: the rule takes the last two."""
    store = ResultStore(tmp_path)
    cell = spec("toy/linear", "mopo", 3)
    cell = replace(cell, settings=Settings(updates=400, evaluate_every=100))
    store.plan("smoke", [cell])
    made = [record._replace(step=record.step + 100) for record in evaluations(3, 0.0)]
    made = [record for record in made if record.seed != 2 or record.step < noticed]
    store.finish(cell, {}, [*made, Record(2, noticed, "diverged/critic", None)])
    assert report(store) == [f"diverged: toy/linear / mopo / bc, seed 2: critic is not finite at update {noticed}"]
    final = finals(collect(store)).set_index("seed")
    assert final["final"].tolist() == [25, 26, score]
    assert final["last"].tolist() == [30, 31, 0]
    assert "(n=3, 1 diverged)" in score_text(store)
    assert "diverged: training stopped being finite" in (tmp_path / "report" / "scores.md").read_text()
    (row,) = [row for row in rows(tmp_path / "report" / "scores.csv") if row["status"] == "diverged"]
    assert (row["seed"], row["step"], row["return"], row["normalized_score"]) == ("2", str(noticed), "", "")


def test_a_folder_in_which_everything_diverged_at_once_can_be_reported(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.finish(spec("toy/linear", "mopo", 1), {}, [Record(0, 100, "diverged/critic", None)])
    assert report(store) == ["diverged: toy/linear / mopo / bc, seed 0: critic is not finite at update 100"]
    assert "diverged" in score_text(store)


def test_where_returns_have_no_reference_a_diverged_seed_has_no_score(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    cell = spec("toy/linear", "mopo", 2)
    made = [record for record in evaluations(2, 0.0, scored=False) if record.seed == 0]
    store.finish(cell, {}, [*made, Record(1, 100, "diverged/critic", None)])
    assert report(store) == ["diverged: toy/linear / mopo / bc, seed 1: critic is not finite at update 100"]
    assert "(n=1/2, 1 diverged)" in score_text(store)


def test_an_empty_folder_makes_an_empty_report(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    assert report(store) == []
    store.plan("smoke", [spec("toy/linear", "none", 2)])
    assert report(store) == ["missing: toy/linear / none / bc, seeds 0, 1"]
    assert not list((tmp_path / "report").glob("*.svg"))
    assert len(rows(tmp_path / "report" / "scores.csv")) == 2
    Page((tmp_path / "report" / "index.html").read_text())


def test_comparisons_with_none(tmp_path: Path) -> None:
    """Gains by hand; Holm's families are the algorithms: bc compares two pairs, iql one."""
    store = ResultStore(tmp_path)

    def finish(task: str, generator: str, algorithm: str, scores: list[float]) -> None:
        cell = spec(task, generator, len(scores))
        cell = replace(cell, algorithm=Method(algorithm, Nothing()))
        store.finish(cell, {}, [Record(s, 100, "normalized_score", score) for s, score in enumerate(scores)])

    for task, algorithm, gains in (("a", "bc", [1, 2, 3]), ("b", "bc", [9, 11, 10]), ("a", "iql", [1, 2, 3])):
        finish(f"toy/{task}", "none", algorithm, [0.0, 2.0, 4.0])
        finish(
            f"toy/{task}", "mopo", algorithm, [gain + none for gain, none in zip(gains, (0.0, 2.0, 4.0), strict=True)]
        )
    results = collect(store)
    found = comparisons(results, finals(results)).set_index(["task", "algorithm"])
    a, b, alone = (found.loc[key] for key in (("toy/a", "bc"), ("toy/b", "bc"), ("toy/a", "iql")))
    assert values(a[["n", "mean", "std"]]) == [3, 2, 1]
    assert a["better"] == pytest.approx(6.5 / 9)  # of 1, 4, 7 against 0, 2, 4: 1 + 2.5 + 3
    assert a["p"] == pytest.approx(0.0741799)  # t = 2 sqrt(3) with 2 degrees of freedom: 1 - sqrt(6/7)
    assert b["p"] == pytest.approx(0.0033, rel=0.02)
    assert (b["p_holm"], a["p_holm"]) == pytest.approx((2 * b["p"], a["p"]))
    assert alone["p_holm"] == alone["p"]
    assert resolution(found).startswith(
        "With the spread seen here, 3 seeds per cell would show a difference of 5 points with power 80 % (paired by "
        "seed, two-sided 5 %, without Holm's correction; median over 3 pairs; worst 3). The spread was estimated from "
        "3 seeds."
    )


def test_comparisons_say_nothing_where_there_is_nothing_to_compare(store: ResultStore, tmp_path: Path) -> None:
    """Equal gains have no spread: two seeds would do. Returns without a reference are compared, but not in points."""
    results = collect(store)
    compared = comparisons(results, finals(results))
    assert compared["p"].tolist() == compared["p_holm"].tolist()
    assert set(compared["task"]) == {"toy/linear", "local/hopper-medium"}
    assert "2 seeds per cell" in resolution(compared)
    assert resolution(compared.assign(unit="return")) == ""
    nothing = collect(ResultStore(tmp_path / "empty"))
    assert comparisons(nothing, finals(nothing)).empty
    assert resolution(comparisons(nothing, finals(nothing))) == ""
