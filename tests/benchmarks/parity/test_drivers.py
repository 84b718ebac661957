"""Parts of the drivers that need no peer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.parity.drivers import corl
from benchmarks.parity.drivers.axes import Rearrange, rearrange, reduce
from benchmarks.parity.drivers.dydiff import Annealed, options
from benchmarks.parity.drivers.synther import EMA, Gin, OurEMA
from models.training import average_rate, cosine_decay


def test_axes_are_reordered_as_the_pattern_says() -> None:
    x = torch.arange(24).view(2, 3, 4)
    assert torch.equal(rearrange(x, "b t c -> b c t"), x.transpose(1, 2))
    assert torch.equal(Rearrange("b t c -> b c 1 t")(x), x.transpose(1, 2)[:, :, None])
    assert torch.equal(rearrange(x[:, :, None], "b t 1 c -> b t c"), x)
    assert torch.equal(reduce(x.float(), "b ... -> b", "mean"), x.float().mean((1, 2)))
    for pattern in ("b t c -> b t", "b t -> t b", "... -> ..."):
        with pytest.raises(ValueError, match="pattern must only reorder"):
            rearrange(x, pattern)


def test_gin_fills_arguments_that_are_not_given(tmp_path: Path) -> None:
    gin = Gin()

    @gin.configurable
    def made(first: int, second: str = "default", third: Any = None) -> tuple[Any, ...]:
        return first, second, third

    @gin.configurable
    class Kept:
        def __init__(self, value: float = 0.0) -> None:
            self.value = value

    text = "# a comment\nshared = 'text'\nmade.second = %shared\nmade.third = @Kept\nKept.value = 2.5\n"
    (tmp_path / "a.gin").write_text(text)
    gin.read(tmp_path, "a.gin")
    assert made(1) == (1, "text", Kept)
    assert made(1, "given", third=3) == (1, "given", 3)
    assert Kept().value == 2.5
    assert Kept(1.0).value == 1.0


def test_an_average_copies_first_and_then_forgets_slowly() -> None:
    """At step 110 the decay is 1 - 10^(-2/3), since 9 calls have passed since the 101st."""
    net = nn.Linear(1, 1, bias=False)
    average = EMA(net, beta=0.995, update_every=10)
    for step in range(111):
        net.weight.data.fill_(1.0 if step < 110 else 2.0)
        average.update()
    decay = 1 - 10 ** (-2 / 3)
    assert average.ema_model.weight.item() == pytest.approx(decay * 1 + (1 - decay) * 2)


def test_the_control_of_synther_averages_as_our_models_do() -> None:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    average = OurEMA(net, beta=0.9, update_every=2)
    expected = 0.0
    for step in range(100):
        net.weight.data.fill_(float(step))
        average.update()
        if step % 2 == 0:
            kept = average_rate(step // 2, 0.9)
            expected = kept * expected + (1 - kept) * step
    assert average.ema_model.weight.item() == pytest.approx(expected)


def test_the_control_of_dydiff_anneals_as_our_models_do() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = Annealed(params=[weight], lr=3e-4, updates=10, hold=0.5, max_norm=1.0)
    rates = list[float]()
    for _ in range(10):
        weight.grad = torch.tensor([30.0, 40.0])
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([3e-4 * cosine_decay(step, 10, 0.5) for step in range(10)])
    assert weight.grad is not None
    assert weight.grad.tolist() == pytest.approx([0.6, 0.8])


def test_the_control_of_dydiff_learns_from_a_mean_as_our_models() -> None:
    settings = {"rows": 32, "dim": 32, "batch": 4, "optimised_as_ours": True}
    job = {"settings": settings, "updates": 10, "seed": 0, "task": "hopper-medium"}
    losses = torch.rand(4, 32, 14)
    scaled = losses.sum() * options(job, 11, 3, "")["loss_scaling"] / 4  # as the training loop does
    assert scaled.item() == pytest.approx(losses.mean().item())
    assert "loss_scaling" not in options(job | {"settings": settings | {"optimised_as_ours": False}}, 11, 3, "")


def test_values_of_a_configuration_take_their_fields_types() -> None:
    class Config:
        rate: float
        steps: int
        on: bool
        path: str | None
        name: str

    text = "rate: 3e-4\nsteps: 1000\n# a comment\non: true\npath: null\nname: 'a-b'\nother: .inf\n"
    found, ignored = corl.configured(text, Config)
    assert found == {"rate": 3e-4, "steps": 1000, "on": True, "path": None, "name": "a-b"}
    assert ignored == ["other"]
