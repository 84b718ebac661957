"""What compute buys, in sentences: how fast errors fall, and who overtakes the ensemble where."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from benchmarks.report.compute.laws import REFERENCE, SURE, outcome, scaling
from benchmarks.report.compute.series import horizons, series
from benchmarks.report.results import Results, titled
from benchmarks.report.words.phrases import count, listed, place_name

__all__ = ["as_exponent", "as_flop", "compute_words", "label", "summary"]

_SUMS = {
    "overtakes": "overtakes it",
    "is overtaken": "is overtaken",
    "stays below": "errs less throughout",
    "stays above": "errs more throughout",
    "undecided": "is not decided",
}
_STAYS = {"stays below": "below", "stays above": "above"}


def as_flop(value: float) -> str:
    """Two digits and a power of ten, such as 3.1e14."""
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")


def as_exponent(value: float) -> str:
    """Two decimals, with a true minus sign."""
    return f"{value:z.2f}".replace("-", "−")


def label(row: Mapping[Hashable, Any]) -> str:
    """The series of a row of `scaling`, as `Series.label`."""
    name = titled(row["generator"])
    return f"{name} [{row['series']}]" if row["series"] else name


def compute_words(results: Results) -> list[str]:
    """How fast errors fall, then a paragraph per task on who overtakes the ensemble; nothing without budgets."""
    found = scaling(results)
    if found.empty:
        return []
    return [_headline(results), *_tasks(results)]


def summary(results: Results) -> str:
    """For the answer: how often which outcome, and who always has the same one; empty where nothing is compared."""
    found = _compared(results)
    if found.empty:
        return ""
    told = found["outcome"].where(found["share"] >= SURE, "undecided")
    often = told.value_counts()
    labels = pd.Series([label(row) for row in found.to_dict("records")], told.index)
    alike = {name: set(own) for name, own in told.groupby(labels)}
    parts = []
    for name, says in _SUMS.items():
        always = [who for who, outcomes in alike.items() if outcomes == {name}]
        if name in often:
            parts.append(f"{says} in {often[name]}" + (f" (always: {listed(always)})" if always else ""))
    return (
        f"**Compute:** in {count(len(found), 'comparison')} with the {REFERENCE} at equal FLOP of training (tasks × "
        f"generators × horizons, the policy's actions), the other generator {', '.join(parts)}; no claim beyond the "
        "budgets that were run."
    )


def _headline(results: Results) -> str:
    found = scaling(results)
    own = found[(found["actions"] == "policy") & (found["horizon"] == _told(results))]
    own = (own if len(own) else found).sort_values("exponent")
    counts = sorted({len(each.cells) for each in series(results)})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    ends = [_exponent(results, row) for row in own.iloc[[-1, 0]].to_dict("records")]
    h = int(own["horizon"].iloc[0])
    falls = f"fastest with b = {ends[0]}, slowest with b = {ends[1]}" if len(own) > 1 else f"with b = {ends[0]}"
    return (
        f"**Errors at h = {h} fall as FLOP^−b, {falls}**, over {many} budgets from {as_flop(own['flop_from'].min())} "
        f"to {as_flop(own['flop_to'].max())} FLOP of training. Nothing is said of smaller or larger ones."
    )


def _told(results: Results) -> int:
    """The horizon of the headline: the middle one."""
    shown = horizons(results)
    return shown[len(shown) // 2]


def _exponent(results: Results, row: Mapping[Hashable, Any]) -> str:
    spread = "" if math.isnan(row["low"]) else f" [{as_exponent(row['low'])}, {as_exponent(row['high'])}]"
    place = place_name(results, row["task"], row["algorithm"])
    return f"{as_exponent(row['exponent'])}{spread} ({label(row)}, {place})"


def _compared(results: Results) -> pd.DataFrame:
    """Rows of `scaling` under the policy's actions that are held against the ensemble, with their outcome."""
    found = scaling(results)
    found = found.assign(outcome=[outcome(row) for row in found.to_dict("records")])
    return found[(found["outcome"] != "") & (found["actions"] == "policy")]


def _tasks(results: Results) -> list[str]:
    found = _compared(results)
    told = []
    for (task, algorithm), own in found.groupby(["task", "algorithm"], sort=False):
        parts = [f"at h = {h}, {_at(rows)}" for h, rows in own.groupby("horizon")]
        told.append(f"**{place_name(results, str(task), str(algorithm))}**, the policy's actions: {'; '.join(parts)}.")
    return told


def _at(rows: pd.DataFrame) -> str:
    """Such as: dydiff overtakes the ensemble from 3.1e14 FLOP on, gta stays above the ensemble (no crossing ...)."""
    sure = rows[rows["share"] >= SURE]
    parts = []
    for row in sure.sort_values("crossing").to_dict("records"):
        since = as_flop(row["crossing"])
        if row["outcome"] == "overtakes":
            parts.append(f"{label(row)} overtakes the {REFERENCE} from {since} FLOP on")
        elif row["outcome"] == "is overtaken":
            parts.append(f"the {REFERENCE} overtakes {label(row)} from {since} FLOP on")
    for name, side in _STAYS.items():
        those = [label(row) for row in sure[sure["outcome"] == name].to_dict("records")]
        if those:
            stay = f"{listed(those)} stay{'s' * (len(those) == 1)} {side} the {REFERENCE}"
            parts.append(f"{stay} (no crossing in range)")
    open_ = [label(row) for row in rows[~(rows["share"] >= SURE)].to_dict("records")]
    if open_:
        parts.append(f"{listed(open_)} {'is' if len(open_) == 1 else 'are'} not decided")
    return ", ".join(parts)
