"""Generators against real data only with equal FLOP, where the track `equal_compute` has run."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from benchmarks.report.prices import flop_in_all
from benchmarks.report.results import CEILING, CellView, Equalled, Results, once, titled
from benchmarks.report.scores import FEW_SEEDS, compared, estimates, finals, paired_with, partners, rule
from benchmarks.report.section import Section
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number, labels, without_constant
from benchmarks.report.verdict import RULE, WORDS, judged

__all__ = ["SECTION", "Track", "equal_compute", "equal_compute_table", "tracks", "words"]

_SHORT = 0.99  # of the budget, below which FLOP are not equal


class Track(NamedTuple):
    """Cells of one task, algorithm and settings."""

    none: CellView  # with its own FLOP
    ways: tuple[CellView, ...]  # generator none with the FLOP of the dearest of the others
    better: CellView  # the way with the higher mean score
    others: tuple[CellView, ...]


@once
def tracks(results: Results) -> list[Track]:
    """Every cell of generator none that has finished with more FLOP, and the generators to compare it with."""
    everything = results.equal_compute
    if everything is None:
        return []
    mean = estimates(finals(everything))["mean"]
    partner = partners(everything)
    found = []
    for none in results.cells:
        ways = [
            cell
            for cell in everything.cells
            if _is_way(cell, none) and not math.isnan(mean.get(cell.cell_id, math.nan))
        ]
        if none.generator == "none" and ways:
            fed = [cell for cell in results.cells if cell.mixes]
            others = [cell for cell in fed if partner.get(cell.cell_id) == none.cell_id]
            better = max(ways, key=lambda cell: float(mean[cell.cell_id]))
            found.append(Track(none, tuple(ways), better, tuple(others)))
    return found


def _is_way(cell: CellView, none: CellView) -> bool:
    way = Equalled.parse(cell.variant)
    same = (cell.task, cell.algorithm, cell.generator) == (none.task, none.algorithm, none.generator)
    return way is not None and same and way.base == none.variant


@once
def equal_compute(results: Results) -> pd.DataFrame:
    """equal_compute.csv: every generator against the better use of equal FLOP, and each use against none as it was.

    Indexed by cell; `against` is the variant of generator none that is subtracted. Verdicts on generators are one
    family of each algorithm, those on uses another.
    """
    everything = results.everything
    flop = flop_in_all(everything)
    uses, others = dict[str, CellView](), dict[str, CellView]()
    for track in tracks(results):
        uses |= {cell.cell_id: track.none for cell in track.ways}
        others |= {cell.cell_id: track.better for cell in track.others}
    parts = []
    for against in (uses, others):
        pairs = paired_with(everything, {cell_id: view.cell_id for cell_id, view in against.items()})
        found = judged(pairs, compared(pairs))
        other = [against[str(cell_id)] for cell_id in found.index]
        parts.append(
            found.assign(
                against=[view.variant for view in other],
                flop=[flop.get(cell_id, math.nan) for cell_id in found.index],
                flop_against=[flop.get(view.cell_id, math.nan) for view in other],
            )
        )
    return pd.concat(parts)


def equal_compute_table(results: Results) -> Table:
    """The uses of more FLOP first, then the generators, of each task and algorithm."""
    found = equal_compute(results).to_dict("index")
    rows = []
    for track in tracks(results):
        for cell in (*track.ways, *track.others):
            if cell.cell_id in found:
                name = f"none, {_use(cell)}" if cell in track.ways else titled(cell.generator)
                versus = "none" if cell in track.ways else f"none, {_use(track.better)}"
                variant = track.none.variant if cell in track.ways else cell.variant
                task, algorithm, _ = labels(results, cell)
                row = found[cell.cell_id]
                mark = "†" if row["n"] < FEW_SEEDS else ""
                entries = [
                    as_number(1e-12 * float(row["flop"])),
                    Entry(versus),
                    as_interval(row["low"], row["high"], row["mean"], True, mark=mark, cell_id=cell.cell_id),
                    Entry(WORDS[str(row["verdict"])]),
                ]
                rows.append([task, algorithm, Entry(variant), Entry(name), *entries])
    marked = any(row["n"] < FEW_SEEDS for row in found.values())
    few = f" † fewer than {FEW_SEEDS} seeds: an indication only." if marked else ""
    head = ["task", "algorithm", "variant", "generator", "FLOP in all, TFLOP", "against", "change", "verdict"]
    caption = (
        "Generator none with the FLOP of the dearest generator of equal task, algorithm and settings, spent on further "
        "updates or on wider networks; and every generator against the better of the two. Better is the higher mean "
        "score, chosen on the scores shown, which favours none. FLOP in all: 10^12 additions and multiplications of "
        "one seed's fits, generation and updates. Change: score minus that of the run it is held against, paired by "
        f"seed, with its 95 % Student-t interval. {rule(results)} Further updates are evaluated as often, so the "
        f"evaluations that count are the same share of the training. {RULE} Holm's correction is over these "
        f"generators, and over the uses of FLOP by themselves.{few}"
    )
    table = Table("equal_compute", "Equal compute", caption, head, rows, data="equal_compute")
    return without_constant(table, "variant") if rows else table


def _use(cell: CellView) -> str:
    way = Equalled.parse(cell.variant)
    if way is None:
        return ""
    return f"{int(way.size):,} updates" if way.way == "updates" else f"layers of {way.size.replace('x', ', ')}"


def _name(cell: CellView) -> str:
    return titled(cell.generator) + ("" if cell.variant == "default" else f" · {cell.variant}")


def words(results: Results) -> list[str]:
    """A sentence for each task and algorithm; a cap that was reached is named."""
    return [text for track in tracks(results) for text in _told(results, track)]


def _told(results: Results, track: Track) -> Iterator[str]:
    found = equal_compute(results).to_dict("index")
    flop = flop_in_all(results.everything)
    priced = [cell for cell in track.others if cell.generator != CEILING and cell.cell_id in flop.index]
    if not priced or track.better.cell_id not in found:
        return
    dearest = max(priced, key=lambda cell: float(flop[cell.cell_id]))
    target = float(flop[dearest.cell_id])
    better = found[track.better.cell_id]
    where = f"{track.none.task}, {track.none.algorithm}"
    verdict = {_name(cell): found[cell.cell_id]["verdict"] for cell in track.others if cell.cell_id in found}
    groups = {WORDS[word]: [name for name, own in verdict.items() if own == word] for word in WORDS}
    against = "; ".join(f"{word}: {', '.join(names)}" for word, names in groups.items() if names)
    change = as_interval(better["low"], better["high"], better["mean"], True).text
    yield (
        f"**{where}**: with the FLOP of {_name(dearest)}, {target / float(flop[track.none.cell_id]):.2g} times its "
        f"own, generator none scores best with {_use(track.better)} ({change} against its own budget, "
        f"{WORDS[str(better['verdict'])]}). Against that, {against or 'nothing can be compared'}."
    )
    for cell in track.ways:
        share = float(flop.get(cell.cell_id, math.nan)) / target
        if share < _SHORT:
            yield f"{where}: none with {_use(cell)} has {100 * share:.0f} % of these FLOP only; more were not allowed."


SECTION = Section(
    "equal_compute",
    "Equal compute",
    "price",
    frames={"equal_compute": equal_compute},
    tables=[equal_compute_table],
    words=words,
)
