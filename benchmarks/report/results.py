"""From a results folder to tidy frames: what was planned, what is there, what is missing and why."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, TypeVar

import pandas as pd

from benchmarks.records import DIVERGED
from benchmarks.report.text import natural, without_folders
from benchmarks.store import Cell, ResultStore

__all__ = [
    "CEILING",
    "LABELS",
    "CellView",
    "Equalled",
    "Results",
    "at_end",
    "collect",
    "error_at_end",
    "error_by_cell",
    "generator_order",
    "once",
    "titled",
    "unfitted",
]

CEILING = "simulator"  # the generator of perfect rollouts: a bound to measure against, no method to choose
LABELS = ["task", "generator", "algorithm", "variant"]
_TYPES = {"seed": "int64", "step": "int64", "metric": "str", "value": "float64", "horizon": "Int64"}  # of records
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Equalled:
    """How a cell of generator none, of a results folder, spends the FLOP of that folder's dearest generator."""

    way: str  # updates or width
    size: str  # how many, or the widths joined by x
    base: str  # variant of the cell of generator none with its own FLOP

    @classmethod
    def parse(cls, variant: str) -> "Equalled | None":
        """From the variant of a cell; None if it is none of these."""
        found = re.fullmatch(r"equal compute by (updates|width): (\S+)(?: of (.+))?", variant)
        return found and cls(found[1], found[2], found[3] or "default")

    @property
    def variant(self) -> str:
        """How the cell is called."""
        return f"equal compute by {self.way}: {self.size}" + ("" if self.base == "default" else f" of {self.base}")


@dataclass(frozen=True)
class CellView:
    """A cell as a report sees it: planned, or found in the folder, or both."""

    cell_id: str
    task: str
    generator: str
    algorithm: str
    variant: str  # unique among cells of equal task, generator and algorithm
    spec: Mapping[str, Any]
    runs: tuple[Mapping[str, Any], ...]
    done: tuple[int, ...]  # those that diverged among them
    diverged: Mapping[int, tuple[int, str]]  # seed -> the update at which it was noticed, and in which tensor
    failed: tuple[int, ...]  # seeds of the last failure that have no result
    missing: tuple[int, ...]  # other planned seeds that have no result
    error: str | None  # the failure in one line, without this machine's paths

    @property
    def name(self) -> str:
        """Its labels, as messages show them."""
        variant = "" if self.variant == "default" else f" [{self.variant}]"
        return f"{self.task} / {self.generator} / {self.algorithm}{variant}"

    @property
    def labels(self) -> dict[str, str]:
        """Task, generator, algorithm and variant, as the columns of every frame."""
        return {label: getattr(self, label) for label in LABELS}

    @property
    def mixes(self) -> bool:
        """Whether batches hold synthetic rows: with real ones only every generator trains the same policy."""
        share: float = self.spec["settings"]["real_fraction"]
        return share < 1

    @property
    def seeds(self) -> int:
        """How many there should be."""
        return len(self.done) + len(self.failed) + len(self.missing)

    @property
    def state(self) -> str:
        """In one word: finished, diverged, missing or failed."""
        if self.error is not None:
            return "failed"
        if self.missing or not self.done:
            return "missing"
        return "diverged" if self.diverged else "finished"


