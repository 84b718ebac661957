"""Against rliable 1.2.0, whose aggregates the field quotes (needs arch<8 and pandas<3); run by `make oracles` only."""

import numpy as np
import pytest
import torch

from metrics import intervals, statistics

pytestmark = pytest.mark.oracle

REPS = 50_000


@pytest.fixture(scope="module")
def scores() -> dict[tuple[int, int], torch.Tensor]:
    """Runs x tasks of several sizes, rounded so that ties occur."""
    rng = torch.Generator().manual_seed(0)
    return {
        shape: (torch.randn(shape, generator=rng, dtype=torch.float64) * 2).round(decimals=1)
        for shape in [(1, 1), (3, 2), (5, 9), (10, 12), (7, 1)]
    }


@pytest.fixture(scope="module")
def degenerate() -> list[torch.Tensor]:
    """Constant scores, constant tasks, a single outlier, ties everywhere, huge and tiny numbers."""
    flat = torch.full((4, 3), 0.7, dtype=torch.float64)
    by_task = torch.arange(3.0, dtype=torch.float64).expand(5, 3)
    outlier = torch.zeros(6, 4, dtype=torch.float64)
    outlier[2, 1] = 1e6
    ties = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    return [flat, by_task, outlier, ties, ties * 1e-12, -ties, outlier.T.contiguous()]


def test_estimates_are_rliables(scores: dict[tuple[int, int], torch.Tensor], degenerate: list[torch.Tensor]) -> None:
    from rliable import metrics

    for x in [*scores.values(), *degenerate]:
        for name in ("mean", "median", "iqm", "optimality_gap"):
            expected = getattr(metrics, f"aggregate_{name}")(x.numpy())
            assert getattr(statistics, name)(x).item() == pytest.approx(expected, abs=1e-9)


def test_probability_of_improvement_is_rliables(
    scores: dict[tuple[int, int], torch.Tensor], degenerate: list[torch.Tensor]
) -> None:
    from rliable import metrics

    for x in [*scores.values(), *degenerate]:
        runs = len(x)
        for y in (x, x.flip(0), x + 0.5, x[: (runs + 1) // 2]):
            expected = metrics.probability_of_improvement(x.numpy(), y.numpy())
            assert statistics.probability_of_improvement(x, y).item() == pytest.approx(expected, abs=1e-9)


def test_intervals_agree_within_three_standard_errors(scores: dict[tuple[int, int], torch.Tensor]) -> None:
    """The error of an end is that of twenty bootstraps of ours; a difference has one that is sqrt(2) larger."""
    from rliable import library, metrics

    names = ("mean", "median", "iqm", "optimality_gap")
    for x in (scores[10, 12], scores[5, 9]):

        def ours(seed: int, x: torch.Tensor = x) -> torch.Tensor:
            def all_four(s: torch.Tensor) -> torch.Tensor:
                return torch.stack([getattr(statistics, name)(s) for name in names], -1)

            return torch.stack(intervals.stratified_bootstrap(x, all_four, REPS, torch.Generator().manual_seed(seed)))

        np.random.seed(0)  # noqa: NPY002 - rliable ignores the state it is given
        _, found = library.get_interval_estimates(
            {"x": x.numpy()},
            lambda s: np.array([getattr(metrics, f"aggregate_{name}")(s) for name in names]),
            reps=REPS,
        )
        repeated = torch.stack([ours(seed) for seed in range(20)])
        error = repeated.std(0) * 2**0.5
        apart = (repeated[0] - torch.from_numpy(found["x"])).abs()
        assert (apart <= 3 * error + 1e-12).all(), (apart / error).tolist()
