"""A cell that is run again where something else than the code differs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.audit import reproduce as module
from benchmarks.audit.reproduce import reproduce
from benchmarks.records import Record
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore

THERE = "made on CPU Abacus 1, this is CPU Abacus 2: data made here may differ in the last digits"


@pytest.fixture
def again(store: ResultStore, spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`again(then, now, value)`: what is said of a kept 1.0 that is now `value`, by the CPU models of both runs."""

    def run(then: dict[str, Any], now: dict[str, Any], value: float) -> str:
        store.finish(spec, {"seeds": [0, 1], **then}, [Record(seed, 10, "return", 1.0) for seed in (0, 1)])
        records = [Record(seed, 10, "return", value) for seed in (0, 1)]
        monkeypatch.setattr(module, "run_cell", lambda *arguments: (records, now))
        text, equal = reproduce(store.root / spec.cell_id, torch.device("cpu"), None)
        assert equal == (value == 1.0)
        return text

    return run


def test_differences_on_another_cpu_are_put_down_to_it(again: Callable[..., str]) -> None:
    then, now = ({"cpu": "Abacus 1", "vectors": vectors} for vectors in ("AVX512", "AVX2"))
    assert "Abacus 1, AVX512" in again(then, now, 1.5)
    assert THERE in again({"cpu": "Abacus 1"}, {"cpu": "Abacus 2"}, 1.5)


@pytest.mark.parametrize(
    ("then", "value"), [({"cpu": "Abacus 2"}, 1.5), ({}, 1.5), ({"cpu": "Abacus 1"}, 1.0)], ids=["same", "old", "equal"]
)
def test_the_cpu_is_named_only_where_it_may_explain(again: Callable[..., str], then: Any, value: float) -> None:
    assert "CPU" not in again(then, {"cpu": "Abacus 2"}, value)


def test_the_last_digit_is_shown(again: Callable[..., str]) -> None:
    """A difference that six digits hide."""
    text = again({}, {}, 1.0000001192092896)
    assert "1.0000001192092896" in text
    assert "at most 1.2e-07 of the larger number apart" in text
