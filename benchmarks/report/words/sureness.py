"""How far the verdicts reach: what each task says, how many seeds would decide, what the controls show."""

import math

from benchmarks.report.aggregates import mean_changes
from benchmarks.report.regime import Regime, counted, left_out
from benchmarks.report.results import Results
from benchmarks.report.score_rows import ranked
from benchmarks.report.tables.settle import decimals
from benchmarks.report.tables.table import as_interval, filled
from benchmarks.report.verdict import MARGIN, compares_scores, verdicts
from benchmarks.report.words.headline import in_parts, sentences
from benchmarks.report.words.phrases import change, compared, joined, method_name, place_name

__all__ = ["by_task", "sureness"]

_MOST = 6  # tasks that have a sentence each


def by_task(results: Results) -> str:
    """What each task and algorithm says, and the changes over all, where the headline only sums up; else empty.

    Where nothing is decided, the headline has said so.
    """
    found = compared(results)
    if not in_parts(found):
        return ""
    groups = list(found.groupby(["task", "algorithm"], sort=False))
    decided = [group for group in groups if (group[1]["verdict"] != "undecided").any()]
    shown = groups if decided and len(groups) <= _MOST else decided
    told = [
        f"**{place_name(results, str(task), str(algorithm))}:** {' '.join(sentences(results, own))}"
        for (task, algorithm), own in shown
    ]
    if shown and len(shown) < len(groups):
        told.append(f"On the other {len(groups) - len(shown)} no generator can be told apart from real data only.")
    return " ".join([*told, *_over_all(results)])


def _over_all(results: Results) -> list[str]:
    """The lowest and the highest mean change over all tasks, of every algorithm."""
    changes = mean_changes(results)
    told = []
    for algorithm in dict.fromkeys(key[1] for key in changes):
        own = {key: row for key, row in changes.items() if key[1] == algorithm and ranked(key[0])}
        if len(own) > 1:
            spec = decimals([max(map(abs, row[1:])) for row in changes.values()])
            ordered = sorted(own, key=lambda key: own[key][1])
            ends = ordered[0], ordered[-1]
            names = [method_name(results, key[0], key[2]) for key in ends]
            texts = [filled(as_interval(own[key][2], own[key][3], own[key][1], True), spec).text for key in ends]
            with_algorithm = f" with {algorithm}" if len({cell.algorithm for cell in results.cells}) > 1 else ""
            told.append(
                f"The mean change over all tasks{with_algorithm} lies between {texts[0]} ({names[0]}) and {texts[1]} "
                f"({names[1]})."
            )
    return told


def sureness(results: Results) -> str:
    """Between what the changes lie, how many seeds would show a difference of 5 points, what the controls say."""
    if not compares_scores(results) or not any(cell.done for cell in results.cells):
        return ""
    methods = any(ranked(cell.generator) for cell in results.cells)
    parts = (_range, _seeds_needed, _no_points, *([_controls] if methods else []))
    return " ".join(text for text in (part(results) for part in parts) if text)


def _range(results: Results) -> str:
    """The lowest and the highest change, of one task and algorithm."""
    found = compared(results)
    if len(found) < 2 or len(found.groupby(["task", "algorithm"])) > 1:
        return ""
    ordered = found.sort_values("mean").to_dict("records")
    unit = "points" if ordered[0]["unit"] == "score" else "units of return"
    ends = [
        f"{change(results, row)} ({method_name(results, row['generator'], row['variant'])})"
        for row in (ordered[0], ordered[-1])
    ]
    everything = verdicts(results)
    tested = int(everything.loc[~everything.index.isin(left_out(results)), "p_holm"].notna().sum())
    corrected = f"; verdicts are corrected for {tested} comparisons, intervals are not" if tested > 1 else ""
    return f"Changes in {unit} lie between {' and '.join(ends)}{corrected}."


def _seeds_needed(results: Results) -> str:
    found = compared(results)
    needed = found.loc[found["verdict"] == "undecided", "seeds_needed"].dropna()
    if needed.empty:
        return ""
    worst = f"; worst comparison {needed.max():,.0f}" if len(needed) > 1 else ""
    seeds = f"About {math.ceil(needed.median()):,} seeds (median{worst})"
    return f"{seeds} would show a difference of {MARGIN:g} points with power 80 %, before correction."


def _no_points(results: Results) -> str:
    tasks = [task for task in dict.fromkeys(cell.task for cell in results.cells) if task in results.unscored_tasks]
    if not tasks:
        return ""
    has = "has" if len(tasks) == 1 else "have"
    return f"{joined(tasks)} {has} no reference scores: returns are compared, in no points, and not for equivalence."


def _controls(results: Results) -> str:
    """What the controls show or leave open; those that fail are in the headline."""
    found = counted(results)
    held = [regime for regime in found if regime.verdict == "holds"]
    unsure = [regime for regime in found if regime.verdict == "not shown"]
    if found and len(held) == len(found):
        told = "The controls hold, so the comparisons may judge generators"
        ceiling = f": perfect rollouts change the score by {held[0].ceiling.difference}" if len(found) == 1 else ""
        return f"{told}{ceiling}."
    if not unsure:
        return ""
    if len(found) == 1:
        return f"The controls do not show that these comparisons judge generators: {joined(_open(unsure[0]))}."
    where = "all" if len(unsure) == len(found) else f"{len(unsure)} of"
    return f"In {where} {len(found)} settings the controls do not show that the comparisons judge generators."


def _open(regime: Regime) -> list[str]:
    """The conditions that do not hold, shortly."""
    parts = {condition.what: condition.verdict for condition in regime.conditions if condition.verdict != "holds"}
    return [f"{what} {verdict}" for what, verdict in parts.items()]
