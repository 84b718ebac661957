"""Signatures of failures: seen in sick cells, not in healthy ones, and not where nothing is known."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import Record
from benchmarks.report.results import Results, collect
from benchmarks.report.signatures import SIGNATURES, Signature, numbers, signs
from benchmarks.store import ResultStore

Key = tuple[str, int | None]  # metric, horizon
HEALTHY: dict[Key, float] = {
    ("compounding/policy/median", 1): 0.9,
    ("compounding/policy/still", 1): 1.0,
    ("compounding/policy/median", 10): 0.4,
    ("compounding/policy/still", 10): 1.0,
    ("compounding/policy/alive", 10): 0.9,
    ("compounding/policy/alive_on_policy", 10): 1.0,
    ("distance/wasserstein", 10): 0.2,
    ("distance/wasserstein_floor", 10): 0.1,
    ("filter/rank_correlation", None): 0.8,
    ("values/ratio", None): 1.5,
    ("consistency/kl", None): 0.1,
    ("behaviour/nearest/heldout", None): 0.5,
    ("behaviour/nearest/generated", None): 0.6,
    ("behaviour/nearest/on_policy", None): 0.5,
    ("generate/residual", 1): 0.2,
    ("generate/residual", 2): 0.1,
}
SICK: dict[str, tuple[dict[Key, float], float]] = {
    "little learned": ({("compounding/policy/median", 10): 0.7}, 0.7),
    "off the policy's path": ({("distance/wasserstein", 10): 0.5}, 5.0),
    "not the policy's actions": ({("consistency/kl", None): 2.5}, 2.5),
    "off the data": ({("behaviour/nearest/generated", None): 2.0}, 4.0),
    "narrow data": ({("behaviour/nearest/on_policy", None): 5.0}, 10.0),
    "wrong ends": ({("compounding/policy/alive", 10): 0.3}, 0.7),
    "filter misled": ({("filter/rank_correlation", None): -0.1}, -0.1),
    "values blow up": ({("values/ratio", None): 9.0}, 9.0),
    "rounds do not settle": ({("generate/residual", 2): 0.3}, 1.5),
}


def results(folder: Path, build: Any, *seeds: dict[Key, float]) -> Results:
    """One cell: by seed, what was measured last."""
    store = ResultStore(folder)
    early = [Record(seed, 100, "generate/residual", 50.0, 2) for seed in range(len(seeds))]
    last = [
        Record(seed, 300, metric, value, horizon)
        for seed, own in enumerate(seeds)
        for (metric, horizon), value in own.items()
    ]
    store.finish(build.spec("toy/linear", "none", len(seeds)), {}, early + last)
    return collect(store)


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.name)
def test_a_signature_is_seen_in_the_sick(signature: Signature, tmp_path: Path, build: Any) -> None:
    change, number = SICK[signature.name]
    (shown,) = signs(results(tmp_path, build, HEALTHY | change)).values()
    assert shown == [(signature, pytest.approx(number))]


def test_no_signature_is_seen_in_the_healthy(tmp_path: Path, build: Any) -> None:
    assert list(signs(results(tmp_path, build, HEALTHY)).values()) == [[]]


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.name)
def test_what_is_not_measured_is_not_seen(signature: Signature, tmp_path: Path, build: Any) -> None:
    (own,) = numbers(results(tmp_path, build, {("return", None): 1.0})).iloc
    assert math.isnan(signature.number(own))
    assert not signature.seen(math.nan)


def test_single_transitions_are_held_against_one_step(tmp_path: Path, build: Any) -> None:
    """What the policy does in later steps says nothing of a generator that makes one."""
    one = {(name, 1): value for (name, step), value in HEALTHY.items() if step == 10} | {
        (name, None): value for (name, step), value in HEALTHY.items() if step is None
    }
    later: dict[Key, float] = {
        ("compounding/policy/alive", 10): math.nan,
        ("compounding/policy/alive_on_policy", 10): 0.1,
        ("distance/wasserstein", 10): math.nan,
        ("distance/wasserstein_floor", 10): 1e-3,
    }
    assert list(signs(results(tmp_path, build, one | later)).values()) == [[]]


def test_errors_are_medians_over_seeds(tmp_path: Path, build: Any) -> None:
    errors = ({("compounding/policy/median", 10): x} for x in (0.2, 0.3, 9.0))
    (own,) = numbers(results(tmp_path, build, *(HEALTHY | error for error in errors))).iloc
    assert own["error"] == 0.3
