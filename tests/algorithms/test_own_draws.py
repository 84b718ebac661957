"""A policy's own draws count as its own: for every algorithm and preset, in the middle of the box and far outside."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.evaluation.consistency import policy_consistency
from core import registry
from core.data import Dataset, Trajectories
from core.policy import GaussianPolicy
from core.random import Streams
from core.registry import build_method
from tasks.base import DataOptions, load_task

SEEDS = (0, 1)
PARTS = 10
ROWS = 100  # of every part


def methods() -> Iterator[tuple[str, str | None]]:
    for name in registry.available("algorithms"):
        for preset in (None, *registry.load("algorithms", name).presets):
            yield name, preset


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_task("toy/linear", DataOptions(dataset_rows=1000)).dataset()[0]


def moved(name: str, preset: str | None, data: Dataset, push: float, log_std: float) -> Any:
    """The policy of an untrained algorithm, its network's outputs moved by +-push, Gaussian deviations by log_std."""
    fields = {"hidden": [8, 8]} | ({"preset": preset} if preset else {}) | ({"candidates": 2} if name == "dql" else {})
    policy = build_method("algorithms", name, fields).init(data, Streams(SEEDS)).policy
    actor: nn.Module = policy if isinstance(policy, nn.Module) else policy.state.actor
    with torch.no_grad():
        last = [bias for name, bias in actor.net.named_parameters() if name.endswith("bias")][-1]
        last[..., 0] += push
        last[..., 1] -= push
        last[..., 2:] += log_std  # of a tanh-Gaussian; the others have no further outputs
        if hasattr(actor, "free_log_std"):
            actor.free_log_std += log_std
    return policy


@pytest.mark.parametrize(("name", "preset"), list(methods()), ids=lambda value: str(value))
def test_own_draws_score_zero(name: str, preset: str | None, data: Dataset) -> None:
    """Within five standard errors, told by the parts, and what the rounding of float32 actions adds."""
    obs = data.train.obs[Streams(SEEDS, "rows").integers(len(data.train.obs), ROWS, 2)]
    every = torch.ones(2, ROWS, 1, dtype=torch.bool)
    for push in (0.0, 40.0, 1.0, 4.0):
        for log_std in (-12.0, -4.0, 0.0, 2.0):
            policy = moved(name, preset, data, push, log_std)
            found = []
            for part in range(PARTS):
                rng = Streams(SEEDS, f"part/{part}")
                action = policy.act(obs[:, :, 0], rng.fork("act")).clamp(-1, 1)[:, :, None]
                own = Trajectories(action, obs, torch.zeros(2, ROWS, 1), ~every, every)
                scores = dict(policy_consistency(own, policy, rng.fork("score")))
                del scores["consistency/distance"]
                (score,) = scores.values()
                found.append(score)
            scores = torch.stack(found)
            error = scores.std(0) / PARTS**0.5
            rounding = 2e-3 if push == 4 else 1e-4  # 4: the mean lies on the limit, to the last bit of an action
            assert (scores.mean(0).abs() <= 5 * error + rounding).all(), (push, log_std)
            if not isinstance(policy, GaussianPolicy):
                break
        if push and not isinstance(policy, GaussianPolicy):
            break
