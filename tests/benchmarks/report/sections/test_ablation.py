"""What a suite varied, in words and as a table."""

from pathlib import Path
from typing import Any

from benchmarks.report.results import collect
from benchmarks.report.sections.ablation import SECTION, said, variant_table
from benchmarks.report.varied import ablation, ablations


def test_the_words_name_values_and_verdicts(tmp_path: Path, varied: Any) -> None:
    noise = [x + gain for x, gain in zip(varied.NONE, (-4, 9, 0, 8, 2), strict=True)]
    results = collect(
        varied.fill(
            tmp_path, '"dydiff.iterations" = [0, 1, 2, 10]', {0: varied.NONE, 1: varied.WON, 2: noise, 10: varied.LOST}
        )
    )
    text = " ".join(said(results, ablations(results)[0]))
    assert text.startswith("dydiff over iterations (M) toy/linear, td3bc: ")
    assert "change against real data only −8.0 (at 10) to +10.0 (at 1)" in text
    assert "helps at 1; hurts at 10; equivalent within 5 points at 0; cannot be told apart at 2" in text
    assert "highest mean at 1, none shown to be level with it" in text


def test_the_table_has_the_baseline_first(tmp_path: Path, varied: Any) -> None:
    results = collect(varied.fill(tmp_path, '"dydiff.iterations" = [10, 0]', {0: varied.WON, 10: varied.LOST}))
    table = variant_table(results)
    assert table.data == "ablation"
    rows = [dict(zip(table.head, (entry.text for entry in row), strict=True)) for row in table.rows]
    assert [row["generator"] for row in rows] == ["none", "dydiff", "dydiff"]
    assert [row["iterations (M)"] for row in rows] == ["—", "0", "10"]
    assert [row["verdict"] for row in rows] == ["—", "helps", "hurts"]
    assert [row["level with best"] for row in rows] == ["—", "highest mean", "not shown"]
    assert "variant" not in table.head


def test_real_batches_only_show_errors_only(tmp_path: Path, varied: Any) -> None:
    """Every policy is the same one: no score is compared, and nothing is said of it."""
    store = varied.fill(
        tmp_path, '"dydiff.iterations" = [0, 1]', {0: varied.NONE, 1: varied.NONE}, also="real_fraction = 1.0"
    )
    results = collect(store)
    assert ablation(results)[["gain_mean", "verdict", "level_with_best"]].isna().all(axis=None)
    table = variant_table(results)
    assert not {"score", "verdict", "level with best", "change"} & set(table.head)
    assert "error, last step" in table.head
    (plot, _) = SECTION.figures
    ((_, alt, figure),) = plot.pages(results)
    assert [ax.get_ylabel() for ax in figure.axes] == ["error, last step", "lag, last round"]
    assert "score" not in plot.caption(results).lower()
    assert alt.endswith(": error at the last step 0.2 (at 0) to 0.2 (at 1).")
