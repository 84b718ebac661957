"""A small results folder with everything that goes wrong in it, and builders for folders of a test's own."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report import report
from benchmarks.report.figures.style import _STYLE
from benchmarks.spec import Method, RunSpec, Settings
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core.config import configuration

HOME = "/home/somebody/project"


@configuration
class Nothing:
    """A method without fields."""


@configuration
class Iterated:
    iterations: int = 4


class Builder:
    """Specifications, records and provenance of small cells."""

    HOSTILE = '<script>alert("x")</script>, =cmd|\\input{/etc/passwd} $x$ `#'

    @staticmethod
    def spec(
        task: str, generator: str, seeds: int, variant: str = "default", iterations: int = 4, algorithm: str = "bc"
    ) -> RunSpec:
        config: Any = Nothing() if generator == "none" else Iterated(iterations)
        methods = Method(generator, config), Method(algorithm, Nothing())
        return RunSpec(task, *methods, Settings(), tuple(range(seeds)), variant)

    @staticmethod
    def evaluations(seeds: int, level: float, scored: bool = True, steps: int = 4) -> list[Record]:
        """Seed s scores level + s, 10 more per evaluation: four average to level + s + 25 by the rule."""
        return [
            record
            for seed in range(seeds)
            for step in range(steps)
            for record in (
                Record(seed, 100 * step, "return", 7 * (level + seed + 10 * step)),
                Record(seed, 100 * step, "normalized_score", level + seed + 10 * step if scored else None),
                Record(seed, 100 * step, "train/loss", 0.5),
            )
        ]

    @staticmethod
    def fidelity(seeds: int, horizon: int = 6) -> list[Record]:
        """Curves that grow with the horizon, and a few numbers that are no curves."""
        sizes = {
            "median": 0.01, "mean": 0.02, "floor": 1e-9, "chaos": 1e-12, "alive": 0.1, "still": 0.3, "local": 0.01,
            "capped": 0.0, "closed": 0.02,
        }  # fmt: skip
        numbers = (
            "compounding/starts_excluded", "compounding/leakage", "cost/fit_seconds", "cost/updates_per_second",
        )  # fmt: skip
        curves = [
            Record(seed, 300, f"compounding/{actions}/{quantity}", size * h, h)
            for seed in range(seeds)
            for h in range(1, horizon + 1)
            for actions in ("policy", "logged")
            for quantity, size in sizes.items()
            if (actions, quantity) != ("logged", "closed")
        ]
        return curves + [Record(seed, 300, metric, 3.0) for seed in range(seeds) for metric in numbers]

    @staticmethod
    def provenance(seeds: int) -> dict[str, Any]:
        return {
            "seeds": list(range(seeds)),
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 12.0,
            "commit": "0123abcd",
            "dirty": True,
            "versions": {"torch": "2.13.0"},
            "device": "cpu",
            "threads": 2,
            "physics": "toy v1",
            "dataset_sha256": "ab" * 32,
            "dataset": {"recipe": f"{HOME}/recipe.toml"},
        }

    @classmethod
    def planted(
        cls,
        root: Path,
        gains: Mapping[str, Sequence[float]],
        *,
        tasks: Sequence[str] = ("toy/linear",),
        scored: bool = True,
        more: Mapping[str, Sequence[Record]] = MappingProxyType({}),
        **settings: Any,
    ) -> ResultStore:
        """Cells whose seed s scores 20 + 2 s and a gain, where `none`, if it is there, has gains of its own.

        A name is a generator, or generator__variant; `more` are further records by name.
        """
        store = ResultStore(root)
        specs = []
        for task, (name, gain) in product(tasks, gains.items()):
            generator, _, variant = name.partition("__")
            iterations = int(variant.rpartition("=")[2] or 4)
            spec = cls.spec(task, generator, len(gain), variant or "default", iterations)
            spec = replace(spec, settings=Settings(**{"updates": 100, "evaluate_every": 100, **settings}))
            records = [
                record
                for seed, by in enumerate(gain)
                for record in (
                    Record(seed, 100, "return", 7 * (20.0 + 2 * seed + by)),
                    Record(seed, 100, "normalized_score", 20.0 + 2 * seed + by if scored else None),
                )
            ]
            store.finish(spec, cls.provenance(len(gain)), [*records, *more.get(name, [])])
            specs.append(spec)
        store.plan("planted", specs)
        return store

    @classmethod
    def folder(cls, root: Path) -> ResultStore:
        """none and mopo on a scored task, a cell that fails, seeds missing, a task without reference returns."""
        store = ResultStore(root)
        good = {generator: cls.spec("toy/linear", generator, 6) for generator in ("none", "mopo")}
        few = cls.spec("local/hopper-medium", "none", 3)
        hostile = cls.spec("local/hopper-medium", "mopo", 3, cls.HOSTILE, iterations=1)
        broken = cls.spec("toy/linear", "dydiff", 6)
        never = cls.spec("local/hopper-medium", "dydiff", 2)
        store.plan(f"{HOME}/mine.toml", [*good.values(), few, hostile, broken, never])
        store.finish(good["none"], cls.provenance(6), cls.evaluations(6, 0.0))
        store.finish(good["mopo"], cls.provenance(6), cls.evaluations(6, 20.0) + cls.fidelity(6))
        store.finish(few, cls.provenance(2), cls.evaluations(2, 0.0, scored=False))
        store.finish(hostile, {}, cls.evaluations(3, 1.0, scored=False) + cls.fidelity(3))
        error = f'Traceback\n  File "{HOME}/x.py"\nValueError: <b>bad</b> {HOME}/data/x.hdf5 is torn\n'
        store.fail(broken, cls.provenance(6), error)
        return store


class Varied:
    """Small suites in which a field of dydiff, or a setting, varies."""

    NONE = (10.0, 11.0, 12.0, 13.0, 14.0)  # scores of generator none, seed by seed
    WON = (20.0, 21.5, 21.5, 23.0, 24.0)
    LOST = (2.0, 3.0, 4.0, 5.5, 5.5)

    @classmethod
    def fill(
        cls, folder: Path, vary: str, score: Mapping[int, Sequence[float]], seeds: int = 5, also: str = ""
    ) -> ResultStore:
        """The cells of a suite, with scores by number of rounds, seed by seed."""
        text = f'extends = "smoke"\ngenerators = ["none", "dydiff"]\n{also}\n[vary]\n{vary}\n'
        (folder / "suite.toml").write_text(text, encoding="utf-8")
        store = ResultStore(folder / "out")
        specs = cells(load_suite(str(folder / "suite.toml"), seeds=seeds))
        store.plan("ablation", specs)
        for spec in specs:
            made = {"seeds": list(spec.seeds), "status": "ok", "dataset_sha256": "ab" * 32}
            store.finish(spec, made, cls._records(spec, score))
        return store

    @classmethod
    def _records(cls, spec: RunSpec, score: Mapping[int, Sequence[float]]) -> list[Record]:
        rounds = getattr(spec.generator.config, "iterations", None)
        levels = cls.NONE if rounds is None else score[rounds]
        curve = "compounding/policy/median"
        return [
            Record(seed, step, metric, value, horizon)
            for seed in spec.seeds
            for step in (50, 100)
            for metric, value, horizon in (
                ("return", levels[seed], None),
                ("normalized_score", levels[seed], None),
                *([(curve, 0.1 + levels[0] / 100, 1)] if step == 100 and rounds is not None else []),
                *([("generate/lag", 1 / rounds, None)] if rounds else []),
            )
        ]


@configuration
class Model:
    updates: int = 1
    width: int = 8


@configuration
class Diffusion:
    model: Model = Model()
    rounds: int = 1


class Budgets:
    """Cells of generators at several lengths of their fits, each four times the one before."""

    FLOP = (1e10, 4e10, 1.6e11, 6.4e11)

    @staticmethod
    def spec(generator: str, updates: int, seeds: int, variant: str, **more: Any) -> RunSpec:
        methods = Method(generator, Diffusion(Model(updates), **more)), Method("bc", Model())
        return RunSpec("toy/linear", *methods, Settings(real_fraction=1.0), tuple(range(seeds)), variant)

    @classmethod
    def fill(
        cls,
        root: Path,
        laws: Mapping[str, Callable[[float, int, int], float]],
        *,
        seeds: int = 3,
        flop: Sequence[float] = FLOP,
        horizons: Sequence[int] = (1, 5, 10),
        tasks: Sequence[str] = ("toy/linear",),
    ) -> ResultStore:
        """Errors by FLOP, seed and horizon. A name is a generator, or generator__series; `simulator` has no models."""
        store = ResultStore(root)
        for task in tasks:
            for name, law in laws.items():
                generator, _, own = name.partition("__")
                rounds = 1 + len(own)
                for place, spent in enumerate([0.0] if generator == "simulator" else flop):
                    variant = ", ".join(part for part in (own, f"x{4**place}") if part)
                    spec = replace(cls.spec(generator, 4**place, seeds, variant, rounds=rounds), task=task)
                    made = cls._records(law, spent, seeds, horizons)
                    provenance = {"seeds": list(range(seeds)), "status": "ok", "dataset_sha256": "ab" * 32}
                    store.finish(spec, provenance, list(made))
        return store

    @staticmethod
    def _records(
        law: Callable[[float, int, int], float], spent: float, seeds: int, horizons: Sequence[int]
    ) -> list[Record]:
        found = []
        for seed in range(seeds):
            found += [Record(seed, 9, "return", 5.0)]
            if spent:
                found += [Record(seed, 9, "cost/model_flop", spent)]
                found += [Record(seed, 9, "cost/flops_per_transition", 1e6)]
            for h in horizons:
                for actions in ("policy", "logged"):
                    numbers = {"median": law(spent, seed, h), "floor": 1e-9, "still": 2.0}
                    found += [Record(seed, 9, f"compounding/{actions}/{name}", x, h) for name, x in numbers.items()]
        return found


@pytest.fixture(scope="session", autouse=True)
def outlined_letters() -> Iterator[None]:
    """To cut a TrueType font to the letters of a pdf takes longer than to draw its figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_STYLE, "pdf.fonttype", 3)
        yield


@pytest.fixture(scope="session")
def build() -> type[Builder]:
    return Builder


@pytest.fixture(scope="session")
def varied() -> type[Varied]:
    return Varied


@pytest.fixture(scope="session")
def budgets() -> type[Budgets]:
    return Budgets


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return Builder.folder(tmp_path / "results")


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The report of that folder, to look at only."""
    store = Builder.folder(tmp_path_factory.mktemp("reported"))
    return store.root / "report", report(store)


@pytest.fixture(scope="session")
def rows() -> Callable[[Path], list[dict[str, str]]]:
    """The rows of a csv file, as text."""
    return lambda path: list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
