"""DyDiff against what must be true of it: no rounds, exact dynamics, common noise, its own bookkeeping."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from core.data import Dataset, Trajectories
from core.errors import SpecError
from core.random import Streams
from core.registry import build_method
from generators.base import RolloutCompleter
from generators.dydiff import DyDiff, _Fitted
from generators.ensemble import Ensemble
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.trajectory import TrajectoryDiffusion
from models.dynamics import EnsembleDynamics, rollout
from models.reward import RewardConfig
from tasks.base import DataOptions, Task, load_task
from tasks.simulators.base import simulate
from tasks.sources.toy import LinearSystem

SEEDS = (0, 1)
SYSTEM = LinearSystem(noise=0.0)


@dataclass(frozen=True)
class Linear:
    """a = -K s, with exploration if asked to."""

    gain: float = 1.0

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        mean = -self.gain * (obs[..., :2] + obs[..., 2:])
        return (mean if rng is None else mean + 0.3 * rng.normal(*mean.shape[1:])).clamp(-1, 1)


class Exact(TrajectoryDiffusion):
    """The simulator in the place of the sequence model."""

    block = 7

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def sample(self, start: Any, action: Any, length: int, sampler: Sampler, rng: Streams, **_: Any) -> tuple[Any, Any]:
        return SYSTEM.replay(start.double(), action).float(), action

    def cost(self, sampler: Sampler, length: int, rounds: int = 1) -> dict[str, float]:
        return {"evaluations": rounds / length, "flops": 0.0}


class Wrong(EnsembleDynamics):
    """In the place of the ensemble: nothing moves."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def pick(self) -> Any:
        return None

    def draw(self, obs: Any, action: Any, rng: Streams, *, sample: bool = True, elites: Any = None) -> tuple[Any, Any]:
        return obs, obs[..., 0]


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("toy/linear", DataOptions(dataset_rows=3000))


def smoke(**fields: Any) -> DyDiff:
    made: DyDiff = build_method("generators", "dydiff", {"preset": "smoke", **fields})
    return made


def starts(data: Dataset, rows: int = 30) -> torch.Tensor:
    return data.train.obs[::50][:rows].expand(len(SEEDS), -1, -1)  # where episodes begin


def never(task: Task, data: Dataset, models: ModelCache) -> RolloutCompleter:
    reward = models.get(RewardConfig(hidden=(8,), max_updates=20, check_every=10), data)
    return RolloutCompleter.of(task.simulator.terminated, data, reward, "none")


def test_without_rounds_it_is_the_ensemble_bit_for_bit(task: Task, models: ModelCache) -> None:  # method sheet, test 3
    data, _ = task.dataset()
    ended = replace(task, simulator=_Falling(task.simulator))
    fitted = smoke(iterations=0, box="none").fit(ended, data, models, Streams(SEEDS))
    made = fitted.generate(Linear(), starts(data), 12, Streams(SEEDS))
    noise = Streams(SEEDS).fork("model")
    expected = rollout(
        lambda obs, action: fitted.ensemble.draw(obs, action, noise, sample=False),
        lambda obs, step: Linear().act(obs, None).clamp(-1, 1),
        starts(data),
        12,
        ended.simulator.terminated,
    )
    assert torch.equal(made.valid, expected.valid)
    assert torch.equal(made.terminated, expected.terminated)
    assert not made.valid.all()
    assert torch.equal(made.obs, expected.obs)
    assert torch.equal(made.action[made.valid], expected.action[made.valid])
    assert made.info["evaluations"].tolist() == [1.0, 1.0]
    assert "residual/1" not in made.info


@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
def test_with_exact_dynamics_each_round_makes_one_more_step_true(task: Task, models: ModelCache, rounds: int) -> None:
    """Method sheet, test 11: whatever the first roll-out was, a_0 is right, hence s_1, hence a_1, and so on."""
    data, _ = task.dataset()
    config = smoke(iterations=rounds, relax=0.0)
    fitted = _Fitted(config, Wrong(), Exact(), never(task, data, models))
    made = fitted.generate(Linear(), starts(data), 7, Streams(SEEDS))
    true = simulate(SYSTEM, Linear(), starts(data).double(), 7, Streams(SEEDS), greedy=True)
    error = (made.obs - true.obs).abs().amax((0, 1, 3))
    assert error[: rounds + 1].max() < 1e-6
    assert error[rounds + 1] > 1e-5
    assert made.info["evaluations"].tolist() == pytest.approx([1 + rounds / 7] * 2)


def test_relaxation_averages_states_and_never_the_start(task: Task, models: ModelCache) -> None:
    data, _ = task.dataset()
    fitted = _Fitted(smoke(iterations=1, relax=0.25), Wrong(), Exact(), never(task, data, models))
    made = fitted.generate(Linear(), starts(data), 3, Streams(SEEDS))
    start = starts(data)
    action = Linear().act(start, None).unsqueeze(2).expand(-1, -1, 3, -1)
    drawn = SYSTEM.replay(start.double(), action).float()
    assert torch.equal(made.obs[:, :, 0], start)
    assert torch.allclose(made.obs[:, :, 1:], 0.75 * drawn[:, :, 1:] + 0.25 * start.unsqueeze(2), atol=1e-6)
    assert torch.allclose(made.action[:, :, 2], Linear().act(made.obs[:, :, 2], None), atol=1e-6)


