"""Against rliable 1.2.0, whose aggregates the field quotes (needs arch<8 and pandas<3); run by `make oracles` only."""

import time

import numpy as np
import pytest
import torch

from metrics import statistics

pytestmark = pytest.mark.oracle

REPS = 2000


@pytest.fixture(scope="module")
def scores() -> dict[tuple[int, int], torch.Tensor]:
    """Runs x tasks of several sizes, rounded so that ties occur."""
    rng = torch.Generator().manual_seed(0)
    return {
        shape: (torch.randn(shape, generator=rng, dtype=torch.float64) * 2).round(decimals=1)
        for shape in [(1, 1), (3, 2), (5, 9), (10, 12), (7, 1)]
    }


def test_point_estimates(scores: dict[tuple[int, int], torch.Tensor]) -> None:
    from rliable import metrics

    for x in scores.values():
        for name in ("mean", "median", "iqm", "optimality_gap"):
            expected = getattr(metrics, f"aggregate_{name}")(x.numpy())
            assert getattr(statistics, name)(x).item() == pytest.approx(expected, abs=1e-9)


def test_probability_of_improvement(scores: dict[tuple[int, int], torch.Tensor]) -> None:
    from rliable import metrics

    for (runs, _), x in scores.items():
        for y in (x, x.flip(0), x + 0.5, x[: (runs + 1) // 2]):
            expected = metrics.probability_of_improvement(x.numpy(), y.numpy())
            assert statistics.probability_of_improvement(x, y).item() == pytest.approx(expected, abs=1e-9)


def test_intervals_agree_within_monte_carlo_error_and_come_sooner(scores: dict[tuple[int, int], torch.Tensor]) -> None:
    """Ends of a 95 % interval from 2000 repetitions have a standard error of about 2.5 % of its width."""
    from rliable import library, metrics

    x = scores[10, 12]
    np.random.seed(0)  # noqa: NPY002 - rliable ignores the state it is given
    start = time.perf_counter()
    _, intervals = library.get_interval_estimates(
        {"x": x.numpy()}, lambda s: np.array([metrics.aggregate_iqm(s)]), reps=REPS
    )
    theirs, start = time.perf_counter() - start, time.perf_counter()
    low, high = statistics.stratified_bootstrap(x, statistics.iqm, REPS, torch.Generator().manual_seed(0))
    ours, width = time.perf_counter() - start, (high - low).item()
    assert abs(low.item() - intervals["x"][0, 0]) < 0.15 * width
    assert abs(high.item() - intervals["x"][1, 0]) < 0.15 * width
    assert theirs > 10 * ours  # we measured 60 to 80 with 50 000 repetitions
