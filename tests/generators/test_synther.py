"""SynthER on the linear system: its rows obey the true dynamics and are distributed like the data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.evaluation.rollouts import evaluate_rollouts
from benchmarks.spec import Settings
from core.data import Dataset, Transitions
from core.policy import UniformPolicy
from core.random import Streams
from core.registry import build_method
from generators.base import start_states
from generators.synther import SynthER, single_steps
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.transition import TransitionDiffusion, TransitionDiffusionConfig
from tasks.base import Task

ROWS = 4000
SETTINGS = Settings(fidelity_starts=500, fidelity_horizon=3)


@pytest.fixture(scope="module")
def data(task: Task) -> Dataset:
    """Steps that lead to x1 > 0.25 end the episode, so that there are ends to learn."""
    plain = task.dataset()[0]
    return replace(plain, train=replace(plain.train, terminated=plain.train.next_obs[:, 0] > 0.25))


@pytest.fixture(scope="module")
def fitted(task: Task, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Somewhat longer trained than in the preset, which has 400 updates."""
    rng = Streams((0,))
    return smoke(model={"updates": 1200}).fit(
        task, data, ModelCache(rng, tmp_path_factory.mktemp("models")), rng.fork("fit")
    )


@pytest.fixture(scope="module")
def rows(fitted: Any, data: Dataset) -> Transitions:
    start = start_states(data, ROWS, Streams((0,)))
    made: Transitions = fitted.generate(UniformPolicy(2), start, 1, Streams((0,), "generate")).transitions()[0]
    return made.map(lambda x: x[0])


def smoke(**fields: Any) -> SynthER:
    generator: SynthER = build_method("generators", "synther", {"preset": "smoke", **fields})
    return generator


def median(error: torch.Tensor, data: Dataset) -> float:
    return (error / data.obs_std).square().mean(-1).sqrt().median().item()


def test_generated_steps_obey_the_true_dynamics(rows: Transitions, task: Task, data: Dataset) -> None:
    """One-step error against the true system, which of its own noise has 0.05 deviations; nothing moves: 0.22."""
    truth, paid, _ = task.simulator.step(rows.obs.double(), rows.action, None)
    still = median(rows.obs - truth.float(), data)
    assert 0.15 < still < 0.3
    assert median(rows.next_obs - truth.float(), data) < 0.4 * still
    assert (rows.reward - paid.float()).abs().median() < 0.3 * data.train.reward.std()


def test_generated_rows_are_distributed_like_the_data(rows: Transitions, data: Dataset) -> None:
    """Standard errors of the means are 0.016 deviations; the sampler makes deviations 4 % too large."""
    for name in ("obs", "action", "next_obs"):
        made = getattr(rows, name)
        real = getattr(data.train, name)
        assert ((made.mean(0) - real.mean(0)).abs() < 0.12 * real.std(0)).all(), name
        assert ((made.std(0) / real.std(0) - 1).abs() < 0.1).all(), name
    joint = torch.cat([rows.obs, rows.action], -1).T.corrcoef()
    assert (joint - torch.cat([data.train.obs, data.train.action], -1).T.corrcoef()).abs().max() < 0.1
    assert (rows.action.abs() <= 1).all()


def test_ends_of_episodes_are_learnt(rows: Transitions, data: Dataset) -> None:
    """The flag is set where the rule of the data says so, up to rows near the edge."""
    rule = rows.next_obs[:, 0] > 0.25
    assert 0.05 < data.train.terminated.float().mean() < 0.3
    assert (rows.terminated == rule).float().mean() > 0.93
    assert rows.terminated[rows.next_obs[:, 0] > 0.35].float().mean() > 0.88
    assert rows.terminated[rows.next_obs[:, 0] < 0.15].float().mean() < 0.02


