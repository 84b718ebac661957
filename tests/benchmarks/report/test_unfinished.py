"""Any part of a finished folder makes a page: cells, seeds and records that are not there yet, or never will be."""

import random
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from benchmarks.records import Record
from benchmarks.report import report, score_text
from benchmarks.report.results import Results, collect
from benchmarks.report.sections import SECTIONS
from benchmarks.report.tables.latex import to_latex
from benchmarks.report.tables.markdown import to_markdown
from benchmarks.report.tables.settle import settled
from benchmarks.report.tables.spreadsheet import to_csv
from benchmarks.spec import RunSpec, Settings
from benchmarks.store import ResultStore

SEEDS = 6
TASKS = ("toy/linear", "d4rl/hopper-medium-v2", "local/hopper-medium")  # the last has no reference returns
CURVES = (
    *(f"compounding/policy/{name}" for name in ("median", "mean", "closed", "local", "floor", "still", "chaos")),
    *("compounding/policy/alive", "compounding/policy/alive_on_policy", "compounding/logged/median", "returns/gap"),
    *("distance/wasserstein", "distance/wasserstein_floor", "generate/residual", "bound/gap"),
)
NUMBERS = (
    *("compounding/leakage", "compounding/starts_excluded", "consistency/distance", "consistency/kl", "generate/lag"),
    *("behaviour/nearest/heldout", "behaviour/nearest/generated", "behaviour/knn_kl/heldout", "returns/used"),
    *("filter/rank_correlation", "values/ratio", "cost/total_seconds", "cost/update_seconds", "cost/model_seconds"),
    "cost/generate_seconds",
)
METRICS = ("return", "normalized_score", *CURVES, *NUMBERS)


@cache
def finished_cells(build: Any) -> list[RunSpec]:
    """Three tasks, two algorithms; none with its controls, a method, and two that vary in one field and in two.

    Ten cells for each task and algorithm.
    """
    found = []
    for task, algorithm in product(TASKS, ("bc", "td3bc")):
        for name in ("none", "duplicate", "simulator", "ensemble"):
            found.append(build.spec(task, name, SEEDS, algorithm=algorithm))
        for name, iterations in (("mopo", 1), ("mopo", 10), ("dydiff", 1), ("dydiff", 2)):
            found.append(build.spec(task, name, SEEDS, f"iterations={iterations}", iterations, algorithm))
        for spec in found[-2:]:
            found.append(replace(spec, settings=Settings(real_fraction=0.9), variant=f"{spec.variant}, alpha=0.9"))
    short = {"updates": 300, "evaluate_every": 100}
    return [replace(spec, settings=spec.settings.model_copy(update=short)) for spec in found]


def finished_records(spec: RunSpec, rng: random.Random) -> Iterator[Record]:
    """Three evaluations, and every metric that a section reads."""
    scored = spec.task != TASKS[-1]
    for seed in spec.seeds:
        for step in (100, 200, 300):
            earned = rng.gauss(50, 10)
            yield Record(seed, step, "return", earned * 7)
            yield Record(seed, step, "normalized_score", earned if scored else None)
        if spec.generator.name != "none":
            for metric, h in product(CURVES, (1, 2)):
                yield Record(seed, 300, metric, rng.random(), h)
        for metric in NUMBERS:
            yield Record(seed, 300, metric, rng.random())


