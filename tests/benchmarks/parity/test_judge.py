"""The diffusion policy that is read from a peer's weights, beside our own."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.parity.judge import DiffusionPolicy
from core.random import Streams
from models.actors import DiffusionActor
from models.nn import MLP
from tasks.base import DataOptions, load_task


def weights(prefix: str, net: MLP) -> dict[str, np.ndarray]:
    layers = [(layer.weight[0].detach().T.numpy(), layer.bias[0, 0].detach().numpy()) for layer in net.linear]
    named = {f"{prefix}weight{i}": weight for i, (weight, _) in enumerate(layers)}
    return named | {f"{prefix}bias{i}": bias for i, (_, bias) in enumerate(layers)}


@pytest.fixture
def both() -> tuple[DiffusionActor, DiffusionPolicy, torch.Tensor]:
    """Our policy, the same weights as a peer's, and states."""
    data, _ = load_task("toy/linear", DataOptions(dataset_rows=500)).dataset()
    rng = Streams((0,))
    actor = DiffusionActor(data, (32, 32), rng.fork("actor"))
    obs, action = data.train.obs[None, :40], data.train.action
    sizes = [obs.shape[-1] + action.shape[-1], 16, 1]
    file: dict[str, Any] = {
        "betas": actor.betas.numpy(),
        "probe_action": np.zeros((1, action.shape[-1]), np.float32),
        **weights("time_", actor.embed),
        **weights("", actor.net),
        **weights("q1_", MLP((1,), sizes, rng.fork("q1"))),
        **weights("q2_", MLP((1,), sizes, rng.fork("q2"))),
    }
    return actor, DiffusionPolicy([file]), obs


@torch.no_grad()
def test_networks_agree(both: tuple[DiffusionActor, DiffusionPolicy, torch.Tensor]) -> None:
    actor, policy, obs = both
    x = Streams((1,)).normal(obs.shape[1], policy.actions)
    for step in range(5):
        ours = actor(x, torch.full(obs.shape[:2], step), obs)
        assert (policy.noise(x, step, obs) - ours).abs().max() < 1e-5


@torch.no_grad()
def test_reverse_chains_agree(
    both: tuple[DiffusionActor, DiffusionPolicy, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, policy, obs = both
    noise = Streams((2,)).normal(5, obs.shape[1], policy.actions)
    drawn = iter([*noise.unbind(1), torch.zeros_like(noise[:, 0])])
    monkeypatch.setattr(policy, "_normal", lambda _: next(drawn))
    assert (policy._chain(obs) - actor.chain(obs, noise)).abs().max() < 1e-5


@torch.no_grad()
def test_actions_of_high_value_are_chosen(both: tuple[DiffusionActor, DiffusionPolicy, torch.Tensor]) -> None:
    """With the critics a steep function of the first action, the chosen one is the largest of 50 in most states."""
    _, policy, obs = both
    width = obs.shape[-1] + policy.actions
    slope = torch.zeros(1, width, 1)
    slope[0, obs.shape[-1]] = 1e4
    policy.critics = [[(slope, torch.zeros(1, 1, 1))]] * 2
    chosen = policy.act(obs, None)[..., 0]
    many = torch.stack([policy._chain(obs)[..., 0] for _ in range(50)])
    assert chosen.shape == obs.shape[:2]
    assert (chosen > many.median(0).values).double().mean() > 0.9
