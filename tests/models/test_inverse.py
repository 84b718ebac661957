"""Inverse dynamics: exact where the dynamics are linear, the best guess where they are noisy, and more than linear."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.data import Dataset, Transitions
from core.random import Streams
from models.cache import FitContext
from models.inverse import InverseDynamics, InverseDynamicsConfig
from tasks.sources.toy import LinearSystem

SEEDS = (0, 1)
CONFIG = InverseDynamicsConfig(hidden=(32,), max_updates=200, check_every=50)


def stepped(toy: Dataset, noise: float) -> Dataset:
    """The data's states and actions, with the next state of a linear system of this noise."""
    rows = toy.train
    rng = Streams((0,)) if noise else None
    after = LinearSystem(noise=noise).step(rows.obs[None].double(), rows.action[None], rng)[0][0]
    return replace(toy, train=replace(rows, next_obs=after.float()))


def fitted(data: Dataset, config: InverseDynamicsConfig = CONFIG) -> InverseDynamics:
    rng = Streams(SEEDS)
    model: Any = config.init(data.train.obs.shape[-1], data.train.action.shape[-1], rng.fork("init"))
    config.fit(model, data, FitContext(rng.fork("fit")))
    return model.requires_grad_(False)


def error(model: InverseDynamics, rows: Transitions) -> torch.Tensor:
    return model(rows.obs.expand(2, -1, -1), rows.next_obs.expand(2, -1, -1)) - rows.action


def test_it_is_exact_on_the_linear_system(toy: Dataset) -> None:
    """Without noise; the columns are collinear there, for a position moves by the velocity. Actions are 0.3 wide."""
    data = stepped(toy, 0.0)
    assert error(fitted(data), data.train).abs().max() < 1e-5


def test_under_noise_it_is_the_best_linear_guess(toy: Dataset) -> None:
    """v' = 0.95 v + 0.2 a + w, so a given (s, s') has the variance 1 / (1 / 0.3^2 + (0.2 / 0.1)^2) about its mean."""
    data = stepped(toy, 0.1)
    assert error(fitted(data), data.train).std().item() == pytest.approx((1 / (1 / 0.09 + 4)) ** 0.5, rel=0.03)


def test_the_network_learns_what_is_not_linear(toy: Dataset) -> None:
    data = stepped(toy, 0.0)
    bent = replace(data, train=replace(data.train, action=(4 * data.train.action).sin()))
    model = fitted(bent, replace(CONFIG, hidden=(64, 64), max_updates=1500, learning_rate=3e-3))
    seen = model.input(torch.cat([bent.train.obs, bent.train.next_obs - bent.train.obs], -1).expand(2, -1, -1))
    linear = (model.linear(seen) - bent.train.action).square().mean()
    assert error(model, bent.train).square().mean() < 0.1 * linear


def test_a_column_that_never_moves_is_no_trouble(toy: Dataset) -> None:
    data = stepped(toy, 0.0)
    rows = data.train
    still = torch.ones_like(rows.obs[:, :1])
    wide = replace(rows, obs=torch.cat([rows.obs, still], -1), next_obs=torch.cat([rows.next_obs, still], -1))
    model = fitted(replace(data, train=wide))
    assert error(model, wide).abs().max() < 1e-5


def test_flops_are_those_of_its_products() -> None:
    assert InverseDynamicsConfig(hidden=(5,)).flops(3, 2) == 2 * (6 * 5 + 5 * 2 + 6 * 2)
