from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from models import bitwise as activations

PAIRS = [
    (activations.silu, functional.silu),
    (activations.softplus, functional.softplus),
    (activations.mish, functional.mish),
]


@pytest.mark.parametrize(("ours", "torchs"), PAIRS)
def test_value_and_gradient_equal_torchs(
    ours: Callable[..., torch.Tensor], torchs: Callable[..., torch.Tensor]
) -> None:
    edges = torch.tensor([-1e4, -100.0, -0.0, 0.0, 100.0, 1e4])
    x = torch.cat([torch.linspace(-30, 30, 1000), edges]).double().requires_grad_()
    assert torch.allclose(ours(x), torchs(x), rtol=1e-9, atol=1e-9)
    (mine,) = torch.autograd.grad(ours(x).sum(), x)
    (theirs,) = torch.autograd.grad(torchs(x).sum(), x)
    assert torch.allclose(mine, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("ours", [pair[0] for pair in PAIRS])
@pytest.mark.parametrize("size", [5, 7, 31, 1001])
def test_a_number_is_rounded_alike_wherever_it_stands(ours: Callable[..., torch.Tensor], size: int) -> None:
    """torch's silu and softplus fail this."""
    x = 3 * torch.randn(40, size)
    together = ours(x)
    alone = torch.stack([ours(row.clone()) for row in x])
    assert torch.equal(together, alone)
