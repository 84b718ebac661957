"""Diffusion against closed forms: for Gaussian data the best denoiser, hence every sample's law, is known exactly."""

from collections.abc import Callable
from itertools import pairwise
from math import sqrt

import pytest
import torch

from core.random import Streams
from models.diffusion.edm import (
    Sampler,
    denoising_loss,
    heun,
    loss_weight,
    noise_feature,
    precondition,
    scalings,
    schedule,
    training_sigma,
)
from tasks.sources.toy import LinearSystem

CHURNED = Sampler(method="heun", steps=32, churn=2.0, churn_noise=1.0)
SAMPLERS = [  # those whose standard deviation is right to 2 % on N(0, 1) data
    Sampler(method="heun", steps=32),  # 1.3 % too much, by the rule itself
    CHURNED,  # 1.8 %
    Sampler(method="heun", steps=128, churn=80.0),  # 1.2 %
    Sampler(steps=32),  # 1.4 %
]


def unit(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The best denoiser for N(0, 1) data."""
    return x / (1 + sigma.unsqueeze(-1) ** 2)


def test_schedule_goes_from_highest_to_lowest_to_zero() -> None:
    levels = schedule(34)
    assert levels[0] == pytest.approx(80)
    assert levels[-2] == pytest.approx(0.002)
    assert levels[-1] == 0
    assert len(levels) == 35
    assert levels == sorted(levels, reverse=True)
    assert schedule(128)[64] == pytest.approx(2.43, abs=0.01)  # facts/methods.md, GTA's starting level
    assert schedule(3, 1.0, 9.0, rho=1.0) == pytest.approx([9, 5, 1, 0])
    assert schedule(1) == pytest.approx([80, 0])


def test_dydiffs_schedule_churns_20_of_34_steps() -> None:
    churned = [i for i, sigma in enumerate(schedule(34)) if 0.36995 <= sigma <= 52.242]
    assert churned == list(range(3, 23))


@pytest.mark.parametrize(("share", "steps"), [(0.5, 7), (0.25, 4), (1.0, 13)])
def test_the_tail_of_a_sampler_takes_the_last_levels(share: float, steps: int) -> None:
    """A share of the steps, rounded up: the same levels as those of the whole schedule."""
    tail = Sampler(steps=13).tail(share)
    levels = schedule(tail.steps, tail.sigma_min, tail.sigma_max, tail.rho)
    assert tail.steps == steps
    assert levels == pytest.approx(schedule(13)[-steps - 1 :])


def test_loss_weight_makes_every_noise_level_count_alike() -> None:
    sigma = torch.logspace(-3, 2, 50)
    for sigma_data in (0.5, 1.0):
        skip, out, into = scalings(sigma, sigma_data)
        assert torch.allclose(loss_weight(sigma, sigma_data) * out**2, torch.ones(50))
        assert torch.allclose((into**2) * (sigma**2 + sigma_data**2), torch.ones(50))  # unit variance goes in ...
        target = skip**2 * sigma**2 + (1 - skip) ** 2 * sigma_data**2  # ... and out: variance of y - skip (y + n)
        assert torch.allclose(target, out**2, rtol=1e-4)


def test_the_best_network_for_unit_data_is_zero() -> None:
    """D(x) = x / (1 + sigma^2) is the skip path alone."""
    x = torch.randn(1, 5, 3)
    sigma = torch.rand(1, 5) + 0.1
    assert torch.allclose(precondition(lambda x, c: 0 * x, x, sigma, 1.0), unit(x, sigma))


def test_the_network_sees_unit_variance_and_the_noise_feature() -> None:
    seen = []

    def network(x: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        seen.extend([x, feature])
        return torch.ones_like(x)

    x = torch.randn(2, 3, 4)
    sigma = torch.tensor([[0.5, 1.0, 80.0]] * 2)
    made = precondition(network, x, sigma, 0.5)
    assert torch.allclose(seen[0], x / (sigma**2 + 0.25).sqrt()[..., None])
    assert torch.allclose(seen[1], sigma.log() / 4)
    assert torch.equal(seen[1], noise_feature(sigma))
    skip, out, _ = scalings(sigma, 0.5)
    assert torch.allclose(made, skip[..., None] * x + out[..., None])


def test_training_noise_is_log_normal() -> None:
    sigma = training_sigma(100_000, Streams((0, 1)), mean=-0.5, std=1.6).log()
    assert (sigma.mean(1) + 0.5).abs().max() < 0.02
    assert (sigma.std(1) - 1.6).abs().max() < 0.02


def test_loss_is_the_weighted_mean_of_unmasked_entries() -> None:
    clean = torch.zeros(2, 2, 2)
    sigma = torch.tensor([[1.0, 2.0], [1.0, 1.0]])
    denoised = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    full = denoising_loss(denoised, clean, sigma, 1.0)
    assert torch.allclose(full, torch.tensor([(2 * 5 + 5 / 4 * 25) / 4, 2.0]))  # weights: 2 and 5/4
    mask = torch.tensor([[[True, False], [False, True]]])
    some = denoising_loss(denoised, clean, sigma, 1.0, mask)
    assert torch.allclose(some, torch.tensor([(2 * 1 + 5 / 4 * 16) / 2, 2.0]))
    wild = denoised.masked_fill(~mask, torch.nan)
    assert torch.equal(denoising_loss(wild, clean, sigma, 1.0, mask), some)
    assert (denoising_loss(denoised, clean, sigma, 1.0, mask & False) == 0).all()


def propagated(sampler: Sampler) -> float:
    """Standard deviation that Heun's rule itself gives on N(0, 1) data: every step is linear, plus fresh noise."""
    variance = sampler.sigma_max**2
    levels = schedule(sampler.steps)
    low, high = sampler.churn_range
    for sigma, after in pairwise(levels):
        raised = sigma * (1 + (min(sampler.churn / sampler.steps, sqrt(2) - 1) if low <= sigma <= high else 0))
        variance += (raised**2 - sigma**2) * sampler.churn_noise**2
        slope = raised / (1 + raised**2)  # (x - D) / sigma^ for x = 1
        factor = 1 + (after - raised) * slope
        if after > 0:
            factor = 1 + (after - raised) * (slope + factor * after / (1 + after**2)) / 2
        variance *= factor**2
    return sqrt(variance)


@pytest.mark.parametrize(("steps", "churn"), [(32, 0.0), (32, 3.0), (32, 80.0), (128, 80.0), (64, 60.0)])
def test_unit_data_gives_what_the_rule_promises(steps: int, churn: float) -> None:
    """The sampler is the rule, to 0.5 %: a slip in the Euler step (B18), the noise or the churned range would show."""
    sampler = Sampler(method="heun", steps=steps, churn=churn)
    made = sampler.sample(unit, Streams((0,)).normal(100_000, 1), Streams((1,)))
    assert abs(made.std().item() / propagated(sampler) - 1) < 0.005
    assert abs(made.mean().item()) < 0.02


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_unit_data_gives_unit_variance(sampler: Sampler) -> None:
    """To 2 %, the seed's draws included. With 32 steps that holds for little churn only.

    At the cap of gamma (churn 14 and more) Heun's rule itself gives 4.7 % too much at 32 steps, 2.1 % at 64, 1.2 % at
    128: discretisation, not a slip, as `propagated` shows. The slip of B18 gives 6 % at 128.
    """
    made = sampler.sample(unit, Streams((0,)).normal(200_000, 1), Streams((1,)))
    assert abs(made.std().item() - 1) < 0.02
    assert abs(made.mean().item()) < 0.02


def test_the_euler_step_starts_from_the_churned_point() -> None:
    """B18. One step with churn from 2 to 1, by hand: x^ = x + noise, then x^ + (1 - sigma^) (x^ - D(x^)) / sigma^."""
    latent = torch.ones(1, 4, 1)
    rng = Streams((0,))
    gamma = min(0.3 / 2, sqrt(2) - 1)
    raised = 2 * (1 + gamma)
    churned = 2 * latent + sqrt(raised**2 - 4) * 1.003 * rng.fork("churn/0").normal(4, 1)
    slope = (churned - churned / (1 + raised**2)) / raised
    euler = churned + (1 - raised) * slope
    heuned = churned + (1 - raised) * (slope + (euler - euler / 2) / 1) / 2
    expected = heuned / 2  # the last step ends at D(x)
    made = heun(unit, latent, [2.0, 1.0, 0.0], rng, churn=0.3, churn_range=(1.5, 50.0))
    assert torch.allclose(made, expected, atol=1e-6)


def linear_gaussian() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and covariance of (s_1, s_2) given s_0 and two actions, and the noiseless path: the toy's own equations."""
    system = LinearSystem(noise=0.3)
    a, b = (torch.from_numpy(matrix).float() for matrix in system.matrices)
    start = torch.tensor([0.5, -0.2, 0.3, 0.1])
    actions = torch.tensor([[0.7, -0.4], [-0.9, 0.6]])
    first = a @ start + b @ actions[0]
    mean = torch.cat([first, a @ first + b @ actions[1]])
    noise = 0.09 * torch.eye(4)
    covariance = torch.cat([torch.cat([noise, noise @ a.T], 1), torch.cat([a @ noise, a @ noise @ a.T + noise], 1)])
    return mean, covariance, torch.cat([start, *actions])


def conditional(mean: torch.Tensor, covariance: torch.Tensor) -> Callable[..., torch.Tensor]:
    """D for rows [free 8, known 8]: m + P (P + sigma^2 I)^-1 (x - m) on free entries; known ones must come clean."""
    values, vectors = torch.linalg.eigh(covariance)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        shrink = values / (values + sigma[..., None] ** 2)
        free = mean + ((x[..., :8] - mean) @ vectors * shrink) @ vectors.T
        return torch.cat([free, torch.zeros_like(x[..., 8:])], -1)  # what it says of known entries must not matter

    return denoise


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_conditional_moments_of_a_linear_gaussian_path(sampler: Sampler) -> None:
    """methods.md test 4. Tolerance: 4 standard errors of the draws, plus 2 % of a deviation for the solver."""
    rows = 30_000
    (mean, covariance, known) = linear_gaussian()
    latent = Streams((0,)).normal(rows, 16)
    impose = lambda x: torch.cat([x[..., :8], known.expand_as(x[..., 8:])], -1)  # noqa: E731
    made = sampler.sample(conditional(mean, covariance), latent, Streams((1,)), impose)
    assert torch.equal(made[..., 8:], known.expand(1, rows, 8))
    free = made[0, :, :8]
    std = covariance.diagonal().sqrt()
    assert ((free.mean(0) - mean).abs() < (4 / rows**0.5 + 0.02) * std).all()
    scale = std[:, None] * std
    assert ((free.T.cov() - covariance).abs() < (4 * (2 / rows) ** 0.5 + 0.04) * scale).all()


@pytest.mark.parametrize("recondition", [True, False])
def test_known_entries_are_clean_in_every_evaluation(recondition: bool) -> None:
    """B1: without putting conditions back after churn, one evaluation per churned step sees them noised."""
    known = torch.tensor([3.0, -1.0])
    seen = []

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(bool((x[..., 1:] == known).all()))
        return torch.zeros_like(x)

    sampler = Sampler(
        method="heun", steps=34, churn=60.0, churn_range=(0.36995, 52.242), recondition_after_churn=recondition
    )
    impose = lambda x: torch.cat([x[..., :1], known.expand_as(x[..., 1:])], -1)  # noqa: E731
    made = sampler.sample(denoise, Streams((0,)).normal(5, 3), Streams((1,)), impose)
    assert torch.equal(made[..., 1:], known.expand(1, 5, 2))
    assert seen.count(False) == (0 if recondition else 20)


@pytest.mark.parametrize("sampler", [*SAMPLERS, Sampler(steps=1), Sampler(method="heun", steps=1)], ids=str)
def test_evaluations_are_reported_exactly(sampler: Sampler) -> None:
    calls = []

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        calls.append(sigma)
        return unit(x, sigma)

    made = sampler.sample(denoise, torch.randn(2, 3, 4), Streams((0, 1)))
    assert len(calls) == sampler.evaluations
    assert made.shape == (2, 3, 4)
    assert all(sigma.shape == (2, 3) and (sigma == sigma[0, 0]).all() for sigma in calls)


def test_the_multistep_solver_is_of_second_order() -> None:
    """Halving its steps in ln sigma quarters the error of the standard deviation; the first-order rule halves it."""
    levels = [schedule(n, 0.1, 10.0, rho=200.0) for n in (16, 32, 64)]  # a large rho makes ln sigma almost uniform
    exact = sqrt(1 + 100) * sqrt((1 + 0.1**2) / (1 + 100))  # the path from 10 to 0.1 keeps x / sqrt(1 + sigma^2)
    errors = []
    for way in levels:
        x = Sampler(steps=len(way) - 1, sigma_min=0.1, sigma_max=10.0, rho=200.0).sample(
            lambda x, sigma: x / (1 + sigma[..., None].double() ** 2),
            torch.full((1, 1, 1), sqrt(101) / 10, dtype=torch.float64),
            Streams((0,)),
        )
        errors.append(abs(x.item() - exact / (1 + 0.1**2)))  # the last evaluation shrinks once more
    assert 3 < errors[0] / errors[1] < 5.5
    assert 3 < errors[1] / errors[2] < 5.5


@pytest.mark.parametrize("sampler", [Sampler(steps=20, sigma_max=2.0), Sampler(method="heun", steps=20, sigma_max=2.0)])
def test_a_warm_start_is_carried_to_where_its_noise_leads(sampler: Sampler) -> None:
    """On N(0, 1) data the flow only scales: x_0 = x_sigma / sqrt(1 + sigma^2)."""
    begin, latent = (Streams((0,)).fork(label).normal(500, 1) for label in "ab")
    made = sampler.sample(unit, latent, Streams((0,)), begin=begin)
    assert torch.allclose(made, (begin + 2 * latent) / sqrt(5), atol=0.02)
    assert not torch.allclose(sampler.sample(unit, latent, Streams((0,))), made, atol=0.1)


def test_lower_precision_is_the_networks_alone() -> None:
    """A product in bf16 is right to three digits; what the solver adds up stays float32."""
    weight = torch.linalg.qr(Streams((0,)).normal(8, 8))[0]

    def network(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return (x @ weight) @ weight.mT / (1 + sigma.unsqueeze(-1) ** 2)

    latent = Streams((0,)).normal(200, 8)
    full, half, tensor = (
        Sampler(precision=p).sample(network, latent, Streams((0,))) for p in ("float32", "bf16", "tf32")
    )
    assert full.dtype == half.dtype == torch.float32
    assert torch.get_float32_matmul_precision() == "highest"
    assert 1e-4 < (half - full).norm() / full.norm() < 2e-2
    assert (tensor - full).norm() / full.norm() < 2e-3


def test_seeds_do_not_touch_and_randomness_is_an_argument() -> None:
    latent = Streams((0, 1, 2)).normal(7, 2)
    together = CHURNED.sample(unit, latent, Streams((0, 1, 2)))
    assert torch.equal(CHURNED.sample(unit, latent[1:2], Streams((1,)))[0], together[1])
    assert torch.equal(CHURNED.sample(unit, latent, Streams((0, 1, 2))), together)
    assert not torch.equal(CHURNED.sample(unit, latent, Streams((3, 4, 5))), together)


def test_a_sampler_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"churn must be 0 with method 'dpm\+\+'"):
        Sampler(churn=1.0)
    with pytest.raises(ValueError, match="churn_range must be"):
        Sampler(method="heun", churn=1.0, churn_range=(50.0, 0.05))
    with pytest.raises(ValueError, match="sigma_min must be below sigma_max"):
        Sampler(sigma_min=2.0, sigma_max=1.0)
