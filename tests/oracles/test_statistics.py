"""Against rliable 1.2.0, whose aggregates the field quotes (needs arch<8 and pandas<3); run by `make oracles` only."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.perf.intervals import scores, theirs
from metrics import statistics

pytestmark = pytest.mark.oracle

NAMES = ["mean", "median", "iqm", "optimality_gap"]
REPS = 50_000


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def constant(runs: int, tasks: int, value: float) -> Tensor:
    return torch.full((runs, tasks), value, dtype=torch.float64)


MATRICES = {
    **{f"random {runs}x{tasks}": 2 * normal(runs, tasks) for runs, tasks in [(3, 2), (4, 4), (5, 9), (10, 12), (25, 3)]},
    "one score": normal(1, 1),
    "one run": normal(1, 7),
    "one task": normal(7, 1),
    "two runs of two tasks": normal(2, 2),
    "ties": (2 * normal(10, 12)).round(),
    "all equal": constant(5, 4, 0.3),
    "all zero": constant(3, 3, 0.0),
    "equal runs": normal(1, 6).expand(5, 6).contiguous(),
    "equal tasks": normal(5, 1).expand(5, 6).contiguous(),
    "two values": (normal(8, 5) > 0).double(),
    "one outlier": torch.cat([constant(4, 3, 1.0), constant(1, 3, 1e9)]),
    "large": 1e6 + normal(6, 5),
    "small": 1e-6 * normal(6, 5),
}
EVERY = pytest.mark.parametrize("x", MATRICES.values(), ids=MATRICES.keys())


@EVERY
def test_point_estimates(x: Tensor) -> None:
    from rliable import metrics

    for name in NAMES:
        expected = getattr(metrics, f"aggregate_{name}")(x.numpy())
        assert getattr(statistics, name)(x).item() == pytest.approx(expected, rel=1e-12, abs=1e-9), name
    expected = metrics.aggregate_optimality_gap(x.numpy(), gamma=0.25)
    assert statistics.optimality_gap(x, 0.25).item() == pytest.approx(expected, rel=1e-12, abs=1e-9)


@EVERY
def test_probability_of_improvement(x: Tensor) -> None:
    from rliable import metrics

    for y in (x, x.flip(0), x + 0.5, x[: (len(x) + 1) // 2], x.mean(0, keepdim=True)):
        expected = metrics.probability_of_improvement(x.numpy(), y.numpy())
        assert statistics.probability_of_improvement(x, y).item() == pytest.approx(expected, abs=1e-9)


@EVERY
def test_performance_profile(x: Tensor) -> None:
    """Thresholds between the scores, and the scores themselves, which are not above themselves."""
    from rliable import library

    thresholds = torch.cat([torch.linspace(-3, 3, 25, dtype=torch.float64), x.flatten()[:10]])
    expected = library.score_distributions(x.numpy(), thresholds.numpy())
    np.testing.assert_allclose(statistics.performance_profile(x, thresholds).numpy(), expected, rtol=0, atol=1e-12)


def ends(statistic: Callable[[Tensor], Tensor], x: Tensor, reps: int, repeats: int) -> tuple[Tensor, Tensor]:
    """Our interval from `reps` resamples [2, *K], and its Monte-Carlo standard error from `repeats` independent ones."""
    rng = torch.Generator().manual_seed(0)
    found = torch.stack(
        [torch.stack(statistics.stratified_bootstrap(x, statistic, reps, rng)) for _ in range(repeats)]
    )
    return found[0], found.std(0)


@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_intervals_agree_within_three_standard_errors(kind: str) -> None:
    """50 000 resamples; both sides err, so the difference of two ends has sqrt(2) times the error of one.

    That error is the standard deviation over 40 of our own intervals. Ties make ends jump: there it may be zero, and
    then an end is exact up to one step between two neighbouring values, of 1 / 60 for the interquartile mean of 120.
    """
    x = scores(torch.device("cpu"))[0]
    x = x if kind == "normal" else (4 * x).round()

    def four(s: Tensor) -> Tensor:
        return torch.stack([getattr(statistics, name)(s) for name in NAMES], -1)

    found, error = ends(four, x, REPS, 40)
    (expected,) = theirs([x], NAMES, REPS)
    step = 1e-9 if kind == "normal" else 1 / 60
    difference = (found - expected).abs()
    assert (difference <= 3 * 2**0.5 * error + step).all(), (difference / error).tolist()


def test_band_of_a_profile_agrees() -> None:
    """2000 resamples; a share of 30 runs moves in steps of 1 / 30, and an end may come to lie on the next one."""
    from rliable import library

    x, thresholds = normal(6, 5), torch.linspace(-2, 2, 9, dtype=torch.float64)
    found, error = ends(lambda s: statistics.performance_profile(s, thresholds), x, 2000, 40)
    np.random.seed(0)  # noqa: NPY002 - rliable ignores the state it is given
    _, bands = library.create_performance_profile({"x": x.numpy()}, thresholds.numpy(), reps=2000)
    assert ((found - torch.from_numpy(bands["x"])).abs() <= 3 * 2**0.5 * error + 1 / 30 + 1e-9).all()


def test_interval_of_the_probability_of_improvement_agrees() -> None:
    """x and y side by side in one matrix: stratified by task, and the two independent of each other."""
    from rliable import library, metrics

    x, y = normal(6, 3), normal(6, 3, seed=1) - 0.3
    found, error = ends(
        lambda s: statistics.probability_of_improvement(s[..., :3], s[..., 3:]), torch.cat([x, y], 1), 4000, 40
    )
    np.random.seed(0)  # noqa: NPY002
    _, intervals = library.get_interval_estimates(
        {"x,y": [x.numpy(), y.numpy()]},
        lambda a, b: np.array([metrics.probability_of_improvement(a, b)]),
        reps=4000,
    )
    step = 1 / 108  # 36 pairs of 3 tasks
    assert ((found - torch.from_numpy(intervals["x,y"][:, 0])).abs() <= 3 * 2**0.5 * error + step).all()
