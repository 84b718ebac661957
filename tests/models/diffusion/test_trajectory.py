"""The sequence model: what is given comes back, absent rows do not matter, and what it learns is the right law."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from core.data import Dataset
from core.random import Streams
from models.cache import ModelCache
from models.diffusion.denoisers import UNetConfig
from models.diffusion.edm import Sampler
from models.diffusion.trajectory import (
    BehaviourDiffusionConfig,
    StepDiffusionConfig,
    TrajectoryDiffusion,
    TrajectoryDiffusionConfig,
    TrajectoryRegressionConfig,
)
from models.dynamics import DynamicsConfig
from tasks.sources.toy import LinearSystem

NET = UNetConfig(dim=8, multipliers=(1, 2), blocks=1)
SMALL: dict[str, Any] = {"rows": 6, "denoiser": NET, "updates": 3, "batch_size": 8}
ENSEMBLE = DynamicsConfig(members=2, elites=1, width=8, weight_decay=(0.0, 0.0), max_updates=20, check_every=10)
SAMPLER = Sampler(steps=4)

KINDS: dict[str, TrajectoryDiffusionConfig] = {
    "given actions": TrajectoryDiffusionConfig(**SMALL),
    "as released": TrajectoryDiffusionConfig(
        **SMALL,
        base="zero",
        conditions="inpaint",
        scored="all",
        windows="inside",
        cut=0.0,
        units="limits",
        sigma_data=0.5,
    ),
    "corrector": TrajectoryDiffusionConfig(**SMALL, corrects=ENSEMBLE),
    "regression": TrajectoryRegressionConfig(**SMALL),
    "given start": BehaviourDiffusionConfig(**SMALL),
    "given nothing": BehaviourDiffusionConfig(**SMALL, given="nothing", base="zero"),
    "one step": StepDiffusionConfig(**{**SMALL, "rows": 2}),
}


def fitted(config: TrajectoryDiffusionConfig, data: Dataset, seeds: tuple[int, ...] = (0, 1)) -> tuple[Any, Any]:
    cache = ModelCache(Streams(seeds))
    return cache.get(config, data), None if config.corrects is None else cache.get(config.corrects, data)


@pytest.mark.parametrize("kind", KINDS)
def test_starts_and_given_actions_come_back_unchanged(toy: Dataset, kind: str) -> None:  # method sheet, tests 1 and 2
    config = KINDS[kind]
    rng = Streams((0, 1))
    model, ensemble = fitted(config, toy)
    start = toy.train.obs[:10].expand(2, -1, -1)
    action = 2 * rng.uniform(10, 3, 2) - 1
    known = action if config.given == "start_and_actions" else None
    before = start.clone(), action.clone()
    obs, made = model.sample(start, known, 3, SAMPLER, rng, ensemble=ensemble)
    assert obs.shape == (2, 10, 4, 4)
    assert made.shape == (2, 10, 3, 2)
    assert obs.isfinite().all()
    assert torch.equal(start, before[0])
    assert torch.equal(action, before[1])
    assert torch.equal(obs[:, :, 0], start) == (config.given != "nothing")
    if known is None:
        assert (made.abs() <= 1).all()
        assert (made[0] != made[1]).any()
    else:
        assert torch.equal(made, action)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_together_equal_seeds_alone(toy: Dataset, kind: str) -> None:
    config = KINDS[kind]
    model, ensemble = fitted(config, toy, (0, 1, 2))
    alone, other = fitted(config, toy, (1,))
    start = toy.train.obs[:5].expand(3, -1, -1)
    known = None
    if config.given == "start_and_actions":
        known = toy.train.action[:15].view(5, 3, 2).expand(3, -1, -1, -1)
    together = model.sample(start, known, 3, SAMPLER, Streams((0, 1, 2)), ensemble=ensemble)
    one = None if known is None else known[:1]
    single = alone.sample(start[:1], one, 3, SAMPLER, Streams((1,)), ensemble=other)
    assert all(torch.equal(a[1:2], b) for a, b in zip(together, single, strict=True))


@pytest.mark.parametrize("kind", ["given actions", "given start", "regression", "as released"])
def test_what_lies_in_absent_rows_does_not_matter(toy: Dataset, kind: str) -> None:
    model, _ = fitted(KINDS[kind], toy)
    rng = Streams((0, 1))
    start = rng.normal(7, 4)
    action = rng.normal(7, 5, 2)
    present = torch.arange(6).expand(2, 7, -1) < 4
    wild = action.clone()
    wild[:, :, 3:] = 100.0
    sigma = torch.ones(2, 7)
    x = rng.normal(7, 6, model.features)
    other = x.clone()
    other[:, :, 4:] = -50.0
    plain = model.denoise(x, sigma, model.known(start, action, present))
    moved = model.denoise(other, sigma, model.known(start, wild, present))
    assert torch.equal(plain[:, :, :4], moved[:, :, :4])


def test_in_a_causal_network_states_do_not_know_later_actions(toy: Dataset) -> None:
    def sampled(causal: bool, change: Callable[[torch.Tensor], None]) -> torch.Tensor:
        config = replace(KINDS["given actions"], denoiser=replace(NET, causal=causal))
        model, _ = fitted(config, toy)
        action = toy.train.action[:25].view(5, 5, 2).repeat(2, 1, 1, 1)
        change(action)
        states: torch.Tensor = model.sample(toy.train.obs[:5].expand(2, -1, -1), action, 5, SAMPLER, Streams((0, 1)))[0]
        return states

    def same(action: torch.Tensor) -> None:
        """No change."""

    def later(action: torch.Tensor) -> None:
        action[:, :, 3] = -action[:, :, 3]

    assert torch.equal(sampled(True, same)[:, :, :4], sampled(True, later)[:, :, :4])
    assert not torch.equal(sampled(True, same)[:, :, 4], sampled(True, later)[:, :, 4])
    assert not torch.equal(sampled(False, same)[:, :, :4], sampled(False, later)[:, :, :4])


def test_long_trajectories_go_on_from_the_end_of_the_last_block(toy: Dataset) -> None:
    model, _ = fitted(KINDS["given actions"], toy)
    rng = Streams((0, 1))
    start = toy.train.obs[:4].expand(2, -1, -1)
    action = 2 * rng.uniform(4, 12, 2) - 1
    obs, _ = model.sample(start, action, 12, SAMPLER, rng)
    first, _ = model.sample(start, action[:, :, :5], 5, SAMPLER, rng)
    assert obs.shape == (2, 4, 13, 4)
    assert torch.equal(obs[:, :, :6], first)
    assert model.cost(Sampler(steps=4), 5)["evaluations"] == 4 / 5
    cost = model.cost(Sampler(steps=4), 12)
    assert cost["evaluations"] == 1.0
    assert cost["flops"] == NET.flops(6, 3 * 6 + 2, 6)


def test_little_memory_changes_no_rollout(toy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = fitted(KINDS["given actions"], toy)
    start = toy.train.obs[:10].expand(2, -1, -1)
    action = 2 * Streams((0, 1)).uniform(10, 5, 2) - 1
    whole, _ = model.sample(start, action, 5, SAMPLER, Streams((0, 1)))
    one = NET.memory(6)
    rows = []
    monkeypatch.setattr("models.diffusion.known._MEMORY", 3 * one)
    denoise = TrajectoryDiffusion.denoise
    monkeypatch.setattr(
        TrajectoryDiffusion, "denoise", lambda *given: rows.append(given[1].shape[1]) or denoise(*given)
    )
    parts, _ = model.sample(start, action, 5, SAMPLER, Streams((0, 1)))
    assert rows == [3, 3, 3, 1] * SAMPLER.evaluations
    assert torch.allclose(parts, whole, atol=1e-5)


def test_pieces_of_a_batch_do_not_depend_on_other_seeds(toy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.diffusion.known._MEMORY", 40 * NET.memory(6))
    start = toy.train.obs[:97].expand(3, -1, -1)
    action = toy.train.action[: 97 * 5].view(97, 5, 2).expand(3, -1, -1, -1)
    rows = []
    denoise = TrajectoryDiffusion.denoise
    monkeypatch.setattr(
        TrajectoryDiffusion, "denoise", lambda *given: rows.append(given[1].shape[1]) or denoise(*given)
    )
    together, _ = fitted(KINDS["given actions"], toy, (0, 1, 2))[0].sample(
        start, action, 5, SAMPLER, Streams((0, 1, 2))
    )
    alone, _ = fitted(KINDS["given actions"], toy, (1,))[0].sample(start[:1], action[:1], 5, SAMPLER, Streams((1,)))
    assert rows[-2 * 3 * SAMPLER.evaluations :] == [40, 40, 17] * 2 * SAMPLER.evaluations
    assert torch.equal(alone[0], together[1])


def test_a_corrected_roll_out_is_part_of_the_cost(toy: Dataset) -> None:
    """Two blocks of five steps, each after a roll-out of one elite."""
    model, _ = fitted(KINDS["corrector"], toy)
    cost = model.cost(SAMPLER, 10)
    assert cost["evaluations"] == pytest.approx(2 * (4 + 5) / 10)
    own = 2 * 4 * NET.flops(6, 3 * 6 + 2 + 4, 6)
    assert cost["flops"] == pytest.approx((own + 2 * 5 * ENSEMBLE.flops(4, 2)) / 10)


def test_rows_that_no_window_reaches_have_the_last_scale(toy: Dataset) -> None:
    """Episodes of four steps, windows of nine states: nothing is known of the last four."""
    short = replace(toy, episode=torch.arange(len(toy.episode), dtype=torch.int32) // 4)
    model, _ = fitted(replace(KINDS["given actions"], rows=9), short)
    scale = model.units.step_scale[:, 0, :, :4]
    assert scale.isfinite().all()
    assert torch.equal(scale[:, 5:], scale[:, 4:5].expand(-1, 4, -1))
    assert (scale[:, 4] != scale[:, 3]).all()
    assert model.block == 4
    assert model.cost(SAMPLER, 8)["evaluations"] == 1.0


def test_a_free_trajectory_is_one_block(toy: Dataset) -> None:
    model, _ = fitted(KINDS["given nothing"], toy)
    with pytest.raises(ValueError, match="length must be at most 5 where no start is given to go on from, got 6"):
        model.sample(toy.train.obs[:3].expand(2, -1, -1), None, 6, SAMPLER, Streams((0, 1)))


def test_states_and_entries_are_each_others_inverse(toy: Dataset) -> None:
    model, _ = fitted(KINDS["given actions"], toy)
    rng = Streams((0, 1))
    obs = rng.normal(3, 6, 4)
    action = rng.normal(3, 5, 2)
    known = model.known(obs[:, :, 0], action, torch.ones(2, 3, 6, dtype=torch.bool))
    back = model.units.decode(model.units.encode(obs, action, known.base), known.base)
    assert torch.allclose(back[0], obs, atol=1e-5)
    assert torch.allclose(back[1], action, atol=1e-5)
    assert torch.equal(known.impose(known.entries), known.entries)
    assert known.mask[0, 0].tolist() == [[True] * 6] + [[False] * 4 + [True] * 2] * 5


def exact_conditional(system: LinearSystem, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(from s_0, from actions, covariance) of s_1 .. s_steps: means are linear, the noise is w alone."""
    a, b = system.matrices
    powers = [np.linalg.matrix_power(a, k) for k in range(steps + 1)]
    from_start = np.concatenate(powers[1:])
    blank = np.zeros_like(a)
    spread = np.block([[powers[t - j] if j <= t else blank for j in range(steps)] for t in range(steps)])
    from_actions = spread @ np.kron(np.eye(steps), b)
    return from_start, from_actions, system.noise**2 * spread @ spread.T


