"""Tables of the sets of local/: what was measured of each, after every check of `run_bench.py data verify`.

`python -m tasks.recipes.describe_sets` makes what is not here yet and prints the tables of `tasks/DATASETS.md`.
"""

from collections.abc import Mapping
from typing import Any

import tyro
from tabulate import tabulate

from tasks.audit import examine
from tasks.base import DataOptions, load_task
from tasks.sources import local

__all__ = ["main", "tables"]


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


def main(dataset_rows: int = 100_000) -> None:
    """Make every set of local/ with `dataset_rows` rows unless it is here, verify it, and print the tables."""
    options = DataOptions(dataset_rows=dataset_rows)
    reports = {}
    for name in local.names():
        local.make(name, options)
        reports[name] = examine(f"local/{name}", options)
    print(tables(reports))


def _score(name: str, mean: float) -> str:
    """D4RL's normalised score; `metrics`, which has the same line for tensors, is not to be imported from here."""
    low, high = load_task(f"local/{name}", DataOptions()).score_range or (0.0, 1.0)
    return "" if name.startswith("maze2d") else f"{100 * (mean - low) / (high - low):z.1f}"


def _drawn(rows: list[list[Any]], head: list[str]) -> str:
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True, colalign=["left"] + ["right"] * (len(head) - 1))


if __name__ == "__main__":
    tyro.cli(main)
