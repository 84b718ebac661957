"""Error against FLOP for ways of drawing from one diffusion model.

Reads results of the suite `fidelity/samplers` (`run_bench.py run fidelity/samplers`, twenty minutes), whose cells share
their policy and their models and differ in how DyDiff draws from them. Errors are open loop at the last step, medians
over starts, as in every report; a ratio is that of one seed's error to the same seed's under the released settings.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.peers import NotThereError
from benchmarks.report.results import Results, collect, error_at_end
from benchmarks.speed.harness import Figure, Options, judged
from benchmarks.store import ResultStore
from models.diffusion.edm import Sampler

__all__ = ["compare", "figures", "measure"]

RESULTS = Path("results/fidelity/samplers")
RELEASED = "released: heun 34, churn 60"
OURS = f"dpm++ {Sampler().steps}"
KINDS = ("policy", "logged")
_ONE = "one round"  # DyDiff's other settings make two


def measure(options: Options) -> dict[str, Any]:
    """The rows of `compare`, and the machine that the cells ran on.

    Raises:
        NotThereError: the results are not there.
    """
    if not RESULTS.is_dir():
        raise NotThereError(f"{RESULTS}, which run_bench.py run fidelity/samplers makes")
    results = collect(ResultStore(RESULTS))
    where = {**results.cells[0].runs[-1], "cpu": "see the cells' provenance"}
    return {"machine": where, "rows": compare(results)}


def compare(results: Results) -> list[dict[str, Any]]:
    """A row per task, actions and setting: FLOP per transition, error, and its ratio to the released one's."""
    flops = results.last("cost/flops_per_transition").groupby("variant")["value"].first()
    rows = []
    for kind in KINDS:
        for task, part in error_at_end(results, kind).groupby("task"):
            errors = {str(name): seeds.set_index("seed")["value"] for name, seeds in part.groupby("variant")}
            for name, error in errors.items():
                released = f"{_ONE}, released" if name.startswith(_ONE) else RELEASED
                ratio = error / errors[released]
                rows.append(
                    {
                        "task": task,
                        "actions": kind,
                        "setting": name,
                        "fewer_flops": float(flops[released] / flops[name]),
                        "error": float(error.mean()),
                        "ratio": float(ratio.mean()),
                    }
                )
    return rows


def figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Lines of the table of figures: the default sampler, and the cheapest that is right everywhere."""
    rows = pd.DataFrame(found["rows"])
    rows = rows[~rows["setting"].str.startswith(_ONE)]
    worst = rows.groupby("setting").agg(ratio=("ratio", "max"), fewer=("fewer_flops", "min"))
    cheapest = str(worst[worst["ratio"] <= 1.1]["fewer"].idxmax())

    def text(name: str) -> str:
        return f"error {worst['ratio'][name]:.2f}x at most, {worst['fewer'][name]:.1f}x fewer FLOP"

    met = judged(bool(worst["ratio"][OURS] <= 1.1 and worst["fewer"][OURS] >= 5))
    title = f"DyDiff's default sampler ({OURS}) beside the released settings"
    yield Figure(title, "error <= 1.10x, >= 5x fewer", text(OURS), met=met)
    yield Figure(f"... the cheapest within 10 % ({cheapest})", "", text(cheapest))