@dataclass(frozen=True)
class Results:
    """Everything that tables and plots are drawn from."""

    suite: str  # empty when the folder has no plan
    cells: tuple[CellView, ...]  # in the order of tables
    records: pd.DataFrame  # cell_id, *LABELS, seed, step, metric, value (NaN: not defined), horizon (NA: not a curve)
    command: str = ""  # that asked for the plan; empty where the folder has none, or an old one
    interval: str = "t"  # method of intervals over tasks: t or bootstrap
    equal_compute: "Results | None" = None  # with the cells of that track, which are left out above
    computed: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)  # by functions that are `once`

    def metric(self, *names: str) -> pd.DataFrame:
        """Rows of these metrics, which are no curves, one column each beside cell, labels, seed and step."""
        rows = self.records[self.records["metric"].isin(names)]
        table = rows.pivot(index=["cell_id", *LABELS, "seed", "step"], columns="metric", values="value")
        return table.reindex(columns=list(names)).rename_axis(columns=None).reset_index()

    def group(self, prefix: str) -> pd.DataFrame:
        """Rows whose metric starts with `prefix`, which is taken off."""
        rows = self.records[self.records["metric"].str.startswith(prefix)]
        return rows.assign(metric=rows["metric"].str.removeprefix(prefix))

    def last(self, name: str) -> pd.DataFrame:
        """Rows of one metric, where it was measured last: one per cell and seed, of a curve one per horizon."""
        rows = self.records[self.records["metric"] == name]
        return rows[rows["step"] == rows.groupby(["cell_id", "seed"])["step"].transform("max")]

    def finished(self, task: str, algorithm: str) -> list[CellView]:
        """Cells of one task and algorithm that have finished seeds, in the order of tables."""
        return [cell for cell in self.cells if (cell.task, cell.algorithm) == (task, algorithm) and cell.done]

    def tasks_of(self, rows: pd.DataFrame) -> list[str]:
        """The tasks of some rows, in the order of tables."""
        there = set(rows["task"])
        return [task for task in dict.fromkeys(cell.task for cell in self.cells) if task in there]

    @property
    def everything(self) -> "Results":
        """With the cells of the track `equal_compute`."""
        return self.equal_compute or self

    @cached_property
    def scored_tasks(self) -> frozenset[str]:
        """Tasks with reference returns: a run says which they are, or has a score; seeds may all have diverged."""
        ranges = {cell.task for cell in self.cells for run in cell.runs if run.get("score_range") is not None}
        return frozenset(ranges | self._with("normalized_score"))

    @cached_property
    def unscored_tasks(self) -> frozenset[str]:
        """Tasks without reference returns, whose tables show returns: a run says so, or has returns but no score.

        Of a task none of whose runs tells and none of whose seeds was ever evaluated, nobody knows: it is in neither.
        """
        told = {cell.task for cell in self.cells for run in cell.runs if run.get("score_range", ()) is None}
        return frozenset(told | self._with("return")) - self.scored_tasks

    def _with(self, metric: str) -> set[str]:
        """Tasks where a metric is defined at least once."""
        return set(self.records.loc[(self.records["metric"] == metric) & self.records["value"].notna(), "task"])

    def unit(self, task: str) -> str:
        """What its scores are."""
        return "D4RL-normalized score" if task in self.scored_tasks else "undiscounted return"

    @property
    def problems(self) -> list[str]:
        """Planned cells and seeds without a result, and seeds that diverged."""
        found = []
        for cell in self.everything.cells:
            if cell.error is not None:
                found.append(f"failed: {cell.name}, {_seeds(cell.failed)}: {cell.error}")
            found += [
                f"diverged: {cell.name}, seed {seed}: {tensor} is not finite at update {step}"
                for seed, (step, tensor) in cell.diverged.items()
            ]
            if cell.missing:
                found.append(f"missing: {cell.name}, {_seeds(cell.missing)}")
        return found


def once(function: Callable[[Results], Answer]) -> Callable[[Results], Answer]:
    """Compute a function of the results once, and keep its answer with them."""

    @wraps(function)
    def answer(results: Results) -> Answer:
        if function not in results.computed:
            results.computed[function] = function(results)
        found: Answer = results.computed[function]
        return found

    return answer


def generator_order(generator: str) -> tuple[int, list[str | float]]:
    """Sort key of tables: real data only, the methods by name, the ceiling."""
    return (generator != "none") + (generator == CEILING), natural(generator)


def titled(generator: str) -> str:
    """Its name in tables and legends."""
    return f"{generator} (ceiling)" if generator == CEILING else generator


def at_end(results: Results, name: str) -> pd.DataFrame:
    """Rows of a curve at the last horizon of their cell: the last at which any of its seeds has a value."""
    rows = results.last(name).dropna(subset=["value", "horizon"])
    return rows[rows["horizon"] == rows.groupby("cell_id")["horizon"].transform("max")]


def error_at_end(results: Results, actions: str = "policy") -> pd.DataFrame:
    """Open-loop error at the last step of each cell's rollouts (median over rollouts): one row per cell and seed."""
    return at_end(results, f"compounding/{actions}/median")


def error_by_cell(results: Results, actions: str = "policy") -> pd.Series:
    """The median over seeds of `error_at_end`, by cell."""
    return error_at_end(results, actions).groupby("cell_id")["value"].median()


