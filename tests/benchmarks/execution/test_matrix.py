"""Cells one after the other: failures stay where they are, nothing runs twice, and numbers repeat."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from algorithms.base import Algorithm
from algorithms.bc import BC
from benchmarks.evaluation.policy import evaluate_policy
from benchmarks.execution import matrix
from benchmarks.execution.cell import run_cell
from benchmarks.records import Record
from benchmarks.report import report
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core import registry
from core.data import Batch, Dataset, Trajectories
from core.errors import DataError
from core.interrupt import Stopped
from core.random import Streams
from generators.base import Generator
from generators.none import RealOnly
from tasks.base import load_task
from tasks.sources.toy import LinearSystem

CPU = torch.device("cpu")
Cells = Callable[..., list[RunSpec]]
Numbers = Callable[[list[Record]], list[str]]


@dataclass(frozen=True)
class Broken(Generator):
    """A generator that cannot learn."""

    rollouts = 1
    rollout_length = 1
    refresh_every = None

    def fit(self, *arguments: Any) -> None:
        raise ArithmeticError("the model fell over")


@dataclass(frozen=True)
class Exploding(Algorithm):
    """BC whose seed 1 meets NaN at the fourth update."""

    batch_size: int = 16

    def init(self, data: Dataset, rng: Streams) -> Any:
        state = BC(hidden=(8, 8)).init(data, rng)
        state.count = 0
        return state

    def update(self, state: Any, batch: Batch, rng: Streams) -> dict[str, torch.Tensor]:
        state.count += 1
        sick = torch.tensor([seed == 1 and state.count == 4 for seed in rng.seeds])
        obs = batch.obs.where(~sick[:, None, None], torch.nan)
        return BC(hidden=(8, 8)).update(state, replace(batch, obs=obs), rng)


@dataclass(frozen=True)
class Bursting(RealOnly):
    """Copies of the start whose second step is infinite in every other rollout; seed 1 makes nothing else."""

    rollouts: int = 8
    rollout_length: int = 3

    def fit(self, *arguments: Any) -> Any:
        return self

    def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
        obs = start.unsqueeze(2).repeat(1, 1, length + 1, 1)
        obs[:, ::2, 2] = torch.inf
        obs[1, :, 1] = torch.nan
        shape = (*start.shape[:2], length)
        action = torch.stack([policy.act(state, None) for state in obs[:, :, :1].unbind(2)], 2).repeat(1, 1, length, 1)
        ends = torch.zeros(shape, dtype=torch.bool)
        return Trajectories(action=action, obs=obs, reward=torch.ones(shape), terminated=ends, valid=~ends)


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> str:
    """A class outside the tree, by the name that a suite uses."""
    module = ModuleType("fragile")
    for example in (Broken, Exploding, Bursting):
        setattr(module, example.__name__, example)
    monkeypatch.setitem(sys.modules, "fragile", module)
    return "fragile:Broken"


def run(specs: list[RunSpec], folder: Path, jobs: int = 1) -> tuple[int, ResultStore]:
    store = ResultStore(folder)
    return matrix.run_missing(specs, store, CPU, None, partial(matrix.local, jobs=jobs)), store


def test_rows_that_are_not_finite_are_not_learned_from(tmp_path: Path, plug_in: str, tiny_cells: Cells) -> None:
    """Half of the rollouts lose two of three steps; of seed 1 nothing is left, and it learns from real rows."""
    generator = plug_in.replace("Broken", "Bursting")
    failed, store = run(tiny_cells(f'generators=["{generator}"]', "fidelity_starts=1"), tmp_path)
    (cell,) = store.cells()
    share = {record.seed: record.value for record in cell.records if record.metric == "generate/not_finite"}
    assert failed == 0
    assert cell.error is None
    assert cell.done == (0, 1)
    assert share == pytest.approx({0: 1 / 3, 1: 1.0})
    rows = {record.seed: record.value for record in cell.records if record.metric == "cost/generated_rows"}
    assert rows == {0: 8.0, 1: 8.0}  # a mean over seeds: 16 and 0


def test_a_failing_cell_is_recorded_and_the_others_run(tmp_path: Path, plug_in: str, tiny_cells: Cells) -> None:
    failed, store = run(tiny_cells(f'generators=["{plug_in}", "none"]'), tmp_path)
    found = {cell.spec["generator"]["name"]: cell for cell in store.cells()}
    assert failed == 1
    assert set(found) == {plug_in, "none"}
    broken = found[plug_in]
    fine = found["none"]
    assert broken.error is not None
    assert broken.error.startswith("Traceback")
    assert "ArithmeticError: the model fell over" in broken.error
    assert "in fit" in broken.error
    assert (broken.done, broken.records, broken.runs[-1]["status"]) == ((), [], "failed")
    assert (fine.done, fine.error, fine.runs[-1]["status"]) == ((0, 1), None, "ok")


def test_a_failing_cell_is_tried_again_the_others_are_not(
    tmp_path: Path,
    plug_in: str,
    monkeypatch: pytest.MonkeyPatch,
    tiny_cells: Cells,
    never: Callable[..., Any],
) -> None:
    specs = tiny_cells(f'generators=["{plug_in}", "none"]')
    run(specs, tmp_path)
    tried = []
    monkeypatch.setattr(matrix, "run_cell", lambda spec, *others: tried.append(spec.generator.name) or never())
    assert run(specs, tmp_path)[0] == 1
    assert tried == [plug_in]


def test_data_that_cannot_be_had_is_a_failure_of_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_cells: Cells
) -> None:
    specs = tiny_cells('generators=["none"]', "vary.dataset_rows=[1, 1000]")
    failed, store = run(specs, tmp_path)
    errors = {cell.spec["settings"]["dataset_rows"]: cell.error for cell in store.cells()}
    assert failed == 1
    assert errors[1000] is None
    assert DataError.__name__ in str(errors[1])


@pytest.mark.parametrize(("generator", "noticed"), [("none", 6), ("ensemble", 4)])
def test_a_diverging_seed_leaves_the_others_as_they_are(
    tmp_path: Path,
    plug_in: str,
    generator: str,
    noticed: int,
    tiny_cells: Cells,
    numbers: Numbers,
) -> None:
    """Noticed at the next evaluation (every third update) or before the next rollouts (every second)."""
    algorithm = plug_in.replace("Broken", "Exploding")
    overrides = (f'generators=["{generator}"]', f'algorithms=["{algorithm}"]', "updates=9", "ensemble.refresh_every=2")
    failed, store = run(tiny_cells(*overrides, "seeds=[0, 1, 2]"), tmp_path / "three")
    _, alone = run(tiny_cells(*overrides, "seeds=[0, 2]"), tmp_path / "two")
    (cell,) = store.cells()
    (healthy,) = alone.cells()
    assert failed == 1
    assert cell.done == (0, 1, 2)
    assert cell.error is None
    assert numbers([record for record in cell.records if record.seed != 1]) == numbers(healthy.records)
    sick = [record for record in cell.records if record.seed == 1]
    assert sick[-1] == Record(1, noticed, "diverged/actor", None)
    assert [record.step for record in sick if record.metric == "return"] == [3]
    assert all(record.value is not None for record in sick[:-1])


def test_a_cell_ends_for_good_when_all_seeds_have_diverged(
    tmp_path: Path,
    plug_in: str,
    monkeypatch: pytest.MonkeyPatch,
    tiny_cells: Cells,
    never: Callable[..., Any],
) -> None:
    algorithm = plug_in.replace("Broken", "Exploding")
    specs = tiny_cells('generators=["ensemble"]', f'algorithms=["{algorithm}"]', "updates=300", "seeds=[1]")
    failed, store = run(specs, tmp_path)
    (cell,) = store.cells()
    assert failed == 1
    assert [record for record in cell.records if record.step > 6] == []
    monkeypatch.setattr(matrix, "run_cell", never)
    assert run(specs, tmp_path)[0] == 0
    store.plan("smoke", specs)
    assert report(store) == [f"diverged: toy/linear / ensemble / {algorithm}, seed 1: actor is not finite at update 6"]


def test_the_policy_of_a_diverged_seed_stays_finite(
    tmp_path: Path, plug_in: str, monkeypatch: pytest.MonkeyPatch, tiny_cells: Cells
) -> None:
    real = evaluate_policy
    asked = list[torch.Tensor]()

    def watched(task: Any, policy: Any, episodes: int, rng: Streams) -> Any:
        asked.append(policy.act(torch.ones(3, 5, 4), None))
        return real(task, policy, episodes, rng)

    monkeypatch.setattr("benchmarks.execution.cell.evaluate_policy", watched)
    algorithm = plug_in.replace("Broken", "Exploding")
    run(tiny_cells('generators=["none"]', f'algorithms=["{algorithm}"]', "updates=12", "seeds=[0, 1, 2]"), tmp_path)
    assert len(asked) == 4
    assert all(action.isfinite().all() for action in asked)
    frozen = [action[1] for action in asked]
    going = [action[0] for action in asked]
    assert all(torch.equal(action, frozen[0]) for action in frozen[1:])
    assert not torch.equal(going[0], going[1])


def test_an_interrupt_stops_everything_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_cells: Cells
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(matrix, "run_cell", interrupted)
    with pytest.raises(Stopped):
        run(tiny_cells(), tmp_path)
    assert ResultStore(tmp_path).cells() == []


def test_a_second_run_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_cells: Cells, never: Callable[..., Any]
) -> None:
    specs = tiny_cells()
    assert run(specs, tmp_path)[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(matrix, "run_cell", never)
    assert run(specs, tmp_path)[0] == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_seeds_added_later_have_the_numbers_of_one_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_cells: Cells,
    numbers: Numbers,
) -> None:
    ran = []
    real = run_cell
    monkeypatch.setattr(matrix, "run_cell", lambda spec, *others: ran.append(spec.seeds) or real(spec, *others))
    _, later = run(tiny_cells('generators=["none"]', "seeds=[0, 2]"), tmp_path / "later")
    run(tiny_cells('generators=["none"]', "seeds=[0, 1, 2]"), tmp_path / "later")
    _, once = run(tiny_cells('generators=["none"]', "seeds=[0, 1, 2]"), tmp_path / "once")
    assert ran == [(0, 2), (1,), (0, 1, 2)]
    (one,) = later.cells()
    (other,) = once.cells()
    assert one.done == (0, 1, 2)
    assert numbers(one.records) == numbers(other.records)


def test_tables_do_not_depend_on_how_many_cells_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_cells: Cells
) -> None:
    texts = []
    for name, jobs in (("first", 1), ("second", 2)):
        monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path / f"cache of {name}"))  # models are fitted again
        specs = tiny_cells()
        failed, store = run(specs, tmp_path / name, jobs)
        store.plan("smoke", specs)
        assert failed == 0
        assert report(store) == []
        texts.append({file: (store.root / "report" / file).read_bytes() for file in ("scores.csv", "compounding.csv")})
    assert texts[0] == texts[1]
    assert texts[0]["scores.csv"].count(b"\n") > 4
    assert texts[0]["compounding.csv"].count(b"\n") > 4


def test_what_a_run_leaves_behind_can_be_traced(tmp_path: Path, tiny_cells: Cells) -> None:
    _, store = run(tiny_cells('generators=["ensemble"]'), tmp_path)
    (cell,) = store.cells()
    (origin,) = cell.runs
    assert origin["seeds"] == [0, 1]
    assert origin["status"] == "ok"
    assert origin["versions"]["torch"] == torch.__version__
    assert origin["physics"] == LinearSystem().physics
    assert len(origin["dataset_sha256"]) == 64
    assert origin["dataset"]["rows"] == 1000
    assert (origin["horizon"], len(origin["score_range"])) == (50, 2)
    assert origin["seconds"] > 0
    assert origin["started"].endswith("+00:00")
    metrics = {(record.step, record.metric, record.horizon) for record in cell.records}
    assert {(3, "return", None), (6, "return", None), (6, "normalized_score", None)} <= metrics
    assert {(3, "train/critic", None), (6, "compounding/policy/mean", 1), (6, "compounding/logged/mean", 3)} <= metrics
    costs = {record.metric: record.value for record in cell.records if record.metric.startswith("cost/")}
    assert costs["cost/generated_rows"] == 8 * 5
    assert all(value is not None and value > 0 for value in costs.values())
    flop = [costs[f"cost/{part}_flop"] or 0.0 for part in ("model", "generate", "update", "total")]
    assert flop[-1] == sum(flop[:-1])
    assert flop[1] > 8 * 5 * (costs["cost/flops_per_transition"] or 0.0), "the policy and the padding, too"


@pytest.mark.parametrize(
    "overrides",
    [(), ("real_fraction=0.0", "regularise=all", "buffer_rows=50", "shared_models=true"), ("regularise=all",)],
)
def test_settings_reach_the_run(
    tmp_path: Path,
    overrides: tuple[str, ...],
    tiny_cells: Cells,
    numbers: Numbers,
) -> None:
    _, plain = run(tiny_cells('generators=["ensemble"]'), tmp_path / "plain")
    _, other = run(tiny_cells('generators=["ensemble"]', *overrides), tmp_path / "other")
    same = numbers(plain.cells()[0].records) == numbers(other.cells()[0].records)
    assert same == (not overrides)


def test_refreshes_add_rows_to_the_buffer(tmp_path: Path, tiny_cells: Cells) -> None:
    _, store = run(tiny_cells('generators=["ensemble"]', "ensemble.refresh_every=2"), tmp_path)
    rows = [record.value for record in store.cells()[0].records if record.metric == "cost/generated_rows"]
    assert rows == [3 * 8 * 5] * 2


@pytest.mark.parametrize(  # all are in the generators' contract
    "generator", ["none", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ensemble", "synther", "dydiff"))]
)
def test_a_seed_alone_gives_the_records_it_gives_among_others(generator: str, numbers: Numbers) -> None:
    kind = registry.load("generators", generator)
    preset = (f'{generator}.preset="smoke"',) if "smoke" in kind.presets else ()
    overrides = (f'generators=["{generator}"]', *preset, "seeds=[0, 1, 2]", "updates=201", "evaluate_every=67")
    (spec,) = cells(load_suite("smoke", (*overrides, "episodes=3", "dataset_rows=3000", "fidelity_horizon=5")))
    task = load_task(spec.task, spec.settings.data_options(None))
    together, _ = run_cell(spec, task, CPU)
    alone, _ = run_cell(replace(spec, seeds=(1,)), task, CPU)
    mine = [record for record in together if record.seed == 1]
    assert numbers(mine) == numbers(alone)
    assert len(numbers(alone)) > 10
    assert json.loads(alone[0].line())["seed"] == 1
