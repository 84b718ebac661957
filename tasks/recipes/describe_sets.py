"""Tables of the sets of local/: what was measured of each, after every check of `run_bench.py data verify`.

`python -m tasks.recipes.describe_sets` makes what is not here yet and prints the tables of `tasks/DATASETS.md`; what
algorithms learn from the sets is read from the reference results of the suite `datasets`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import tyro
from tabulate import tabulate

from tasks.audit import examine
from tasks.base import DataOptions, load_task
from tasks.sources import local

__all__ = ["LEARNED", "learned", "main", "tables"]

LEARNED = Path(__file__).parents[2] / "results/reference/datasets/report/regime.csv"


def tables(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Two Markdown tables: what every set holds, and how its episodes are spread.

    `reports` are `audit.examine`'s, by dataset. Returns are raw, of episodes that ended. In maze2d an "episode" is
    the way to one of the navigator's goals, so its return has no score.
    """
    contents = []
    spreads = []
    for name, report in reports.items():
        mean = report["return_mean"]
        std = report["return_std"]
        replay = report["replay"]
        contents.append(
            [
                name,
                report["rows"],
                report["episodes"],
                f"{mean:.1f} ± {std:.1f}",
                _score(name, mean),
                f"{report['inexact_obs_share']:.1%}",
                f"{replay['next_obs']['max']:.1e}",
                f"{replay['reward']['max']:.1e}",
            ]
        )
        quantiles = (f"{value:.1f}" for value in report["return_quantiles"].values())
        spreads.append([name, *quantiles, f"{report['length_mean']:.0f}", report["terminals"], report["timeouts"]])
    heads = (
        [
            "set",
            "rows",
            "episodes",
            "return",
            "score",
            "clipped rows",
            "replay error, next_obs",
            "replay error, reward",
        ],
        ["set", "10 %", "50 %", "90 %", "mean length", "terminals", "timeouts"],
    )
    drawn = (_drawn(rows, head) for rows, head in zip((contents, spreads), heads, strict=True))
    return "\n\n".join(drawn)


def learned(regimes: pd.DataFrame) -> str:
    """A Markdown table of the report's regime.csv: scores of real data alone, by set and algorithm.

    Means of all seeds with half of their 95 % interval; bold where it lies above the behaviour's mean.
    """
    algorithms = sorted(regimes["algorithm"].unique(), key=["bc", "iql", "td3bc"].index)
    rows = []
    for task, of_task in regimes.groupby("task", sort=False):
        row = [str(task).removeprefix("local/"), f"{of_task['behaviour'].iloc[0]:z.1f}"]
        for algorithm in algorithms:
            (cell,) = of_task[of_task["algorithm"] == algorithm].to_dict("records")
            text = f"{cell['none']:z.1f} ± {(cell['learns_high'] - cell['learns_low']) / 2:.1f}"
            row.append(f"**{text}**" if cell["learns"] == "holds" else text)
        rows.append(row)
    return _drawn(rows, ["set", "behaviour", *algorithms])


def main(dataset_rows: int = 100_000) -> None:
    """Make every set of local/ with `dataset_rows` rows unless it is here, verify it, and print the tables."""
    options = DataOptions(dataset_rows=dataset_rows)
    reports = {}
    for name in local.names():
        local.make(name, options)
        reports[name] = examine(f"local/{name}", options)
    print(tables(reports))
    if LEARNED.exists():
        print(f"\n{learned(pd.read_csv(LEARNED))}")


def _score(name: str, mean: float) -> str:
    """D4RL's normalised score; `metrics`, which has the same line for tensors, is not to be imported from here."""
    low, high = load_task(f"local/{name}", DataOptions()).score_range or (0.0, 1.0)
    return "" if name.startswith("maze2d") else f"{100 * (mean - low) / (high - low):z.1f}"


def _drawn(rows: list[list[Any]], head: list[str]) -> str:
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True, colalign=["left"] + ["right"] * (len(head) - 1))


if __name__ == "__main__":
    tyro.cli(main)
