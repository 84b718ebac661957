"""Every generator beside real data only: what it changes, seed by seed, and what that says."""

import math
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.aggregates import compared_algorithms, complete, method
from benchmarks.report.figures.forest import forest, panels_of
from benchmarks.report.figures.palette import BASELINE
from benchmarks.report.figures.style import bars, bars_height, line_styles, panel_list, plain
from benchmarks.report.regime import left_out, void
from benchmarks.report.results import CellView, Results, titled
from benchmarks.report.score_rows import no_score, notes, ranked
from benchmarks.report.scores import FEW_SEEDS, paired, partners, rule
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number, labels
from benchmarks.report.verdict import MARGIN, RULE, WORDS, compares_scores, resolution, verdicts
from metrics.intervals import improvement_interval
from metrics.statistics import probability_of_improvement

__all__ = ["DETAILS", "SECTION", "change_table"]

_HEAD = [
    *("generator", "task", "algorithm", "variant", "change, 95 % interval", "seeds", "p after Holm", "wins", "verdict"),
    f"seeds for {MARGIN:g} points",
]
_WINS = (
    "Wins: share of the pairs of a run and one of generator none in which it scores more, ties count half; no test, "
    "and not corrected."
)


def change_table(results: Results) -> Table:
    """One row per cell with a partner of generator none: change, p, wins, verdict; the highest change first."""
    found = verdicts(results)
    partner = partners(results) if compares_scores(results) else {}
    cells = [cell for cell in results.cells if cell.cell_id in partner]
    places = {task: place for place, task in enumerate(dict.fromkeys(cell.task for cell in cells))}

    def order(cell: CellView) -> tuple[Any, ...]:
        mean = found["mean"].get(cell.cell_id, -math.inf)
        return places[cell.task], cell.algorithm, not ranked(cell.generator), -mean

    rows = [_change_row(results, cell, found) for cell in sorted(cells, key=order)]
    caption = (
        f"Change against real data only: score minus that of generator none with the same seed, algorithm and "
        f"settings. {rule(results)} {RULE} Brackets: 95 % Student-t interval over seeds, uncorrected. {_WINS} Bold: "
        f"helps. {resolution(found)} {_few(found)}{notes(results)} {void(results)}"
    ).strip()
    return Table("improvement", "Change against real data only", caption, _HEAD, rows, data="improvements")


def _change_row(results: Results, cell: CellView, found: pd.DataFrame) -> list[Entry]:
    task, algorithm, variant = labels(results, cell)
    names = [Entry(titled(cell.generator), value=cell.generator), task, algorithm, variant]
    if cell.cell_id not in found.index:
        return [*names, no_score(cell), *(Entry("—", value=-math.inf) for _ in _HEAD[5:])]
    own = found.loc[cell.cell_id].to_dict()
    few = "†" if own["n"] < FEW_SEEDS else ""
    change = as_interval(own["low"], own["high"], own["mean"], True, mark=few, cell_id=cell.cell_id)
    seeds = Entry(f"{own['n']}" if own["n"] == cell.seeds else f"{own['n']} of {cell.seeds}", value=float(own["n"]))
    p = as_number(own["p_holm"], "{:.3f}")
    p = Entry("< 0.001", value=p.value) if own["p_holm"] < 0.001 else p
    out = cell.cell_id in left_out(results) and ranked(cell.generator)
    helps = own["verdict"] == "helps" and ranked(cell.generator) and not out
    verdict = Entry(f"{WORDS[own['verdict']]}{' (not counted)' * out}", bold=helps)
    return [*names, change, seeds, p, as_number(100 * own["better"], "{:.0f} %"), verdict, _needed(own["seeds_needed"])]


def _needed(seeds: float) -> Entry:
    return as_number(seeds, "{:.0f}")


def _few(found: pd.DataFrame) -> str:
    return f"† fewer than {FEW_SEEDS} seeds: an indication only. " if (found["n"] < FEW_SEEDS).any() else ""


def _changes(results: Results, pairs: list[tuple[str, str]]) -> Figure:
    """Paired changes, the highest first; 0 is real data only."""
    gains = paired(results).set_index("cell_id")["gain"]
    figure, axes = forest(results, verdicts(results), gains, pairs, dict.fromkeys(pairs, 0.0))
    for ax, (task, _) in zip(axes, pairs, strict=True):
        ax.set_xlabel(f"change in {results.unit(task)}")
    return figure


