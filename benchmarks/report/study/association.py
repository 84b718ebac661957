"""Whether one number of a cell goes with another: rank correlation over clusters, and signs beside what followed them.

Cells of one data set share it, its models and their runs of real data alone: they are a cluster, drawn as a whole.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metrics.intervals import profile_interval, t_interval
from metrics.returns import rank_correlation

__all__ = [
    "FEW_CLUSTERS",
    "Association",
    "Confusion",
    "best_threshold",
    "confusion",
    "correlation",
    "correlation_within",
    "share_interval",
]

FEW_CLUSTERS = 5  # below, an interval over clusters says nothing and is NaN
_SHORT = 4  # values of a group below which an order says nothing
_REPS = 2000


class Association(NamedTuple):
    """A rank correlation with its 95 % interval over clusters."""

    value: float
    low: float
    high: float
    cells: int
    clusters: int


class Confusion(NamedTuple):
    """How a sign and what it should announce went together."""

    shown: int
    harmed: int
    both: int
    neither: int

    @property
    def precision(self) -> float:
        """Share of the shown that were harmed; NaN where none was shown."""
        return self.both / self.shown if self.shown else float("nan")

    @property
    def recall(self) -> float:
        """Share of the harmed in which it was shown; NaN where none was harmed."""
        return self.both / self.harmed if self.harmed else float("nan")

    @property
    def youden(self) -> float:
        """Recall less the share of the unharmed in which it was shown: 1 is perfect, 0 says nothing."""
        unharmed = self.shown - self.both + self.neither
        return self.recall - (self.shown - self.both) / unharmed if unharmed else float("nan")


def correlation(
    x: Float[Tensor, " N"], y: Float[Tensor, " N"], cluster: Int[Tensor, " N"], generator: torch.Generator
) -> Association:
    """Spearman's over all cells; the interval is a percentile bootstrap that draws whole clusters.

    With few clusters such an interval is too narrow: below FEW_CLUSTERS it is NaN.

    Source: Cameron, Gelbach & Miller 2008 (Review of Economics and Statistics 90, 414-427), section II (pairs).
    """
    count = cluster.bincount()
    count = count[count > 0]
    value = rank_correlation(x[None], y[None], torch.ones(1, len(x), dtype=torch.bool)).item()
    if len(count) < FEW_CLUSTERS:
        return Association(value, float("nan"), float("nan"), len(x), len(count))
    rows = torch.zeros(len(count), int(count.max()), dtype=torch.int64)
    there = torch.arange(rows.shape[1]) < count[:, None]
    rows[there] = cluster.argsort(stable=True)
    drawn = torch.randint(len(count), (_REPS, len(count)), generator=generator)
    chosen, valid = rows[drawn].flatten(1), there[drawn].flatten(1)
    found = rank_correlation(x[chosen], y[chosen], valid)
    found = found[found.isfinite()]
    low, high = found.quantile(torch.tensor([0.025, 0.975], dtype=found.dtype)).tolist() if len(found) else (value,) * 2
    return Association(value, low, high, len(x), len(count))


def correlation_within(
    x: Float[Tensor, " N"], y: Float[Tensor, " N"], group: Int[Tensor, " N"], cluster: Int[Tensor, " N"]
) -> Association:
    """Spearman's inside every group: the mean over clusters of the mean over their groups, Student's t over clusters.

    What groups differ in as wholes, such as how easy their task is, does not count. A group without spread in x or y,
    or of fewer than four cells, has no correlation and is left out.
    """
    by_cluster: dict[int, list[float]] = {}
    cells = 0
    for name in sorted(set(group.tolist())):
        own = group == name
        if int(own.sum()) >= _SHORT:
            one = rank_correlation(x[own][None], y[own][None], torch.ones(1, int(own.sum()), dtype=torch.bool)).item()
            if one == one:
                by_cluster.setdefault(int(cluster[own][0]), []).append(one)
                cells += int(own.sum())
    means = torch.tensor([sum(own) / len(own) for own in by_cluster.values()], dtype=torch.float64)
    value = means.mean().item() if len(means) else float("nan")
    low, high = (end.item() for end in t_interval(means)) if len(means) >= FEW_CLUSTERS else (float("nan"),) * 2
    return Association(value, max(low, -1.0), min(high, 1.0), cells, len(means))


def confusion(shown: Bool[Tensor, " N"], harmed: Bool[Tensor, " N"]) -> Confusion:
    """Counts of the four cases."""
    counts = shown, harmed, shown & harmed, ~shown & ~harmed
    return Confusion(*(int(cases.sum()) for cases in counts))


def best_threshold(x: Float[Tensor, " N"], harmed: Bool[Tensor, " N"], *, above: bool, usual: float) -> float:
    """The threshold on x with the highest Youden index: midway between two values, or `usual` where it is as good.

    Of equally good ones the nearest to `usual`; NaN where all or none are harmed, or nothing is better than chance.
    """
    ordered = sorted(set(x.tolist()))
    middles = [(low + high) / 2 for low, high in pairwise(ordered)]
    candidates = sorted([usual, *middles], key=lambda threshold: abs(threshold - usual))
    if harmed.all() or not harmed.any():
        return float("nan")
    indices = [confusion(x > t if above else x < t, harmed).youden for t in candidates]
    best = max(indices)
    return candidates[indices.index(best)] if best > 0 else float("nan")


def share_interval(successes: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, as `profile_interval` has it for one task; NaN below two cases."""
    if of < 2:
        return float("nan"), float("nan")
    cases = (torch.arange(of) < successes).double()[:, None]
    low, high = profile_interval(cases, torch.tensor([0.5], dtype=cases.dtype))
    return low.item(), high.item()