@dataclass(frozen=True)
class Idle:
    """A policy that does nothing: this generator does not use it."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return torch.zeros(*obs.shape[:-1], 2)


def test_fidelity_is_judged_from_its_own_first_states(fitted: Any, task: Task, data: Dataset) -> None:
    found = dict(evaluate_rollouts(task, data, fitted, Idle(), SETTINGS, Streams((0,))))
    error, still = (found[f"compounding/policy/{name}"][0, 0].item() for name in ("median", "still"))
    assert error < 0.4 * still
    assert still < 0.15 / 0.4
    alive = found["compounding/policy/alive"][0]
    assert alive[0] == 1
    assert 0.8 < alive[1] < 1, "single transitions that do not end are cut off: nothing is known of what follows"
    assert alive[2:].isnan().all()
    assert found["compounding/policy/median"][:, 1].isnan().all()
    assert not any("logged" in name for name in found)


@dataclass(frozen=True)
class Clipped:
    """The simulator, if states with x2 > 0 could not be told from their observation."""

    system: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.system, name)

    def restore(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state, _ = self.system.restore(obs)
        return torch.where(state[..., 1:2] > 0, state + 5, state), state[..., 1] <= 0


def test_first_states_that_are_not_sure_are_left_out(fitted: Any, task: Task, data: Dataset) -> None:
    blind = replace(task, simulator=Clipped(task.simulator))
    found = dict(evaluate_rollouts(blind, data, fitted, Idle(), SETTINGS, Streams((0,))))
    assert found["compounding/policy/alive"][0, 0] == 1, "the share is of those that count"
    assert found["compounding/policy/mean"][0, 0].item() < 0.2


def test_neither_the_policy_nor_the_start_states_matter(fitted: Any) -> None:
    made = [
        fitted.generate(UniformPolicy(2), torch.full((1, 20, 4), value), 1, Streams((0,), "generate"))
        for value in (0.0, 100.0)
    ]
    assert all(torch.equal(value, getattr(made[1], name)) for name, value in vars(made[0]).items() if name != "info")


def test_only_the_first_of_several_steps_is_valid() -> None:
    rows = Transitions(
        torch.zeros(1, 2, 3), torch.ones(1, 2, 1), torch.ones(1, 2), torch.ones(1, 2, 3), torch.tensor([[True, False]])
    )
    made = single_steps(rows, 3)
    assert made.valid.tolist() == [[[True, False, False]] * 2]
    assert made.terminated.tolist() == [[[True, False, False], [False] * 3]]
    assert made.obs[0, 0, :, 0].tolist() == [0, 1, 1, 1]
    assert made.reward.tolist() == [[[1, 0, 0]] * 2]


def test_chunks_are_all_there(fitted: Any) -> None:
    chunked = replace(fitted, config=smoke(chunk=7))
    made = chunked.generate(UniformPolicy(2), torch.zeros(1, 20, 4), 1, Streams((0,), "generate"))
    assert made.obs.shape == (1, 20, 2, 4)
    assert len(made.obs[0, :, 0].unique(dim=0)) == 20
    again = chunked.generate(UniformPolicy(2), torch.zeros(1, 20, 4), 1, Streams((0,), "generate"))
    assert torch.equal(made.obs, again.obs)


def test_faithful_is_the_released_code() -> None:
    """methods.md G3: 255 evaluations, batch 256, Adam(0.9, 0.99) at 3e-4, clip 1, average 0.995 every 10 updates."""
    config: SynthER = build_method("generators", "synther", {"preset": "faithful"})
    model = config.model
    sampler = config.sampler
    assert (config.rollouts, config.chunk, config.rollout_length, config.refresh_every) == (5_000_000, 100_000, 1, None)
    assert sampler == Sampler(method="heun", steps=128, churn=80.0, churn_range=(0.05, 50.0), churn_noise=1.003)
    assert sampler.evaluations == 255
    assert (sampler.sigma_min, sampler.sigma_max, sampler.rho) == (0.002, 80.0, 7.0)
    assert (model.denoiser.width, model.denoiser.blocks, model.denoiser.embedding) == (2048, 6, 128)
    assert (model.next_obs, model.sigma_data, model.noise_mean, model.noise_std) == ("state", 1.0, -1.2, 1.2)
    assert (model.updates, model.batch_size, model.learning_rate, model.beta2) == (100_000, 256, 3e-4, 0.99)
    assert (model.max_norm, model.average, model.average_every) == (1.0, 0.995, 10)
    assert 255 * model.denoiser.flops(27) == pytest.approx(13.0e9, rel=0.01)  # per Hopper row


@pytest.mark.parametrize("next_obs", ["state", "change"])
def test_rows_are_standardised_but_for_the_flag_and_come_back(data: Dataset, next_obs: Any, tmp_path: Path) -> None:
    config = TransitionDiffusionConfig(next_obs=next_obs, updates=1)
    rng = Streams((0, 1))
    model: TransitionDiffusion = ModelCache(rng, tmp_path).get(config, data)
    seen = model.units(model.rows(data.train).expand(2, -1, -1))
    assert torch.allclose(seen[..., :-1].std(1), torch.ones(2, 11), atol=1e-3)
    assert seen[..., :-1].mean(1).abs().max() < 1e-3
    assert set(seen[..., -1].unique().tolist()) == {0.0, 1.0}
    recovered = model.transitions(model.units.inverse(seen[:, :3]))
    for name in ("obs", "action", "next_obs", "reward"):
        assert torch.allclose(getattr(recovered, name)[1], getattr(data.train, name)[:3], atol=1e-5), name
    assert torch.equal(recovered.terminated[0], data.train.terminated[:3])
