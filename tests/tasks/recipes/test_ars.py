"""Augmented random search: the update by hand, a problem with a known optimum, and what a step costs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.random import Streams
from tasks.recipes.ars import ARS, begin, improve, iterate
from tasks.recipes.train_policies import METHODS
from tasks.simulators.locomotion import simulator
from tasks.sources.toy import BEHAVIOUR_GAIN, LinearSystem

TOY = ARS("toy", directions=8, kept=4, step=0.05, noise=0.05)
HOPPER = METHODS["hopper"]


def test_update_by_hand() -> None:
    """Of three directions the two with the best single return count: 0 (10) and 2 (8); sigma_R is 17^0.5."""
    delta = torch.tensor([[[1.0, 0.0]], [[5.0, 5.0]], [[0.0, 1.0]]], dtype=torch.float64)
    plus, minus = torch.tensor([[10.0, 5.0, 2.0], [0.0, 6.0, 8.0]], dtype=torch.float64)
    after = improve(torch.ones(1, 2, dtype=torch.float64), delta, plus, minus, kept=2, step=0.1)
    scale = 0.1 / (2 * 17**0.5)
    torch.testing.assert_close(after, torch.tensor([[1 + 10 * scale, 1 - 6 * scale]], dtype=torch.float64))


def test_equal_returns_move_nothing() -> None:
    flat = torch.full((4,), 3.0, dtype=torch.float64)
    weight = torch.ones(2, 3, dtype=torch.float64)
    delta = Streams((0,)).normal(4, 2, 3)[0].double()
    assert torch.equal(improve(weight, delta, flat, flat, kept=2, step=0.1), weight)


@pytest.mark.usefixtures("short")
def test_search_nears_the_optimum_of_the_toy() -> None:
    """In closed form: better than the toy's behaviour policy, and 90 % of the way from doing nothing to the optimum."""
    system = LinearSystem()
    state = begin(system)
    for _ in range(60):
        state, _ = iterate(TOY, system, state)
    found = -(state.weight / state.std).numpy()
    best = system.optimal_gain
    nothing, reached, optimum = (system.expected_return(gain, 0.0) for gain in (0 * best, found, best))
    assert system.expected_return(BEHAVIOUR_GAIN * best, 0.0) < reached < optimum
    assert reached > nothing + 0.9 * (optimum - nothing)


@pytest.mark.usefixtures("short")
def test_normaliser_has_seen_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    system = LinearSystem()
    seen = list[Tensor]()
    observe = LinearSystem.observe

    def recording(self: LinearSystem, state: Tensor) -> Tensor:
        seen.append(observe(self, state)[0])
        return seen[-1]

    monkeypatch.setattr(LinearSystem, "observe", lambda self, state: recording(self, state).unsqueeze(0))
    state = begin(system)
    for _ in range(3):
        state, figures = iterate(TOY, system, state)
    rows = torch.cat(seen)
    assert len(rows) == state.count == state.steps == figures["steps"] == 3 * 16 * 50
    torch.testing.assert_close(state.mean, rows.mean(0))
    torch.testing.assert_close(state.std, rows.std(0, correction=0))


def test_only_steps_of_running_episodes_count() -> None:
    world = simulator("Hopper-v4")
    state, _ = iterate(replace(HOPPER, noise=0.5), world, begin(world))
    assert 16 * 5 < state.steps < 16 * 500


def test_the_alive_bonus_is_subtracted_from_returns() -> None:
    ars = replace(HOPPER, noise=0.5)
    world = simulator("Hopper-v4")
    _, figures = iterate(ars, world, begin(world))
    _, with_bonus = iterate(replace(ars, alive_bonus=0.0), world, begin(world))
    assert with_bonus["mean_length"] == figures["mean_length"]
    assert with_bonus["mean_return"] - figures["mean_return"] == pytest.approx(figures["mean_length"])


def test_training_episodes_grow_along_the_ramp() -> None:
    ars = replace(HOPPER, ramp=1000)
    assert [ars.length(steps) for steps in (0, 100, 500, 1000, 10**9)] == [200, 200, 500, 1000, 1000]
    assert HOPPER.length(0) == 1000