@pytest.mark.parametrize("sampler", [Sampler(method="heun", steps=32), Sampler(steps=48)], ids=["heun", "dpm++"])
def test_the_exact_denoiser_gives_the_exact_conditional_law(sampler: Sampler) -> None:
    """Method sheet, test 4. In deviations of the law; 20 000 samples.

    The mean: that of the exact flow from N(0, 80^2) instead of N(m, 80^2 + law), four standard errors (20 entries). The
    covariance: four standard errors, and the 2 % by which the samplers widen it at these steps.
    """
    system = LinearSystem(noise=0.1)
    steps = 5
    count = 20_000
    from_start, from_actions, covariance = (torch.from_numpy(x) for x in exact_conditional(system, steps))
    rng = Streams((0,))
    start = 0.1 * rng.normal(4).double()[0]
    action = 0.1 * rng.normal(steps * 2).double()[0]
    mean = from_start @ start + from_actions @ action
    scale = covariance.diagonal().sqrt()
    law = covariance / scale[:, None] / scale

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        noise = sigma[0, 0].double() ** 2 * torch.eye(len(law), dtype=torch.float64)
        gain = torch.linalg.solve(law + noise, law)
        return ((x.double() - mean / scale) @ gain + mean / scale).float()

    drawn = sampler.sample(denoise, rng.normal(count, len(law)), rng.fork("sampler"))[0].double()
    power, axes = torch.linalg.eigh(law)
    lost = axes @ ((power / (power + sampler.sigma_max**2)).sqrt() * (axes.T @ (mean / scale)))
    assert torch.allclose(drawn.mean(0), mean / scale - lost, atol=4 / count**0.5)
    assert torch.allclose(drawn.T.cov(), law, atol=4 * (2 / count) ** 0.5 + 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TrajectoryDiffusionConfig, TrajectoryRegressionConfig])
