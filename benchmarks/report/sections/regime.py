"""Whether the comparisons of this folder may judge generators: real data alone, copies of it, perfect rollouts."""

import pandas as pd

from benchmarks.report.regime import RULES, TITLE, advice, regimes
from benchmarks.report.results import Results
from benchmarks.report.score_rows import notes
from benchmarks.report.scores import RULE
from benchmarks.report.section import Section
from benchmarks.report.tables.table import Entry, Table, as_number, labels, without_constant

__all__ = ["SECTION", "regime_frame", "regime_table"]

_JUDGES = {"holds": "may judge generators", "fails": "may not judge generators", "not shown": "not shown"}


def regime_frame(results: Results) -> pd.DataFrame:
    """regime.csv: one row per task, algorithm and variant that has generator `none`.

    behaviour, none: scores in `unit`. learns: none - behaviour, control: duplicate - none, ceiling: simulator - none,
    each with seeds, mean and interval. room: within which the control must lie.
    """
    rows = []
    for regime in regimes(results):
        row = {
            "task": regime.none.task,
            "algorithm": regime.none.algorithm,
            "variant": regime.variant,
            "unit": regime.unit,
            "behaviour": regime.behaviour,
            "none": regime.score,
            "room": regime.room,
            "verdict": regime.verdict,
        }
        for name, condition in zip(_CONDITIONS, regime.conditions, strict=True):
            row[name] = condition.verdict
            row |= {f"{name}_{number}": getattr(condition, number) for number in _NUMBERS}
        rows.append(row)
    columns = [column for name in _CONDITIONS for column in (name, *(f"{name}_{number}" for number in _NUMBERS))]
    head = ["task", "algorithm", "variant", "unit", "behaviour", "none", "room", "verdict"]
    return pd.DataFrame(rows, columns=[*head, *columns])


_CONDITIONS = ("learns", "control", "ceiling")
_NUMBERS = ("n", "mean", "low", "high")


def regime_table(results: Results) -> Table:
    """One row per regime: scores, conditions, whether its comparisons may judge generators, and what to change."""
    head = ["task", "algorithm", "variant", "behaviour", "none"]
    rows = []
    for regime in regimes(results):
        task, algorithm, _ = labels(results, regime.none)
        scores = [as_number(regime.behaviour), as_number(regime.score)]
        told = [Entry(x.text, value=x.mean, cell_id=x.cell_id) for x in regime.conditions]
        verdict = Entry(_JUDGES[regime.verdict], bold=regime.verdict == "holds")
        rows.append([task, algorithm, Entry(regime.variant), *scores, *told, verdict, Entry(" ".join(advice(regime)))])
    differences = ["none − behaviour", "duplicate − none", "simulator − none"]
    caption = f"{RULES} {RULE} {notes(results)}".strip()
    table = Table("regime", TITLE, caption, [*head, *differences, "these comparisons", "what to change"], rows)
    return without_constant(table, "variant")


SECTION = Section("regime", TITLE, "answer", frames={"regime": regime_frame}, tables=[regime_table])
