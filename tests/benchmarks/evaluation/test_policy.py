"""The score of a policy on the linear system."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.evaluation.policy import evaluate_policy
from benchmarks.records import Record
from core.random import Streams
from tasks.base import Task
from tasks.sources.toy import LinearSystem


def test_the_return_of_a_linear_policy_is_the_closed_form(task: Task, toys: SimpleNamespace) -> None:
    episodes = 3000
    policy = toys.Gain(toys.system.optimal_gain)
    values = dict(evaluate_policy(task, policy, episodes, Streams(toys.seeds)))
    start = toys.system.reset(episodes, Streams(toys.seeds).fork("reset"))
    expected = toys.system.expected_return(toys.system.optimal_gain, 0.0)
    rng = Streams((9,))
    total = torch.zeros(1, episodes, dtype=torch.float64)
    state = start[:1]
    for _ in range(task.horizon):
        state, reward, _ = toys.system.step(state, policy.act(state, None), rng)
        total += reward
    error = float(total.std()) / episodes**0.5
    assert 0 < error < 0.05
    assert (abs(values["return"] - expected) < 4 * error).all()
    assert (values["normalized_score"] - 100).abs().max() < 1
    assert values["return"][0] != values["return"][1]


def test_start_states_are_the_same_at_every_evaluation(task: Task, toys: SimpleNamespace) -> None:
    first, again = (dict(evaluate_policy(task, toys.Gain(), 5, Streams(toys.seeds, "evaluate"))) for _ in range(2))
    assert torch.equal(first["return"], again["return"])


def test_a_task_without_reference_returns_has_no_score(task: Task, toys: SimpleNamespace) -> None:
    blank = replace(task, score_range=None)
    assert set(dict(evaluate_policy(blank, toys.Gain(), 5, Streams(toys.seeds)))) == {"return"}


def test_an_episode_the_simulator_gives_up_leaves_no_return(task: Task, toys: SimpleNamespace) -> None:
    """As MuJoCo does: NaN and terminated. The other seed is as it would be without it."""

    @dataclass(frozen=True)
    class Unstable:
        system: LinearSystem

        def __getattr__(self, name: str) -> Any:
            return getattr(self.system, name)

        def step(self, state: torch.Tensor, action: torch.Tensor, rng: Streams | None) -> Any:
            after, reward, ended = self.system.step(state, action, rng)
            lost = (torch.arange(2)[:, None] == 1) & (torch.arange(3) == 2)
            return after.where(~lost[..., None], torch.nan), reward.where(~lost, torch.nan), ended | lost

    sick = replace(task, simulator=Unstable(toys.system), horizon=1)
    one, two = dict(evaluate_policy(sick, toys.Gain(), 3, Streams(toys.seeds)))["return"]
    healthy = dict(evaluate_policy(replace(task, horizon=1), toys.Gain(), 3, Streams(toys.seeds)))["return"]
    assert one == healthy[0]
    assert two.isnan()
    assert Record(1, 5, "return", float(two)).line() == '{"seed": 1, "step": 5, "metric": "return", "value": null}'
