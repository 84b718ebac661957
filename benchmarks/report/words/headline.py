"""The first paragraph: what is missing, which controls fail, and what the comparisons say."""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.report.regime import Regime, counted, left_out
from benchmarks.report.results import CEILING, Results
from benchmarks.report.score_rows import CONTROL, ranked
from benchmarks.report.scores import FEW_SEEDS
from benchmarks.report.verdict import MARGIN, compares_scores
from benchmarks.report.words.phrases import change, compared, count, joined, method_name, place_name

__all__ = ["failures", "headline", "in_parts", "sentences"]

REAL_ONLY = (
    "Every batch is real (real_fraction = 1), so all cells train the same policies and no scores are compared; what "
    "follows compares the rollouts."
)
_APART = "told apart from real data only"
_WITHIN = f"equivalent to real data only within {MARGIN:g} points"
_SAYS = {  # of one, of several
    "helps": ("helps", "help"),
    "hurts": ("hurts", "hurt"),
    "equivalent": (f"is {_WITHIN}", f"are {_WITHIN}"),
    "undecided": (f"cannot be {_APART}", f"cannot be {_APART}"),
}
_MOST = 3  # changes that are named in a sentence


def headline(results: Results) -> str:
    """In bold the answer; before it what has not finished, and the controls that fail."""
    failing = "" if _only_real(results) else failures(results)
    parts = (_unfinished(results), failing, f"**{_answer(results)}**", _left_out(results))
    return " ".join(part for part in parts if part)


def _left_out(results: Results) -> str:
    """How many comparisons of methods are in no verdict."""
    out = left_out(results)
    lost = sum(cell.cell_id in out and ranked(cell.generator) for cell in results.cells if cell.done)
    if not lost or not compares_scores(results):
        return ""
    return f"Not counted: {count(lost, 'comparison')} in settings whose controls do not hold."


def _only_real(results: Results) -> bool:
    return all(cell.generator == "none" for cell in results.cells)


def _answer(results: Results) -> str:
    if not any(cell.done for cell in results.cells):
        return "No cell has finished yet."
    if not compares_scores(results):
        return REAL_ONLY
    if not any(cell.generator == "none" for cell in results.cells):
        return "Generator none was not run: nothing says whether any generator helps."
    if not any(ranked(cell.generator) for cell in results.cells):
        return _without_methods(results)
    found = compared(results)
    if found.empty:
        return "No generator has a score that can be compared with real data only."
    few = f"Indication only, {_seeds(found)}: " if (found["n"] < FEW_SEEDS).all() else ""
    if in_parts(found):
        several_places = len(found.groupby(["task", "algorithm"])) > 1
        told = _sentence(results, found, "comparisons", with_place=several_places)
    else:
        told = " ".join(sentences(results, found))
    return f"{few}{told[0].lower()}{told[1:]}" if few and told.startswith(("No ", "Of ")) else f"{few}{told}"


def _without_methods(results: Results) -> str:
    """Of real data alone, or of the controls: in how many settings which of the regime's conditions holds."""
    found = counted(results)
    settings = f"Of {count(len(found), 'setting')}"
    if _only_real(results):
        told = Counter(regime.learns.verdict for regime in found)
        above, below = told["holds"], told["fails"]
        says = f"real data only score above the data's own episodes in {above} and below them in {below}"
        return f"No generator was run. {settings} {says}{_open(found, above, below)}"
    told = Counter(regime.verdict for regime in found)
    may, may_not = told["holds"], told["fails"]
    says = f"{may} may judge generators and {may_not} may not"
    return f"Only controls were run. {settings} {says}{_open(found, may, may_not)}"


def _open(found: Sequence[Regime], holds: int, fails: int) -> str:
    left = len(found) - holds - fails
    return f"; {left} {'is' if left == 1 else 'are'} not shown." if left else "."


def in_parts(found: pd.DataFrame) -> bool:
    """Whether one sentence sums up several tasks, or variants of several methods, which have sentences of their own."""
    varied = found.groupby(["task", "algorithm", "generator"])["variant"].size() > 1
    return len(found.groupby(["task", "algorithm"])) > 1 or int(varied.sum()) > 1


def _seeds(found: pd.DataFrame) -> str:
    low, high = int(found["n"].min()), int(found["n"].max())
    return count(low, "seed") if low == high else f"{low} to {high} seeds"


def sentences(results: Results, found: pd.DataFrame) -> list[str]:
    """What the comparisons of one task and algorithm say: of the methods, then of each that has several variants."""
    several = found.groupby("generator")["variant"].transform("size") > 1
    told = [] if several.all() else [_sentence(results, found[~several], "generators")]
    ablated = [own for _, own in found[several].groupby("generator", sort=False)]
    return [*told, *(_ablated(results, own, _MOST if len(ablated) == 1 else 1) for own in ablated)]


