"""What a suite varied: curves over one field, maps over two, a table of all that was run."""

import math
from collections.abc import Iterable

import pandas as pd

from benchmarks.report.compute.series import series
from benchmarks.report.figures.variants import curves, maps
from benchmarks.report.prices import price_multiples
from benchmarks.report.results import CellView, Results, error_by_cell, generator_order, titled
from benchmarks.report.score_rows import DAGGER, INTERVAL, no_score
from benchmarks.report.scores import FEW_SEEDS, estimates, finals
from benchmarks.report.section import Plot, Section
from benchmarks.report.tables.table import Entry, Table, as_estimate, as_number, labels, values, without_blank
from benchmarks.report.text import natural
from benchmarks.report.varied import LEVEL_RULE, Ablation, ablation, ablations, lags, measured, named
from benchmarks.report.verdict import RULE, WORDS, compares_scores, verdicts
from core.config import flat

__all__ = ["SECTION", "said", "variant_table"]

_LEVELS = {"highest": "highest mean", "level": "level", "open": "not shown"}
_OTHERS = ["error, last step", "lag", "price"]
_MARKS = (
    "Marks: what a value is worth against generator none, and whether it is level with the best value, by the rules "
    "under the table of variants."
)
_ERROR = "Error: open loop, at the last step, median over rollouts and seeds, in deviations of the data."
_LAG = "Lag: how far actions moved in the last round of the generator's last call."
_SCORES = ["score", "change", "verdict", "level with best"]


def variant_table(results: Results) -> Table:
    """Every cell of the tasks and algorithms in which something varies: generator none first, the ceiling last."""
    groups = ablations(results)
    names = list(dict.fromkeys(name for group in groups for name in group.names))
    whole = any(len(group.names) > 2 for group in groups)  # else the fields say as much as the name of the variant
    compared = compares_scores(results)
    varies = list(dict.fromkeys((group.task, group.algorithm) for group in groups))

    def place(cell: CellView) -> tuple[object, ...]:
        order = [natural(entry.text) for entry in _values(cell, names)]
        return varies.index((cell.task, cell.algorithm)), generator_order(cell.generator), order

    rows = []
    for cell in sorted((cell for cell in results.cells if (cell.task, cell.algorithm) in varies), key=place):
        task, algorithm, variant = labels(results, cell)
        said_of_it = [task, algorithm, *[variant] * whole, Entry(titled(cell.generator)), *_values(cell, names)]
        rows.append([*said_of_it, *(_scores(results, cell) if compared else []), *_others(results, cell)])
    head = ["task", "algorithm", *["variant"] * whole, "generator", *(named(name.partition(".")[2]) for name in names)]
    head += [*(_SCORES if compared else []), *_OTHERS]
    return without_blank(Table("variants", "Variants", _table_caption(results), head, rows, "ablation"))


def said(results: Results, group: Ablation) -> tuple[str, str]:
    """What was varied over the cells of a group, and what came of it."""
    own = ablation(results).loc[[cell.cell_id for cell in group.cells.values()]]
    short = len(group.names) <= 2
    own = own.assign(
        value=[" × ".join(map(str, values)) if short else f"“{cell.variant}”" for values, cell in group.cells.items()]
    )
    parts = []
    if measured(results, group, "gain_mean"):
        parts.append(f"change against real data only {_range(own, 'gain_mean', '+.1f')}")
        for verdict, word in WORDS.items():
            those = own.loc[own["verdict"] == verdict, "value"]
            if len(those) == len(own):
                parts.append(
                    "no value can be told apart from it" if verdict == "undecided" else f"{word} at every value"
                )
            elif len(those):
                parts.append(f"{word} at {', '.join(those)}")
    level = own.loc[own["level_with_best"] == "level", "value"]
    for best in own.loc[own["level_with_best"] == "highest", "value"]:
        parts.append(f"highest mean at {best}, {', '.join(level) or 'none'} shown to be level with it")
    if measured(results, group, "error"):
        parts.append(f"error at the last step {_range(own, 'error', '.2g')}")
    over = " × ".join(map(named, group.fields))
    return f"{group.generator} over {over}", f"{group.task}, {group.algorithm}: {'; '.join(parts)}."


def _values(cell: CellView, names: Iterable[str]) -> list[Entry]:
    """Of the varied fields; a dash for one that the cell's methods do not have."""
    spec = dict(flat(cell.spec))
    entries = []
    for name in names:
        value = spec.get(name, "—")
        text = "not set" if value is None else str(value)
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        entries.append(Entry(text, value=float(value) if numeric else text))
    return entries


