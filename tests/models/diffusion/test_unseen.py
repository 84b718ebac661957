"""The fact `validation`: the loss of held-out rows, which says whose budget was enough and moves no weight."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.data import Dataset
from core.random import Streams
from models.cache import FitContext
from models.diffusion.denoisers import ResidualMLPConfig, UNetConfig
from models.diffusion.returns import ReturnDiffusionConfig, WorldDiffusionConfig
from models.diffusion.trajectory import BehaviourDiffusionConfig, TrajectoryDiffusionConfig, TrajectoryRegressionConfig
from models.diffusion.transition import TransitionDiffusionConfig
from models.dynamics import DynamicsConfig
from models.inverse import InverseDynamicsConfig
from models.reward import RewardConfig
from models.training import unseen_loss

NET = UNetConfig(dim=8, multipliers=(1, 2))
BUDGET = {"denoiser": NET, "batch_size": 32, "learning_rate": 3e-3, "rows": 8}
CONFIGS: dict[str, Any] = {
    "trajectory": TrajectoryDiffusionConfig(**BUDGET),
    "regression": TrajectoryRegressionConfig(**BUDGET),
    "behaviour": BehaviourDiffusionConfig(**BUDGET),
    "returns": ReturnDiffusionConfig(**BUDGET),
    "world": WorldDiffusionConfig(**BUDGET),
    "transition": TransitionDiffusionConfig(
        denoiser=ResidualMLPConfig(width=32, blocks=1), batch_size=64, learning_rate=3e-3
    ),
}


def validation(config: Any, data: Dataset, seeds: tuple[int, ...] = (0, 1)) -> tuple[Tensor, Any]:
    rng = Streams(seeds)
    model = config.init(4, 2, rng.fork("init"))
    return config.fit(model, data, FitContext(rng.fork("fit")))["validation"], model


def test_unseen_rows_are_those_of_the_held_out_episodes(toy: Dataset) -> None:
    unseen = toy.unseen()
    rows, valid = toy.heldout.transitions()
    assert torch.equal(unseen.train.obs, rows.obs[valid])
    assert torch.equal(unseen.train.terminated, rows.terminated[valid])
    assert len(unseen.episode) == len(unseen.train.obs) == int(toy.heldout.valid.sum())
    assert unseen.episode.bincount().tolist() == toy.heldout.valid.sum(-1).tolist()
    same = unseen.episode[1:] == unseen.episode[:-1]
    assert torch.equal(unseen.train.obs[1:][same], unseen.train.next_obs[:-1][same])


def test_it_is_the_mean_of_what_the_loss_says() -> None:
    drawn: list[Tensor] = []

    def loss(noise: Streams) -> Tensor:
        drawn.append(noise.normal(3).mean(-1))
        return drawn[-1]

    found = unseen_loss(loss, [Streams((0, 1))])["validation"]
    assert torch.equal(found, torch.stack(drawn).mean(0))
    assert len(set(found.tolist())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_more_updates_lower_it(kind: str, toy: Dataset) -> None:
    few, _ = validation(replace(CONFIGS[kind], updates=5), toy)
    many, _ = validation(replace(CONFIGS[kind], updates=80), toy)
    assert few.shape == many.shape == (2,)
    assert (many < few).all()
    alone, again = validation(replace(CONFIGS[kind], updates=80), toy, (1,))
    assert torch.allclose(alone, many[1:], rtol=1e-4)
    held = replace(toy, heldout=toy.heldout.map(lambda x: x[:1]))
    _, other = validation(replace(CONFIGS[kind], updates=80), held, (1,))
    for ours, theirs in zip(again.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)  # whatever is held out, the weights are the same


@pytest.mark.parametrize(
    "config",
    [
        DynamicsConfig(members=3, elites=2, width=32, check_every=20, weight_decay=(0.0, 0.0)),
        RewardConfig(hidden=(32,), learning_rate=1e-3, check_every=20),
        InverseDynamicsConfig(hidden=(32,), learning_rate=1e-3, check_every=20),
    ],
    ids=lambda config: type(config).__name__,
)
def test_fits_that_end_by_themselves_tell_their_error(config: Any, toy: Dataset) -> None:
    few, _ = validation(replace(config, max_updates=20), toy)
    many, _ = validation(replace(config, max_updates=200), toy)
    assert few.shape == (2,)
    assert (many <= few).all()
    assert bool((many < few).any())
