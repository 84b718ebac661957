"""How often the 95 % intervals of `metrics.intervals` contain the truth: by simulation, for 3, 5 and 10 runs.

`python -m metrics.coverage` writes coverage.csv, coverage.svg and the table of METRICS.md; a minute on one core.
Every task's scores are a mixture of normal ones, so that the truth of every aggregate is known in closed form.
"""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from itertools import product
from typing import Any

import matplotlib as mpl
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.optimize import brentq
from torch import Tensor

from core.files import atomic, write_text
from metrics.catalogue import PAGE
from metrics.intervals import AGGREGATES, METHODS, improvement_interval, interval, profile_interval
from metrics.statistics import performance_profile, probability_of_improvement

__all__ = ["CASES", "Cell", "Mixture", "cells", "draw", "measure", "read", "table", "updated"]

RUNS = (3, 5, 10)
TASKS = (1, 3, 5, 12)
QUANTITIES = (*AGGREGATES, "improvement", "profile")
CSV = PAGE.with_name("coverage.csv")
_FIGURE = PAGE.with_name("coverage.svg")
_EXPERIMENTS = {"t": 6000, "bootstrap": 600}
_RESAMPLES = 500
_BATCH = 2**23  # numbers held at once by the largest array
_BETTER = 5.0  # points by which every task of x is ahead of y
_ABOVE = 85.0  # threshold of the profile
_NAMES = {
    "mean": "mean", "median": "median", "iqm": "IQM", "optimality_gap": "optimality gap",
    "improvement": "P(improvement)", "profile": "profile",
}  # fmt: skip
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_MARKS = ("<!-- coverage -->\n", "<!-- end of coverage -->\n")


@dataclass(frozen=True)
class Mixture:
    """Scores of some tasks: normal ones of one of P kinds, drawn for every run anew."""

    share: Float[Tensor, "tasks P"]
    level: Float[Tensor, "tasks P"]
    std: Float[Tensor, "tasks P"]

    def draw(self, experiments: int, runs: int, rng: torch.Generator) -> Float[Tensor, "experiments runs tasks"]:
        """Scores of experiments that know nothing of each other."""
        kind = torch.multinomial(self.share, experiments * runs, replacement=True, generator=rng)  # [tasks, E * runs]
        noise = torch.randn(kind.shape, generator=rng, dtype=torch.float64)
        scores = self.level.gather(1, kind) + self.std.gather(1, kind) * noise
        return scores.view(-1, experiments, runs).movedim(0, -1)

    def truth(self, quantity: str) -> float:
        """What the aggregate tends to with more and more runs; of the median: that of the tasks' means."""
        means = (self.share * self.level).sum(1)
        match quantity:
            case "mean":
                found = means.mean()
            case "median":
                found = means.quantile(0.5)
            case "iqm":
                low, high = (brentq(lambda x, q=q: self._below(x) - q, -1e3, 1e3) for q in (0.25, 0.75))
                found = 2 * (self._part(high) - self._part(low))
            case "optimality_gap":  # E max(0, 1 - x), x in parts of 100
                found = (100 * torch.tensor(self._below(100.0)) - self._part(100.0)) / 100
            case "improvement":  # of each kind over each other one, _BETTER lower
                apart = self.level[:, :, None] - self.level[:, None] + _BETTER
                ahead = _normal(apart / (self.std[:, :, None] ** 2 + self.std[:, None] ** 2).sqrt())
                found = (self.share[:, :, None] * self.share[:, None] * ahead).sum((1, 2)).mean()
            case _:
                found = torch.tensor(1 - self._below(_ABOVE))
        return float(found)

    def _below(self, x: float) -> float:
        """Share of the scores of all tasks below x."""
        return float((self.share * _normal((x - self.level) / self.std)).sum(1).mean())

    def _part(self, x: float) -> Tensor:
        """Mean of the scores of all tasks below x, those above counting as 0."""
        z = (x - self.level) / self.std
        density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        return (self.share * (self.level * _normal(z) - self.std * density)).sum(1).mean()


def _tasks(levels: Iterable[float], stds: Iterable[float], collapse: float = 0.0) -> Mixture:
    """Normal scores of twelve tasks; a share of the runs collapses to N(0, 1)."""
    level, std = (torch.tensor([*x], dtype=torch.float64) for x in (levels, stds))
    share = torch.tensor([1 - collapse, collapse], dtype=torch.float64).expand(len(level), 2)
    return Mixture(share, torch.stack([level, 0 * level], 1), torch.stack([std, 0 * std + 1], 1))


