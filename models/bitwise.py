"""Smooth activations that round a number alike wherever it stands in memory.

torch's own `silu`, `mish`, `softplus` and `sigmoid` on a CPU treat the last few elements of a tensor, or of a thread's
share, with other code than the rest, so that the last bit of one seed's numbers would depend on how many seeds there
are. `tanh`, `exp` and `log1p` do not: these are made of them. Where no seed's numbers can end inside a block, torch's
own are as good and several times faster.
"""

from functools import cache
from math import lcm

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

__all__ = ["mish", "silu", "softplus"]


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x sigmoid(x), the sigmoid being (1 + tanh(x / 2)) / 2."""
    if _whole_blocks(x):
        return functional.silu(x)
    half = 0.5 * x
    return half + half * half.tanh()


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(1 + exp(x)) without overflow."""
    return x.clamp(min=0) + (-x.abs()).exp().log1p()


def mish(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x tanh(softplus(x)). Source: Misra 2019 (arXiv:1908.08681)."""
    if _whole_blocks(x):
        return functional.mish(x)
    return x * softplus(x).tanh()


def _whole_blocks(x: Tensor) -> bool:
    """Whether each seed's share of `x` is a number of blocks, however many threads divide all of it.

    On a GPU all elements are alike, and what is compiled promises nothing.
    """
    if torch.compiler.is_compiling() or x.is_cuda:
        return True
    return x.is_contiguous() and x.ndim > 1 and x[0].numel() % _block(torch.get_num_threads()) == 0


@cache
def _block(threads: int) -> int:
    return 64 * lcm(*range(1, threads + 1))
