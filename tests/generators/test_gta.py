"""GTA: partial noising in closed form, real rows without noise, and more return when more is asked for."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.data import Dataset, Trajectories
from core.policy import UniformPolicy
from core.random import Streams
from core.registry import build_method
from generators.gta import GTA, amplified
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.returns import guided
from tasks.base import Task

SEEDS = (0, 1)
LEARNED = {
    "updates": 600,
    "batch_size": 64,
    "discount": 0.8,  # of episodes of 50 steps; with 0.99 a return says little more than how many steps are left
    "denoiser": {"dim": 16, "multipliers": [1, 2], "blocks": 1},
}


def build(**fields: Any) -> GTA:
    generator: GTA = build_method("generators", "gta", {"preset": "smoke", **fields})
    return generator


def generate(task: Task, data: Dataset, models: ModelCache, rows: int = 300, length: int = 7, **fields: Any) -> Any:
    fitted = build(**fields).fit(task, data, models, Streams(SEEDS))
    return fitted.generate(UniformPolicy(2), data.train.obs[:rows].expand(2, -1, -1), length, Streams(SEEDS))


def test_amplification_raises_every_return() -> None:
    """By the released code's rule: 1.3 R of a positive return, 0.7 R of a negative one."""
    returns = torch.tensor([2.0, -2.0, 0.0])
    assert amplified(returns, 1.3).tolist() == pytest.approx([2.6, -1.4, 0.0])
    assert torch.equal(amplified(returns, 1.0), returns)


SAMPLER = Sampler(steps=64).tail(0.5)


