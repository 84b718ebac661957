"""95 % intervals of the aggregates over runs x tasks; plain functions, on the device of their input.

Tasks are fixed, runs vary. The default, `t`, is Student's with the variance of every task by itself and
Welch-Satterthwaite's degrees of freedom; shares have score intervals. `bootstrap` is rliable's percentile bootstrap,
which covers about 75 % with three runs of one task and 82 % with three of three tasks. METRICS.md has what was
measured of both (`python -m metrics.coverage`). Fewer than two runs have no interval: it is NaN, never zero wide.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

from metrics.statistics import ascending, iqm, mean, median, optimality_gap, performance_profile
from metrics.statistics import probability_of_improvement as better

__all__ = [
    "AGGREGATES",
    "METHODS",
    "improvement_interval",
    "interval",
    "profile_interval",
    "stratified_bootstrap",
    "t_interval",
]

METHODS = ("t", "bootstrap")
AGGREGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": mean, "median": median, "iqm": iqm, "optimality_gap": optimality_gap,
}  # fmt: skip
_CHUNK = 2**18  # resampled scores held at once: stays within the caches of a CPU
_HALVINGS = 50  # of [0, 1], to a double's last digits
Interval = tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]


def interval(
    scores: Float[Tensor, "*B runs tasks"],
    aggregate: str,
    method: str = "t",
    *,
    generator: torch.Generator | None = None,
    reps: int = 10_000,
) -> Interval:
    """Interval (low, high) of an aggregate, by its name in AGGREGATES; it contains the point estimate.

    `t`: see `_of_mean` and its neighbours. `bootstrap`: `stratified_bootstrap` of one matrix, with `generator`.

    Raises:
        ValueError: a score is not finite, no such method, or a bootstrap without a generator.
    """
    rng = _source(method, generator)
    if scores.shape[-2] < 2:
        return _nothing(scores.sum((-2, -1)))
    if rng is not None:
        return stratified_bootstrap(scores, AGGREGATES[aggregate], reps, rng)
    _require_finite(scores)
    return _BY_T[aggregate](scores)


def improvement_interval(
    x: Float[Tensor, "*B runs tasks"],
    y: Float[Tensor, "*B runs tasks"],
    method: str = "t",
    *,
    generator: torch.Generator | None = None,
    reps: int = 10_000,
) -> Interval:
    """Interval of `probability_of_improvement`, as many runs of x as of y; within [0, 1], and by `t` never zero wide.

    `t`: all p with |estimate - p| <= t sqrt(V(p) / tasks), t with 2 tasks (runs - 1) degrees of freedom and V the
    variance of one task's estimate that depends on p alone. Wide where tasks differ much: they are taken as alike.

    Source: V: Hanley & McNeil 1982 (Radiology 143, 29-36); p solved for: Newcombe 2006 (Statistics in Medicine 25,
    559-573), method 5.
    """
    if (rng := _source(method, generator)) is not None:
        return stratified_bootstrap(torch.cat([x, y], -1), lambda both: better(*both.chunk(2, -1)), reps, rng)
    runs, tasks = x.shape[-2:]

    def variance(p: Tensor) -> Tensor:
        return p * (1 - p) * (1 + (runs - 1) * ((1 - p) / (2 - p) + p / (1 + p))) / runs**2 / tasks

    return _score_interval(better(x, y), variance, runs, 2 * tasks * (runs - 1))


def profile_interval(
    scores: Float[Tensor, "*B runs tasks"],
    thresholds: Float[Tensor, " K"],
    method: str = "t",
    *,
    generator: torch.Generator | None = None,
    reps: int = 10_000,
) -> tuple[Float[Tensor, "*B K"], Float[Tensor, "*B K"]]:
    """Pointwise interval of `performance_profile`; within [0, 1], and by `t` never zero wide.

    `t`: Wilson's interval of a share with the quantile of t with tasks (runs - 1) degrees of freedom. The variance of
    runs that are drawn from all tasks alike is never below that of runs within tasks, so it is wide where tasks differ.

    Source: Wilson 1927 (Journal of the American Statistical Association 22, 209-212).
    """
    if (rng := _source(method, generator)) is not None:
        return stratified_bootstrap(scores, lambda x: performance_profile(x, thresholds), reps, rng)
    runs, tasks = scores.shape[-2:]
    share = performance_profile(scores, thresholds)
    return _score_interval(share, lambda p: p * (1 - p) / (runs * tasks), runs, tasks * (runs - 1))


def t_interval(x: Float[Tensor, "*B runs"]) -> Interval:
    """Student-t interval (low, high) of the mean of one task, or of differences paired by seed."""
    return _of_mean(x.unsqueeze(-1)) if x.shape[-1] > 1 else _nothing(x.sum(-1))


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
    _require_finite(scores)
    runs, tasks = scores.shape
    chunk = max(1, _CHUNK // scores.numel())
    values = []
    for done in range(0, reps, chunk):
        rows = min(chunk, reps - done)
        drawn = torch.randint(runs, (rows, runs, tasks), generator=generator, device=scores.device)
        values.append(statistic(scores.expand(rows, runs, tasks).gather(1, drawn)))
    low, high = _quantiles(torch.cat(values), 0.025, 0.975)
    return (low, high) if runs > 1 else _nothing(low)


def _source(method: str, generator: torch.Generator | None) -> torch.Generator | None:
    """Of the method's randomness; None: it has none. Raises: ValueError."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "bootstrap" and generator is None:
        raise ValueError("method 'bootstrap' must be given a generator, got none")
    return generator if method == "bootstrap" else None


