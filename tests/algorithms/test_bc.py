"""BC against its equation."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from algorithms.bc import BC
from core.data import Batch, Dataset, Transitions
from core.random import Streams

SEEDS = (0, 1)


def episodes(toy: Dataset, *episodes: tuple[int, float]) -> Dataset:
    """The first rows of the toy as episodes of (rows, return), each paid in its last row; numbered 3, 6, 9, ..."""
    rows = torch.tensor([rows for rows, _ in episodes])
    reward = torch.zeros(int(rows.sum()), dtype=torch.float64)
    reward[rows.cumsum(0) - 1] = torch.tensor([paid for _, paid in episodes], dtype=torch.float64)
    train = toy.train.map(lambda x: x[: len(reward)])
    number = (3 * torch.arange(1, len(rows) + 1, dtype=torch.int32)).repeat_interleave(rows)
    return replace(toy, train=replace(train, reward=reward), episode=number)


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
            action = np.tanh(raw)
            logged = rows.action[seed].numpy()
            assert abs(losses["actor"][seed].item() - ((action - logged) ** 2).mean()) < 1e-9
            upstream = 2 * (action - logged) / action.size * (1 - action**2)
            adams[seed].step(expected[seed], hand.backward(expected[seed], trace, upstream)[0])
    for seed in range(2):
        for one, other in zip(hand.weights(state.policy.net, seed), expected[seed], strict=True):
            assert np.abs(one - other).max() < 1e-9


def test_it_learns_the_mean_action(toy: Dataset) -> None:
    """The behaviour policy is -K s / 3 plus noise."""
    config = BC(hidden=(32,), learning_rate=3e-3)
    obs = toy.train.obs.float()
    action = toy.train.action.float()
    state = config.init(toy, Streams((0,)))
    batch = Transitions(**vars(toy.train.map(lambda x: (x.float() if x.is_floating_point() else x)[None])))
    for _ in range(300):
        config.update(state, batch, Streams((0,)))
    best = obs @ torch.linalg.lstsq(obs, action).solution
    assert (state.policy.act(obs[None], None)[0] - best).square().mean().sqrt() < 0.05


def test_it_beats_the_behaviour_policy(score: Callable[..., torch.Tensor]) -> None:
    """86.8 is the behaviour policy, 98.4 its mean action, 100 the optimum."""
    assert (score("bc", 200) > 95).all()


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (1.0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (0.7, [2, 3, 4, 5, 6, 7, 8]),  # 9 rows would be too many
        (0.69, [2, 3, 4, 8]),  # and so would 7: the next best is not left out for a shorter one behind it
        (0.3, [2, 3, 4]),
        (0.01, [2, 3, 4]),  # the best one always
    ],
)
def test_the_best_episodes_are_kept_up_to_the_share_of_rows(toy: Dataset, share: float, kept: list[int]) -> None:
    data = episodes(toy, (2, -1.0), (3, 5.0), (3, 1.0), (1, 2.0), (1, -2.0))
    rows = BC(top_share=share).rows(data)
    assert all(torch.equal(value, vars(data.train)[name][kept]) for name, value in vars(rows).items())


def test_of_equal_episodes_the_earlier_one_is_kept(toy: Dataset) -> None:
    data = episodes(toy, (2, 1.0), (2, 3.0), (2, 3.0))
    assert torch.equal(BC(top_share=0.4).rows(data).obs, data.train.obs[2:4])


def test_all_episodes_are_all_rows(toy: Dataset) -> None:
    assert all(torch.equal(value, vars(toy.train)[name]) for name, value in vars(BC().rows(toy)).items())


@pytest.mark.parametrize(
    "fields", [{"top_share": 0.0}, {"hidden": (0,)}, {"batch_size": 0}, {"learning_rate": 0.0}, {"alpha": 1.0}]
)
def test_bad_fields_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        BC(**fields)  # type: ignore[arg-type]
