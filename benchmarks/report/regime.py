"""May the comparisons of a folder judge generators? Three conditions on the controls, with verdicts and words.

A regime is a task with its rows, an algorithm, a coupling and a budget: what the cells of equal settings share. It may
judge generators if real data alone learn something, if copies of real rows change nothing, and if perfect rollouts
help. Where perfect rollouts do not help, no generator's can be told from another's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pandas as pd

from benchmarks.report.results import CEILING, CellView, Results, once
from benchmarks.report.scores import FEW_SEEDS, behaviours, comparisons, estimates, finals, partners
from benchmarks.report.tables.table import as_interval, values

__all__ = [
    "MARGIN",
    "RULES",
    "TITLE",
    "Condition",
    "Regime",
    "advice",
    "counted",
    "describe",
    "judged",
    "left_out",
    "regimes",
    "terminal",
    "void",
]

TITLE = "Do these comparisons judge generators?"
MARGIN = 2.0  # points within which two scores count as equal
_RETURNS = 0.02  # the same as a share of generator none's return, where there are no points
RULES = (
    "Comparisons judge generators if all three hold. none − behaviour, real data alone learn more than the mean "
    "episode of the data: holds if the interval lies above 0, fails if it lies below. duplicate − none, copies of real "
    f"rows change nothing: holds if the interval lies within {MARGIN:g} points ({_RETURNS:.0%} of none's return where "
    "there are no points), or holds 0 and lies within the room, simulator − none where that holds; else fails if "
    "the interval leaves out 0. simulator − none, perfect rollouts help: holds if the interval lies above 0, fails if "
    f"it lies below, or within {MARGIN:g} points ({_RETURNS:.0%}) of 0. Brackets: 95 % Student-t interval over seeds, "
    f"the last two paired by seed; the data's mean is taken as exact. Fewer than {FEW_SEEDS} seeds (†) or another "
    "interval: not shown. Not known: the runs do not tell the data's mean. No correction for the number of rows."
)


@dataclass(frozen=True)
class Condition:
    """A difference of scores with its interval, and what it says."""

    what: str
    verdict: str  # holds, fails, not shown, not run, not known
    n: int  # seeds
    mean: float
    low: float
    high: float
    cell_id: str | None  # where the number comes from

    @property
    def text(self) -> str:
        """Difference, interval, seeds and verdict."""
        if math.isnan(self.mean):
            return self.verdict
        few = "†" if self.n < FEW_SEEDS else ""
        return f"{self.difference} (n={self.n}){few}: {self.verdict}"

    @property
    def difference(self) -> str:
        """With its interval."""
        return as_interval(self.low, self.high, self.mean, True).text


@dataclass(frozen=True)
class Regime:
    """What the controls of one task, algorithm and setting say; `variant` names the setting."""

    none: CellView
    variant: str
    unit: str  # score or return
    behaviour: float  # NaN: not known
    score: float  # of generator none; NaN: not run
    room: float  # the interval of a control that changes nothing lies within this
    learns: Condition  # none - behaviour
    control: Condition  # duplicate - none
    ceiling: Condition  # simulator - none

    @property
    def conditions(self) -> tuple[Condition, Condition, Condition]:
        """In the order in which they are told."""
        return self.learns, self.control, self.ceiling

    @property
    def name(self) -> str:
        """Task, algorithm and variant, as messages show them."""
        variant = "" if self.variant == "default" else f" [{self.variant}]"
        return f"{self.none.task} / {self.none.algorithm}{variant}"

    @property
    def verdict(self) -> str:
        """holds, fails or not shown: the weakest of the conditions."""
        found = {condition.verdict for condition in self.conditions}
        return "fails" if "fails" in found else "holds" if found == {"holds"} else "not shown"


@once
def regimes(results: Results) -> list[Regime]:
    """One per cell of generator `none` and pair of controls with its settings; in the order of tables."""
    scores = estimates(finals(results))
    controls: dict[tuple[str, str], list[CellView | None]] = {}
    partner = partners(results)
    for cell in results.cells:
        if cell.cell_id in partner:
            controls.setdefault((partner[cell.cell_id], cell.generator), []).append(cell)
    return [
        _regime(results, scores, none, duplicate, simulator)
        for none in results.cells
        if none.generator == "none" and none.mixes  # else nothing is compared
        for duplicate, simulator in product(
            *(controls.get((none.cell_id, name), [None]) for name in ("duplicate", CEILING))
        )
    ]


def _regime(
    results: Results, scores: pd.DataFrame, none: CellView, duplicate: CellView | None, simulator: CellView | None
) -> Regime:
    gains = comparisons(results)
    behaviour = behaviours(results).get(none.cell_id, math.nan)
    score = float(scores["mean"].get(none.cell_id, math.nan))
    unit = "return" if none.task in results.unscored_tasks else "score"
    equal = MARGIN if unit == "score" else _RETURNS * abs(score)
    learns = _condition("none − behaviour", none, scores, less=behaviour)
    ceiling = _condition(f"{CEILING} − none", simulator, gains, equal=equal)
    room = max(equal, ceiling.mean) if ceiling.verdict == "holds" else equal
    control = _condition("duplicate − none", duplicate, gains, equal=equal, room=room)
    variants = [cell.variant for cell in (none, duplicate, simulator) if cell is not None and cell.variant != "default"]
    variant = ", ".join(dict.fromkeys(variants)) or "default"
    return Regime(none, variant, unit, behaviour, score, room, learns, control, ceiling)


def _condition(
    what: str, cell: CellView | None, frame: pd.DataFrame, *, less: float = 0.0, equal: float = 0.0, room: float = 0.0
) -> Condition:
    """On a row of `estimates` or `comparisons`, less a number; with `room`, that it is 0, else that it is above 0."""
    n, mean, low, high = 0.0, math.nan, math.nan, math.nan
    if cell is not None and cell.cell_id in frame.index:
        n, mean, low, high = values(frame.loc[cell.cell_id, ["n", "mean", "low", "high"]])
    if not n:
        verdict = "not run"
    elif math.isnan(less):
        verdict = "not known"
    else:
        verdict = _verdict(int(n), low - less, high - less, equal, room)
    return Condition(what, verdict, int(n), mean - less, low - less, high - less, cell.cell_id if cell else None)


def _verdict(n: int, low: float, high: float, equal: float, room: float) -> str:
    """See RULES."""
    if n < FEW_SEEDS:
        return "not shown"
    within = -equal < low and high < equal
    if not room:
        return "holds" if low > 0 else "fails" if high < 0 or within else "not shown"
    if within or -room < low <= 0 <= high < room:
        return "holds"
    return "fails" if high < 0 or low > 0 else "not shown"


def describe(regime: Regime) -> str:
    """In one sentence, whether its comparisons may judge generators, and the three conditions."""
    says = {
        "holds": "may judge generators",
        "fails": "may not judge generators",
        "not shown": "are not shown to judge generators",
    }[regime.verdict]
    told = "; ".join(f"{condition.what} {condition.text}" for condition in regime.conditions)
    return f"{regime.name}: these comparisons {says} ({told})."


def advice(regime: Regime) -> list[str]:
    """At most two sentences: what to change, the most pressing first; none where all conditions hold."""
    return list(_advice(regime))[:2]


def _advice(regime: Regime) -> Iterator[str]:
    learns, control, ceiling = regime.conditions
    if control.verdict == "fails":
        yield (
            "Copies of real rows change the score: look at rows and coupling first (does duplicate copy all rows? "
            "regularise, real_fraction)."
        )
    if learns.verdict == "fails":
        yield (
            "Real data alone do worse than the data: more updates, a larger alpha of the algorithm or another budget."
        )
    if ceiling.verdict == "fails" and ceiling.high < 0:
        yield (
            "Perfect rollouts do harm: another coupling (regularise = real_only, a fresher buffer by buffer_refreshes "
            "= 1, a larger real_fraction)."
        )
    elif ceiling.verdict == "fails":
        yield (
            "Perfect rollouts add nothing: fewer rows (train_rows) make room; if that does not help, another coupling "
            "(regularise = real_only, a fresher buffer)."
        )
    absent = [x.what.partition(" ")[0] for x in regime.conditions if x.verdict == "not run"]
    if absent:
        yield f"Run generator{'s' * (len(absent) > 1)} {' and '.join(absent)} with these settings, too."
    unsure = [condition for condition in regime.conditions if condition.verdict == "not shown"]
    if any(condition.n < FEW_SEEDS for condition in unsure):
        yield f"Fewer than {FEW_SEEDS} seeds show nothing: run more."
    elif unsure:
        yield f"Too noisy to tell {', '.join(x.what for x in unsure)}: more seeds, more episodes an evaluation."
    if learns.verdict == "not known":
        yield "The data's own score is not known here: whether real data alone learn anything is left open."


def terminal(results: Results) -> str:
    """A line for every regime, and what to change below it; what all lack is said once."""
    found = regimes(results)
    if found and all(regime.ceiling.cell_id is None and regime.verdict != "fails" for regime in found):
        return f"{TITLE} Not shown: run generator {CEILING}, too, to see whether perfect rollouts help.\n"
    lines = [TITLE] if found else []
    for regime in found:
        lines += [f"  {describe(regime)}", *(f"      {sentence}" for sentence in advice(regime))]
    return "\n".join([*lines, ""])


def counted(results: Results) -> list[Regime]:
    """One per cell of generator none: a setting with several controls counts if it holds with any of them."""
    best: dict[str, Regime] = {}
    for regime in sorted(regimes(results), key=lambda x: ("holds", "not shown", "fails").index(x.verdict)):
        best.setdefault(regime.none.cell_id, regime)
    return list(best.values())


@once
def judged(results: Results) -> dict[str, str]:
    """By cell, the verdict on the regime it is compared in: holds, fails or not shown; without cells of none."""
    found = {regime.none.cell_id: regime.verdict for regime in counted(results)}
    return {cell_id: found[none] for cell_id, none in partners(results).items() if none in found}


@once
def left_out(results: Results) -> frozenset[str]:
    """Cells that verdicts leave out: those in regimes that do not hold, in a folder where another one does."""
    found = judged(results)
    another = "holds" in found.values()
    return frozenset(key for key, verdict in found.items() if another and verdict != "holds")


def void(results: Results) -> str:
    """For captions of comparisons: the regimes that they do not count in; empty where all hold."""
    found = counted(results)
    parts = []
    for verdict in ("fails", "not shown"):
        names = [regime.name for regime in found if regime.verdict == verdict]
        if names:
            listed = "all of them" if len(names) == len(found) > 1 else ", ".join(names)
            parts.append(f"Regime {verdict}, comparisons of generators are void: {listed}.")
    return " ".join([*parts, f"See {TITLE!r}."]) if parts else ""
