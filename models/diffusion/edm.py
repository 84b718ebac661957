"""Mathematics of diffusion models: preconditioning, noise levels, loss, and samplers. Plain functions of tensors.

Rows x have any shape [S, B, ...]; noise levels sigma are [S, B], one per item. A denoiser D(x, sigma) estimates the
clean x. Known entries ("conditions") are put back by `impose`, a function of x; `guide`, a function of x and the step,
may move x before every step.

Source: Karras et al. 2022 (EDM, arXiv:2206.00364); Lu et al. 2022 (DPM-Solver++, arXiv:2211.01095).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from math import ceil, expm1, log, sqrt
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from core.config import configuration
from core.progress import sign_of_life
from core.random import Streams

__all__ = [
    "Denoiser",
    "Sampler",
    "denoising_loss",
    "dpm_solver",
    "heun",
    "loss_weight",
    "masked_mean_or_zero",
    "noise_feature",
    "precondition",
    "scalings",
    "schedule",
    "tf32_products",
    "training_sigma",
]

Denoiser = Callable[[Float[Tensor, "S B ..."], Float[Tensor, "S B"]], Float[Tensor, "S B ..."]]
Impose = Callable[[Float[Tensor, "S B ..."]], Float[Tensor, "S B ..."]]
Guide = Callable[[Float[Tensor, "S B ..."], int], Float[Tensor, "S B ..."]]
Precision = Literal["float32", "tf32", "bf16"]


def scalings(sigma: Float[Tensor, "*b"], sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """(skip, out, in) of the preconditioned denoiser D(x) = skip * x + out * F(in * x).

    Source: Karras et al. 2022, Table 1, last column.
    """
    power = sigma**2 + sigma_data**2
    return sigma_data**2 / power, sigma * sigma_data / power.sqrt(), 1 / power.sqrt()


def noise_feature(sigma: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """What the network is told of the noise level: ln(sigma) / 4. Source: the same table."""
    return sigma.log() / 4


def precondition(
    network: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "S B *row"],
    sigma: Float[Tensor, "S B"],
    sigma_data: float,
) -> Float[Tensor, "S B *row"]:
    """D(x; sigma) for `network(scaled x, noise feature)`. Conditions reach the network un-scaled, inside `network`.

    In-painted conditions, which are part of x and hence scaled by `in`, are almost invisible at high noise (a factor of
    0.0125 at sigma 80): what DyDiff's released code does (loss.py:98).
    """
    skip, out, into = (_like(factor, x) for factor in scalings(sigma, sigma_data))
    return skip * x + out * network(into * x, noise_feature(sigma))


def training_sigma(rows: int, rng: Streams, mean: float = -1.2, std: float = 1.2) -> Float[Tensor, "S B"]:
    """Noise levels to learn from: ln sigma ~ N(mean, std^2). Source: Karras et al. 2022, Table 1 (P_mean, P_std)."""
    return (mean + std * rng.normal(rows)).exp()


def loss_weight(sigma: Float[Tensor, "*b"], sigma_data: float) -> Float[Tensor, "*b"]:
    """lambda(sigma), which makes lambda * out^2 = 1: every noise level counts alike. Source: the same table."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def denoising_loss(
    denoised: Float[Tensor, "S B *row"],
    clean: Float[Tensor, "S B *row"],
    sigma: Float[Tensor, "S B"],
    sigma_data: float,
    mask: Bool[Tensor, "#S #B *row"] | None = None,
) -> Float[Tensor, " S"]:
    """lambda(sigma) (D - y)^2, the mean over entries where `mask` is True: those that are free and not padding."""
    error = _like(loss_weight(sigma, sigma_data), clean) * (denoised - clean).square()
    return error.flatten(1).mean(1) if mask is None else masked_mean_or_zero(error, mask.expand_as(error))


def masked_mean_or_zero(error: Float[Tensor, "S *row"], mask: Bool[Tensor, "S *row"]) -> Float[Tensor, " S"]:
    """The mean over a seed's entries where `mask` is True; 0 where none is."""
    return error.where(mask, torch.zeros_like(error)).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp(min=1)


