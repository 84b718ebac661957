"""The answer: in words, in one table, and whether the comparisons judge generators at all."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.report.aggregates import mean_changes
from benchmarks.report.compute.words import summary
from benchmarks.report.prices import price_multiples
from benchmarks.report.regime import RULES, TITLE, advice, left_out, regimes
from benchmarks.report.results import CellView, Results, error_at_end, error_by_cell, once, titled
from benchmarks.report.score_rows import CONTROL, heading, no_score, notes, ranked, task_name
from benchmarks.report.scores import FEW_SEEDS, rule
from benchmarks.report.section import Section
from benchmarks.report.signatures import signs
from benchmarks.report.tables.table import (
    Entry,
    Table,
    as_interval,
    as_number,
    filled,
    labels,
    values,
    without_constant,
)
from benchmarks.report.verdict import RULE, WORDS, compares_scores, verdicts
from benchmarks.report.words.headline import headline
from benchmarks.report.words.limits import limits
from benchmarks.report.words.reasons import price, why
from benchmarks.report.words.sureness import by_task, sureness

__all__ = ["SECTION", "answer", "answer_table", "regime_frame", "regime_table", "words"]

_FEW_TASKS = 4  # whose changes have a column each
_REASONS = ("error at the last step", "off the policy", "price", "signs of failure")
_ROUNDING = 1e-6  # of actions in float32: nearer is the policy's own action
_FROM_TO = "{0:{spec}} to {1:{spec}}"


def words(results: Results) -> list[str]:
    """The headline, then what each task says, how sure that is, why, what compute buys, the price, and the limits."""
    parts = (headline, by_task, sureness, why, summary, price, limits)
    return [text for text in (part(results) for part in parts) if text]


@once
def answer(results: Results) -> pd.DataFrame:
    """answer.csv: one row per cell but generator none, with the numbers of the table.

    change, low, high, seeds, p_holm, verdict: of `improvements.csv`. error: median open-loop error at the last step of
    the cell's rollouts, steps: which that is. distance: of generated actions to the policy's. price: seconds of a run
    over those of generator none. signs: of failure.
    """
    found = verdicts(results)
    errors = error_by_cell(results)
    steps = error_at_end(results).groupby("cell_id")["horizon"].max()
    distance = results.last("consistency/distance").groupby("cell_id")["value"].mean()
    prices = price_multiples(results)
    shown = signs(results)
    rows = {}
    for cell in results.cells:
        if cell.generator != "none":
            own = found.reindex([cell.cell_id]).iloc[0]
            rows[cell.cell_id] = {
                **cell.labels,
                **{name: own[column] for name, column in _CHANGE.items()},
                "error": errors.get(cell.cell_id, math.nan),
                "steps": float(steps.get(cell.cell_id, math.nan)),
                "distance": distance.get(cell.cell_id, math.nan),
                "price": prices.get(cell.cell_id, math.nan),
                "signs": ", ".join(sign.name for sign, _ in shown[cell.cell_id]),
            }
    columns = ["task", "generator", "algorithm", "variant", *_CHANGE, "error", "steps", "distance", "price", "signs"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


_CHANGE = {"change": "mean", "low": "low", "high": "high", "seeds": "n", "p_holm": "p_holm", "verdict": "verdict"}


def answer_table(results: Results) -> Table:
    """Rows: methods x variants x algorithms, the highest change first, then controls; columns: what the title asks.

    Without controls of regimes that do not count: what they say stands in `regime_table`.
    """
    void = left_out(results)
    shown = [cell for cell in results.cells if ranked(cell.generator) or cell.cell_id not in void]
    groups: dict[tuple[str, str, str], dict[str, CellView]] = {}
    for cell in shown:
        if cell.generator != "none":
            groups.setdefault((cell.generator, cell.variant, cell.algorithm), {})[cell.task] = cell
    tasks = list(dict.fromkeys(task for own in groups.values() for task in own) or dict.fromkeys(x.task for x in shown))
    order = sorted(groups, key=lambda key: (not ranked(key[0]), _rank(results, groups[key])))
    rows = [_row(results, key, groups[key], tasks) for key in order]
    compared = compares_scores(results)
    head = ["generator", "variant", "algorithm", *(_change_heads(results, tasks) if compared else []), *_REASONS]
    if not any(row[-1].text for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    title = "Generators against real data only" if compared else "Generators, by their rollouts"
    return Table("answer", title, _caption(results), head, rows, data="answer")


def _rank(results: Results, own: Mapping[str, CellView]) -> tuple[bool, float]:
    """Of a row: the highest mean change first or, where no scores are compared, the least error after all steps."""
    found = answer(results).loc[[cell.cell_id for cell in own.values()]]
    if compares_scores(results):
        single, place = False, -found["change"].mean()
    else:
        single, place = bool((found["steps"] == 1).any()), found["error"].mean()
    return single, math.inf if math.isnan(place) else float(place)


def _change_heads(results: Results, tasks: Sequence[str]) -> list[str]:
    if len(tasks) > _FEW_TASKS:
        return ["change, mean over tasks", "verdict"]
    if len({cell.task for cell in results.cells}) == 1:
        return [f"change{heading(results, tasks[0], '').partition(' (return)')[1]}", "verdict"]
    algorithm = results.cells[0].algorithm if results.cells else ""
    names = [heading(results, task, algorithm).partition(" · ")[0] for task in tasks]
    return [*(f"change, {name}" for name in names), "verdict"]


def _row(results: Results, key: tuple[str, str, str], own: Mapping[str, CellView], tasks: Sequence[str]) -> list[Entry]:
    generator, variant, algorithm = key
    name = f"{generator} (control)" if generator == CONTROL else titled(generator)
    found = answer(results).loc[[cell.cell_id for cell in own.values()]]
    first = next(iter(own.values())).cell_id if len(own) == 1 else None
    one_step = " (1 step)" if (found["steps"] == 1).any() else ""
    entries = [Entry(name, value=generator), Entry(variant), Entry(algorithm)]
    if compares_scores(results):
        entries += [*_changes(results, key, own, tasks), _verdict(results, generator, found)]
    names = dict.fromkeys(name for told in found["signs"] for name in told.split(", ") if name)
    return [
        *entries,
        _range(found["error"], one_step, first),
        _range(found["distance"].where(found["distance"] > _ROUNDING, 0.0 * found["distance"]), "", first),
        _range(found["price"], "×", first),
        Entry(", ".join(names)),
    ]


def _changes(
    results: Results, key: tuple[str, str, str], own: Mapping[str, CellView], tasks: Sequence[str]
) -> list[Entry]:
    """Per task, or the mean over them where there are many."""
    if len(tasks) > _FEW_TASKS:
        generator, variant, algorithm = key
        seeds, mean, low, high = mean_changes(results).get((generator, algorithm, variant), (0, *[math.nan] * 3))
        return [as_interval(low, high, mean, True, mark="†" if 0 < seeds < FEW_SEEDS else "")]
    found = answer(results)
    entries = []
    for task in tasks:
        if task not in own:
            entries.append(Entry("", value=-math.inf))
            continue
        cell = own[task]
        change, low, high, seeds = values(found.loc[cell.cell_id, ["change", "low", "high", "seeds"]])
        few = "†" if seeds < FEW_SEEDS else ""
        entry = as_interval(low, high, change, True, mark=few, cell_id=cell.cell_id)
        entries.append(no_score(cell) if math.isnan(change) else entry)
    return entries


def _verdict(results: Results, generator: str, found: pd.DataFrame) -> Entry:
    """The word where all tasks have the same; where they differ, the tasks or, of many, how many have which."""
    known = found.dropna(subset="verdict")
    groups: dict[str, list[str]] = {}
    for verdict, task in zip(known["verdict"], known["task"], strict=True):
        groups.setdefault(verdict, []).append(task)
    bold = ranked(generator) and "helps" in groups
    if len(groups) == 1:
        return Entry(WORDS[next(iter(groups))], bold)
    if len(known) <= _FEW_TASKS:
        told = [f"{WORDS[verdict]}: {', '.join(task_name(results, x) for x in own)}" for verdict, own in groups.items()]
    else:
        told = [f"{WORDS[verdict]}: {len(own)} of {len(known)}" for verdict, own in groups.items()]
    return Entry("; ".join(told) or "—", bold)


def _range(column: pd.Series, mark: str, cell_id: str | None) -> Entry:
    """A number, or the least and the largest over tasks."""
    known = column.dropna()
    low, high = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
    if low == high or math.isnan(low):
        return as_interval(math.nan, math.nan, low, mark=mark, cell_id=cell_id)
    return filled(Entry("", value=low, cell_id=cell_id, numbers=(low, high), form=_FROM_TO, mark=mark), "z.3f")


def _caption(results: Results) -> str:
    changes = (
        "Change: score minus that of generator none, paired by seed, with its 95 % Student-t interval. "
        f"{rule(results)} {RULE} Sorted by change; controls and the ceiling stand last and are not ranked. "
        f"{'Controls of settings that may not judge generators stand below. ' if left_out(results) else ''}"
    )
    few = (verdicts(results)["n"] < FEW_SEEDS).any()
    return (
        f"{changes if compares_scores(results) else ''}Error: open-loop, at the last step of the generator's own "
        "rollouts (median over rollouts and seeds). Off the policy: root mean square distance of generated actions to "
        "the learning policy's. Price: seconds of updates, generation and fits of a run, in runs of none. Signs of "
        "failure: see Diagnostics. Of several tasks from the least to the largest. "
        f"{f'† fewer than {FEW_SEEDS} seeds: an indication only. ' if few else ''}{notes(results)}"
    ).strip()


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
    head = ["task", "algorithm", "variant", "these comparisons", "behaviour", "none"]
    rows = []
    for regime in regimes(results):
        task, algorithm, _ = labels(results, regime.none)
        scores = [as_number(regime.behaviour), as_number(regime.score)]
        told = [Entry(x.text, value=x.mean, cell_id=x.cell_id) for x in regime.conditions]
        verdict = Entry(_JUDGES[regime.verdict], bold=regime.verdict == "holds")
        change = Entry(" ".join(advice(regime)))
        rows.append([task, algorithm, Entry(regime.variant), verdict, *scores, *told, change])
    differences = ["none − behaviour", "duplicate − none", "simulator − none"]
    columns = [*head, *differences, "what to change"]
    return without_constant(Table("regime", TITLE, RULES, columns, rows, data="regime"), "variant")


SECTION = Section(
    "answer",
    "Answer",
    "answer",
    frames={"answer": answer, "regime": regime_frame},
    tables=[answer_table, regime_table],
    words=words,
)
