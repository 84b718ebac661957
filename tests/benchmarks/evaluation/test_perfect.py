"""A perfect generator is clean in every metric and diagnostic: the simulator itself, and copies of real rows.

Where it need not be, the list says why. Planted faults are seen.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from algorithms.base import CriticState
from benchmarks.evaluation.rollouts import evaluate_rollouts
from benchmarks.execution.collector import RecordCollector
from benchmarks.report.results import collect
from benchmarks.report.sections.diagnostics import diagnostics_table
from benchmarks.spec import RunSpec, Settings
from benchmarks.store import ResultStore
from core.data import Trajectories
from core.filter import Filter
from core.policy import UniformPolicy
from core.random import Streams
from core.registry import build_method
from models.cache import ModelCache
from tasks.base import DataOptions, load_task

SEEDS = (0, 1)
STARTS = 64
SETTINGS = Settings(fidelity_starts=STARTS, fidelity_horizon=8)
Found = dict[str, np.ndarray]
Rule = Callable[[Found, str], Any] | str  # whether a value is clean, or why it need not be

DETERMINISTIC = ("td3bc", "bc")  # policies
NOISE = 4.5  # standard errors
ROUNDING = 1e-3


def at_the_floor(found: Found, name: str) -> Any:
    """The process noise is in the floor: three of its medians are more than its 90th percentile."""
    return found[name] <= 3 * found[name.rpartition("/")[0] + "/floor"] + ROUNDING


def within_its_error(found: Found, name: str) -> Any:
    return np.abs(found[name]) <= NOISE * found[name.split("/")[0] + "/gap_error"] + ROUNDING


def zero(found: Found, name: str) -> Any:
    return np.abs(found[name]) <= ROUNDING


def one(found: Found, name: str) -> Any:
    return np.abs(found[name] - 1) <= ROUNDING


def as_alive_as_the_policy(found: Found, name: str) -> Any:
    own = found["compounding/policy/alive_on_policy"]
    share = np.clip((found[name] + own) / 2, 0, 1 - 1 / STARTS)
    return np.abs(found[name] - own) <= NOISE * np.sqrt(2 * share * (1 - share) / STARTS)


def as_apart_as_two_lives(found: Found, name: str) -> Any:
    """Both are medians over the same starts; their means over steps and seeds are less noisy."""
    return found[name].mean() <= 1.3 * found[f"{name}_floor"].mean() + ROUNDING


def nearer_than_halves(found: Found, name: str) -> Any:
    """Up to sampling error of both; the energy distance is about the square of the other for small ones."""
    power = 2 if "energy" in name else 1
    return found[name] <= (1.4 * found["distance/wasserstein_floor"]) ** power


def promises_what_is_paid(found: Found, name: str) -> Any:
    return np.abs(found[name] - found[name.replace("generated", "true")]) <= 0.3


def as_good_as_the_filter_can_know(found: Found, name: str) -> Any:
    return np.isnan(found[name]) | (found[name] > 0.95)  # NaN: all rewards are equal


CLEAN: dict[str, Rule] = {
    r"compounding/\w+/(median|mean|q10|q90|local)": at_the_floor,
    r"compounding/\w+/(capped|not_finite)": zero,
    r"compounding/leakage": zero,
    r"compounding/logged/alive": one,
    r"compounding/policy/alive": as_alive_as_the_policy,
    r"compounding/policy/closed": as_apart_as_two_lives,
    r"compounding/\w+/(floor|chaos|still|closed_floor|alive_on_policy)": "what others are read against",
    r"compounding/starts_excluded": "of the data",
    r"returns/(reward|termination|unsplit)": zero,
    r"returns/(gap|dynamics|feedback)": within_its_error,
    r"returns/used": one,
    r"returns/(generated|replayed|on_policy|gap_error)": "returns, and what noise makes of them",
    r"filter/generated_\w+": promises_what_is_paid,
    r"filter/true_\w+": "returns",
    r"filter/rank_correlation": as_good_as_the_filter_can_know,
    r"bound/gap": within_its_error,
    r"bound/\w+": "bounds, from above, and the constants in them",
    r"distance/(energy|wasserstein)": nearer_than_halves,
    r"distance/\w+_floor": "what others are read against",
    r"consistency/(kl|energy)": lambda found, name: np.abs(found[name]) < 0.4,
    r"consistency/distance": "a policy that explores is away from its greedy actions",
    r"behaviour/\w+/\w+": "of the policy: perfect rollouts are where it goes",
    r"values/ratio": "of the critic",
}
OF_REAL_ROWS: dict[str, Rule] = {  # in one step; later ones have no value
    r"compounding/policy/alive": one,
    r"compounding/policy/closed": "the actions are those of the data, not of the policy",
    r"returns/(gap|feedback)": "the actions are those of the data",
    r"returns/dynamics": zero,
    r"bound/gap": "the actions are those of the data",
    r"distance/energy": "the actions are those of the data",
    r"consistency/\w+": "the actions are those of the data",
    r"behaviour/nearest/generated": zero,
}
OF_DETERMINISTIC: dict[str, Rule] = {r"consistency/\w+": zero}
OF_FIXED: dict[str, Rule] = {  # deterministic policies in a simulator without noise
    r"compounding/policy/(closed|closed_floor)": zero,
    r"returns/(gap|dynamics|feedback)": zero,
    r"bound/(gap|gap_error|autoregressive|non_autoregressive)": lambda found, name: found[name] < 0.05,
    r"distance/(energy|wasserstein)": zero,
}


@dataclass(frozen=True)
class Spoiled:
    """Perfect rollouts with one fault."""

    fitted: Any
    spoil: Callable[[Trajectories], Trajectories]

    def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
        return self.spoil(self.fitted.generate(policy, start, length, rng))


@dataclass(frozen=True)
class World:
    """Generators on one task, under one policy."""

    task: Any
    data: Any
    state: Any

    def fitted(self, generator: str) -> Any:
        rng = Streams(SEEDS, "fit")
        return build_method("generators", generator, {}).fit(self.task, self.data, ModelCache(rng), rng)

    def measured(self, fitted: Any) -> Found:
        values = evaluate_rollouts(
            self.task,
            self.data,
            fitted,
            self.state.policy,
            SETTINGS,
            Streams(SEEDS),
            keep=Filter(mode="hardmax", share=0.5),
            critic=self.state.action_value if isinstance(self.state, CriticState) else None,
        )
        return {name: value.double().numpy() for name, value in values}


def world(name: str, algorithm: str) -> World:
    """The policy is an untrained one: what it is does not matter."""
    task = load_task(name, DataOptions(dataset_rows=10_000 if name.startswith("toy/") else 2000))
    data, _ = task.dataset()
    if task.behaviour is None:
        task = replace(task, behaviour=UniformPolicy(data.train.action.shape[-1]))  # takes no fit
    fields = {"hidden": [16, 16]} | ({"candidates": 2} if algorithm == "dql" else {})
    return World(task, data, build_method("algorithms", algorithm, fields).init(data, Streams(SEEDS, "init")))


def unclean(found: Found, *rules: dict[str, Rule]) -> list[str]:
    """Names of values that break their rule, the last of `rules` that has one; every name has one."""
    bad = []
    for name in found:
        (rule,) = [of_kind[key] for of_kind in rules for key in of_kind if re.fullmatch(key, name)][-1:]
        if not isinstance(rule, str) and not np.all(rule(found, name)):
            bad.append(name)
    return bad


def diagnosed(found: Found, folder: Path, spec: RunSpec) -> list[str]:
    records = RecordCollector(SEEDS)
    records.add(9, [(name, torch.from_numpy(value)) for name, value in found.items()])
    store = ResultStore(folder)
    store.finish(spec, {}, records.records)
    table = diagnostics_table(collect(store))
    return [row[table.head.index("signature")].text for row in table.rows]


CASES = [
    *(("toy/linear", algorithm) for algorithm in ("td3bc", "cql", "dql", "iql")),
    *(("local/hopper-random", algorithm) for algorithm in ("td3bc", "cql")),  # episodes end
    *(("local/maze2d-umaze", algorithm) for algorithm in ("td3bc", "iql")),
]


@pytest.mark.parametrize(("task", "algorithm"), CASES)
def test_perfect_rollouts_are_clean(task: str, algorithm: str, tmp_path: Path, spec: RunSpec) -> None:
    here = world(task, algorithm)
    rules = [CLEAN]
    if algorithm in DETERMINISTIC:
        rules += [OF_DETERMINISTIC] if task.startswith("toy/") else [OF_DETERMINISTIC, OF_FIXED]
    found = here.measured(here.fitted("simulator"))
    assert unclean(found, *rules) == []
    seen = diagnosed(found, tmp_path, spec)
    assert set(seen) <= {"off the data", "narrow data"}  # where an untrained policy goes, perfect rollouts follow
    assert ("off the data" in seen) <= ("narrow data" in seen)


@pytest.mark.parametrize(("task", "algorithm"), CASES)
def test_copies_of_real_rows_are_clean(task: str, algorithm: str, tmp_path: Path, spec: RunSpec) -> None:
    here = world(task, algorithm)
    found = here.measured(here.fitted("duplicate"))
    first = {name: value[:, :1] if value.ndim == 2 else value for name, value in found.items()}
    assert unclean(first, CLEAN, OF_REAL_ROWS) == []
    later = [
        name
        for name, value in found.items()
        if name.startswith("returns/") and value.ndim == 2 and not np.isnan(value[:, 1:]).all()
    ]
    assert later == []
    assert set(diagnosed(found, tmp_path, spec)) <= {"narrow data", "not the policy's actions"}  # both are true


def early(made: Trajectories) -> Trajectories:
    steps = torch.arange(made.valid.shape[-1])
    return replace(made, valid=made.valid & (steps < 3), terminated=made.terminated | (steps == 2))


def shaken(made: Trajectories) -> Trajectories:
    noise = 0.3 * made.obs.flatten(1, 2).std(1)[:, None, None] * Streams(SEEDS).normal(*made.obs.shape[1:])
    noise[:, :, 0] = 0
    return replace(made, obs=made.obs + noise)


def overpaid(made: Trajectories) -> Trajectories:
    return replace(made, reward=made.reward + 1)


def other_actions(made: Trajectories) -> Trajectories:
    return replace(made, action=made.action.roll(1, 1) + 1.5)


FAULTS: dict[str, tuple[Any, set[str], set[str]]] = {  # metrics and diagnostics in which each must show
    "ends too early": (early, {"compounding/policy/alive", "returns/termination", "returns/gap"}, {"wrong ends"}),
    "off by noise": (shaken, {"compounding/policy/median", "compounding/policy/local", "returns/reward"}, set()),
    "overpaid": (overpaid, {"returns/gap"}, set()),
    "other actions": (other_actions, {"consistency/kl", "compounding/policy/median"}, {"not the policy's actions"}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("algorithm", ["td3bc", "cql"])
def test_planted_faults_are_seen(fault: str, algorithm: str, tmp_path: Path, spec: RunSpec) -> None:
    (spoil, metrics, signatures) = FAULTS[fault]
    here = world("local/hopper-random", algorithm)
    found = here.measured(Spoiled(here.fitted("simulator"), spoil))
    assert metrics <= set(unclean(found, CLEAN))
    assert signatures <= set(diagnosed(found, tmp_path, spec))


def test_one_number_that_is_not_finite_blanks_nothing() -> None:
    """It is cut off, as it is before training, and its share is said."""

    def broken(made: Trajectories) -> Trajectories:
        made.reward[0, 2, 3] = torch.nan
        made.obs[1, 5, 2, 0] = torch.inf
        return made

    here = world("toy/linear", "cql")
    clean = here.measured(here.fitted("simulator"))
    found = here.measured(Spoiled(here.fitted("simulator"), broken))
    assert {name for name in found if np.isnan(found[name]).any()} == set()
    lost = found["compounding/policy/not_finite"]
    assert lost == pytest.approx([5 / (8 * STARTS), 7 / (8 * STARTS)])
    assert set(unclean(found, CLEAN)) == {"compounding/policy/not_finite"}
    for name in ("returns/generated", "returns/on_policy", "compounding/policy/median"):
        assert np.allclose(found[name], clean[name], rtol=0.05, atol=0.05), name
