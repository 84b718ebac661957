import math

import pytest
import torch
from jaxtyping import TypeCheckError
from torch.nn.functional import linear

from core.random import Streams
from models.nn import MLP, LayerNorm, Linear, Standardize, adam, descend, ema_


def test_copies_are_independent_linear_layers() -> None:
    layer = Linear((2, 3), 5, 4, Streams((0, 1)))
    x = torch.randn(2, 3, 7, 5)
    for s in range(2):
        for e in range(3):
            expected = linear(x[s, e], layer.weight[s, e].T, layer.bias[s, e, 0])
            assert torch.allclose(layer(x)[s, e], expected, atol=1e-6)


def test_shared_input_is_broadcast_over_copies() -> None:
    layer = Linear((2, 3), 5, 4, Streams((0, 1)))
    x = torch.randn(2, 1, 7, 5)
    assert torch.equal(layer(x), layer(x.expand(2, 3, 7, 5)))


@pytest.mark.parametrize(("init", "std"), [("torch", 3**-0.5), ("normal", 1.0), ("half", 0.5)])
def test_initial_scale_follows_fan_in_not_the_size_of_the_stack(init: str, std: float) -> None:
    """B4: with fan_in taken from a stacked [K, in, out] tensor, 200 x 200 weights come out 14 times too small."""
    layer = Linear((1, 7), 200, 200, Streams((0,)), init)  # type: ignore[arg-type]
    assert math.isclose(layer.weight.std().item() * 200**0.5, std, rel_tol=0.01)


def test_standardize_has_unit_variance_and_an_inverse() -> None:
    values = torch.randn(1000, 3) * torch.tensor([1e-3, 1.0, 50.0]) + 7
    units = Standardize(3, Streams((0, 1))).fit(values, torch.arange(1000).expand(2, -1))
    x = values.expand(2, -1, -1)
    assert torch.allclose(units(x).std(1), torch.ones(2, 3), atol=1e-4)
    assert torch.allclose(units.inverse(units(x)), x, rtol=1e-5, atol=1e-5)


def test_constant_column_keeps_its_unit() -> None:
    units = Standardize(1, Streams((0,))).fit(torch.full((10, 1), 3.0), torch.arange(10)[None])
    assert units(torch.full((1, 1, 1), 5.0)).item() == 2


def test_ema_is_the_weighted_mean() -> None:
    target = MLP((1,), [2, 2], Streams((0,)))
    source = MLP((1,), [2, 2], Streams((1,)))
    expected = 0.9 * target.linear[0].weight + 0.1 * source.linear[0].weight
    ema_(target, source, 0.1)
    assert torch.allclose(target.linear[0].weight, expected)


def test_descend_moves_only_its_own_parameters() -> None:
    actor = MLP((1,), [2, 2], Streams((0,)))
    critic = MLP((1,), [2, 1], Streams((1,)))
    before = critic.linear[0].weight.clone()
    optimizer = torch.optim.Adam(actor.parameters(), lr=0.1)
    descend(optimizer, lambda x: critic(actor(x)).mean((-1, -2)), torch.randn(1, 4, 2))
    assert critic.linear[0].weight.grad is None
    assert torch.equal(critic.linear[0].weight, before)
    assert actor.linear[0].weight.grad is not None


def test_descend_is_right_for_gradients_that_are_views() -> None:
    """A fused optimiser reads the memory of an expanded gradient as if it were full."""
    at = torch.nn.Parameter(torch.zeros(2, 3))
    descend(torch.optim.Adam([at], lr=0.1, fused=True), lambda: -at.sum(-1))
    assert torch.allclose(at, torch.full((2, 3), 0.1))


@pytest.mark.parametrize("shape", [(2, 1, 10), (2, 256, 256), (16,), (1,)])
def test_adam_updates_a_seed_as_if_it_were_alone(shape: tuple[int, ...]) -> None:
    """torch's fused kernel alone fails this for (2, 1, 10) within a few hundred steps."""
    start = torch.randn(3, *shape)
    steps = 300 if math.prod(shape) < 1000 else 20
    together = torch.nn.Parameter(start.clone())
    alone = torch.nn.Parameter(start[1:2].clone())
    optimizers = adam([together], 1e-3), adam([alone], 1e-3)
    for _ in range(steps):
        together.grad = torch.randn_like(together)
        alone.grad = together.grad[1:2].clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(together[1], alone[0])


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_has_its_first_calls_checked(turn: int) -> None:
    """Of conftest.py: what the first turn called often enough to go unchecked is checked again in the second."""
    norm, no_batch = LayerNorm((1,), 4, Streams((0,))), torch.zeros(4)
    with pytest.raises(TypeCheckError):
        norm(no_batch)
    for _ in range(20):
        norm(torch.zeros(1, 2, 4))
    assert norm(no_batch).shape == (1, 1, 4)
