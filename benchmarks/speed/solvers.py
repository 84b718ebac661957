"""Error against FLOP for ways of drawing from one diffusion model: python -m benchmarks.speed.solvers [RESULTS].

Reads a results folder of the suite `fidelity/samplers`, whose cells share their policy and their models and differ in
how DyDiff draws from them; writes json, and a figure beside it. Errors are open loop at the last step, medians over
starts, as in every report; a ratio is that of one seed's error to the same seed's under the released settings.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullFormatter
from tabulate import tabulate

from benchmarks.report.results import Results, collect
from benchmarks.report.style import COLOURS, INK, draw, panels, save
from benchmarks.speed.turns import Figure
from benchmarks.store import ResultStore
from core.files import write_json
from models.diffusion.edm import Sampler

__all__ = ["compare", "figures", "main"]

SUITE = Path("results/reference/fidelity-samplers")
RELEASED = "released: heun 34, churn 60"
OURS = f"dpm++ {Sampler().steps}"
_ONE = "one round"  # DyDiff's other settings make two
_KINDS = ("policy", "logged")
_FAMILIES = {"heun": "ensemble", "dpm++": "dydiff", "warm": "synther", "released": "none"}  # and whose colour they get


def compare(results: Results) -> list[dict[str, Any]]:
    """A row per task, actions and setting: FLOP per transition, error, and its ratio to the released one's."""
    rows = []
    for (task, actions), errors in _errors(results).groupby(["task", "actions"]):
        flops = results.metric("cost/flops_per_transition").set_index(["cell_id", "seed"])["cost/flops_per_transition"]
        by_variant = {str(name): part.set_index("seed") for name, part in errors.groupby("variant")}
        for name, part in by_variant.items():
            reference = by_variant[f"{_ONE}, released" if name.startswith(_ONE) else RELEASED]
            cost, base = (flops[found["cell_id"].iloc[0]].iloc[0] for found in (part, reference))
            rows.append(
                {
                    "task": task,
                    "actions": actions,
                    "setting": name,
                    "flops": float(cost),
                    "fewer_flops": float(base / cost),
                    "error": float(part["value"].mean()),
                    "ratio": float((part["value"] / reference["value"]).mean()),
                    "worst_ratio": float((part["value"] / reference["value"]).max()),
                }
            )
    return rows


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Lines of the table of figures: the default sampler, and the cheapest that is right everywhere."""
    rows = pd.DataFrame(found["rows"])
    rows = rows[~rows["setting"].str.startswith(_ONE)]
    worst = rows.groupby("setting").agg(ratio=("ratio", "max"), fewer=("fewer_flops", "min"))
    right = worst[worst["ratio"] <= 1.1].sort_values("fewer")
    cheapest = str(right.index[-1])

    def text(name: str) -> str:
        chosen = worst.loc[name]
        return f"error {chosen['ratio']:.2f}x at most, {chosen['fewer']:.1f}x fewer FLOP"

    return [
        Figure(f"DyDiff's default sampler ({OURS}) beside the released settings", "<= 1.10x, >= 5x fewer", text(OURS)),
        Figure(f"... the cheapest within 10 % ({cheapest})", "", text(cheapest)),
    ]


def figure(rows: pd.DataFrame) -> Drawing:
    """A panel per task and kind of actions; the shaded band is within 10 % of the released settings' error."""
    tasks = list(dict.fromkeys(rows["task"]))
    drawing, grid = panels(len(_KINDS), len(tasks), 3.4)
    for line, actions in zip(grid, _KINDS, strict=True):
        for ax, task in zip(line, tasks, strict=True):
            part = rows[(rows["task"] == task) & (rows["actions"] == actions)]
            two = part[~part["setting"].str.startswith(_ONE)]
            released = float(two.loc[two["setting"] == RELEASED, "error"].iloc[0])
            ax.axhspan(0, 1.1 * released, color=COLOURS["none"], alpha=0.15, linewidth=0)
            for family, colour in _FAMILIES.items():
                some = two[two["setting"].str.startswith(family)].sort_values("flops")
                ax.plot(some["flops"], some["error"], "o", color=COLOURS[colour], label=family, markersize=5)
            ax.set(xscale="log", yscale="log", title=f"{task.removeprefix('local/')}, {actions} actions")
            ax.set(xlabel="FLOP per transition", ylabel="open-loop error at the last step")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
    handles, labels = grid[0][0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels), labelcolor=INK)
    return drawing


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, print a table, write json and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=SUITE, help="results of fidelity/samplers")
    parser.add_argument("--out", type=Path, help="json file to write; the figure goes beside it")
    parser.add_argument("--quick", action="store_true", help="changes nothing: nothing is measured here")
    asked = parser.parse_args(arguments)
    results = collect(ResultStore(asked.results))
    rows = compare(results)
    print(tabulate(rows, headers="keys", floatfmt=".3g"))
    if asked.out:
        runs = [cell.runs[-1] for cell in results.cells]
        where = {**runs[0], "processor": "see the cells' provenance", "dirty": any(run["dirty"] for run in runs)}
        write_json(asked.out, {"machine": where, "suite": results.suite, "rows": rows})
        save(draw(figure, pd.DataFrame(rows)), asked.out.parent, asked.out.stem)


def _errors(results: Results) -> pd.DataFrame:
    """cell_id, task, variant, seed, actions and the median error at the last step."""
    parts = []
    for actions in _KINDS:
        found = results.group(f"compounding/{actions}/median/")
        found = found.assign(step=found["metric"].astype(int), actions=actions)
        parts.append(found[found["step"] == found["step"].max()])
    return pd.concat(parts)


if __name__ == "__main__":
    main()
