"""What METRICS.md says of the coverage is what was measured, and is measured again."""

import dataclasses

import pytest
import torch

from metrics import coverage
from metrics.catalogue import PAGE
from metrics.coverage import CASES, Cell, Mixture, measure, read, table, updated
from metrics.intervals import AGGREGATES
from metrics.statistics import performance_profile, probability_of_improvement

KEPT = {dataclasses.astuple(cell)[:5]: cell for cell in read()}


def kept(cell: Cell) -> Cell:
    """The same cell of coverage.csv."""
    return KEPT[dataclasses.astuple(cell)[:5]]


def agrees(cell: Cell) -> bool:
    """With what is kept, to four standard errors of the difference, and a bit where all are inside."""
    error = (cell.error**2 + kept(cell).error ** 2) ** 0.5
    return abs(cell.coverage - kept(cell).coverage) < 4 * error + 0.3


@pytest.mark.parametrize("case", CASES)
def test_truths_are_those_of_very_many_runs(case: str) -> None:
    mixture = CASES[case]
    rng = torch.Generator().manual_seed(0)
    x = mixture.draw(1, 60_000, rng)[0]
    found = {name: f(x / 100 if name == "optimality_gap" else x).item() for name, f in AGGREGATES.items()}
    for name, value in found.items():
        scale = 100 if name == "optimality_gap" else 1
        assert scale * value == pytest.approx(scale * mixture.truth(name), abs=0.25), name
    share = performance_profile(x, torch.tensor([85.0], dtype=torch.float64)).item()
    assert share == pytest.approx(mixture.truth("profile"), abs=0.004)
    y = mixture.draw(1, 700, rng)[0] - 5
    assert probability_of_improvement(x[:700], y).item() == pytest.approx(mixture.truth("improvement"), abs=0.02)


def test_metrics_md_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert updated(text, read()) == text, "METRICS.md is not current: run python -m metrics.coverage"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a line '<!-- coverage -->'"):
        updated("# Metrics\n", [])


def test_mean_and_iqm_cover_94_per_cent_of_normal_scores() -> None:
    """The promise: 3, 5 and 10 runs of 1, 3, 5 and 12 tasks, whatever their levels and spreads."""
    promised = [
        cell
        for cell in KEPT.values()
        if cell.method == "t" and cell.quantity in ("mean", "iqm") and cell.case != "one run in five collapses"
    ]
    assert {(cell.tasks, cell.runs) for cell in promised} == {(t, n) for t in (1, 3, 5, 12) for n in (3, 5, 10)}
    assert len(promised) == 2 * 3 * (4 + 3 * 3)
    assert min(cell.coverage for cell in promised) >= 94


def test_intervals_are_no_wider_than_few_runs_need() -> None:
    """Beside an oracle's: less than three times with three runs, twice with five, half as wide again with ten."""
    widest = {
        runs: max(
            cell.width
            for cell in KEPT.values()
            if (cell.method, cell.runs) == ("t", runs) and cell.quantity in ("mean", "iqm")
        )
        for runs in (3, 5, 10)
    }
    assert widest[3] < 3
    assert widest[5] < 2
    assert widest[10] < 1.5


@pytest.mark.parametrize("case", ["tasks alike", "levels far", "one run in five collapses"])
@pytest.mark.parametrize("runs", [3, 5])
def test_a_few_cells_are_measured_again(case: str, runs: int) -> None:
    found = measure("t", case, 3, runs, experiments=1000, seed=1)
    assert [cell for cell in found if not agrees(cell)] == []


def test_the_bootstrap_is_too_narrow_with_three_runs() -> None:
    """Three runs of three tasks, 95 % promised; the t interval of the very same scores keeps it."""
    narrow, wide = (
        {cell.quantity: cell.coverage for cell in measure(method, "tasks alike", 3, 3, experiments=150, seed=2)}
        for method in ("bootstrap", "t")
    )
    for quantity in ("mean", "iqm"):
        assert narrow[quantity] < 90 < wide[quantity]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_case_is_measured_again(case: str) -> None:
    found = [cell for runs in (3, 5, 10) for tasks in (3, 5) for cell in measure("t", case, tasks, runs, 3000, seed=3)]
    assert [cell for cell in found if not agrees(cell)] == []


def test_table_marks_what_falls_short() -> None:
    cells = [Cell("t", "iqm", "tasks alike", 3, runs, cover, 0.3, 1.25) for runs, cover in ((3, 93.9), (5, 94.0))]
    assert table(cells).splitlines()[-1] == "| IQM | tasks alike | | *93.9* / 94.0 | | | 1.25 / 1.25 |"


def test_draws_have_the_moments_of_the_mixture() -> None:
    half = torch.full((2, 2), 0.5, dtype=torch.float64)
    mixture = Mixture(half, torch.tensor([[0.0, 10.0], [5.0, 5.0]]).double(), torch.ones(2, 2).double())
    x = mixture.draw(50, 2000, torch.Generator().manual_seed(0))
    assert x.shape == (50, 2000, 2)
    assert x.mean((0, 1)).tolist() == pytest.approx([5, 5], abs=0.1)
    assert x.var((0, 1)).tolist() == pytest.approx([26, 1], rel=0.03)


def test_batches_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of 100 experiments counts once: the coverage is a whole number."""
    monkeypatch.setattr(coverage, "_BATCH", 30 * (3 * 3) ** 2)
    (cell, *_) = measure("t", "tasks alike", 3, 3, experiments=100)
    assert cell.coverage == round(cell.coverage)