@pytest.mark.parametrize("fields", [{"iterations": 0}, {}, {"iterations": 2}, {"warm": True, "test": "after_clip"}])
def test_stored_actions_are_the_policys(task: Task, models: ModelCache, fields: dict[str, Any]) -> None:
    """To the bit, over three blocks of which the policy leads out of the data: states are clipped before it acts."""
    data, _ = task.dataset()
    outwards = Linear(-0.3)
    made = smoke(**fields).fit(task, data, models, Streams(SEEDS)).generate(outwards, starts(data), 20, Streams(SEEDS))
    assert torch.equal(made.action, outwards.act(made.obs[:, :, :-1], None))
    assert (made.info["clipped"] > 0).all()
    assert "lag" not in made.info or (made.info["lag"] > 0).all()


def test_given_starts_outside_of_the_box_are_kept(task: Task, models: ModelCache) -> None:
    data, _ = task.dataset()
    start = 5 * starts(data)
    fitted = smoke().fit(task, data, models, Streams(SEEDS))
    for made in (
        fitted.generate(Linear(), start, 3, Streams(SEEDS)),
        fitted.imagine(start, torch.zeros(*start.shape[:2], 3, 2), Streams(SEEDS)),
    ):
        assert torch.equal(made.obs[:, :, 0], start)
        assert (made.obs[:, :, 1:] <= torch.cat([data.train.obs, data.train.next_obs]).amax(0)).all()
        assert (made.info["clipped"] > 0).all()


def test_a_warm_start_with_little_noise_keeps_the_states(task: Task, models: ModelCache) -> None:
    data = task.dataset()[0]
    hardly = {"sampler": {"steps": 2, "sigma_max": 0.0021}, "relax": 0.0}

    def states(**fields: Any) -> torch.Tensor:
        fitted = smoke(**fields).fit(task, data, models, Streams(SEEDS))
        return fitted.generate(Linear(), starts(data), 5, Streams(SEEDS, "generate")).obs

    without = states(iterations=0)
    warm = states(warm=True, **hardly)
    cold = states(**hardly)
    assert (warm - without).abs().max() < 0.1 * (cold - without).abs().max()


def test_termination_is_tested_before_clipping_unless_asked(task: Task, models: ModelCache) -> None:
    """D7: recorded states are healthy, so states clipped to their box cannot be anything else."""
    data, _ = task.dataset()
    reward = models.get(RewardConfig(hidden=(8,), max_updates=20, check_every=10), data)
    rule = _Falling(task.simulator, data.train.obs[:, 0].max().item()).terminated
    obs = torch.zeros(2, 3, 4, 4)
    obs[:, :, 2:, 0] = 1e3
    action = torch.zeros(2, 3, 3, 2)

    def finished(**fields: Any) -> Trajectories:
        return RolloutCompleter.of(rule, data, reward, "obs", **fields)(action, obs)

    before = finished()
    after = finished(test_clipped=True)
    assert before.terminated[:, :, 1].all()
    assert not before.valid[:, :, 2].any()
    assert not after.terminated.any()
    assert before.obs[..., 0].max() == data.train.obs[:, 0].max()
    assert before.info["clipped"].tolist() == pytest.approx([1 / 8] * 2)  # one of four entries in one of two steps


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="below 1"):
        DyDiff(relax=1.0)
    for preset in DyDiff.presets:
        assert isinstance(build_method("generators", "dydiff", {"preset": preset}), DyDiff)
    for name in ("oneshot", "trajectory", "pgd", "ar_diffusion"):
        for preset in type(build_method("generators", name, {})).presets:
            build_method("generators", name, {"preset": preset})
    assert isinstance(Ensemble(), Ensemble)
    assert build_method("generators", "oneshot", {}).model.objective == "regression"


def test_settings_without_effect_are_refused() -> None:
    for name, fields, words in [
        ("oneshot", {"sampler": {"steps": 4}}, "sampler and warm must be left alone"),
        ("oneshot", {"warm": True}, "sampler and warm must be left alone"),
        ("dydiff", {"preset": "small", "model": {"corrects": {}}}, "model.corrects must equal dynamics"),
        ("ar_diffusion", {"model": {"given": "start"}}, "model.given"),
        ("ar_diffusion", {"model": {"corrects": {}}}, "model.corrects"),
    ]:
        with pytest.raises(SpecError, match=words):
            build_method("generators", name, fields)
    assert build_method("generators", "dydiff", {"preset": "corrector"}).model.corrects is not None


@pytest.mark.parametrize("iterations", [0, 1])
def test_a_corrector_has_one_ensemble(task: Task, tmp_path: Path, iterations: int) -> None:
    """The roll-out's; its evaluations in both places are counted, those of a block's cut end as well."""
    dynamics = {"members": 3, "elites": 2, "width": 8, "weight_decay": [0.0, 0.0], "max_updates": 5, "check_every": 5}
    data, _ = task.dataset()
    cache = ModelCache(Streams(SEEDS), tmp_path)
    config = smoke(iterations=iterations, dynamics=dynamics, model={"corrects": dynamics, "updates": 3})
    made = config.fit(task, data, cache, Streams(SEEDS)).generate(Linear(), starts(data), 3, Streams(SEEDS))
    assert sum(card["model"].endswith("DynamicsConfig") for card in cache.used.values()) == len(SEEDS)
    expected = (7 + 5 + 2 * 7) / 3 if iterations else 1.0
    assert made.info["evaluations"].tolist() == pytest.approx([expected] * 2)


@dataclass(frozen=True)
class _Falling:
    """The toy's simulator with an end."""

    system: Any
    edge: float = 0.3

    def __getattr__(self, name: str) -> Any:
        return getattr(self.system, name)

    def terminated(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        return next_obs[..., 0].abs() > self.edge
