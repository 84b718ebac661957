"""DAWM: the policy's first action, the others by inverse dynamics, and returns that are asked for; DWM step by step."""

from typing import Any

import pytest
import torch

from core.data import Dataset, Trajectories
from core.random import Streams
from core.registry import build_method
from generators.base import ActionConditioned
from generators.dawm import DAWM
from models.cache import ModelCache
from models.inverse import InverseDynamicsConfig
from tasks.base import Task

SEEDS = (0, 1)
LEARNED = {
    "updates": 1200,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "discount": 0.8,  # of episodes of 50 steps; with 0.99 a return says little more than how many steps are left
    "denoiser": {"dim": 16, "multipliers": [1, 2], "blocks": 1},
}


class Steady:
    """Always the same action, unlike the data's."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return torch.full((*obs.shape[:-1], 2), 0.9)


class Homing:
    """Much like the policy behind the data, without its noise."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return -0.2 * obs[..., :2] - 0.3 * obs[..., 2:]


def build(**fields: Any) -> DAWM:
    generator: DAWM = build_method("generators", "dawm", {"preset": "smoke", **fields})
    return generator


def generate(
    task: Task, data: Dataset, models: ModelCache, policy: Any, rows: int = 200, length: int = 7, **fields: Any
) -> Trajectories:
    fitted = build(**fields).fit(task, data, models, Streams(SEEDS))
    made: Trajectories = fitted.generate(policy, data.train.obs[:rows].expand(2, -1, -1), length, Streams(SEEDS))
    return made


def test_the_policy_acts_once_a_block(task: Task, data: Dataset, models: ModelCache) -> None:
    """The other actions are those that inverse dynamics infers from the stored states, clipped, to the bit."""
    made = generate(task, data, models, Steady(), length=16)
    assert (made.action[:, :, ::7] == 0.9).all()
    inferred = made.action[:, :, torch.arange(16) % 7 > 0]
    assert (inferred != 0.9).all()
    inverse = models.get(build().inverse or InverseDynamicsConfig(), data)
    for step in (1, 6, 8):
        expected = inverse(made.obs[:, :, step], made.obs[:, :, step + 1]).clamp(-1, 1)
        assert torch.equal(made.action[:, :, step], expected)


@pytest.mark.slow
def test_generated_steps_obey_the_true_dynamics(task: Task, data: Dataset, models: ModelCache) -> None:
    """Of a learned model: with the inferred actions the true next states are nearer than those without moving."""
    made = generate(task, data, models, Homing(), rows=400, guidance=0.0, model=LEARNED)
    rows, _ = made.transitions()
    truth, paid, _ = task.simulator.step(rows.obs.double(), rows.action, None)
    error, still = (((x - truth) / data.obs_std).square().mean(-1).sqrt() for x in (rows.next_obs, rows.obs))
    assert error.median() < 0.5 * still.median()
    first = torch.stack([x.view(made.reward.shape)[:, :, 0].flatten().float() for x in (rows.reward, paid)])
    assert first.corrcoef()[0, 1] > 0.4  # where the action was given


@pytest.mark.slow
def test_more_return_is_made_when_more_is_asked_for(task: Task, data: Dataset, models: ModelCache) -> None:
    fields = {"rows": 400, "model": LEARNED}
    low, high = (generate(task, data, models, Homing(), target=share, **fields) for share in (0.3, 1.0))
    assert (high.reward.mean((1, 2)) > low.reward.mean((1, 2)) + 0.1 * data.train.reward.std()).all()


def test_without_guidance_it_does_not_matter_what_is_asked_for(task: Task, data: Dataset, models: ModelCache) -> None:
    """To the bit."""
    low, high = (generate(task, data, models, Steady(), target=share, guidance=0.0) for share in (0.1, 5.0))
    assert torch.equal(low.obs, high.obs)
    assert torch.equal(low.reward, high.reward)
    assert not torch.equal(low.obs, generate(task, data, models, Steady(), target=5.0, guidance=1.0).obs)


def test_the_target_is_a_share_of_the_range_of_returns(task: Task, data: Dataset, models: ModelCache) -> None:
    """Without discount an episode of 50 steps of reward below 1 is worth less than 50; its last row is the least."""
    low, high = (
        build(target=share, model={"discount": 1.0, "updates": 1}).fit(task, data, models, Streams(SEEDS)).asked
        for share in (0.0, 1.0)
    )
    sums = torch.zeros(int(data.episode.max()) + 1).index_add(0, data.episode.long(), data.train.reward)
    assert high == pytest.approx(float(sums.max()), rel=0.05)
    assert low == pytest.approx(float(data.train.reward.min()), abs=1.0)


def test_dwm_is_on_policy_and_can_be_given_actions(task: Task, data: Dataset, models: ModelCache) -> None:
    fields: dict[str, Any] = {"inverse": None, "target": 0.6}
    assert build(**fields).on_policy
    assert not build().on_policy
    made = generate(task, data, models, Homing(), length=3, **fields)
    assert torch.equal(made.action, Homing().act(made.obs[:, :, :-1], None))
    fitted = build(**fields).fit(task, data, models, Streams(SEEDS))
    assert isinstance(fitted, ActionConditioned)
    again = fitted.imagine(made.obs[:, :, 0], made.action, Streams(SEEDS))
    assert torch.equal(again.obs, made.obs)
    assert not isinstance(build().fit(task, data, models, Streams(SEEDS)), ActionConditioned)


@pytest.mark.parametrize("preset", ["paper", "dwm_paper"])
def test_paper_has_the_constants_of_dwm(preset: str) -> None:
    """Ding 2026, section 6.6.1: T = 8, N = 3, 2 million updates; more is asked for than the data's largest return."""
    config: DAWM = build_method("generators", "dawm", {"preset": preset})
    model = config.model
    assert (model.rows, model.discount, model.dropout, model.batch_size) == (8, 0.99, 0.25, 64)
    assert (model.updates, model.learning_rate, model.average, model.average_every) == (2_000_000, 1e-4, 0.995, 10)
    assert (config.sampler.evaluations, config.guidance, config.rollout_length) == (3, 1.2, 7)
    assert config.target > 1
    assert config.on_policy == (preset == "dwm_paper")


def test_costs_are_per_transition(task: Task, data: Dataset, models: ModelCache) -> None:
    """5 guided evaluations of a window of 7 steps, and the inverse dynamics of each; all of a window for one step."""
    model = build().model
    window = 10 * model.denoiser.flops(model.features(4, 2), model.channels(4, 2), 8)
    made = generate(task, data, models, Steady())
    assert made.info["evaluations"].tolist() == pytest.approx([10 / 7 + 1] * 2)
    completed = (build().inverse or InverseDynamicsConfig()).flops(4, 2)
    assert made.info["flops"].tolist() == pytest.approx([window / 7 + completed] * 2)
    assert generate(task, data, models, Steady(), length=8).info["evaluations"].tolist() == [20 / 8 + 1] * 2
    alone = generate(task, data, models, Steady(), inverse=None)
    assert alone.info["evaluations"].tolist() == [10, 10]
    assert alone.info["flops"].tolist() == [window, window]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": {"dropout": 0.0}}, r"guidance must be 1 with model.dropout 0: .*, got 1\.2"),
        ({"model": {"dropout": 1.0}}, r"guidance must be 0 with model.dropout 1: .*, got 1\.2"),
        ({"target": -0.1}, r"dawm\.target should be greater than or equal to 0"),
        ({"model": {"given": "start"}}, r"unknown key dawm\.model\.given"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**fields)
