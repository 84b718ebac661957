"""A seed that is no longer finite goes back to where it last was; the others stay where they are."""

from typing import Any

import pytest
import torch

from algorithms.base import StateDictMixin
from benchmarks.execution.divergence import DivergenceMonitor


class State(StateDictMixin):
    """Two tensors with a seed axis, one without, and one that appears later."""

    policy: Any = None

    def __init__(self) -> None:
        self.weight = torch.arange(6.0).view(3, 2)
        self.step = torch.tensor(7.0)
        self.later: dict[int, dict[str, torch.Tensor]] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "optimizer": {"step": self.step, "state": self.later}}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_loss_that_is_not_finite_names_the_seed(bad: float) -> None:
    watch = DivergenceMonitor(State(), (4, 5, 6))
    fine = torch.tensor([1.0, 2.0, 1e30])
    assert watch.look({"critic": fine}) == {}
    assert watch.look({"q": fine, "critic": torch.tensor([1.0, bad, 1.0]), "actor": torch.full((3,), bad)}) == {
        4: "actor",
        5: "critic",
        6: "actor",
    }


def test_it_is_named_once() -> None:
    watch = DivergenceMonitor(State(), (4, 5, 6))
    loss = {"critic": torch.tensor([1.0, torch.nan, 1.0])}
    assert [watch.look(loss), watch.look(loss)] == [{5: "critic"}, {}]
    assert watch.diverged == {5: "critic"}


def test_a_network_that_is_not_finite_is_noticed() -> None:
    state = State()
    watch = DivergenceMonitor(state, (4, 5, 6))
    state.weight[2, 1] = torch.nan
    assert watch.look({"critic": torch.ones(3)}) == {6: "weight"}


def test_only_a_diverged_seed_is_frozen_where_it_was_finite() -> None:
    state = State()
    watch = DivergenceMonitor(state, (4, 5, 6))
    state.weight += 1
    watch.look({})
    state.weight += 1
    state.weight[1] = torch.nan
    state.later[0] = {"exp_avg": torch.tensor([1.0, torch.nan, 1.0])}
    assert watch.look({}) == {5: "weight"}
    assert state.weight.tolist() == [[2, 3], [3, 4], [6, 7]]
    assert state.step == 7
    assert state.later[0]["exp_avg"].tolist() == [1, 0, 1]
    state.weight += 1  # what training does to it afterwards does not last
    watch.look({})
    assert state.weight.tolist() == [[3, 4], [3, 4], [7, 8]]


def test_a_state_without_tensors_will_do() -> None:
    class Empty(State):
        def state_dict(self) -> dict[str, Any]:
            return {}

    assert DivergenceMonitor(Empty(), (0,)).look({}) == {}
