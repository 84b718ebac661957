"""Point estimates over runs x tasks, and tests of differences; plain functions, on the device of their input.

The estimates are rliable's, to 1e-9. Their intervals: `metrics.intervals`.
"""

from bisect import bisect_left
from math import isfinite, sqrt

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import ncf
from scipy.stats import t as student
from torch import Tensor

__all__ = [
    "ascending",
    "equivalence_test",
    "holm",
    "iqm",
    "mean",
    "median",
    "optimality_gap",
    "paired_t_test",
    "performance_profile",
    "power",
    "probability_of_improvement",
    "seeds_needed",
]


def ascending(x: Tensor) -> Tensor:
    """Ascending along the last axis; numpy sorts five times faster than torch on a CPU, which is most of the work."""
    return x.sort(-1).values if x.device.type != "cpu" else torch.from_numpy(np.sort(x.numpy(), -1))


def mean(scores: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B"]:
    """Mean of the tasks' means. Sensitive to one outstanding task: read it beside `iqm`."""
    return scores.mean((-2, -1))


def median(scores: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B"]:
    """Median of the tasks' means. Blind to half of the tasks: for comparison with older papers only."""
    ordered = ascending(scores.mean(-2))
    tasks = scores.shape[-1]
    return (ordered[..., (tasks - 1) // 2] + ordered[..., tasks // 2]) / 2


def iqm(scores: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B"]:
    """Interquartile mean of all runs of all tasks: a quarter (rounded down) is cut at each end. The headline aggregate.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.3.
    """
    ordered = ascending(scores.flatten(-2))
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def optimality_gap(scores: Float[Tensor, "*B runs tasks"], gamma: float = 1.0) -> Float[Tensor, "*B"]:
    """Mean shortfall from `gamma`; what lies above it does not count. For scores / 100: lower is better."""
    return gamma - scores.clamp(max=gamma).mean((-2, -1))


def probability_of_improvement(
    x: Float[Tensor, "*B runs_x tasks"], y: Float[Tensor, "*B runs_y tasks"]
) -> Float[Tensor, "*B"]:
    """P(a run of x beats a run of y on the same task), ties count half; mean over tasks."""
    ahead = x.unsqueeze(-2) - y.unsqueeze(-3)  # [*B, runs_x, runs_y, tasks]
    return (ahead.sign() + 1).mean((-3, -2, -1)) / 2


def performance_profile(
    scores: Float[Tensor, "*B runs tasks"], thresholds: Float[Tensor, " K"]
) -> Float[Tensor, "*B K"]:
    """Share of the runs of all tasks that score above each threshold: the score distribution, never rising.

    No array of [*B, runs, tasks, K] is ever made.
    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.2.
    """
    ordered = ascending(scores.flatten(-2))
    wanted = thresholds.to(ordered).expand(*ordered.shape[:-1], -1).contiguous()
    below = torch.searchsorted(ordered, wanted, right=True)  # or equal
    return (ordered.shape[-1] - below).to(scores.dtype) / ordered.shape[-1]


def paired_t_test(x: Float[Tensor, "*B runs"]) -> Float[Tensor, "*B"]:
    """Two-sided p of Student's t-test that differences paired by seed have mean zero.

    Differences that are all equal have p = 0, or 1 if they are all zero. Below two runs there is no test: NaN.
    """
    runs = x.shape[-1]
    if runs < 2:
        return torch.full_like(x.sum(-1), torch.nan)
    centre = x.mean(-1)
    ratio = torch.where(centre == 0, centre, centre.abs() / (x.std(-1) / runs**0.5))
    return torch.as_tensor(2 * student.sf(ratio.cpu().numpy(), runs - 1)).to(x)


def equivalence_test(x: Float[Tensor, "*B runs"], margin: float) -> Float[Tensor, "*B"]:
    """p of the two one-sided t-tests that the mean of differences paired by seed lies within (-margin, margin).

    The larger p of the two tests, of mean <= -margin and of mean >= margin: it belongs to the bound that lies nearer.
    Small where both are refused, so p < 5 % if and only if the 90 % Student-t interval lies within the margin. Below
    two runs there is no test: NaN.

    Raises:
        ValueError: margin is not positive and finite.

    Source: Schuirmann 1987 (Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680).
    """
    if not (isfinite(margin) and margin > 0):
        raise ValueError(f"margin must be positive and finite, got {margin}")
    runs = x.shape[-1]
    if runs < 2:
        return torch.full_like(x.sum(-1), torch.nan)
    inside = margin - x.mean(-1).abs()
    ratio = torch.where(inside == 0, inside, inside / (x.std(-1) / runs**0.5))
    return torch.as_tensor(student.sf(ratio.cpu().numpy(), runs - 1)).to(x)


def holm(p: Float[Tensor, "*B m"]) -> Float[Tensor, "*B m"]:
    """Holm-adjusted p-values of a family of m tests: below `level` for a wrong one with a chance of at most `level`.

    The k-th smallest, k = 1..m, becomes the largest of (m - j + 1) p_(j) over j <= k, at most 1; NaN is refused, so
    leave out the tests that could not be made.

    Raises:
        ValueError: a p-value lies outside [0, 1].

    Source: Holm 1979 (Scandinavian Journal of Statistics 6, 65-70).
    """
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p must lie in [0, 1], got {p[~((p >= 0) & (p <= 1))].tolist()}")
    ordered, order = p.sort(-1)
    steps = torch.arange(p.shape[-1], 0, -1, dtype=p.dtype, device=p.device)
    if p.shape[-1] == 0:
        return p
    adjusted = (steps * ordered).cummax(-1).values.clamp(max=1)
    return torch.empty_like(p).scatter(-1, order, adjusted)


def power(difference: float, std: float, seeds: int, *, paired: bool, level: float = 0.05) -> float:
    """Chance that a two-sided t-test at `level` sees a true `difference` of means with this many seeds per arm.

    `std` is in the unit of `difference`: paired by seed, the standard deviation of the differences; unpaired, that of
    the runs of either arm. Exact for normal scores: T^2 is noncentral F with 1 and n - 1 (2 n - 2) degrees of freedom
    and noncentrality n (n / 2) times (difference / std)^2; no normal approximation.

    Raises:
        ValueError: difference, std, seeds or level is out of range.

    Source: Cohen 1988 (Statistical Power Analysis), chapter 2; for seeds: Colas et al. 2018 (arXiv:1806.08295).
    """
    if not (isfinite(difference) and difference != 0):
        raise ValueError(f"difference must be finite and not 0, got {difference}")
    if not (isfinite(std) and std >= 0):
        raise ValueError(f"std must be finite and at least 0, got {std}")
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2 (one has no spread), got {seeds}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    freedom, pairs = (seeds - 1, seeds) if paired else (2 * seeds - 2, seeds / 2)
    critical = float(student.ppf(1 - level / 2, freedom))
    if sqrt(pairs) * abs(difference) > 100 * critical * std:
        return 1.0  # to the last digit, and `ncf` cannot count so far
    effect = sqrt(pairs) * abs(difference) / std
    return float(ncf.sf(critical**2, 1, freedom, effect**2))


def seeds_needed(difference: float, std: float, *, paired: bool, chance: float = 0.8, level: float = 0.05) -> int:
    """The fewest seeds per arm with which `power` is at least `chance`; two at least.

    A `std` that was itself estimated from few seeds makes this a rough guess: the 95 % interval of a standard
    deviation reaches from 0.5 to 6.3 times the estimate with three seeds, from 0.6 to 2.9 times with five, from 0.7 to
    1.8 times with ten.

    Raises:
        ValueError: an argument of `power` is out of range, or chance does not lie in (level, 1).
    """
    if not level < chance < 1:
        raise ValueError(f"chance must lie in (level, 1) = ({level}, 1), got {chance}")

    def enough(seeds: int) -> bool:
        return power(difference, std, seeds, paired=paired, level=level) >= chance

    upper = 2
    while not enough(upper):
        upper *= 2
    return bisect_left(range(upper + 1), True, lo=2, key=enough)
