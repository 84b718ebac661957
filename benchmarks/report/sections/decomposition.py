"""Where a change comes from: what perfect rollouts could give, and what errors, mixing and coupling take away."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.report.figures.palette import BASELINE
from benchmarks.report.figures.style import line_styles, panel_list, plain
from benchmarks.report.results import CEILING, Results, titled
from benchmarks.report.score_rows import CONTROL
from benchmarks.report.scores import FEW_SEEDS
from benchmarks.report.section import Plot, Section
from benchmarks.report.study.decomposition import TERMS, Average, algorithm_name, averages, decomposition
from benchmarks.report.tables.table import Entry, Table, as_interval, as_number, without_blank, without_constant
from benchmarks.report.verdict import WORDS

__all__ = ["DETAILS", "SECTION", "decomposition_table", "parts_table"]

_RULE = (
    f"Change = room + errors: {TERMS['change']} = ({TERMS['room']}) + ({TERMS['errors']}), seed by seed. Room is what "
    "perfect rollouts give, errors what a generator's rollouts cost beside perfect ones (of another length and number, "
    f"where its own are), mixing ({TERMS['mixing']}) what the mere presence of more rows does, coupling "
    f"({TERMS['coupling']}) what behaviour terms on synthetic rows do to the same generator."
)
_Key = tuple[str, str, str, str]


def decomposition_table(results: Results) -> Table:
    """One row per algorithm, coupling and method, over the regimes that hold; the highest change first."""
    rows = _rows(results)
    order = sorted(
        (key for key, own in rows.items() if "change" in own), key=lambda key: (key[:2], -rows[key]["change"].mean)
    )
    head = ["algorithm", "coupling", "generator", "variant", "regimes", *TERMS, "verdicts on errors"]
    entries = [_row(results, key, rows) for key in order]
    caption = (
        f"{_RULE} Means over the regimes that hold, which count equally, with 95 % Student-t intervals over seeds, "
        "uncorrected; regimes that fail or are not shown are in none of these numbers."
    )
    table = Table("decomposition", "Where the change comes from", caption, head, entries, "decomposition")
    for column in ("variant", "coupling"):
        if entries:
            table = without_constant(table, column)
    return without_blank(table)


def _rows(results: Results) -> dict[_Key, dict[str, Average]]:
    """By algorithm, coupling, generator and variant: the terms."""
    found: dict[_Key, dict[str, Average]] = {}
    for own in averages(results):
        found.setdefault((own.algorithm, own.coupling, own.generator, own.variant), {})[own.term] = own
    return found


def _controls(rows: Mapping[_Key, Mapping[str, Average]], algorithm: str, coupling: str) -> dict[str, Average]:
    """Room and mixing of an algorithm and coupling."""
    own = [terms for key, terms in rows.items() if key[:2] == (algorithm, coupling)]
    return {term: terms[term] for terms in own for term in ("room", "mixing") if term in terms}


def _row(results: Results, key: _Key, rows: Mapping[_Key, Mapping[str, Average]]) -> list[Entry]:
    algorithm, coupling, generator, variant = key
    terms = {**_controls(rows, algorithm, coupling), **rows[key]}
    numbers = [_entry(terms.get(term)) for term in TERMS]
    table = decomposition(results)
    mine = (table["algorithm"] == algorithm) & (table["generator"] == generator) & (table["term"] == "errors")
    cells = {cell.cell_id for cell in results.cells if not variant or cell.variant == variant}
    told = Counter(table.loc[mine & (table["regime"] == "holds") & table.index.isin(cells), "verdict"])
    words = "; ".join(f"{WORDS[verdict]}: {count}" for verdict, count in told.most_common())
    regimes = as_number(float(rows[key]["change"].regimes), "{:.0f}")
    names = [Entry(algorithm), Entry(coupling), Entry(titled(generator)), Entry(variant or "default")]
    return [*names, regimes, *numbers, Entry(words)]


def _entry(term: Average | None) -> Entry:
    if term is None:
        return Entry("—", value=-math.inf)
    return as_interval(term.low, term.high, term.mean, True, mark="†" if term.seeds < FEW_SEEDS else "")


def parts_table(results: Results) -> Table:
    """One row per term and cell, the regimes that do not hold among them."""
    table = decomposition(results)
    head = ["task", "algorithm", "variant", "generator", "term", "regime", "difference, 95 % interval", "verdict"]
    rows = [
        [
            *(Entry(str(row[name])) for name in ("task", "algorithm", "variant")),
            Entry(titled(row["generator"])),
            Entry(TERMS[row["term"]]),
            Entry(row["regime"]),
            as_interval(row["low"], row["high"], row["mean"], True, mark="†" if row["n"] < FEW_SEEDS else ""),
            Entry(WORDS[row["verdict"]]),
        ]
        for row in table.to_dict("records")
    ]
    caption = (
        f"{_RULE} One row per cell; regime: whether its comparisons may judge generators. Verdict by the page's rule, "
        "corrected over all differences of the same kind and algorithm, controls not."
    )
    made = Table("decomposition_cells", "Parts of every cell's change", caption, head, rows, "decomposition")
    return without_constant(made, "variant") if rows else made


def _panels(results: Results) -> list[tuple[str, str]]:
    """Algorithms and couplings that have a room and methods."""
    rows = _rows(results)
    found = list(dict.fromkeys(key[:2] for key, own in rows.items() if "errors" in own))
    return [pair for pair in found if "room" in _controls(rows, *pair)]


def _figure(results: Results, pairs: list[tuple[str, str]]) -> Figure:
    """From the ceiling back to what is left of it."""
    rows = _rows(results)
    styles = {generator: style for (generator, _), style in line_styles(results).items()}
    count = max(sum(key[:2] == pair for key in rows) for pair in pairs)
    figure, axes = panel_list(len(pairs), 2, height=0.17 * count + 0.7)
    for ax, pair in zip(axes, pairs, strict=True):
        controls = _controls(rows, *pair)
        room = controls["room"]
        ax.axvline(0, color=BASELINE, linestyle="--", linewidth=1.2)
        ax.axvspan(room.low, room.high, color=styles[CEILING].colour, alpha=0.15, linewidth=0)
        ax.axvline(room.mean, color=styles[CEILING].colour, linewidth=1.2)
        own = [terms["change"] for key, terms in rows.items() if key[:2] == pair and "change" in terms]
        shown = sorted(own, key=lambda term: -term.mean) + ([controls["mixing"]] if "mixing" in controls else [])
        for place, term in enumerate(shown):
            style = styles[term.generator]
            ax.plot([room.mean, term.mean], [place, place], color=style.colour, linewidth=3, alpha=0.3)
            ends = [[term.mean - term.low], [term.high - term.mean]]
            look: dict[str, Any] = {
                "color": style.colour,
                "marker": style.marker,
                "markersize": 5,
                "linewidth": 1.1,
                "capsize": 2,
            }
            ax.errorbar(term.mean, place, xerr=None if math.isnan(term.low) else ends, **look)
        names = [f"{term.generator} · {term.variant}" if term.variant else term.generator for term in shown]
        ax.set_yticks(range(len(shown)), [plain(name, 30) for name in names])
        ax.set(
            title=plain(algorithm_name(*pair), 36),
            ylim=(len(shown) - 0.5, -0.5),
            xlabel="points against real data only",
        )
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        ax.grid(axis="y", visible=False)
    return figure


def _caption(results: Results) -> str:
    holding = max((own.regimes for own in averages(results)), default=0)
    over = "In the regime that holds" if holding == 1 else f"Means over up to {holding} regimes that hold"
    return (
        f"{over}: score against real data only (dashed, 0). The solid line, with its 95 % interval as a band, is what "
        f"perfect rollouts give; the pale bar back from it is what a generator's errors cost, and the marker with its "
        f"interval is what is left. {CONTROL}: copies of real rows, what mixing does by itself."
    )


def _alt(results: Results, pairs: list[tuple[str, str]]) -> str:
    rows = _rows(results)
    told = []
    for pair in pairs:
        own = [terms["errors"] for key, terms in rows.items() if key[:2] == pair and "errors" in terms]
        least, most = max(own, key=lambda term: term.mean), min(own, key=lambda term: term.mean)
        room = as_number(_controls(rows, *pair)["room"].mean, "{:+.1f}").text
        name = pair[0] if pair[1] == "default" else f"{pair[0]}, {pair[1]}"
        ends = [f"{as_number(term.mean, '{:+.1f}').text} ({term.generator})" for term in (least, most)]
        told.append(f"{name}: perfect rollouts {room} points; errors between {' and '.join(ends)}")
    return ". ".join(told) + "."


SECTION = Section(
    "decomposition",
    "Where the change comes from",
    "why",
    frames={"decomposition": decomposition},
    tables=[decomposition_table],
    figures=[Plot("decomposition", _caption, _alt, "decomposition", rows=_panels, figure=_figure)],
)
DETAILS = Section("decomposition-cells", "Parts of every cell's change", "details", tables=[parts_table])
