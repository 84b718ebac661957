"""Bootstrap intervals of 5 algorithms x 12 tasks x 10 runs, beside rliable's: python -m benchmarks.speed.intervals.

rliable has no GPU version and uses one CPU thread, so ours gets one, too. Both draw every resample that is asked for;
nothing is extrapolated. Wall time is what a user waits for; processor time is fairer where other programs run beside.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from benchmarks.speed.command import threads
from benchmarks.speed.timing import Seconds, machine, timed
from benchmarks.speed.turns import Figure
from core.files import write_json
from metrics.statistics import iqm, mean, median, optimality_gap, stratified_bootstrap

ALGORITHMS = 5
RUNS = 10
TASKS = 12
STATISTICS = {"mean": mean, "median": median, "iqm": iqm, "optimality_gap": optimality_gap}


def scores(device: torch.device) -> list[Tensor]:
    """One matrix [RUNS, TASKS] per algorithm, on the scale of normalized scores / 100."""
    rng = torch.Generator().manual_seed(0)
    level = torch.rand(ALGORITHMS, 1, TASKS, generator=rng, dtype=torch.float64)
    noise = torch.randn(ALGORITHMS, RUNS, TASKS, generator=rng, dtype=torch.float64)
    return list((level + 0.1 * noise).to(device))


def ours(matrices: list[Tensor], statistic: Callable[[Tensor], Tensor], reps: int, seed: int) -> Tensor:
    """[algorithms, 2, *K], on the CPU: so a GPU has finished when this returns."""
    rng = torch.Generator(matrices[0].device).manual_seed(seed)
    return torch.stack([torch.stack(stratified_bootstrap(x, statistic, reps, rng)) for x in matrices]).cpu()


def theirs(matrices: list[Tensor], names: list[str], reps: int) -> Tensor:
    """The same from rliable, which draws from numpy's global generator whatever it is given."""
    from rliable import library, metrics  # not installed by default: extra `oracles`

    np.random.seed(0)  # noqa: NPY002
    _, found = library.get_interval_estimates(
        {str(i): x.cpu().numpy() for i, x in enumerate(matrices)},
        lambda x: np.array([getattr(metrics, f"aggregate_{name}")(x) for name in names]),
        reps=reps,
    )
    return torch.stack([torch.from_numpy(interval) for interval in found.values()])


def compare(device: torch.device, names: list[str], reps: int, repeats: int) -> dict[str, Any]:
    """Median seconds of ours, seconds of rliable's one run if it is installed, ratios, agreement of the intervals."""
    matrices = scores(device)

    def statistic(x: Tensor) -> Tensor:
        return torch.stack([STATISTICS[name](x) for name in names], -1)

    ours(matrices, statistic, reps // 10 + 1, seed=0)  # warm up
    runs = [timed(partial(ours, matrices, statistic, reps, seed)) for seed in range(repeats)]
    own = Seconds.median([seconds for _, seconds in runs])
    row: dict[str, Any] = {"statistics": names, "reps": reps, "ours": own._asdict(), "rliable": None}
    if find_spec("rliable") is None:
        return row
    try:
        theirs(matrices, names, 2)  # import it, too
    except ImportError:  # it is there, but not with the versions that it needs
        return row
    intervals, their = timed(partial(theirs, matrices, names, reps))
    width = (intervals[:, 1] - intervals[:, 0]).unsqueeze(1)
    return row | {
        "rliable": their._asdict(),
        "ratio_wall": their.wall / own.wall,
        "ratio_cpu": their.cpu / own.cpu,
        "largest_difference_of_an_end_in_widths": ((runs[0][0] - intervals).abs() / width).max().item(),
    }


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Lines of the table of figures."""
    measured = f"{found['ratio_wall']:.0f}x" if found["rliable"] else "not there"
    return [Figure(f"Intervals of {', '.join(found['statistics'])}, beside rliable", ">= 60x", measured)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--statistics", nargs="+", choices=STATISTICS, default=["iqm"])
    parser.add_argument("--reps", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5, help="of ours; rliable runs once")
    parser.add_argument("--out", type=Path, help="json file to write")
    parser.add_argument("--quick", action="store_true", help="a few resamples: does it run?")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.reps = 20
        asked.repeats = 1
    device = torch.device(asked.device)
    with threads(1):
        row = compare(device, asked.statistics, asked.reps, asked.repeats)
        where = machine(device)
    table = [["ours", *row["ours"].values()]]
    if row["rliable"]:
        table += [["rliable", *row["rliable"].values()], ["ratio", row["ratio_wall"], row["ratio_cpu"]]]
    print(
        f"{', '.join(asked.statistics)} of {ALGORITHMS} algorithms x {TASKS} tasks x {RUNS} runs, {asked.reps:,} "
        f"resamples; {where['device']}, {where['processor']}, {where['threads']} thread"
    )
    print(tabulate(table, ["", "wall, s", "processor, s"], floatfmt=".3g"))
    print(
        f"Largest difference of an end: {row['largest_difference_of_an_end_in_widths']:.3f} of the interval's width."
        if row["rliable"]
        else "rliable cannot be imported (extra `oracles`): nothing to compare with."
    )
    if asked.out:
        write_json(asked.out, {"machine": where, **row})


if __name__ == "__main__":
    main()