def _of_mean(scores: Float[Tensor, "*B runs tasks"]) -> Interval:
    """t with variance sum_t s_t^2 / (runs tasks^2). Of one task the textbook's interval, exact for normal scores."""
    runs, tasks = scores.shape[-2:]
    variance = scores.var(-2) / (runs * tasks**2)
    return _welch(mean(scores), variance, torch.full_like(variance, runs - 1))


def _of_gap(scores: Float[Tensor, "*B runs tasks"]) -> Interval:
    """A mean of shortfalls, so the interval of a mean."""
    return _of_mean((1 - scores).clamp(min=0))


def _of_median(scores: Float[Tensor, "*B runs tasks"]) -> Interval:
    """t with the jackknife's variance: each run is left out of its task's mean, and the median taken again."""
    runs, tasks = scores.shape[-2:]
    means = scores.mean(-2, keepdim=True)
    reduced = means + (means - scores) / (runs - 1)  # [*B, runs, tasks]: a task's mean without one run
    own = torch.eye(tasks, dtype=torch.bool, device=scores.device)
    without = torch.where(own, reduced.unsqueeze(-1), means.unsqueeze(-2))  # [*B, runs, left out, tasks]
    variance = _jackknife(median(without.unsqueeze(-2)))
    return _welch(median(scores), variance, torch.full_like(variance, runs - 1))


