"""What the table of scores marks: bold, daggers, absent cells."""

from typing import Any

from benchmarks.report import score_text
from benchmarks.report.results import collect
from benchmarks.report.sections.scores import score_table, selection_table
from benchmarks.store import ResultStore


def test_marks(store: ResultStore, build: Any) -> None:
    """Bold needs five seeds and separate intervals, fewer seeds have a dagger, one seed has no interval."""
    store.finish(build.spec("toy/alone", "mopo", 1), {}, build.evaluations(1, 30.0))
    results = collect(store)
    table = score_table(results)
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
    assert "oracle selection" in selection_table(results).caption
    assert "47.5 ± 2.0 (n=6)" in score_text(store)


def test_overlapping_intervals_are_not_bold(store: ResultStore, build: Any) -> None:
    for generator, level in (("none", 0.0), ("mopo", 1.0)):
        store.finish(build.spec("toy/near", generator, 6), {}, build.evaluations(6, level))
    results = collect(store)
    row = next(row for row in score_table(results).rows if row[0].text == "toy/near")
    assert not any(entry.bold for entry in row)
