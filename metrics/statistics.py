"""Point estimates over runs x tasks and the intervals that go with them; plain functions, on the device of their input.

Which interval: one task -> Student-t over its runs (`t_interval`, `trimmed_t_interval`); several tasks ->
`stratified_bootstrap`. A percentile bootstrap of one task's mean covers 76 % instead of 95 % with three runs, 85 % with
five (measured). Fewer than two runs have no interval: it is NaN, never zero wide.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

__all__ = [
    "iqm",
    "mean",
    "median",
    "optimality_gap",
    "probability_of_improvement",
    "stratified_bootstrap",
    "t_interval",
    "trimmed_t_interval",
]

_CHUNK = 2**20  # resampled scores held at once: stays within the caches


def mean(scores: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B"]:
    """Mean of the tasks' means. Sensitive to one outstanding task: read it beside `iqm`."""
    return scores.mean((-2, -1))


def median(scores: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B"]:
    """Median of the tasks' means. Blind to half of the tasks: for comparison with older papers only."""
    ordered, tasks = _sorted(scores.mean(-2)), scores.shape[-1]
    return (ordered[..., (tasks - 1) // 2] + ordered[..., tasks // 2]) / 2


def iqm(scores: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B"]:
    """Interquartile mean of all runs of all tasks: a quarter (rounded down) is cut at each end. The headline aggregate.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.3.
    """
    ordered = _sorted(scores.flatten(-2))
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def optimality_gap(scores: Float[Tensor, "*B runs tasks"], gamma: float = 1.0) -> Float[Tensor, "*B"]:
    """Mean shortfall from `gamma`; what lies above it does not count. For scores / 100: lower is better."""
    return gamma - scores.clamp(max=gamma).mean((-2, -1))


def probability_of_improvement(
    x: Float[Tensor, "*B runs_x tasks"], y: Float[Tensor, "*B runs_y tasks"]
) -> Float[Tensor, "*B"]:
    """P(a run of x beats a run of y on the same task), ties count half; mean over tasks.

    To bootstrap it with equal numbers of runs, put x and y side by side as columns of one matrix and let `statistic`
    split them.
    """
    ahead = x.unsqueeze(-2) - y.unsqueeze(-3)  # [*B, runs_x, runs_y, tasks]
    return (ahead.sign() + 1).mean((-3, -2, -1)) / 2


def stratified_bootstrap(
    scores: Float[Tensor, "runs tasks"],
    statistic: Callable[[Tensor], Tensor],
    reps: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "*K"], Float[Tensor, "*K"]]:
    """95 % percentile interval (low, high) of a statistic of several tasks; runs are resampled within each task.

    `statistic` maps [reps, runs, tasks] to [reps, *K]: several statistics share their resamples by stacking.
    `generator` lives on the device of `scores` and is the only source of randomness.

    Raises:
        ValueError: a score is not finite; nobody would see it in the interval.
    """
    if not scores.isfinite().all():
        raise ValueError(f"scores must be finite, got {int((~scores.isfinite()).sum())} that are not")
    runs, tasks = scores.shape
    chunk, values = max(1, _CHUNK // scores.numel()), []
    for done in range(0, reps, chunk):
        rows = min(chunk, reps - done)
        drawn = torch.randint(runs, (rows, runs, tasks), generator=generator, device=scores.device)
        values.append(statistic(scores.expand(rows, runs, tasks).gather(1, drawn)))
    tails = torch.tensor([0.025, 0.975], dtype=scores.dtype, device=scores.device)
    low, high = torch.cat(values).quantile(tails, dim=0)
    return (low, high) if runs > 1 else (torch.full_like(low, torch.nan), torch.full_like(high, torch.nan))


def t_interval(x: Float[Tensor, "*B runs"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """95 % Student-t interval (low, high) of the mean of one task, or of differences paired by seed."""
    return _t(x.mean(-1), x.std(-1), x.shape[-1], x.shape[-1]) if x.shape[-1] > 1 else _nothing(x)


def trimmed_t_interval(x: Float[Tensor, "*B runs"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """95 % interval (low, high) of the interquartile mean of one task: t with the winsorised standard deviation.

    Covers 92 to 94 % of normal samples. Below four runs nothing is cut, and this is `t_interval`.
    Source: Tukey & McLaughlin 1963 (Sankhya A 25, 331-352).
    """
    runs = x.shape[-1]
    cut = runs // 4
    if runs < 2:
        return _nothing(x)
    ordered = _sorted(x)
    kept = ordered[..., cut : runs - cut]
    winsorised = ordered.clamp(kept[..., :1], kept[..., -1:])
    return _t(kept.mean(-1), winsorised.std(-1) * runs / kept.shape[-1], runs, kept.shape[-1])


def _sorted(x: Tensor) -> Tensor:
    """Ascending along the last axis; numpy sorts five times faster than torch on a CPU, which is most of the work."""
    return x.sort(-1).values if x.device.type != "cpu" else torch.from_numpy(np.sort(x.numpy(), -1))


def _t(centre: Tensor, std: Tensor, runs: int, kept: int) -> tuple[Tensor, Tensor]:
    half = float(student.ppf(0.975, kept - 1)) * std / runs**0.5
    return centre - half, centre + half


def _nothing(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.full_like(x.sum(-1), torch.nan), torch.full_like(x.sum(-1), torch.nan)