def redrawn(x: torch.Tensor, asked: torch.Tensor, guidance: float) -> torch.Tensor:
    """Rows (u, v) ~ N(0, I) of return u, noised half the way and denoised by the exact denoisers of that law."""

    def untold(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x / (1 + sigma[..., None] ** 2)

    def told(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.stack([asked, untold(x, sigma)[..., 1]], -1)

    rng = Streams((0,))
    latent = rng.fork("latent").normal(*x.shape[1:])
    return SAMPLER.sample(guided(told, untold, guidance), latent, rng.fork("sampler"), begin=x)


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_amplification_1_keeps_the_law_of_gaussian_data(guidance: float) -> None:
    """That of the return and of the rest. Told its return a row keeps it; untold, or in the rest, it keeps
    1 / sqrt(1 + sigma^2) of its correlation with itself: y = x + sigma n goes to y / sqrt(1 + sigma^2)."""
    x = Streams((0,), "data").normal(40_000, 2)
    made = redrawn(x, amplified(x[..., 0], 1.0), guidance)
    assert made.std(1).flatten().tolist() == pytest.approx([1, 1], abs=0.02)
    assert made.mean(1).abs().max() < 0.02
    kept = (made * x).mean(1)[0].tolist()
    rest = (1 + SAMPLER.sigma_max**2) ** -0.5
    assert kept == pytest.approx([1.0 if guidance else rest, rest], abs=0.02)


def test_the_return_that_is_asked_for_is_the_return_made() -> None:
    x = Streams((0,), "data").normal(1000, 2)
    asked = amplified(x[..., 0], 1.5)
    assert torch.allclose(redrawn(x, asked, 1.0)[..., 0], asked, atol=1e-5)


def test_without_noise_real_rows_come_back(task: Task, data: Dataset, models: ModelCache) -> None:
    """To the bit, whatever return is asked for, at no cost."""
    made: Trajectories = generate(task, data, models, noise=0.0)
    rows, valid = made.transitions()
    real = torch.cat([data.train.obs, data.train.action, data.train.reward[:, None], data.train.next_obs], -1)
    found = torch.cat([rows.obs, rows.action, rows.reward[..., None], rows.next_obs], -1)[valid]
    assert len(found) > 3000
    known = {tuple(row) for row in real.tolist()}
    assert all(tuple(row) in known for row in found.tolist())
    assert made.info["evaluations"].tolist() == [0, 0]
    assert made.info["clipped"].tolist() == [0, 0]


def test_the_more_noise_the_further_from_the_real_rows(task: Task, data: Dataset, models: ModelCache) -> None:
    real = generate(task, data, models, noise=0.0)
    moved = [(generate(task, data, models, noise=mu).obs - real.obs).square().mean() for mu in (0.4, 0.7, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]


def test_without_guidance_it_does_not_matter_what_is_asked_for(
    task: Task, data: Dataset, models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = generate(task, data, models, guidance=0.0, amplification=1.0)
    guided = generate(task, data, models, guidance=1.0, amplification=1.0)
    monkeypatch.setattr("generators.gta.amplified", lambda returns, amplification: returns + 50)
    assert torch.equal(plain.obs, generate(task, data, models, guidance=0.0, amplification=1.0).obs)
    assert not torch.equal(guided.obs, plain.obs)


@pytest.mark.slow
def test_more_return_is_made_when_more_is_asked_for(task: Task, data: Dataset, models: ModelCache) -> None:
    """Of a learned model, in the deviations of the windows' own sums of rewards; alpha 1 nearly keeps their law."""
    learned = {"model": LEARNED, "sampler": {"steps": 12}, "rows": 1000}
    real, same, more = (
        generate(task, data, models, **learned, noise=noise, amplification=alpha).reward.sum(2)
        for noise, alpha in ((0.0, 1.0), (0.5, 1.0), (0.5, 1.3))
    )
    assert ((same.mean(1) - real.mean(1)).abs() < 0.2 * real.std(1)).all()
    assert ((same.std(1) / real.std(1) - 1).abs() < 0.25).all()
    assert (more.mean(1) - same.mean(1) > 0.15 * real.std(1)).all()


def test_steps_end_with_the_source_episode(task: Task, data: Dataset, models: ModelCache) -> None:
    """Here after 4 rows, by timeout; nothing is known of what would have followed."""
    short = replace(data, episode=torch.arange(len(data.episode), dtype=torch.int32) // 4)
    made = generate(task, short, models)
    assert made.valid[:, :, 0].all()
    assert made.valid[:, :, 3].any()
    assert not made.valid[:, :, 4:].any()


def test_steps_beyond_the_window_are_not_valid(task: Task, data: Dataset, models: ModelCache) -> None:
    made = generate(task, data, models, length=9)
    assert made.obs.shape == (2, 300, 10, 4)
    assert made.valid[:, :, :7].any()
    assert not made.valid[:, :, 7:].any()


def test_released_is_the_released_configuration() -> None:
    """configs/gta.yaml: half of 128 steps of the EDM sampler, returns times 1.3, 5 million transitions."""
    config: GTA = build_method("generators", "gta", {"preset": "released"})
    walked = config.sampler.tail(config.noise)
    assert (config.amplification, config.guidance, config.noise) == (1.3, 1.0, 0.5)
    assert config.rollouts * config.rollout_length == pytest.approx(5_000_000, rel=1e-4)
    assert walked.sigma_max == pytest.approx(2.43, abs=0.01)
    assert walked.evaluations == 127
    assert (walked.churn, walked.churn_range, walked.churn_noise) == (80.0, (0.05, 50.0), 1.003)
    model = config.model
    assert (model.rows, model.discount, model.dropout, model.sigma_data) == (32, 0.99, 0.25, 1.0)
    assert (model.updates, model.batch_size, model.learning_rate) == (1_000_000, 256, 3e-4)
    assert (model.beta2, model.average, model.average_every, model.noise_mean) == (0.99, 0.995, 10, -1.2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"noise": 0.1}, r"noise must be 0 or more than one of the sampler's 5 steps, got 0\.1"),
        ({"guidance": 0.0}, r"amplification must be 1 with guidance 0: no return is asked for, got 1\.3"),
        ({"model": {"dropout": 0.0}, "guidance": 2.0}, "guidance must be 1 with model.dropout 0"),
        ({"model": {"dropout": 1.0}}, "guidance must be 0 with model.dropout 1"),
        ({"model": {"rows": 1}}, "rows must be at least 2"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**fields)
