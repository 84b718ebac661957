"""Live copies of an environment behind the simulator protocol."""

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Discrete

from core.errors import DataError, SpecError
from core.policy import UniformPolicy
from core.random import Streams
from tasks.simulators.base import Simulator, simulate
from tasks.simulators.gym import GymSimulator


class Walk(gymnasium.Env):
    """A Dict observation and a 1 x 2 action between (-2, 0) and (4, 1): reports the action it was given."""

    observation_space = Dict({"mark": Discrete(3), "place": Box(-9, 9, (2,), np.float32)})
    action_space = Box(np.array([[-2, 0]], np.float32), np.array([[4, 1]], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"mark": 1, "place": self.np_random.uniform(-1, 1, 2).astype(np.float32)}, {}

    def step(self, action):
        assert self.action_space.contains(action)
        return {"mark": 2, "place": action[0]}, float(action.sum()), bool(action[0, 0] > 3.9), False, {}


class Unbounded(Walk):
    action_space = Box(-np.inf, np.inf, (1,))


def spec(name: str) -> EnvSpec:
    return gymnasium.spec(name)


WALK = EnvSpec("Walk-v0", entry_point=Walk, max_episode_steps=3)


def test_rollout_is_reproducible_seed_by_seed() -> None:
    sim = GymSimulator(spec("InvertedPendulum-v5"))

    def run(seeds: tuple[int, ...]):
        rng = Streams(seeds)
        return simulate(sim, UniformPolicy(1), sim.reset(3, rng.fork("reset")), 30, rng, greedy=False)

    path = run((0, 1))
    again = run((0, 1))
    alone = run((1,))
    length = path.action.shape[2]
    assert path.obs.shape == (2, 3, length + 1, 4)
    assert path.valid[..., 0].all()
    assert path.terminated.any(-1).any()
    assert torch.equal(path.obs, again.obs)
    assert torch.equal(path.reward, again.reward)
    steps = min(length, alone.action.shape[2])
    assert torch.equal(path.obs[1:, :, : steps + 1], alone.obs[:, :, : steps + 1])
    assert not torch.equal(path.obs[0, :, 0], path.obs[1, :, 0])
    assert not torch.equal(path.obs[0, 0, 0], path.obs[0, 1, 0])


def test_it_steps_the_environment_itself() -> None:
    """The same seed and actions in a plain gymnasium loop; Pendulum's torque is twice the action."""
    sim = GymSimulator(spec("Pendulum-v1"))
    rng = Streams((0,))
    states = [sim.reset(2, rng)]
    action = 2 * rng.uniform(2, 5, 1) - 1
    rewards = []
    for step in range(5):
        state, reward, ended = sim.step(states[-1], action[..., step, :], None)
        states.append(state)
        rewards.append(reward)
        assert not ended.any()
    obs = sim.observe(torch.stack(states, -2))
    recorded = torch.stack(rewards, -1)
    env = gymnasium.make("Pendulum-v1")
    for row, seed in enumerate(Streams((0,)).integers(2**31, 2)[0].tolist()):
        first, _ = env.reset(seed=seed)
        assert np.array_equal(obs[0, row, 0].numpy(), first.astype(np.float64))
        for step in range(5):
            seen, reward, *_ = env.step(2 * action[0, row, step].numpy())
            assert np.array_equal(obs[0, row, step + 1].numpy(), seen.astype(np.float64))
            assert recorded[0, row, step].item() == pytest.approx(float(reward), abs=1e-12)


def test_spaces_are_flattened_and_actions_stretched() -> None:
    sim = GymSimulator(WALK)
    assert isinstance(sim, Simulator)
    assert (sim.obs_dim, sim.action_dim) == (5, 2)
    start = sim.reset(3, Streams((0,)))
    action = torch.tensor([[[-1.0, -1.0], [0.0, 0.0], [5.0, 1.0]]])
    state, reward, ended = sim.step(start, action, None)
    assert sim.observe(state)[0, :, 3:].tolist() == [[-2, 0], [1, 0.5], [4, 1]]
    assert torch.equal(sim.observe(state)[0, :, :3].argmax(-1), torch.tensor([2, 2, 2]))
    assert reward.tolist() == [[-2, 1.5, 5]]
    assert ended.tolist() == [[False, False, True]]


def test_time_limits_are_off_and_copies_are_used_again() -> None:
    sim = GymSimulator(WALK)
    for _ in range(3):
        state = sim.reset(2, Streams((0, 1)))
        for _ in range(10):
            state, _, ended = sim.step(state, torch.zeros(2, 2, 2), None)
            assert not ended.any()
        assert len(sim._live) == 4
        assert len(sim._live) + len(sim._idle) == 4


def test_a_state_is_stepped_once_and_seen_until_the_next_reset() -> None:
    sim = GymSimulator(WALK)
    start = sim.reset(2, Streams((0,)))
    seen = sim.observe(start)
    after, _, _ = sim.step(start[:, :1], torch.zeros(1, 1, 2), None)
    with pytest.raises(DataError, match="asked for step 0, at 1"):
        sim.step(start, torch.zeros(1, 2, 2), None)
    assert torch.equal(sim.observe(start), seen)
    sim.reset(2, Streams((0,)))
    with pytest.raises(DataError, match="no episode since the last reset"):
        sim.step(after, torch.zeros(1, 1, 2), None)
    with pytest.raises(DataError, match="no episode since the last reset"):
        sim.observe(start)


def test_what_needs_a_settable_state_is_refused() -> None:
    sim = GymSimulator(WALK)
    state, exact = sim.restore(torch.zeros(4, 3, 5))
    assert state.shape == (4, 3, 2)
    assert exact.shape == (4, 3)
    assert not exact.any()
    with pytest.raises(DataError, match="no episode"):
        sim.observe(state)
    with pytest.raises(DataError, match="state of Walk-v0 cannot be set"):
        sim.replay(state, torch.zeros(4, 3, 7, 2))


def test_its_termination_rule_is_not_known() -> None:
    sim = GymSimulator(WALK)
    obs = torch.zeros(4, 3, 5)
    assert not sim.has_termination_rule
    with pytest.raises(DataError, match="no termination rule is known for Walk-v0: it is learned from the flags"):
        sim.terminated(obs, torch.zeros(4, 3, 2), obs)


@pytest.mark.parametrize("env_spec", [EnvSpec("Unbounded-v0", entry_point=Unbounded), spec("CartPole-v1")])
def test_actions_must_be_a_bounded_box(env_spec: EnvSpec) -> None:
    with pytest.raises(SpecError, match=rf"action space of {env_spec.id} must be a bounded Box"):
        GymSimulator(env_spec)


def test_physics_names_the_engine() -> None:
    assert GymSimulator(WALK).physics == f"Walk-v0, gymnasium {gymnasium.__version__}"
    pendulum = GymSimulator(spec("InvertedPendulum-v5"))
    assert pendulum.physics == f"InvertedPendulum-v5, mujoco {mujoco.__version__}"
