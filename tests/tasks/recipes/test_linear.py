"""The linear policy of the toy: the formula, and the density of what was drawn."""

import pytest
import torch

from core.policy import Policy
from core.random import Streams
from tasks.recipes.linear import LinearPolicy


def random_policies(count: int, sigma: float) -> LinearPolicy:
    rng = Streams(range(count))
    return LinearPolicy(0.3 * rng.normal(3, 5), rng.normal(5), 0.5 + rng.uniform(5), sigma)


def test_greedy_action_by_hand() -> None:
    weight = torch.tensor([[[1.0, 0.0], [0.5, 1.0], [0.0, -3.0]]])
    policy = LinearPolicy(weight, torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 1.0]]))
    obs = torch.tensor([[[2.0, 0.25], [1.0, 1.0]]])
    assert policy.act(obs, None).tolist() == [[[0.5, 0.5, -0.75], [0.0, 1.0, -1.0]]]
    assert torch.equal(policy.act(obs, Streams((0,))), policy.act(obs, None))  # sigma is 0 by default
    assert isinstance(policy, Policy)


def test_density_is_that_of_the_draw_before_clipping() -> None:
    policies = random_policies(2, 0.4)
    obs = Streams((5, 6)).normal(500, 5)
    action, density = policies.sample(obs, Streams((0, 1)))
    assert torch.equal(action, policies.act(obs, Streams((0, 1))))
    reference = torch.distributions.Normal(policies.centre(obs), 0.4)
    drawn = policies.centre(obs) + 0.4 * Streams((0, 1)).normal(500, 3)
    torch.testing.assert_close(density, reference.log_prob(drawn).sum(-1), rtol=1e-4, atol=1e-4)
    inside = action.abs().amax(-1) < 1
    assert 0.02 < inside.double().mean() < 0.98
    stored = reference.log_prob(action).sum(-1)
    torch.testing.assert_close(density[inside], stored[inside], rtol=1e-4, atol=1e-4)
    assert (density - stored)[~inside].abs().min() > 0


def test_noise_has_the_stated_deviation() -> None:
    quiet = LinearPolicy(torch.zeros(1, 2, 3), torch.zeros(1, 3), torch.ones(1, 3), 0.2)
    action = quiet.act(torch.zeros(1, 50_000, 3), Streams((0,)))
    assert abs(action.std() / 0.2 - 1) < 0.01
    assert abs(action.mean()) < 0.005


def test_without_noise_there_is_no_density() -> None:
    with pytest.raises(ValueError, match=r"sigma must be positive .* got 0\.0"):
        random_policies(1, 0.0).sample(torch.zeros(1, 1, 5), Streams((0,)))


def test_smoothed_density_is_a_wider_gaussian() -> None:
    policy = random_policies(1, 0.3)
    obs = Streams((5, 6)).normal(40, 5)
    action = Streams((7, 8)).normal(40, 3)
    centre = policy.centre(obs).clamp(-1, 1)
    expected = torch.distributions.Normal(centre, 0.5).log_prob(action).sum(-1)
    torch.testing.assert_close(policy.smoothed_log_prob(obs, action, 0.4), expected)