def _sentence(results: Results, found: pd.DataFrame, noun: str, *, with_place: bool = False) -> str:
    """Such as: No generator helps: a (−3 [−4, −2]) hurts; the other 5 cannot be told apart from real data only."""
    groups = {verdict: found[found["verdict"] == verdict] for verdict in _SAYS}
    if len(groups["undecided"]) == len(found):
        return f"No generator can be {_APART}."
    clauses = []
    for verdict, own in groups.items():
        if own.empty:
            continue
        verb = _SAYS[verdict][len(own) > 1]
        named = [f"{_name(results, row, with_place)} ({change(results, row)})" for row in _strongest(own)]
        if verdict == "undecided":
            clauses.append(f"{_rest(results, own, with_place)} {verb}")
        elif len(own) > _MOST:
            most = f", most {named[0]}" if verdict != "equivalent" else ""
            clauses.append(f"{len(own)} of {len(found)} {noun} {verb}{most}")
        else:
            clauses.append(f"{joined(named)} {verb}")
    return f"{'No generator helps: ' * groups['helps'].empty}{'; '.join(clauses)}."


def _rest(results: Results, own: pd.DataFrame, with_place: bool) -> str:
    """Those that nothing can be said about."""
    few = [_name(results, row, with_place) for row in _strongest(own)] if len(own) < 3 else []
    return joined(few) if few else f"the other {len(own)}"


def _name(results: Results, row: Mapping[Hashable, Any], with_place: bool) -> str:
    name = method_name(results, row["generator"], row["variant"])
    return f"{name} on {place_name(results, row['task'], row['algorithm'])}" if with_place else name


def _strongest(own: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Rows with the largest changes first."""
    return own.loc[own["mean"].abs().sort_values(ascending=False).index].to_dict("records")


def _ablated(results: Results, own: pd.DataFrame, most: int) -> str:
    """Such as: Of 5 values of iterations of dydiff none helps: 2 hurt (iterations=1: −3 [−4, −2]), 3 cannot be ..."""
    head = f"Of {len(own)} {_varied(own['variant'].tolist())} of {own['generator'].iloc[0]}"
    groups = {verdict: own[own["verdict"] == verdict] for verdict in _SAYS}
    if len(groups["undecided"]) == len(own):
        return f"{head} none can be {_APART}."
    clauses = []
    for verdict, some in groups.items():
        if some.empty:
            continue
        clause = f"{len(some)} {_SAYS[verdict][len(some) > 1]}"
        if verdict in ("helps", "hurts"):
            named = [f"{row['variant']}: {change(results, row)}" for row in _strongest(some)[:most]]
            clause += f" ({'most ' if len(some) > most else ''}{'; '.join(named)})"
        clauses.append(clause)
    return f"{head} {'none helps: ' * groups['helps'].empty}{joined(clauses)}."


def _varied(variants: list[str]) -> str:
    """`values of iterations x filter.share` where all variants are named so, else `variants`."""
    fields = {tuple(re.findall(r"(?:^|, )([\w.]+)=", variant)) for variant in variants}
    (first, *others) = fields
    if others or not first or any(variant.count(", ") != len(first) - 1 for variant in variants):
        return "variants"
    return f"values of {' × '.join(first)}"


def _unfinished(results: Results) -> str:
    """How many seeds are missing, failed or diverged; empty where all is well."""
    missing, failed, diverged = (
        sum(len(getattr(cell, state)) for cell in results.cells) for state in ("missing", "failed", "diverged")
    )
    unknown = sum(cell.error is not None and not cell.failed for cell in results.cells)
    parts = [f"{missing} {'is' if missing == 1 else 'are'} missing"] if missing else []
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{diverged} diverged"] if diverged else []
    parts += [f"all of {count(unknown, 'cell')} failed"] if unknown else []
    if not parts:
        return ""
    seeds = sum(cell.seeds for cell in results.cells)
    lead = "**Unfinished:** of" if missing or failed or unknown else "Of"
    return f"{lead} {count(seeds, 'seed')} in {count(len(results.cells), 'cell')} {joined(parts)}."


def failures(results: Results) -> str:
    """Controls that fail, in plain words; empty where none does."""
    found = counted(results)
    failing = [regime for regime in found if regime.verdict == "fails"]
    if not failing:
        return ""
    if len(found) == 1:
        return f"**These comparisons may not judge generators: {joined(_reasons(failing[0]))}.**"
    several = len({(regime.none.task, regime.none.algorithm) for regime in found}) > 1
    told = []
    for regime in failing[:_MOST]:
        place = f"on {place_name(results, regime.none.task, regime.none.algorithm)} " * several
        setting = f"[{regime.variant}] " * (regime.variant != "default")
        told.append(f"{place}{setting}{joined(_reasons(regime))}")
    more = f"; and {len(failing) - _MOST} more" if len(failing) > _MOST else ""
    some = f"In {len(failing)} of {len(found)} settings the comparisons"
    lead = "These comparisons" if len(failing) == len(found) else some
    return f"**{lead} may not judge generators: {'; '.join(told)}{more}.**"


def _reasons(regime: Regime) -> list[str]:
    learns, control, ceiling = regime.conditions
    found = []
    if learns.verdict == "fails":
        found.append(f"real data only score less than the data's own episodes ({learns.difference})")
    if control.verdict == "fails":
        found.append(f"copies of real rows ({CONTROL}) change the score ({control.difference})")
    if ceiling.verdict == "fails":
        says = "hurt" if ceiling.high < 0 else "add nothing"
        found.append(f"perfect rollouts ({CEILING}) {says} ({ceiling.difference})")
    return found
