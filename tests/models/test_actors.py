"""The noise behind an action is the noise it was made of."""

import torch

from core.data import Dataset
from core.policy import GaussianPolicy, ImplicitPolicy
from core.random import Streams
from models.actors import DeterministicActor, GaussianActor, TanhGaussianActor

SEEDS = (0, 1)


def test_noise_of_an_action_is_what_it_was_drawn_with(toy: Dataset) -> None:
    obs = toy.train.obs[:50].expand(2, 50, 4)
    squashed = TanhGaussianActor(toy, (8,), Streams(SEEDS)).double()
    noise = Streams(SEEDS, "draw").normal(50, 2)
    found = squashed.noise_of(obs.double(), squashed.act(obs.double(), Streams(SEEDS, "draw")))
    torch.testing.assert_close(found, noise.double(), rtol=0, atol=1e-6)
    plain = GaussianActor(toy, (8,), Streams(SEEDS))
    action = plain.act(obs, Streams(SEEDS, "draw"))
    inside = action.abs() < 1
    assert 0.3 < inside.float().mean() < 1
    torch.testing.assert_close(plain.noise_of(obs, action)[inside], noise[inside], rtol=0, atol=1e-5)
    edge = torch.ones(2, 50, 2, dtype=torch.float64)
    assert squashed.noise_of(obs.double(), edge).isfinite().all()


def test_policies_are_what_they_can_do(toy: Dataset) -> None:
    for actor in (TanhGaussianActor, GaussianActor):
        assert isinstance(actor(toy, (8,), Streams(SEEDS)), GaussianPolicy)
    plain = DeterministicActor(toy, (8,), Streams(SEEDS))
    assert not isinstance(plain, GaussianPolicy | ImplicitPolicy)