def collect(store: ResultStore, interval: str = "t") -> Results:
    """Read the folder; `interval` is the method of intervals over tasks, one of METHODS of `metrics.intervals`.

    Raises:
        DataError: a file of the store is torn or was edited; names it.
    """
    plan = store.planned()
    found = {cell.cell_id: cell for cell in store.cells()}
    planned = {entry["cell_id"]: entry for entry in plan.get("cells", [])}
    labels = {key: entry["variant"] for key, entry in planned.items()} | {
        key: cell.variant for key, cell in found.items()
    }
    variants = _variants(_without_common(labels), planned | {key: cell.spec for key, cell in found.items()})
    views = [_view(key, variants[key], found.get(key), planned.get(key)) for key in variants]
    views.sort(
        key=lambda cell: (
            natural(cell.task),
            natural(cell.algorithm),
            cell.variant != "default",
            natural(cell.variant),
            generator_order(cell.generator),
        )
    )
    empty = pd.DataFrame(columns=[*_TYPES, "cell_id", *LABELS]).astype(_TYPES)
    frames = [
        pd.DataFrame(found[view.cell_id].records, columns=list(_TYPES))
        .astype(_TYPES)
        .assign(cell_id=view.cell_id, **view.labels)
        for view in views
        if view.done
    ]
    records = pd.concat(frames, ignore_index=True) if frames else empty
    suite: str = plan.get("suite", "")
    if suite.endswith(".toml"):  # somebody's file: its name says enough
        suite = re.sub(r".*[/\\]", "", suite)
    return _without_track(Results(suite, tuple(views), records, plan.get("command", ""), interval))


def _without_track(everything: Results) -> Results:
    """Cells of generator none with the FLOP of another one have a section of their own: they are no partners."""
    track = {cell.cell_id for cell in everything.cells if Equalled.parse(cell.variant)}
    if not track:
        return everything
    cells = tuple(cell for cell in everything.cells if cell.cell_id not in track)
    records = everything.records[~everything.records["cell_id"].isin(track)].reset_index(drop=True)
    return replace(everything, cells=cells, records=records, equal_compute=everything, computed={})


def _view(cell_id: str, variant: str, cell: Cell | None, planned: Mapping[str, Any] | None) -> CellView:
    spec: Mapping[str, Any] = (
        cell.spec if cell else {key: (planned or {})[key] for key in ("task", "generator", "algorithm", "settings")}
    )
    done, runs, error = (cell.done, cell.runs, cell.error) if cell else ((), [], None)
    wanted = set(planned["seeds"]) if planned else set()
    tried = next((set(run.get("seeds", wanted)) for run in reversed(runs) if run.get("status") == "failed"), wanted)
    failed = tried - set(done) if error is not None else set()
    return CellView(
        cell_id,
        spec["task"],
        spec["generator"]["name"],
        spec["algorithm"]["name"],
        variant,
        spec,
        tuple(runs),
        done,
        {
            record.seed: (record.step, record.metric.removeprefix(DIVERGED))
            for record in (cell.records if cell else [])
            if record.metric.startswith(DIVERGED)
        },
        tuple(sorted(failed)),
        tuple(sorted(wanted - set(done) - failed)),
        None if error is None else _last_line(error),
    )


def unfitted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings but for how models are fitted: no part of a regime, and nothing to generator `none`."""
    return {name: x for name, x in settings.items() if name != "shared_models"}


def _without_common(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels by cell without the fields `name=value` that all cells have: what nothing differs in needs no saying.

    A cell of the track `equal_compute` is called after another cell, and so after what is left of its label.
    """
    ways = {key: way for key, label in labels.items() if (way := Equalled.parse(label))}
    bases = {**labels, **{key: way.base for key, way in ways.items()}}
    fields = {key: re.split(r", (?=[\w.]+=)", label) for key, label in bases.items()}
    compared = [set(own) for key, own in fields.items() if key not in ways]
    common = {field for field in set.intersection(*compared) if "=" in field} if len(compared) > 1 else set[str]()
    short = {key: ", ".join(x for x in own if x not in common) or "default" for key, own in fields.items()}
    return short | {key: replace(way, base=short[key]).variant for key, way in ways.items()}


def _variants(labels: Mapping[str, str], specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Labels by cell; cells that would look alike get the beginning of their hash appended."""
    shown = {
        key: (specs[key]["task"], specs[key]["generator"]["name"], specs[key]["algorithm"]["name"], label)
        for key, label in labels.items()
    }
    count = Counter(shown.values())
    return {
        key: label + ("#" + key.rpartition("--")[2][:6] if count[shown[key]] > 1 else "")
        for key, label in labels.items()
    }


def _last_line(traceback: str) -> str:
    lines = [line for line in traceback.splitlines() if line.strip()]
    return without_folders(lines[-1].strip()) if lines else "no message"


def _seeds(seeds: Iterable[int]) -> str:
    listed = [str(seed) for seed in seeds]
    return f"seed{'s' * (len(listed) != 1)} {', '.join(listed) or 'unknown'}"