def test_a_trained_model_finds_the_exact_conditional_mean(kind: type[TrajectoryDiffusionConfig], toy: Dataset) -> None:
    """Within a sixth of what the states move by, as the mean of 16 draws: one is off by the noise of the dynamics."""
    model, _ = fitted(
        kind(rows=6, denoiser=UNetConfig(dim=16, multipliers=(1, 2), blocks=1), updates=1500, learning_rate=3e-3),
        toy,
        (0,),
    )
    rows = 200
    steps = 5
    system = LinearSystem()
    held = toy.heldout
    start = held.obs[:, 3].repeat(rows // len(held.obs) + 1, 1)[:rows]
    action = held.action[:, 3 : 3 + steps]
    action = action.repeat(rows // len(action) + 1, 1, 1)[:rows]
    from_start, from_actions, _ = (torch.from_numpy(x) for x in exact_conditional(system, steps))
    mean = start.double() @ from_start.T + action.double().flatten(1) @ from_actions.T
    again = (x.repeat_interleave(16, 0)[None] for x in (start, action))
    obs, _ = model.sample(*again, steps, Sampler(steps=20), Streams((0,)))
    found = obs[0, :, 1:].flatten(1).view(rows, 16, -1).mean(1)
    error = (found - mean).square().mean().sqrt()
    moved = (mean - start.double().repeat(1, steps)).square().mean().sqrt()
    assert error < moved / 6


def test_values_that_make_no_sense_together_are_refused() -> None:
    for values, words in [
        ({"rows": 1}, "at least 2"),
        ({"given": "start", "objective": "regression"}, "start_and_actions"),
        ({"given": "nothing"}, "base must be 'zero'"),
        ({"conditions": "inpaint"}, "conditions must be 'channels'"),
        ({"conditions": "inpaint", "base": "zero"}, "cut must be 0"),
        ({"given": "start", "cut": 0.5}, "cut must be 0"),
        ({"rows": 2}, "cut must be 0"),
    ]:
        with pytest.raises(ValidationError, match=words):
            TrajectoryDiffusionConfig(**values)
    for values in ({"given": "start"}, {"corrects": ENSEMBLE}, {"objective": "regression"}, {"cut": 0.1}):
        with pytest.raises(ValidationError):  # of a model of one step
            StepDiffusionConfig(**values)


def test_without_its_ensemble_a_corrector_says_so(toy: Dataset) -> None:
    model, _ = fitted(KINDS["corrector"], toy)
    assert isinstance(model, TrajectoryDiffusion)
    with pytest.raises(ValueError, match="ensemble must be given"):
        model.sample(torch.zeros(2, 1, 4), torch.zeros(2, 1, 2, 2), 2, SAMPLER, Streams((0, 1)))
