"""The number behind an action is the one it was made of."""

import torch

from core.data import Dataset
from core.policy import GaussianPolicy, ImplicitPolicy
from core.random import Streams
from models.actors import DeterministicActor, GaussianActor, TanhGaussianActor

SEEDS = (0, 1)


def test_the_number_behind_an_action_is_the_one_drawn(toy: Dataset) -> None:
    obs = toy.train.obs[:50].expand(2, 50, 4)
    noise = Streams(SEEDS, "draw").normal(50, 2)
    for kind, atol in ((TanhGaussianActor, 1e-5), (GaussianActor, 1e-6)):
        actor = kind(toy, (8,), Streams(SEEDS))
        action = actor.act(obs, Streams(SEEDS, "draw"))
        number, mean, std = actor.latent(obs, action)
        drawn = (mean + std * noise).clamp(-actor.latent_limit, actor.latent_limit)
        torch.testing.assert_close(number, drawn, rtol=0, atol=atol)


def test_numbers_behind_saturated_actions_are_cut(toy: Dataset) -> None:
    obs = toy.train.obs[:50].expand(2, 50, 4)
    for kind in (TanhGaussianActor, GaussianActor):
        actor = kind(toy, (8,), Streams(SEEDS))
        for edge in (-1.0, 1.0):
            number, _, _ = actor.latent(obs, torch.full((2, 50, 2), edge))
            assert (number == edge * actor.latent_limit).all()


def test_policies_are_what_they_can_do(toy: Dataset) -> None:
    for actor in (TanhGaussianActor, GaussianActor):
        assert isinstance(actor(toy, (8,), Streams(SEEDS)), GaussianPolicy)
    plain = DeterministicActor(toy, (8,), Streams(SEEDS))
    assert not isinstance(plain, GaussianPolicy | ImplicitPolicy)
