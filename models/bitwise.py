"""What makes the numbers of a seed the same, bit for bit, whichever other seeds are computed beside it.

Seeds share one tensor, and kernels on a CPU choose their code by size and position: the last elements of a block or of
a thread's share are rounded by other code than the rest, a product with a single vector by another kernel than a batch
of them, and a sum is split by its length and by the number of columns. One seed's last bit would then depend on how
many there are. Each function here avoids one such case: by operations that round alike everywhere (`tanh`, `exp` and
`log1p` do), by padding to whole blocks, or by computing twice. On a GPU all elements are treated alike.
"""

from collections.abc import Iterable
from functools import cache
from math import lcm
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["adam_groups", "affine", "mish", "pad_rows", "repeat_rows", "silu", "softplus", "squared_norm"]

_ROWS = 16  # of a matrix product: a multiple of it ends no seed's numbers inside a block


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x sigmoid(x), the sigmoid being (1 + tanh(x / 2)) / 2."""
    if _whole_blocks(x):
        return functional.silu(x)
    half = 0.5 * x
    return half + half * half.tanh()


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(1 + exp(x)) without overflow; `maximum` gives half the gradient at 0, where `clamp` gives all of it."""
    return torch.maximum(x, x.new_zeros(())) + (-x.abs()).exp().log1p()


def mish(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x tanh(softplus(x)). Source: Misra 2019 (arXiv:1908.08681)."""
    if _whole_blocks(x):
        return functional.mish(x)
    return x * softplus(x).tanh()


def affine(
    bias: Float[Tensor, "C 1 O"], x: Float[Tensor, "C B I"], weight: Float[Tensor, "C I O"]
) -> Float[Tensor, "C B O"]:
    """x @ weight + bias; a lone product with a vector is computed twice, for one of many takes another kernel."""
    copies = len(weight)
    if copies == 1 and 1 in weight.shape[1:]:
        bias, x, weight = (part.expand(2, -1, -1) for part in (bias, x, weight))
    return torch.baddbmm(bias, x, weight)[:copies]


def pad_rows(x: Float[Tensor, "*copies B F"]) -> Float[Tensor, "*copies R F"]:
    """Rows of zeros appended up to a whole number of blocks, to be cut off after the products."""
    return functional.pad(x, (0, 0, 0, -x.shape[-2] % _ROWS))


def repeat_rows(row: Float[Tensor, "*copies 1 F"], like: Float[Tensor, "*copies B G"]) -> Float[Tensor, "*copies B F"]:
    """One row, as many times as `like` has rows; by a product, for the gradient of `expand` is summed by size."""
    return torch.ones_like(like[..., :1]) @ row


def squared_norm(gradients: list[Tensor]) -> Float[Tensor, " S"]:
    """Sum of squares over all tensors, per seed.

    Two sums of moderate length each: one long sum is split among threads where there is a single seed only. Tensors are
    added one by one: torch sums a column of a single seed in another order than that of several.
    """
    squares = [gradient.square().sum(-1).flatten(1).sum(-1) for gradient in gradients]
    return sum(squares[1:], squares[0])


def adam_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups of Adam on a CPU: fused where no seed's share of a tensor ends inside a block, else not.

    The fused kernel rounds the last elements of a block (of 16, per thread) differently; the other rounds all alike.
    A state of Adam fits groups that were made with equally many threads only.
    """
    blocks = _ROWS * torch.get_num_threads()
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in parameters:
        groups[parameter[0].numel() % blocks == 0].append(parameter)
    return [{"params": group, "fused": fused, "foreach": not fused} for fused, group in groups.items() if group]


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