_SPREADS = (5.0, 1.0, 15.0, 2.5, 10.0, 5.0, 0.5, 3.5, 7.5, 1.5, 5.0, 12.5)
_NEAR = (80.0, 83.0, 95.0, 87.5, 88.5, 81.0, 93.5, 85.0, 82.0, 90.5, 91.5, 84.0)
_FAR = (20.0, 36.0, 100.0, 60.0, 65.0, 25.0, 92.0, 48.0, 28.0, 76.0, 80.0, 32.0)
CASES = {  # of which a cell takes the first tasks
    "tasks alike": _tasks([80.0] * 12, [5.0] * 12),
    "unequal spread": _tasks([80.0] * 12, _SPREADS),
    "levels near": _tasks(_NEAR, [5.0] * 12),
    "levels far": _tasks(_FAR, [5.0] * 12),
    "one run in five collapses": _tasks([80.0] * 12, [5.0] * 12, collapse=0.2),
}


@dataclass(frozen=True)
class Cell:
    """One measured coverage."""

    method: str
    quantity: str
    case: str
    tasks: int
    runs: int
    coverage: float  # per cent
    error: float  # standard error of it
    width: float  # median half width, in units of 1.96 standard deviations of the estimate: an oracle's interval is 1


def cells(method: str, cases: Iterable[str] = CASES, tasks: Iterable[int] = TASKS, **options: int) -> Iterator[Cell]:
    """Every quantity of every case and number of runs; one task is its own case only where cases differ by it."""
    for case, count, runs in product(cases, tasks, RUNS):
        if count > 1 or case in ("tasks alike", "one run in five collapses"):
            yield from measure(method, case, count, runs, **options)


