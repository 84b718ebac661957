"""The track `equal_compute`: generator none with the FLOP of the dearest generator, as updates or as wider networks.

Both are planned from the FLOP that a finished results folder recorded, and run as ordinary cells beside its own:
`benchmarks.report.sections.equal_compute` says which of the two helps none more, and compares every generator with it.
"""

import math
from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from benchmarks.probe import stand_in
from benchmarks.report.prices import flop_in_all
from benchmarks.report.results import CEILING, CellView, Equalled, Results, collect
from benchmarks.report.scores import partners
from benchmarks.spec import RunSpec, restore
from benchmarks.store import ResultStore
from core.buffer import Buffer, Mixer
from core.data import Dataset
from core.errors import SpecError
from core.progress import say
from core.random import Streams
from models.flops import counted
from tasks.base import load_task

__all__ = ["Budget", "budgets", "equal_cells", "further_updates", "update_flop", "wider"]

_MORE = 1.01  # times the FLOP of generator none, from which there is something to give


class Budget(NamedTuple):
    """FLOP of one seed that a cell of generator none may spend."""

    none: CellView
    own: float  # what it has spent
    dearest: CellView  # generator of equal task, algorithm and settings
    flop: float  # what that has spent


def equal_cells(source: ResultStore, at_most: int | None = None) -> list[RunSpec]:
    """The cells that a finished folder lacks: two of generator none for each that it has beside generators.

    Raises:
        SpecError: the folder has not finished, has no generator none beside others, or does not say its FLOP.
    """
    found = list[RunSpec]()
    for budget in budgets(collect(source)):
        label = source.cell(budget.none.cell_id).variant  # in full: the view's depends on what else the folder holds
        spec = restore(budget.none.spec, budget.none.done, label)
        if spec.cell_id != budget.none.cell_id:
            raise SpecError(f"DIR must be of this version, got {budget.none.cell_id}, which is now {spec.cell_id}")
        if at_most is not None and at_most <= spec.settings.updates:
            raise SpecError(
                f"--at-most must be above the {spec.settings.updates} updates of {spec.label}, got {at_most}"
            )
        if budget.flop < _MORE * budget.own:
            say(f"{spec.label}: no generator took more FLOP")
            continue
        ways = further_updates(spec, budget, at_most), wider(spec, budget)
        variants = [way.variant for way in ways if way is not None]
        factor = budget.flop / budget.own
        say(f"{spec.label}: {factor:.3g} times the FLOP, those of {budget.dearest.generator}: {'; '.join(variants)}")
        found += [way for way in ways if way is not None]
    if not found:
        raise SpecError("DIR must hold a generator that took more FLOP than generator none, got none")
    return found


def budgets(results: Results) -> list[Budget]:
    """What each cell of generator none may spend; the ceiling, which nobody can buy, sets no budget.

    Raises:
        SpecError: see `equal_cells`.
    """
    unfinished = [cell.name for cell in results.cells if cell.state in ("missing", "failed")]
    if unfinished or not results.cells:
        raise SpecError(f"DIR must have finished; it lacks {unfinished[0] if unfinished else 'any cell'}")
    partner = partners(results)
    flop = flop_in_all(results)
    views = {cell.cell_id: cell for cell in results.cells}
    families: dict[str, list[CellView]] = {}
    for cell in results.cells:
        if cell.cell_id in partner and cell.generator != CEILING and cell.mixes:
            families.setdefault(partner[cell.cell_id], []).append(cell)
    if not families:
        raise SpecError("DIR must hold generator none beside others with equal settings, got no such pair")
    found = []
    for none, family in families.items():
        for cell in (views[none], *family):
            if math.isnan(flop.get(cell.cell_id, math.nan)):
                raise SpecError(
                    f"DIR must say its FLOP (cost/total_flop; 0.3.0 recorded none), got none of {cell.name}"
                )
        dearest = max(family, key=lambda cell: float(flop[cell.cell_id]))
        found.append(Budget(views[none], float(flop[none]), dearest, float(flop[dearest.cell_id])))
    return found


def further_updates(spec: RunSpec, budget: Budget, at_most: int | None = None) -> RunSpec:
    """As many updates as the budget pays for, evaluated as often: the last evaluations are the same share of them."""
    settings = spec.settings
    updates = max(settings.updates, round(settings.updates * budget.flop / budget.own))
    if at_most is not None:
        updates = max(settings.updates, min(updates, at_most))
    evaluations = -(-settings.updates // settings.evaluate_every)
    changed = settings.model_copy(update={"updates": updates, "evaluate_every": -(-updates // evaluations)})
    label = Equalled("updates", str(updates), spec.variant).variant
    return replace(spec, settings=changed, variant=label)


def wider(spec: RunSpec, budget: Budget) -> RunSpec | None:
    """As many updates of the networks whose FLOP come nearest; None where the algorithm has no field `hidden`.

    Layers keep their proportions. FLOP are a polynomial of second degree in the width, of which three are measured.
    """
    hidden = _hidden(spec.algorithm.config)
    if "hidden" not in hidden:
        return None
    data = stand_in(load_task(spec.task, spec.settings.data_options(None)))

    def scaled(factor: float) -> Any:
        sizes = {name: tuple(max(1, round(factor * x)) for x in old) for name, old in hidden.items()}
        return replace(spec.algorithm.config, **sizes)

    one, two, three = (
        update_flop(scaled(factor), data, spec.settings.updates, len(spec.seeds)) for factor in (1.0, 2.0, 3.0)
    )
    square = (three - 2 * two + one) / 2
    linear = two - one - 3 * square
    missing = budget.flop - (one - linear - square)
    factor = ((linear**2 + 4 * square * missing) ** 0.5 - linear) / (2 * square) if square > 0 else missing / linear
    first = hidden["hidden"][0]
    config = scaled(round(factor * first) / first)
    sizes = "x".join(map(str, config.hidden))
    label = Equalled("width", sizes, spec.variant).variant
    return replace(spec, algorithm=replace(spec.algorithm, config=config), variant=label)


def update_flop(algorithm: Any, data: Dataset, updates: int, seeds: int = 2) -> float:
    """FLOP of so many updates of one seed on real rows: each branch is run once, and `schedule` says how often it ran.

    A lone seed computes some products twice (`models.bitwise`); two of them stand for any other number.
    """
    rng = Streams(range(min(seeds, 2)))
    state = algorithm.init(data, rng.fork("init"))
    dims = data.train.obs.shape[-1], data.train.action.shape[-1]
    mixer = Mixer(algorithm.rows(data), Buffer(len(rng.seeds), 1, *dims, "cpu"), 1.0, algorithm.batch_size)
    batch = mixer.batch(rng.fork("batch"))
    total = 0.0
    for due, count in Counter(algorithm.schedule(state) for _ in range(updates)).items():
        with counted() as mode:
            algorithm.step(state, batch, rng.fork("step"), due)
        total += count * mode.total / len(rng.seeds)
    return total


def _hidden(config: Any) -> dict[str, tuple[int, ...]]:
    """Fields of an algorithm that are widths of hidden layers, and are set."""
    fields: dict[str, Any] = vars(config)
    sizes = {name: value for name, value in fields.items() if name == "hidden" or name.endswith("_hidden")}
    return {name: TypeAdapter(tuple[int, ...]).validate_python(value) for name, value in sizes.items() if value}