def schedule(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> list[float]:
    """`steps` noise levels from sigma_max to sigma_min, then 0. Source: Karras et al. 2022, eq. 5; one step is allowed.

    sigma_i = (sigma_max^(1/rho) + i/(steps-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho.
    """
    high = sigma_max ** (1 / rho)
    low = sigma_min ** (1 / rho)
    return [*((high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)), 0.0]


@torch.no_grad()
def heun(
    denoise: Denoiser,
    latent: Float[Tensor, "S B *row"],
    levels: list[float],
    rng: Streams,
    *,
    churn: float = 0.0,
    churn_range: tuple[float, float] = (0.05, 50.0),
    churn_noise: float = 1.003,
    recondition_after_churn: bool = True,
    begin: Float[Tensor, "S B *row"] | float = 0.0,
    impose: Impose = lambda x: x,
    guide: Guide = lambda x, step: x,
) -> Float[Tensor, "S B *row"]:
    """Second-order sampler of 2 N - 1 evaluations; stochastic with `churn` > 0. `latent` is standard normal.

    It starts at `begin` + sigma_0 `latent`: from noise alone, or from earlier states, with noise (SDEdit, Meng
    et al. 2022, arXiv:2108.01073).

    Each step raises the noise from sigma to sigma^ = (1 + gamma) sigma with gamma = min(churn / N, sqrt(2) - 1), takes
    an Euler step from the raised point, and corrects it by the trapezoid rule, except at the end. Source: Karras et al.
    2022, algorithm 2. Conditions are put back after churn too, unless `recondition_after_churn` is off: then the first
    evaluation of a churned step sees noised conditions, which training never shows, as in DyDiff's released code
    (generate_rl.py:66). The Euler step starts from the churned point (policy-guided-diffusion edm.py:235 does not).
    """
    x = impose(begin + latent * levels[0])
    limit = sqrt(2) - 1
    for step, (sigma, after) in enumerate(pairwise(levels)):
        sign_of_life()
        x = impose(guide(x, step))
        gamma = min(churn / (len(levels) - 1), limit) if churn_range[0] <= sigma <= churn_range[1] else 0.0
        if gamma > 0:
            raised = sigma * (1 + gamma)
            fresh = rng.fork(f"churn/{step}").normal(*x.shape[1:])
            x = x + sqrt(raised**2 - sigma**2) * churn_noise * fresh
            sigma = raised
            x = impose(x) if recondition_after_churn else x
        slope = (x - denoise(x, _levels(sigma, x))) / sigma
        euler = impose(x + (after - sigma) * slope)
        if after > 0:
            slope = (slope + (euler - denoise(euler, _levels(after, x))) / after) / 2
            euler = impose(x + (after - sigma) * slope)
        x = euler
    return x


@torch.no_grad()
def dpm_solver(
    denoise: Denoiser,
    latent: Float[Tensor, "S B *row"],
    levels: list[float],
    *,
    begin: Float[Tensor, "S B *row"] | float = 0.0,
    impose: Impose = lambda x: x,
    guide: Guide = lambda x, step: x,
) -> Float[Tensor, "S B *row"]:
    """DPM-Solver++(2M): deterministic, second order from the previous evaluation, N evaluations for N levels.

    With h = ln(sigma_i / sigma_{i+1}) and r = h_{i-1} / h_i:  x <- (sigma_{i+1} / sigma_i) x + (1 - exp(-h)) D*, where
    D* = D_i + (D_i - D_{i-1}) / (2 r), and D* = D_i in the first step and in the last, to sigma = 0.
    Source: Lu et al. 2022, algorithm 2, for alpha = 1.
    """
    x = impose(begin + latent * levels[0])
    previous = None
    last = 0.0
    for step, (sigma, after) in enumerate(pairwise(levels)):
        sign_of_life()
        x = impose(guide(x, step))
        clean = denoise(x, _levels(sigma, x))
        if after == 0:
            return impose(clean)
        span = log(sigma / after)
        guess = clean if previous is None else clean + (clean - previous) * (span / (2 * last))
        x = impose(after / sigma * x - expm1(-span) * guess)
        previous = clean
        last = span
    return x


@configuration
class Sampler:
    """How samples are drawn; a field of every diffusion generator.

    The defaults, 13 deterministic evaluations, are for conditional models, whose answer is almost certain: there their
    rollouts are at most 5 % more wrong than with the 67 of DyDiff's released settings (9: 18 %; suite
    `fidelity/samplers`). On N(0, 1) data dpm++ needs 20 steps for a standard deviation 4 % too large, 32 for 1.4 %.
    Heun with 32 steps gives 1.3 %, and 4.7 % with churn at its cap (1.2 % with 128 steps).
    """

    method: Literal["heun", "dpm++"] = "dpm++"
    steps: PositiveInt = 13  # N
    sigma_min: PositiveFloat = 0.002
    sigma_max: PositiveFloat = 80.0
    rho: PositiveFloat = 7.0
    churn: NonNegativeFloat = 0.0  # S_churn; only heun uses it
    churn_range: tuple[NonNegativeFloat, NonNegativeFloat] = (0.05, 50.0)  # S_min, S_max
    churn_noise: PositiveFloat = 1.003  # S_noise
    recondition_after_churn: bool = True
    precision: Precision = "float32"  # of the network's products; tf32 is for GPUs that have it

    def __post_init__(self) -> None:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min must be below sigma_max ({self.sigma_max}), got {self.sigma_min}")
        if self.churn_range[0] > self.churn_range[1]:
            raise ValueError(f"churn_range must be in ascending order, got {self.churn_range}")
        if self.churn > 0 and self.method != "heun":
            raise ValueError(f"churn must be 0 with method {self.method!r}, which adds no noise, got {self.churn}")

    @property
    def evaluations(self) -> int:
        """Calls of the denoiser for one sample (NFE)."""
        return 2 * self.steps - 1 if self.method == "heun" else self.steps

    def steps_of(self, share: float) -> int:
        """How many steps are the last share of all, rounded up."""
        return ceil(share * self.steps - 1e-9)

    def tail(self, share: float) -> "Sampler":
        """The last share of the steps: what is left to do from the noise level at which they begin."""
        steps = self.steps_of(share)
        levels = schedule(self.steps, self.sigma_min, self.sigma_max, self.rho)
        return replace(self, steps=steps, sigma_max=levels[self.steps - steps])

    def sample(
        self,
        denoise: Denoiser,
        latent: Float[Tensor, "S B *row"],
        rng: Streams,
        impose: Impose = lambda x: x,
        guide: Guide = lambda x, step: x,
        begin: Float[Tensor, "S B *row"] | float = 0.0,
    ) -> Float[Tensor, "S B *row"]:
        """Clean rows from standard normal ones. What a method costs in accuracy: tests/models/diffusion/test_edm.py."""
        levels = schedule(self.steps, self.sigma_min, self.sigma_max, self.rho)
        lowered = self._lowered(denoise)
        if self.method == "dpm++":
            return dpm_solver(lowered, latent, levels, begin=begin, impose=impose, guide=guide)
        return heun(
            lowered,
            latent,
            levels,
            rng,
            churn=self.churn,
            churn_range=self.churn_range,
            churn_noise=self.churn_noise,
            recondition_after_churn=self.recondition_after_churn,
            begin=begin,
            impose=impose,
            guide=guide,
        )

    def _lowered(self, denoise: Denoiser) -> Denoiser:
        """The denoiser with its matrix products in lower precision; inputs and outputs keep theirs."""

        def bf16(x: Tensor, sigma: Tensor) -> Tensor:
            with torch.autocast(x.device.type, torch.bfloat16):
                return denoise(x, sigma).to(x.dtype)

        def tf32(x: Tensor, sigma: Tensor) -> Tensor:
            with tf32_products():
                return denoise(x, sigma)

        return {"float32": denoise, "bf16": bf16, "tf32": tf32}[self.precision]


@contextmanager
def tf32_products() -> Iterator[None]:
    """Until the end of the block float32 matrices are multiplied in TF32 where the device can."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _levels(sigma: float, x: Tensor) -> Float[Tensor, "S B"]:
    return torch.full(x.shape[:2], sigma, dtype=x.dtype, device=x.device)


def _like(factor: Float[Tensor, "S B"], x: Tensor) -> Tensor:
    return factor.view(*factor.shape, *[1] * (x.ndim - 2))