def _changes_caption(results: Results) -> str:
    found = verdicts(results)
    seeds = sorted(set(found["n"].tolist()))
    told = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    hollow = f" Hollow: fewer than {FEW_SEEDS} seeds, an indication only." if seeds[0] < FEW_SEEDS else ""
    return (
        "Score minus that of real data only (generator none, the dashed line), paired by seed: mean and 95 % Student-t "
        f"interval over {told} seed{'s' * (seeds[-1] > 1)}, uncorrected; small points are the seeds.{hollow} What is "
        "below the grey line is no method to choose. Verdicts, corrected for the number of comparisons: table below."
    )


def _changes_alt(results: Results, pairs: list[tuple[str, str]]) -> str:
    found = verdicts(results)
    own = found[[pair in set(pairs) for pair in zip(found["task"], found["algorithm"], strict=True)]]
    own = own[own["generator"].map(ranked)] if own["generator"].map(ranked).any() else own
    ordered = own.sort_values("mean")
    worst, best = ordered.iloc[0], ordered.iloc[-1]
    counts = ", ".join(f"{(own['verdict'] == name).sum()} {WORDS[name]}" for name in own["verdict"].unique())
    return (
        f"Changes against real data only lie between {_signed(worst['mean'])} ({worst['generator']}) and "
        f"{_signed(best['mean'])} ({best['generator']}); verdicts of {len(own)} comparisons: {counts}."
    )


def _signed(value: float) -> str:
    return as_number(value, "{:+.1f}").text


def _wins(results: Results, algorithms: list[str]) -> Figure:
    """One panel per algorithm: how often a run beats a run on real data only."""
    styles = line_styles(results)
    rows = _win_rows(results, algorithms)
    figure, axes = panel_list(len(algorithms), 2, height=bars_height(styles))
    for ax, algorithm in zip(axes, algorithms, strict=True):
        bars(ax, styles, {key: row[:3] for key, row in rows[algorithm].items()})
        for patch, row in zip(
            ax.patches, [rows[algorithm][key] for key in styles if key in rows[algorithm]], strict=True
        ):
            if row[3] < FEW_SEEDS:
                patch.set(hatch="///", fill=False, linewidth=0.6)
        ax.axvline(50, color=BASELINE, linestyle="--", linewidth=1.2)
        ax.set(
            title=plain(algorithm, 48),
            xlim=(-3, 103),
            xticks=[0, 25, 50, 75, 100],
            xlabel="wins against real data only, %",
        )
    return figure


def _win_rows(results: Results, algorithms: list[str]) -> dict[str, dict[tuple[str, str], list[float]]]:
    """By algorithm, generator and variant: share of wins in per cent, its interval, and seeds."""
    pairs = paired(results)
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for algorithm in algorithms:
        none = complete(pairs, algorithm, "final_none")
        found[algorithm] = {}
        for key, scores in complete(pairs, algorithm, "final").items():
            low, high = improvement_interval(scores, none[key], **method(results))
            share = probability_of_improvement(scores, none[key])
            found[algorithm][key] = [*(100 * x.item() for x in (share, low, high)), float(len(scores))]
    return found


def _wins_caption(results: Results) -> str:
    return (
        "How often a run beats a run of the same task on real data only: mean over tasks, ties count half. Bar: 95 % "
        "interval, by the method that the table over all tasks names; hatched below "
        f"{FEW_SEEDS} seeds. It says how often, not by how much, and is uncorrected: of many bars one misses 50 % by "
        "chance. Who lacks a task on which any generator has a pair is left out."
    )


def _wins_alt(results: Results, algorithms: list[str]) -> str:
    rows = {key: row for own in _win_rows(results, algorithms).values() for key, row in own.items()}
    told = [
        f"{generator} {share:.0f} %" for (generator, _), (share, *_) in sorted(rows.items(), key=lambda x: -x[1][0])
    ]
    return f"Wins against real data only: {', '.join(told[:6])}{' and others below' * (len(told) > 6)}."


SECTION = Section(
    "improvement",
    "Change against real data only",
    "help",
    frames={"improvements": verdicts},
    tables=[change_table],
    figures=[
        Plot(
            "improvement",
            _changes_caption,
            _changes_alt,
            "improvements",
            rows=lambda results: panels_of(verdicts(results), results),
            figure=_changes,
        )
    ],
)
DETAILS = Section(
    "wins",
    "How often a generator wins",
    "details",
    figures=[
        Plot(
            "wins",
            _wins_caption,
            _wins_alt,
            "improvements",
            rows=lambda results: compared_algorithms(paired(results)),
            figure=_wins,
        )
    ],
)
