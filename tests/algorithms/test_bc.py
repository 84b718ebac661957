"""BC against its equation."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from algorithms.bc import BC
from core.data import Batch, Dataset, Transitions
from core.random import Streams

SEEDS = (0, 1)


def test_updates_are_those_of_an_independent_computation(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace
) -> None:
    config = BC(hidden=(8, 8))
    state = hand.double(config.init(toy, Streams(SEEDS)))
    expected = [hand.weights(state.policy.net, seed) for seed in range(2)]
    adams = [hand.adam(3e-4) for _ in range(2)]
    for number in range(3):
        rows = draw(number)
        losses = config.update(state, rows, Streams(SEEDS))
        for seed in range(2):
            raw, trace = hand.forward(expected[seed], hand.normal(toy, rows.obs[seed]))
            action, logged = np.tanh(raw), rows.action[seed].numpy()
            assert abs(losses["actor"][seed].item() - ((action - logged) ** 2).mean()) < 1e-9
            upstream = 2 * (action - logged) / action.size * (1 - action**2)
            adams[seed].step(expected[seed], hand.backward(expected[seed], trace, upstream)[0])
    for seed in range(2):
        for one, other in zip(hand.weights(state.policy.net, seed), expected[seed], strict=True):
            assert np.abs(one - other).max() < 1e-9


def test_it_learns_the_mean_action(toy: Dataset) -> None:
    """The behaviour policy is -K s / 3 plus noise."""
    config, obs, action = BC(hidden=(32,), learning_rate=3e-3), toy.train.obs.float(), toy.train.action.float()
    state = config.init(toy, Streams((0,)))
    batch = Transitions(**vars(toy.train.map(lambda x: (x.float() if x.is_floating_point() else x)[None])))
    for _ in range(300):
        config.update(state, batch, Streams((0,)))
    best = obs @ torch.linalg.lstsq(obs, action).solution
    assert (state.policy.act(obs[None], None)[0] - best).square().mean().sqrt() < 0.05


def test_it_beats_the_behaviour_policy(score: Callable[..., torch.Tensor]) -> None:
    """86.8 is the behaviour policy, 98.4 its mean action, 100 the optimum."""
    assert (score("bc", 200) > 95).all()


@pytest.mark.parametrize("fields", [{"hidden": (0,)}, {"batch_size": 0}, {"learning_rate": 0.0}, {"alpha": 1.0}])
def test_bad_fields_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        BC(**fields)  # type: ignore[arg-type]
