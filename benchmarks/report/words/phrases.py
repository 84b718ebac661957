"""Parts of sentences: lists of names, counts, changes with as many decimals as the tables show."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.report.regime import left_out
from benchmarks.report.results import Results
from benchmarks.report.score_rows import ranked, task_name
from benchmarks.report.tables.settle import decimals
from benchmarks.report.tables.table import as_interval, filled
from benchmarks.report.verdict import verdicts

__all__ = ["change", "compared", "count", "joined", "listed", "method_name", "place_name", "span"]


def joined(parts: Sequence[str]) -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def listed(names: Sequence[str], most: int = 4) -> str:
    """The same of the first, and how many others there are."""
    more = len(names) - most
    return joined(names) if more < 2 else f"{', '.join(names[:most])} and {more} others"


def count(number: int, noun: str) -> str:
    """1 seed, 2 seeds."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def span(low: float, high: float, spec: str, unit: str = "") -> str:
    """`3.0 to 4.1x`, or one of them where they look the same."""
    first, last = (f"{x:{spec}}".replace("-", "−") for x in (low, high))
    return f"{first}{unit}" if first == last else f"{first} to {last}{unit}"


def compared(results: Results) -> pd.DataFrame:
    """The verdicts on methods; controls and the ceiling are none, and what `left_out` names does not count."""
    found = verdicts(results)
    return found[found["generator"].map(ranked).astype(bool) & ~found.index.isin(left_out(results))]


def change(results: Results, row: Mapping[Any, Any]) -> str:
    """`+2.10 [−0.49, 4.69]` of a row of `verdicts`, with the decimals of all of its unit."""
    found = verdicts(results)
    same = found.loc[found["unit"] == row["unit"], ["mean", "low", "high"]].abs().max(axis=1)
    return filled(as_interval(row["low"], row["high"], row["mean"], True), decimals(same.tolist())).text


def method_name(results: Results, generator: str, variant: str) -> str:
    """A generator and its variant; the variant alone where no other method is in the folder."""
    if variant == "default":
        return generator
    alone = len({cell.generator for cell in results.cells if ranked(cell.generator)}) == 1
    return variant if alone else f"{generator} [{variant}]"


def place_name(results: Results, task: str, algorithm: str) -> str:
    """A task and, where there are several, the algorithm."""
    several = len({cell.algorithm for cell in results.cells}) > 1
    return f"{task_name(results, task)} with {algorithm}" if several else task_name(results, task)
