"""Every metric says on a GPU what it says on a CPU, to the rounding of the numbers that go in."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from core.data import Trajectories
from metrics import bound, compounding, consistency, distribution, intervals, returns, statistics, survival


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rollouts(seed: int) -> Trajectories:
    valid = torch.arange(6) < torch.randint(3, 7, (2, 40, 1), generator=torch.Generator().manual_seed(seed))
    reward = normal(2, 40, 6, seed=seed + 2)
    return Trajectories(normal(2, 40, 6, 3, seed=seed), normal(2, 40, 7, 4, seed=seed + 1), reward, ~valid, valid)


MADE = rollouts(0)
OTHER = rollouts(10)
LIVED = rollouts(20)
SCORES = normal(6, 5, seed=5).double()
ROWS = normal(2, 60, 4, seed=6)
ALL = torch.ones(2, 60, dtype=torch.bool)
SCALE = torch.tensor([0.5, 1.0, 2.0, 0.1])
METRICS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "compounding": lambda to: vars(
        compounding.over_starts(
            compounding.standardized_error(to(MADE.obs[:, :, 1:]), to(OTHER.obs[:, :, 1:]), to(SCALE)),
            to(MADE.valid),
            to(torch.tensor(2.0)),
        )
    ),
    "returns": lambda to: vars(
        returns.return_gap(*(x.map(to) for x in (MADE, OTHER, LIVED)), to(normal(2, 40, 6, seed=7)), to(MADE.valid))
    ),
    "energy": lambda to: distribution.energy_distance(
        to(MADE.obs[:, :, 1:]), to(LIVED.obs[:, :, 1:]), to(MADE.valid), to(LIVED.valid), to(SCALE)
    ),
    "bounds": lambda to: vars(
        bound.wasserstein_bounds(
            *(to(normal(2, 6, seed=seed).double().abs()) for seed in (1, 2, 3)),
            *(to(normal(2, seed=seed).double().abs()) for seed in (4, 5)),
            1.0,
            2.0,
        )
    ),
    "nearest": lambda to: consistency.nearest(to(ROWS), to(normal(50, 4, seed=8)), 3),
    "knn_kl": lambda to: consistency.knn_kl(to(ROWS), to(normal(50, 4, seed=8)), to(ALL)),
    "energy of actions": lambda to: consistency.excess_energy(to(ROWS), to(normal(2, 9, 60, 4, seed=9)), to(ALL)),
    "excess_cross_entropy": lambda to: consistency.excess_cross_entropy(
        *(to(x) for x in (ROWS.clamp(-1, 1), -ROWS, ROWS.abs())), 1.0, to(ALL)
    ),
    "survival": lambda to: [
        part(to(MADE.valid), to(MADE.terminated)) for part in (survival.survival, survival.censored_weights)
    ],
    "smoothed_kl": lambda to: consistency.smoothed_kl(to(ROWS), to(-ROWS), to(ALL)),
    "aggregates": lambda to: [
        metric(to(SCORES)) for metric in (statistics.mean, statistics.median, statistics.iqm, statistics.optimality_gap)
    ],
    "intervals": lambda to: [
        *intervals.t_interval(to(SCORES.T)),
        *(end for name in intervals.AGGREGATES for end in intervals.interval(to(SCORES), name)),
        *intervals.improvement_interval(to(SCORES), to(SCORES.flip(0))),
        *intervals.profile_interval(to(SCORES), to(SCORES[0])),
        statistics.holm(to(SCORES.abs() / 9)),
    ],
}


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """A GPU if there is one, else an emulated one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        request.getfixturevalue("gpu")
    return torch.device(request.param)


@pytest.mark.parametrize("name", METRICS)
def test_equal_on_every_device(name: str, device: torch.device) -> None:
    """On the CPU itself it shows that no input is changed in place."""
    here = METRICS[name](lambda x: x)
    there = METRICS[name](lambda x: x.to(device) if isinstance(x, torch.Tensor) else x)
    pairs = zip(here.values(), there.values(), strict=True) if isinstance(here, dict) else [(here, there)]
    for one, other in pairs:
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(other.cpu(), one, rtol=1e-5, atol=1e-6, equal_nan=True)
        else:
            for x, y in zip(one, other, strict=True):
                torch.testing.assert_close(y.cpu(), x, rtol=1e-5, atol=1e-6, equal_nan=True)
