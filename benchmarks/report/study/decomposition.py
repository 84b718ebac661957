"""A change in score, taken apart: what perfect rollouts could give, what errors cost, what mixing and coupling do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from benchmarks.report.regime import judged
from benchmarks.report.results import CEILING, CellView, Results, once
from benchmarks.report.score_rows import CONTROL, ranked
from benchmarks.report.scores import paired_with, partners
from benchmarks.report.study.pairs import COLUMNS, judged_differences
from metrics.intervals import interval

__all__ = ["TERMS", "Average", "algorithm_name", "averages", "coupling_name", "decomposition"]

TERMS = {  # in the order of tables: what is subtracted from what
    "change": "generator − none",
    "room": f"{CEILING} − none",
    "errors": f"generator − {CEILING}",
    "mixing": f"{CONTROL} − none",
    "coupling": "all − real_only",
}
_CONTROLS = ("room", "mixing")  # no candidates: their p is not adjusted
_COUPLING = ("real_fraction", "regularise", "rollouts_from", "buffer_refreshes", "shared_models")


@dataclass(frozen=True)
class Average:
    """A term over the regimes that hold, of one algorithm, coupling and generator."""

    algorithm: str
    coupling: str
    generator: str
    variant: str
    term: str
    mean: float
    low: float
    high: float
    seeds: int
    regimes: int


@once
def decomposition(results: Results) -> pd.DataFrame:
    """decomposition.csv: one row per term and cell that has it; change = room + errors, seed by seed.

    task, algorithm, variant, generator, term, regime (holds, fails, not shown), n, mean, low, high, p_holm,
    p_equivalent, verdict. room and mixing are those of the cells of simulator and duplicate, change, errors and
    coupling of every method, and coupling of the simulator, too. Indexed by cell. Without methods in a folder, or
    without a cell of the simulator beside them, it has no rows.
    """
    regime = judged(results)
    frames = []
    for term, pairs in _pairs(results).items():
        own = judged_differences(results, pairs, adjust=term not in _CONTROLS)
        there = [cell for cell in results.cells if cell.cell_id in own.index]
        labels = pd.DataFrame(
            [cell.labels | {"term": term, "regime": regime.get(cell.cell_id, "not shown")} for cell in there],
            index=[cell.cell_id for cell in there],
            columns=[*_LABELS, "term", "regime"],
        )
        frames.append(labels.join(own))
    columns = [*_LABELS, "term", "regime", *COLUMNS]
    table = pd.concat(frames) if frames else pd.DataFrame(columns=columns)
    return table if (table["term"] == "errors").any() else table.iloc[:0]


_LABELS = ["task", "algorithm", "variant", "generator"]


@once
def _pairs(results: Results) -> dict[str, dict[str, str]]:
    """By term, the cell that each cell is held against."""
    mixed = {cell.cell_id for cell in results.cells if cell.mixes}
    none = {key: other for key, other in partners(results).items() if key in mixed}
    name = {cell.cell_id: cell.generator for cell in results.cells}
    ceiling: dict[str, str] = {}
    for cell_id, other in none.items():
        if name[cell_id] == CEILING:
            ceiling.setdefault(other, cell_id)  # of several variants the first
    methods = {key: other for key, other in none.items() if ranked(name[key])}
    found = {
        "change": methods,
        "room": {key: other for key, other in none.items() if name[key] == CEILING},
        "errors": {key: ceiling[other] for key, other in methods.items() if other in ceiling},
        "mixing": {key: other for key, other in none.items() if name[key] == CONTROL},
        "coupling": dict(_couplings(results)),
    }
    return {term: pairs for term, pairs in found.items() if pairs}


def _couplings(results: Results) -> Iterator[tuple[str, str]]:
    """Cells with behaviour terms on all rows, each with the one that differs from it in that alone."""

    def rest(cell: CellView) -> str:
        settings = {name: x for name, x in cell.spec["settings"].items() if name != "regularise"}
        return repr([cell.spec["task"], cell.spec["generator"], cell.spec["algorithm"], settings])

    def regularised(cell: CellView) -> Any:
        return cell.spec["settings"].get("regularise")

    real_only = {rest(cell): cell.cell_id for cell in results.cells if regularised(cell) == "real_only"}
    for cell in results.cells:
        method = ranked(cell.generator) or cell.generator == CEILING
        if method and regularised(cell) == "all" and rest(cell) in real_only:
            yield cell.cell_id, real_only[rest(cell)]


def coupling_name(results: Results, cell: CellView) -> str:
    """The settings of its coupling and of its fits in which cells of the folder differ; else `default`."""
    return ", ".join(f"{name}={cell.spec['settings'].get(name)}" for name in _varied(results)) or "default"


@once
def _varied(results: Results) -> list[str]:
    settings = [cell.spec["settings"] for cell in results.cells]
    return [name for name in _COUPLING if len({own.get(name) for own in settings}) > 1]


def algorithm_name(algorithm: str, coupling: str) -> str:
    """An algorithm with its coupling, if the folder has several."""
    return algorithm if coupling == "default" else f"{algorithm} · {coupling}"


@once
def averages(results: Results) -> list[Average]:
    """Every term over the regimes that hold, on the seeds that all of them have; regimes count equally.

    Interval: Student's t with the variance of every regime by itself (`metrics.intervals`), regimes fixed.
    """
    table = decomposition(results)
    cells = {cell.cell_id: cell for cell in results.cells}
    found = []
    for term, pairs in _pairs(results).items():
        there = table.index[(table["term"] == term) & (table["regime"] == "holds")]
        gains = paired_with(results, {key: pairs[key] for key in there})
        gains = gains[gains["unit"] == "score"]
        groups: dict[tuple[str, str, str, str], list[str]] = {}
        for cell_id in dict.fromkeys(gains["cell_id"]):
            cell = cells[cell_id]
            key = (cell.algorithm, coupling_name(results, cell), cell.generator, _method_variant(results, cell))
            groups.setdefault(key, []).append(cell_id)
        for (algorithm, coupling, generator, variant), members in groups.items():
            own = gains[gains["cell_id"].isin(members)].pivot(index="seed", columns="cell_id", values="gain").dropna()
            if len(own):
                scores = torch.tensor(own.to_numpy(), dtype=torch.float64)
                low, high = interval(scores, "mean")
                numbers = scores.mean().item(), low.item(), high.item()
                found.append(Average(algorithm, coupling, generator, variant, term, *numbers, *scores.shape))
    return found


def _method_variant(results: Results, cell: CellView) -> str:
    """What of its variant is of the generator: empty where all its cells have the same fields."""
    return cell.variant if cell.generator in _several(results) else ""


@once
def _several(results: Results) -> set[str]:
    """Generators whose cells differ in fields of their own."""
    specs: dict[str, set[str]] = {}
    for cell in results.cells:
        specs.setdefault(cell.generator, set()).add(repr(cell.spec["generator"]))
    return {generator for generator, own in specs.items() if len(own) > 1}