def _scores(results: Results, cell: CellView) -> list[Entry]:
    """The columns of _SCORES."""
    known = estimates(finals(results))
    if cell.cell_id not in known.index or not known["n"][cell.cell_id]:
        return [no_score(cell), as_number(math.nan), Entry("—"), Entry("—")]
    n, mean, low, high = values(known.loc[cell.cell_id, ["n", "mean", "low", "high"]])
    of = "" if n == cell.seeds else f"/{cell.seeds}"
    lost = f", {len(cell.diverged)} diverged" if cell.diverged else ""
    mark = f" (n={int(n)}{of}{lost}){'†' if n < FEW_SEEDS else ''}"
    score = as_estimate(mean, low, high, mark=mark, cell_id=cell.cell_id)
    level = Entry(_LEVELS.get(str(ablation(results)["level_with_best"].get(cell.cell_id)), "—"))
    compared = verdicts(results)
    if cell.cell_id not in compared.index:
        return [score, as_number(math.nan), Entry("—"), level]
    mean, low, high = values(compared.loc[cell.cell_id, ["mean", "low", "high"]])
    verdict = str(compared["verdict"][cell.cell_id])
    bold = verdict in ("helps", "hurts")
    change = as_estimate(mean, low, high, sign=True, bold=bold, cell_id=cell.cell_id)
    return [score, change, Entry(WORDS[verdict], bold), level]


def _others(results: Results, cell: CellView) -> list[Entry]:
    """The columns of _OTHERS."""
    columns = error_by_cell(results), lags(results), price_multiples(results)
    return [as_number(column.get(cell.cell_id, math.nan)) for column in columns]


def _range(own: pd.DataFrame, column: str, form: str) -> str:
    """The smallest and the largest number of a column, with the values at which they are."""
    ordered = own.dropna(subset=column).sort_values(column)[[column, "value"]]
    ends = [f"{number:{form}} (at {value})".replace("-", "−") for number, value in ordered.iloc[[0, -1]].to_numpy()]
    return ends[0] if len(ordered) == 1 else " to ".join(ends)


def _table_caption(results: Results) -> str:
    """What the columns are."""
    price = "Price: seconds of updates, generation and models, in those of generator none."
    if not compares_scores(results):
        return f"Every variant. All batches are real: no score depends on the generator. {_ERROR} {_LAG} {price}"
    few = any(0 < len(cell.done) < FEW_SEEDS for group in ablations(results) for cell in group.cells.values())
    return (
        f"Every variant beside generator none and the controls. Change: paired by seed. {INTERVAL} {_shared(results)}"
        f"{RULE} Bold: helps or hurts. {LEVEL_RULE} {_ERROR} {_LAG} {price} {DAGGER if few else ''}"
    ).strip()


def _curve_caption(results: Results) -> str:
    """Of the panels that are there."""
    few = f", hollow below {FEW_SEEDS} seeds" if ablation(results)["n"].lt(FEW_SEEDS).any() else ""
    scores = (
        f"Score: mean and 95 % Student-t interval over seeds{few}; dashed: "
        f"generator none, in its interval. {_marked(results)}{_shared(results)}"
    )
    lag = f" {_LAG}" if ablation(results)["lag"].notna().any() else ""
    return f"One field varies. {scores if compares_scores(results) else ''}{_ERROR}{lag}"


def _map_caption(results: Results) -> str:
    """Of the panels that are there."""
    scores = (
        "Change: against generator none, paired by seed, ± half the 95 % Student-t interval over seeds; the colour is "
        f"the change, white at zero, pale where it cannot be told apart. {_marked(results)}{_shared(results)}"
    )
    return f"Two fields vary. {scores if compares_scores(results) else ''}{_ERROR}"


def _marked(results: Results) -> str:
    """What marks say, if there are any."""
    own = ablation(results)
    marked = own["verdict"].isin(["helps", "hurts", "equivalent"]) | (own["level_with_best"] == "level")
    return f"{_MARKS} " if marked.any() else ""


def _shared(results: Results) -> str:
    """What the intervals leave out."""
    shared = any(
        cell.spec["settings"].get("shared_models") for group in ablations(results) for cell in group.cells.values()
    )
    return "All seeds share one set of pretrained models: its spread is in no interval. " * shared


def _drawn(results: Results, fields: int) -> list[Ablation]:
    """Groups that vary so many fields and have something to draw."""
    found = [group for group in _told(results) if len(group.names) == fields]
    found = [group for group in found if any(measured(results, group, name) for name in ("mean", "error", "lag"))]
    return _methods(found)


def _told(results: Results) -> list[Ablation]:
    """Groups that vary more than the length of fits: what that buys has a section of its own."""
    budgets = {cell.cell_id for own in series(results) for cell in own.cells}
    return [group for group in ablations(results) if {cell.cell_id for cell in group.cells.values()} - budgets]


def _methods(groups: list[Ablation]) -> list[Ablation]:
    """Those of generator none only where there are no others: it varies with settings, as what others stand beside."""
    return [group for group in groups if group.generator != "none"] or groups


def _words(results: Results) -> list[str]:
    return [f"**{what}**, {found}" for what, found in (said(results, group) for group in _methods(_told(results)))]


def _alt(results: Results, groups: list[Ablation]) -> str:
    return " ".join(", ".join(said(results, group)) for group in groups)


SECTION = Section(
    "ablation",
    "What was varied",
    "varied",
    frames={"ablation": ablation},
    words=_words,
    tables=[variant_table],
    figures=[
        Plot(
            "ablation",
            _curve_caption,
            _alt,
            "ablation",
            rows=lambda results: _drawn(results, 1),
            figure=curves,
        ),
        Plot(
            "heat",
            _map_caption,
            _alt,
            "ablation",
            rows=lambda results: _drawn(results, 2),
            figure=maps,
        ),
    ],
)
