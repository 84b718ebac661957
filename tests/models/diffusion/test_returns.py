"""The return-conditioned model: what it is told, what it scores, and guidance in closed form."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.data import Dataset
from core.random import Streams
from models.cache import ModelCache
from models.diffusion.denoisers import UNetConfig
from models.diffusion.edm import Sampler
from models.diffusion.returns import (
    RecordedWindows,
    ReturnDiffusion,
    ReturnDiffusionConfig,
    WorldDiffusionConfig,
    guided,
    returns_to_go,
)

SEEDS = (0, 1)
NET = UNetConfig(dim=8, multipliers=(1, 2), blocks=1)
SMALL: dict[str, Any] = {"rows": 6, "denoiser": NET, "updates": 6, "batch_size": 8}
SAMPLER = Sampler(steps=4)
CONFIGS = {"windows": ReturnDiffusionConfig(**SMALL), "world": WorldDiffusionConfig(**SMALL)}


@pytest.fixture(scope="module")
def models(toy: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ReturnDiffusion]:
    cache = ModelCache(Streams(SEEDS), tmp_path_factory.mktemp("models"))
    return {name: cache.get(config, toy) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def ended(toy: Dataset) -> Dataset:
    """Episodes of 4 rows; every other one ends in a terminal state, the others by timeout."""
    row = torch.arange(len(toy.episode))
    last = row % 4 == 3
    train = replace(toy.train, terminated=last & (row // 4 % 2 == 0))
    return replace(toy, train=train, episode=(row // 4).int())


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_returns_to_go_are_sums_to_the_end_of_the_episode(discount: float) -> None:
    reward = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    end = torch.tensor([0, 5, 5, 5, 5, 5])
    expected = [1.0] + [sum(discount**k * float(reward[row + k]) for k in range(6 - row)) for row in range(1, 6)]
    assert returns_to_go(reward, end, discount).tolist() == pytest.approx(expected)


def test_a_terminal_state_pays_nothing_more(ended: Dataset) -> None:
    """And is scored; behind a timeout nothing is known."""
    recorded = RecordedWindows(ended, 6, 0.99).draw(400, Streams(SEEDS))
    window = recorded.window
    behind = ~window.in_episode
    assert behind.any()
    assert (recorded.reward[behind] == 0).all()
    assert (recorded.reward[window.in_episode] != 0).all()
    model = ReturnDiffusionConfig(**SMALL).init(4, 2, Streams(SEEDS))
    shown = torch.ones_like(recorded.returns, dtype=torch.bool)
    known = model.known(recorded.returns, shown, window.present, window.obs[:, :, 0], window.action[:, :, 0])
    scored = model.scored(window, known)
    assert not scored[:, :, 0, 4:].any(), "nothing led to the first row"
    assert torch.equal(scored[:, :, 1:, 6], window.present[:, :, 1:])
    assert torch.equal(scored[:, :, 1:, 4], window.present[:, :, 1:] & window.in_episode)
    assert (scored[:, :, 1:, 6] & behind).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_windows_come_back_from_the_networks_units(models: dict[str, ReturnDiffusion], toy: Dataset, name: str) -> None:
    model = models[name]
    real = RecordedWindows(toy, 6, 0.99).draw(50, Streams(SEEDS))
    window = real.window
    shown = torch.ones_like(real.returns, dtype=torch.bool)
    known = model.known(real.returns, shown, window.present, window.obs[:, :, 0], window.action[:, :, 0])
    obs, extra = model.units.decode(model.encode(real, known), known.base)
    assert torch.allclose(obs, window.obs, atol=1e-5)
    assert torch.allclose(extra[..., -1], real.reward, atol=1e-5)
    if name == "windows":
        assert torch.allclose(extra[..., :-1], window.action, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("guidance", "same"), [(0.0, True), (0.5, False), (1.0, False)])
def test_without_guidance_no_return_is_seen(
    models: dict[str, ReturnDiffusion], toy: Dataset, name: str, guidance: float, same: bool
) -> None:
    """To the bit."""
    real = RecordedWindows(toy, 6, 0.99).draw(20, Streams(SEEDS))
    low, high = (draw(models[name], real, real.returns + more, guidance) for more in (0.0, 50.0))
    assert torch.equal(low.obs, high.obs) is same
    assert torch.equal(low.reward, high.reward) is same


def draw(model: ReturnDiffusion, real: Any, returns: torch.Tensor, guidance: float) -> Any:
    if model.config.starts:
        begins = real.window.obs[:, :, 0], real.window.action[:, :, 0]
        return model.sample(*begins, returns, guidance, SAMPLER, Streams(SEEDS))
    return model.redraw(real, returns, guidance, SAMPLER, Streams(SEEDS))


def test_the_start_and_its_action_are_told(models: dict[str, ReturnDiffusion], toy: Dataset) -> None:
    start = toy.train.obs[:10].expand(2, -1, -1)
    action = toy.train.action[:10].expand(2, -1, -1)
    returns = torch.zeros(2, 10)
    made, other = (
        models["world"].sample(start, taken, returns, 1.0, SAMPLER, Streams(SEEDS)) for taken in (action, -action)
    )
    assert torch.equal(made.obs[:, :, 0], start)
    assert made.action is None
    assert made.obs.shape == (2, 10, 6, 4)
    assert made.reward.shape == (2, 10, 5)
    assert not torch.equal(made.obs[:, :, 1:], other.obs[:, :, 1:])


def test_guidance_is_a_line_through_both_denoisers() -> None:
    """w = 0 and w = 1 are its points, to the bit, each for one evaluation."""
    x = torch.randn(1, 5, 3)
    sigma = torch.ones(1, 5)

    def told(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return 3 * x

    def untold(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x / 7

    assert guided(told, untold, 1.0) is told
    assert guided(told, untold, 0.0) is untold
    assert torch.allclose(guided(told, untold, 1.5)(x, sigma), 4.5 * x - x / 14)


def test_guided_evaluations_are_counted(models: dict[str, ReturnDiffusion]) -> None:
    model = models["windows"]
    once = NET.flops(4 + 2 + 1, 4, 6)
    assert model.cost(SAMPLER, 1.0) == {"evaluations": 4, "flops": 4 * once}
    assert model.cost(SAMPLER, 0.0) == model.cost(SAMPLER, 1.0)
    assert model.cost(SAMPLER, 1.2) == {"evaluations": 8, "flops": 8 * once}


def test_a_seed_of_a_fit_does_not_depend_on_the_others(toy: Dataset, tmp_path: Path) -> None:
    for config in CONFIGS.values():
        both = ModelCache(Streams(SEEDS), tmp_path / "both").get(config, toy).state_dict()
        alone = ModelCache(Streams((1,)), tmp_path / "alone").get(config, toy).state_dict()
        assert all(torch.equal(both[name][1:], value) for name, value in alone.items())


@pytest.mark.parametrize(
    ("dropout", "guidance", "message"),
    [
        (0.0, 1.2, r"guidance must be 1 with model.dropout 0: the return is always shown, got 1\.2"),
        (1.0, 1.0, r"guidance must be 0 with model.dropout 1: the return is never shown, got 1\.0"),
    ],
)
def test_guidance_must_have_been_learned(dropout: float, guidance: float, message: str) -> None:
    config = ReturnDiffusionConfig(dropout=dropout)
    config.check_guidance(1 - dropout)
    with pytest.raises(ValueError, match=message):
        config.check_guidance(guidance)
