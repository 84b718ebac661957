"""Rollouts of the true dynamics are the simulator's own, from every state that is known exactly and from no other."""

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from benchmarks.evaluation.rollouts import evaluate_rollouts
from benchmarks.spec import Settings
from core.data import Dataset
from core.errors import SpecError
from core.policy import UniformPolicy
from core.random import Streams
from core.registry import build_method
from generators.base import ActionConditioned
from generators.simulator import TrueSimulator
from models.cache import ModelCache
from tasks.base import DataOptions, Task
from tasks.rows import Rows
from tasks.simulators.gym import GymSimulator
from tasks.simulators.locomotion import simulator

HOPPER = simulator("Hopper-v4")
SEEDS = (0, 1)
FAST = 12.0  # above Hopper's clip of 10


class Twitching:
    """Explores around no torque at all."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        still = obs[..., :3] * 0
        return still if rng is None else still + 0.5 * rng.normal(*still.shape[1:])


def recorded(*, stored: bool) -> Rows:
    """40 episodes of 10 steps in Hopper from fast and slow starts, with the simulator's states or without."""
    rng = Streams((3,))
    start = HOPPER.reset(40, rng)
    start[:, ::2, -1] = FAST
    action = 2 * rng.fork("action").uniform(40, 10, 3) - 1
    states = HOPPER.replay(start, action)[0]
    reward, _ = HOPPER.outcome(states[:, :-1], action[0], states[:, 1:])
    obs = HOPPER.observe(states).float()

    def flat(x: torch.Tensor) -> np.ndarray:
        return x[:, :10].flatten(0, 1).numpy()

    return Rows(
        obs=flat(obs),
        action=flat(action[0]),
        reward=reward.float().flatten().numpy(),
        terminal=np.zeros(400, bool),
        timeout=np.arange(1, 401) % 10 == 0,
        next_obs=obs[:, 1:].flatten(0, 1).numpy(),
        qpos=flat(states[..., :6]) if stored else None,
        qvel=flat(states[..., 6:]) if stored else None,
    )


def hopper(*, stored: bool) -> Task:
    return Task("test/hopper", HOPPER, 1000, None, lambda: (recorded(stored=stored), "digest"), DataOptions())


@dataclass(frozen=True)
class Case:
    """A task, its data and the fitted generator."""

    task: Task
    data: Dataset
    fitted: Any

    @classmethod
    def of(cls, task: Task) -> "Case":
        data, _ = task.dataset()
        rng = Streams(SEEDS)
        return cls(task, data, TrueSimulator().fit(task, data, ModelCache(rng), rng))


@pytest.fixture(scope="module")
def stored() -> Case:
    return Case.of(hopper(stored=True))


@pytest.fixture(scope="module")
def bare() -> Case:
    return Case.of(hopper(stored=False))


def lost(obs: torch.Tensor) -> torch.Tensor:
    return (obs[..., 5:].abs() >= 10).any(-1)


def test_next_states_and_rewards_are_those_of_the_data(stored: Case) -> None:
    """To rounding of the restored states; from a clipped state the median error would be 0.3."""
    train = stored.data.train
    assert 0.02 < lost(train.obs).float().mean() < 0.5
    start = train.obs.expand(2, -1, -1)
    made = stored.fitted.imagine(start, train.action.expand(2, -1, -1)[:, :, None], Streams(SEEDS))
    assert torch.equal(made.obs[:, :, 0], start)
    assert torch.allclose(made.obs[:, :, 1], train.next_obs.expand(2, -1, -1), atol=1e-5)
    assert torch.allclose(made.reward[..., 0], train.reward.expand(2, -1), atol=1e-5)
    assert made.valid[..., 0].all()
    assert (made.info["inexact"] == 0).all()


def test_starts_without_a_stored_state_are_left_out(bare: Case) -> None:
    start = bare.data.train.obs.expand(2, -1, -1)
    made = bare.fitted.generate(UniformPolicy(3), start, 3, Streams(SEEDS))
    assert torch.equal(made.valid[..., 0], ~lost(start))
    assert torch.allclose(made.info["inexact"], lost(start).float().mean(1))
    assert torch.equal(made.obs[:, :, 0], start)


def test_rollouts_end_where_the_hopper_falls(stored: Case) -> None:
    made = stored.fitted.generate(UniformPolicy(3), stored.data.train.obs.expand(2, -1, -1), 30, Streams(SEEDS))
    fell = HOPPER.terminated(made.obs[:, :, :-1], made.action, made.obs[:, :, 1:])
    assert made.terminated.any(-1).float().mean() > 0.5
    assert torch.equal(fell & made.valid, made.terminated)
    again = stored.fitted.imagine(made.obs[:, :, 0], made.action, Streams(SEEDS))
    assert torch.equal(again.valid, made.valid)  # the replay carries the solver's warm start over, the rollout does not
    assert torch.allclose(again.obs, made.obs, atol=1e-3)
    assert torch.allclose(again.reward[made.valid], made.reward[made.valid], atol=1e-3)


def test_nothing_is_fitted_and_no_model_is_asked(stored: Case) -> None:
    made = stored.fitted.generate(
        UniformPolicy(3), stored.data.train.obs[None, :5].expand(2, -1, -1), 2, Streams(SEEDS)
    )
    assert isinstance(stored.fitted, ActionConditioned)
    for name in ("evaluations", "flops"):
        assert torch.equal(made.info[name], torch.zeros(2))


def test_every_metric_says_that_it_is_exact(stored: Case) -> None:
    """Held-out starts, fast ones among them: the same states and actions, so no error at any step."""
    settings = Settings(fidelity_starts=40, fidelity_horizon=5)
    found = dict(evaluate_rollouts(stored.task, stored.data, stored.fitted, Twitching(), settings, Streams(SEEDS)))
    assert (found["compounding/starts_excluded"] == 0).all()
    assert found["compounding/logged/mean"].max() < 1e-3
    assert found["compounding/policy/mean"].max() < 1e-3
    assert (found["compounding/logged/alive"][:, 0] == 1).all()
    assert found["returns/dynamics"].abs().max() < 1e-2
    assert (found["returns/used"] == 1).all()


def test_a_simulator_that_cannot_be_set_is_refused(bare: Case) -> None:
    running = replace(bare.task, simulator=GymSimulator(gymnasium.spec("Hopper-v4")))
    rng = Streams(SEEDS)
    with pytest.raises(SpecError, match=r"to states of the data, got test/hopper \(Hopper-v4, .*\): 0 of 360 "):
        TrueSimulator().fit(running, running.dataset()[0], ModelCache(rng), rng)


@pytest.mark.parametrize("preset", ["smoke", "small"])
def test_presets_generate_as_much_as_the_ensembles(preset: str) -> None:
    ours, other = (build_method("generators", name, {"preset": preset}) for name in ("simulator", "ensemble"))
    for field in ("rollouts", "rollout_length", "refresh_every"):
        assert getattr(ours, field) == getattr(other, field)
