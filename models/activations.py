"""Smooth activations that round a number alike wherever it stands in memory.

torch's own `silu`, `softplus` and `sigmoid` on a CPU treat the last few elements of a tensor with other code than the
rest, so that the last bit of one seed's numbers would depend on how many seeds there are. `tanh`, `exp` and `log1p`
do not: these are made of them.
"""

from jaxtyping import Float
from torch import Tensor

__all__ = ["mish", "silu", "softplus"]


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x sigmoid(x), the sigmoid being (1 + tanh(x / 2)) / 2."""
    half = 0.5 * x
    return half + half * half.tanh()


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(1 + exp(x)) without overflow."""
    return x.clamp(min=0) + (-x.abs()).exp().log1p()


def mish(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x tanh(softplus(x)). Source: Misra 2019 (arXiv:1908.08681)."""
    return x * softplus(x).tanh()