def _of_iqm(scores: Float[Tensor, "*B runs tasks"]) -> Interval:
    """t with the jackknife's variance of the 25 % trimmed mean, widened by what `iqm` rounds.

    `iqm` cuts whole runs, so it is off by up to a run's weight, which is much where tasks lie far apart. The jackknife
    takes the trimmed mean itself, of runs with weights: those of the task that one is left out of weigh more. The
    interval lies around it, and is extended by as much as the two differ, so it means either.

    Degrees of freedom of a task are its runs that are not cut, less one, as Tukey & McLaughlin have them for one task,
    but at least half of the usual ones. Takes memory for (runs tasks)^2 numbers.

    Source: Tukey & McLaughlin 1963 (Sankhya A 25, 331-352); Efron & Stein 1981 (Annals of Statistics 9, 586-596): the
    jackknife's variance is not too small on average.
    """
    runs, tasks = scores.shape[-2:]
    ordered, order = scores.flatten(-2).sort(-1)
    task = order % tasks
    count = runs * tasks
    weight = _middle(torch.arange(1, count + 1, dtype=scores.dtype, device=scores.device) / count)
    trimmed = 2 * (weight * ordered).sum(-1)

    same = (task.unsqueeze(-1) == task.unsqueeze(-2)).to(scores.dtype)  # [*B, left out, others]
    itself = torch.eye(count, dtype=scores.dtype, device=scores.device)
    mass = (1 + same / (runs - 1) - itself * runs / (runs - 1)) / count
    without = 2 * (_middle(mass.cumsum(-1)) * ordered.unsqueeze(-2)).sum(-1)

    def by_task(x: Tensor) -> Tensor:
        return torch.empty_like(ordered).scatter(-1, order, x.expand_as(ordered)).view(scores.shape)

    kept = by_task((weight > 0).to(scores.dtype)).sum(-2)
    low, high = _welch(trimmed, _jackknife(by_task(without)), (kept - 1).clamp(min=max((runs - 1) / 2, 1)))
    rounded = iqm(scores) - trimmed
    return low + rounded.clamp(max=0), high + rounded.clamp(min=0)


def _middle(mass: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
    """By run, how much of its share of the ordered mass lies between the quartiles; `mass` is cumulated."""
    inner = mass.clamp(0.25, 0.75)
    return inner.diff(dim=-1, prepend=torch.full_like(inner[..., :1], 0.25))


def _jackknife(without: Float[Tensor, "*B runs tasks"]) -> Float[Tensor, "*B tasks"]:
    """By task, the variance that its runs give a statistic, from its values without one of them."""
    runs = without.shape[-2]
    return without.var(-2) * (runs - 1) ** 2 / runs


def _welch(centre: Tensor, variance: Float[Tensor, "*B tasks"], freedom: Float[Tensor, "*B tasks"]) -> Interval:
    """t interval of a sum of independent parts. Source: Satterthwaite 1946 (Biometrics Bulletin 2, 110-114)."""
    total = variance.sum(-1)
    part = (variance / total.unsqueeze(-1)).nan_to_num(1.0)  # 0 / 0: nothing varies, any freedom will do
    joint = 1 / (part.square() / freedom).sum(-1)
    half = torch.as_tensor(student.ppf(0.975, joint.cpu().numpy())).to(joint) * total.sqrt()
    return centre - half, centre + half


def _score_interval(estimate: Tensor, variance: Callable[[Tensor], Tensor], runs: int, freedom: int) -> Interval:
    """All p in [0, 1] that lie within t standard errors at p of the estimate, by bisection on either side."""
    if runs < 2:
        return _nothing(estimate)
    quantile = float(student.ppf(0.975, freedom))
    ends = []
    for limit in (torch.zeros_like(estimate), torch.ones_like(estimate)):
        inside, outside = estimate, limit
        for _ in range(_HALVINGS):
            p = (inside + outside) / 2
            near = (p - estimate).abs() <= quantile * variance(p).sqrt()
            inside, outside = torch.where(near, p, inside), torch.where(near, outside, p)
        ends.append(inside)
    return ends[0], ends[1]


def _quantiles(values: Tensor, *shares: float) -> list[Tensor]:
    """Along the first axis, linear between neighbours as numpy's; torch's own takes at most 16 million numbers."""
    ordered = ascending(values.movedim(0, -1))
    last = len(values) - 1
    found = []
    for share in shares:
        below = int(share * last)
        found.append(torch.lerp(ordered[..., below], ordered[..., min(below + 1, last)], share * last - below))
    return found


def _require_finite(scores: Tensor) -> None:
    if not scores.isfinite().all():
        raise ValueError(f"scores must be finite, got {int((~scores.isfinite()).sum())} that are not")


def _nothing(like: Tensor) -> Interval:
    return torch.full_like(like, torch.nan), torch.full_like(like, torch.nan)


_BY_T = {"mean": _of_mean, "median": _of_median, "iqm": _of_iqm, "optimality_gap": _of_gap}