def measure(method: str, case: str, tasks: int, runs: int, experiments: int | None = None, seed: int = 0) -> list[Cell]:
    """All quantities on the same scores; always the same scores with equal arguments."""
    rng = torch.Generator().manual_seed(10**6 * seed + 10**4 * [*CASES].index(case) + 100 * tasks + runs)
    every = CASES[case]
    mixture = Mixture(*(getattr(every, field.name)[:tasks] for field in fields(Mixture)))
    worse = replace(mixture, level=mixture.level - _BETTER)
    left = experiments or _EXPERIMENTS[method]
    found: dict[str, list[Tensor]] = {quantity: [] for quantity in QUANTITIES}
    while left:
        batch = min(left, max(1, _BATCH // (runs * tasks) ** 2))
        left -= batch
        x, y = (part.draw(batch, runs, rng) for part in (mixture, worse))
        for quantity in QUANTITIES:
            found[quantity].append(_bounds(method, quantity, x, y, rng))
    return [
        _cell(method, quantity, case, tasks, runs, torch.cat(parts, 1), mixture.truth(quantity))
        for quantity, parts in found.items()
    ]


def _bounds(method: str, quantity: str, x: Tensor, y: Tensor, rng: torch.Generator) -> Float[Tensor, "3 E"]:
    """Low, high and estimate of every experiment; a bootstrap takes them one by one."""
    if method == "bootstrap" and len(x) > 1:
        return torch.cat(
            [_bounds(method, quantity, *pair, rng) for pair in zip(x[:, None], y[:, None], strict=True)], 1
        )
    if method == "bootstrap":
        x, y = x[0], y[0]
    options: dict[str, Any] = {"method": method, "generator": rng, "reps": _RESAMPLES}
    threshold = torch.tensor([_ABOVE], dtype=x.dtype)
    low, high, estimate = {
        "improvement": lambda: (*improvement_interval(x, y, **options), probability_of_improvement(x, y)),
        "profile": lambda: (*profile_interval(x, threshold, **options), performance_profile(x, threshold)),
    }.get(quantity, lambda: _aggregated(quantity, x, options))()
    return torch.stack([low.flatten(), high.flatten(), estimate.flatten()])


def _aggregated(quantity: str, x: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    scores = x / 100 if quantity == "optimality_gap" else x
    return (*interval(scores, quantity, **options), AGGREGATES[quantity](scores))


def _cell(method: str, quantity: str, case: str, tasks: int, runs: int, bounds: Tensor, truth: float) -> Cell:
    low, high, estimate = bounds
    inside = float(((low <= truth + 1e-9) & (truth - 1e-9 <= high)).double().mean())
    error = math.sqrt(inside * (1 - inside) / len(low))
    width = float((high - low).quantile(0.5)) / 2 / 1.96 / float(estimate.std())
    return Cell(method, quantity, case, tasks, runs, round(100 * inside, 2), round(100 * error, 2), round(width, 2))


def read() -> list[Cell]:
    """What coverage.csv keeps."""
    with CSV.open(encoding="utf-8", newline="") as file:
        rows = [*csv.reader(file)][1:]
    return [Cell(*row[:3], *map(int, row[3:5]), *map(float, row[5:])) for row in rows]


def table(found: Iterable[Cell]) -> str:
    """A row per method, quantity and case; coverage for 3 / 5 / 10 runs, below 94 in italics."""
    by_row: dict[tuple[str, str, str], dict[tuple[int, int], Cell]] = {}
    for cell in found:
        by_row.setdefault((cell.method, cell.quantity, cell.case), {})[cell.tasks, cell.runs] = cell
    head = ["interval of", "scores", *(f"{count} task{'s' * (count > 1)}" for count in TASKS), "width, 3 tasks"]
    lines = [head, ["---"] * len(head)]
    for (method, quantity, case), row in sorted(by_row.items(), key=lambda item: _place(*item[0])):
        name = _NAMES[quantity] + (", bootstrap" if method == "bootstrap" else "")
        columns = [" / ".join(_percent(row[count, n]) for n in RUNS if (count, n) in row) for count in TASKS]
        lines.append([name, case, *columns, " / ".join(f"{row[3, n].width:.2f}" for n in RUNS if (3, n) in row)])
    return "".join("".join(f"| {x} " if x else "| " for x in line) + "|\n" for line in lines)


def updated(page: str, found: Iterable[Cell]) -> str:
    """METRICS.md with this table between the two marks.

    Raises:
        ValueError: the marks are not there.
    """
    before, first, rest = page.partition(_MARKS[0])
    _, second, after = rest.partition(_MARKS[1])
    if not (first and second):
        raise ValueError(f"METRICS.md must have a line {_MARKS[0].strip()!r} and, below it, {_MARKS[1].strip()!r}")
    return f"{before}{first}\n{table(found)}\n{second}{after}"


def _place(method: str, quantity: str, case: str) -> tuple[int, int, int]:
    return METHODS.index(method), QUANTITIES.index(quantity), [*CASES].index(case)


def _percent(cell: Cell) -> str:
    return f"{cell.coverage:.1f}" if round(cell.coverage, 1) >= 94 else f"*{cell.coverage:.1f}*"


def _figure(found: Iterable[Cell]) -> Figure:
    """Coverage over runs: columns are quantities, rows cases, colours numbers of tasks; dashed is the bootstrap."""
    found = list(found)
    shown = [quantity for quantity in QUANTITIES if quantity not in ("median", "optimality_gap")]
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    grid = figure.subplots(2, len(shown), sharex=True, sharey=True)
    for line, case in zip(grid, ("tasks alike", "one run in five collapses"), strict=True):
        for ax, quantity in zip(line, shown, strict=True):
            ax.axhline(95, color="#6f7782", linewidth=1)
            for (place, count), method in product(enumerate(TASKS), METHODS):
                own = [x for x in found if astuple(x)[:4] == (method, quantity, case, count)]
                style = {"t": "o-", "bootstrap": "x--"}[method]
                values = [cell.coverage for cell in own]
                label = f"{method}, {count} task{'s' * (count > 1)}"
                ax.plot(
                    [str(cell.runs) for cell in own], values, style, color=_COLOURS[place], label=label, markersize=4
                )
            ax.set_title(f"{_NAMES[quantity]}\n{case}", fontsize=9)
            ax.grid(alpha=0.4)
    grid[0][0].set(ylim=(30, 101))
    for ax in grid[1]:
        ax.set_xlabel("runs per task")
    figure.supylabel("coverage of 95 % intervals, per cent", fontsize=10)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def main() -> None:
    """Measure everything, and write it down."""
    found = [*cells("t"), *cells("bootstrap", ("tasks alike", "one run in five collapses"))]
    rows = [[field.name for field in fields(Cell)], *map(astuple, found)]
    write_text(CSV, "".join(",".join(map(str, row)) + "\n" for row in rows))
    write_text(PAGE, updated(PAGE.read_text(encoding="utf-8"), found))
    draw(found)
    print(table(found), end="")


def draw(found: Iterable[Cell]) -> None:
    """Write coverage.svg."""
    with mpl.rc_context({"svg.hashsalt": "rolloutbench", "svg.fonttype": "none"}), atomic(_FIGURE) as part:
        _figure(found).savefig(part, format="svg", metadata={"Date": None, "Creator": None})


def _normal(z: Tensor) -> Tensor:
    return torch.special.ndtr(z)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