@dataclass(frozen=True)
class Rest:
    """What is left of the finished folder."""

    seeds: Mapping[int, frozenset[int]]  # by cell; the others are planned only
    metrics: frozenset[str]  # that no run has measured
    share: float  # of the records that are deleted one by one, and as many become undefined
    broken: frozenset[int]  # cells whose last run failed
    diverged: frozenset[int]  # cells whose last finished seed diverged before its first evaluation
    planned: bool  # whether there is a plan.json
    told: bool  # whether runs have provenance
    rng: int

    def write(self, folder: Path, build: Any) -> ResultStore:
        store = ResultStore(folder)
        specs = finished_cells(build)
        rng = random.Random(self.rng)
        if self.planned:
            store.plan("suite", specs)
        for index, seeds in self.seeds.items():
            spec = replace(specs[index], seeds=tuple(sorted(seeds)))
            if seeds:
                told = build.provenance(SEEDS) | {"seeds": sorted(seeds)} if self.told else {"seeds": sorted(seeds)}
                store.finish(spec, told, self._records(spec, index, rng))
            if index in self.broken:
                store.fail(spec, {}, "ValueError: broken")
        return store

    def _records(self, spec: RunSpec, index: int, rng: random.Random) -> Iterator[Record]:
        lost = spec.seeds[-1] if index in self.diverged else None
        for record in finished_records(spec, rng):
            if record.metric in self.metrics or record.seed == lost:
                continue
            chance = rng.random()
            if chance >= self.share:
                yield record if chance < 1 - self.share else record._replace(value=None)
        if lost is not None:
            yield Record(lost, 100, "diverged/critic", None)
        for seed in spec.seeds:
            yield Record(seed, 300, "train/loss", 0.5)  # a finished seed has records


some_cells = st.integers(0, 59)
rests = st.builds(
    Rest,
    st.dictionaries(some_cells, st.frozensets(st.integers(0, SEEDS - 1)), max_size=12),
    st.frozensets(st.sampled_from(METRICS), max_size=6),
    st.sampled_from([0.0, 0.02, 0.2, 0.45]),
    st.frozensets(some_cells, max_size=3),
    st.frozensets(some_cells, max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
NO_NUMBER = re.compile(r"\b(nan|None|NaT|inf)\b|<NA>")


def texts(results: Results) -> Iterator[str]:
    """Everything that the words and tables say; frames are made, too."""
    for section in SECTIONS:
        for frame in section.frames.values():
            to_csv(frame(results))
        for function in section.tables:
            table = settled(function(results))
            to_latex(table, "suite")
            to_markdown(table)
            yield from (table.caption, *table.head, *(entry.text for row in table.rows for entry in row))
        if section.words is not None:
            yield from section.words(results)


def drawn(results: Results) -> Iterator[str]:
    """Everything that is written into the figures."""
    for section in SECTIONS:
        for plot in section.figures:
            for _, alt, figure in plot.pages(results):
                yield plot.caption(results)
                yield alt
                yield from (str(text.get_text()) for text in figure.findobj(Text))


def rest(seeds: Mapping[int, Iterable[int]], **more: Any) -> Rest:
    """Nothing is wrong with the seeds that are there."""
    none = frozenset[Any]()
    kept = {cell: frozenset(own) for cell, own in seeds.items()}
    whole = Rest(kept, none, 0.0, none, none, planned=True, told=True, rng=0)
    return replace(whole, **more)


reproducible = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@settings(reproducible, max_examples=10)
@given(left=rests)
def test_any_rest_has_tables(left: Rest, build: Any) -> None:
    with TemporaryDirectory() as folder:
        store = left.write(Path(folder), build)
        assert [text for text in texts(collect(store)) if NO_NUMBER.search(text)] == []
        score_text(store)


@settings(reproducible, max_examples=3)
@given(left=rests)
@example(left=rest({0: [0], 20: [1]}))  # no seed has all tasks
@example(
    left=rest({40: [0], 43: [0]}, diverged=frozenset({40}))
)  # no evaluation of a cell is defined, of another it is
@example(left=rest({4: [0], 5: [0]}, metrics=frozenset({"return", "normalized_score"})))  # what was varied has no score
def test_any_rest_has_figures(left: Rest, build: Any) -> None:
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")  # of matplotlib: axes without a number
        results = collect(left.write(Path(folder), build))
        assert [text for text in drawn(results) if NO_NUMBER.search(text)] == []


@pytest.mark.parametrize("told", [True, False])
def test_a_rest_has_a_page(tmp_path: Path, build: Any, told: bool) -> None:
    left = rest({0: [0, 1], 4: [1], 5: [2], 23: [0, 1, 2], 46: [0, 3]}, broken=frozenset({5, 7}), told=told, share=0.2)
    report(left.write(tmp_path, build))
    assert "</html>" in (tmp_path / "report" / "index.html").read_text()
