"""A policy run in a simulator: masks follow terminations, and its episodes are gymnasium's."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from core.data import Trajectories
from core.policy import UniformPolicy
from core.random import Streams
from tasks.simulators.base import simulate
from tasks.simulators.locomotion import simulator
from tasks.sources.toy import LinearSystem

HOPPER = simulator("Hopper-v4")
EPISODES = 200  # half of them for either seed


@pytest.fixture(scope="module")
def path() -> Trajectories:
    """Uniformly random actions in Hopper, until every episode has ended."""
    rng = Streams((0, 1))
    start = HOPPER.reset(EPISODES // 2, rng.fork("reset"))
    return simulate(HOPPER, UniformPolicy(3), start, 1000, rng, greedy=False)


@pytest.fixture(scope="module")
def gymnasium_episodes() -> tuple[np.ndarray, np.ndarray]:
    """(lengths, returns) of as many episodes of gymnasium's own Hopper."""
    env = gymnasium.make("Hopper-v4").unwrapped
    random = np.random.default_rng(5)
    lengths = np.zeros(EPISODES)
    returns = np.zeros(EPISODES)
    for episode in range(EPISODES):
        env.reset(seed=episode)
        terminated = False
        while not terminated:
            _, reward, terminated, _, _ = env.step(random.uniform(-1, 1, 3))
            lengths[episode] += 1
            returns[episode] += reward
    return lengths, returns


def test_steps_are_valid_until_the_first_termination(path: Trajectories) -> None:
    assert path.terminated.any(-1).all()
    assert torch.equal(path.valid.sum(-1) - 1, path.terminated.int().argmax(-1))


def test_steps_after_the_end_have_no_reward(path: Trajectories) -> None:
    assert (path.reward[~path.valid] == 0).all()


def test_steps_after_the_end_repeat_the_last_state(path: Trajectories) -> None:
    ended = ~path.valid
    assert torch.equal(path.obs[:, :, 1:][ended], path.obs[:, :, :-1][ended])


def test_terminations_follow_the_rule_on_observations(path: Trajectories) -> None:
    fell = HOPPER.terminated(path.obs[..., :-1, :], path.action, path.obs[..., 1:, :])
    assert torch.equal(fell & path.valid, path.terminated)


@pytest.mark.parametrize("column", [0, 1], ids=["length", "return"])
def test_a_random_policy_earns_the_same_in_gymnasium(
    path: Trajectories, gymnasium_episodes: tuple[np.ndarray, np.ndarray], column: int
) -> None:
    """Means of 200 episodes each agree within four standard errors."""
    ours = (path.valid.sum(-1).double(), path.reward.double().sum(-1))[column].flatten().numpy()
    theirs = gymnasium_episodes[column]
    error = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / EPISODES)
    assert abs(ours.mean() - theirs.mean()) < 4 * error


@dataclass(frozen=True)
class Leaving:
    """The toy with an end: |x1| > 0.3."""

    toy: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.toy, name)

    def step(
        self, state: torch.Tensor, action: torch.Tensor, rng: Streams | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        after, reward, _ = self.toy.step(state, action, rng)
        return after, reward, after[..., 0].abs() > 0.3


def test_process_noise_goes_on_when_others_have_ended() -> None:
    """Of 60 starts of either seed some leave at once; who stays is pushed as ever, and as if the seed were alone."""
    world = Leaving(LinearSystem(noise=0.05))

    def walk(seeds: tuple[int, ...]) -> Trajectories:
        rng = Streams(seeds)
        return simulate(world, UniformPolicy(2), world.reset(60, rng.fork("reset")), 8, rng, greedy=False)

    both = walk((0, 1))
    assert 0.3 < both.valid[..., -1].float().mean() < 0.8
    for name, value in vars(walk((1,))).items():
        assert name == "info" or torch.equal(value, getattr(both, name)[1:2]), name
    quiet = world.toy.step(both.obs[:, :, :-1].double(), both.action, None)[0]
    push = (both.obs[:, :, 1:] - quiet)[:, :, 1:][both.valid[:, :, 1:]]
    assert push.std(0).sub(0.05).abs().max() < 0.005


def test_a_greedy_policy_draws_nothing() -> None:
    class Recorded(UniformPolicy):
        def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
            assert rng is None
            return torch.zeros(*obs.shape[:-1], 2)

    toy = LinearSystem()
    rng = Streams((0,))
    simulate(toy, Recorded(2), toy.reset(3, rng), 5, rng, greedy=True)
