"""Building blocks with leading axes `copies`: (S,) for an actor, (S, 2) for twin critics, (S, E) for an ensemble.

The only file that knows how the seed axis works; above it, code says `dim=-1` and reads as if there were one seed.
Why a seed's numbers do not depend on the other seeds, to the last bit, is in `models.bitwise`.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from core.random import Streams
from models.bitwise import adam_groups, affine, squared_norm
from models.compiled import differentiate

__all__ = [
    "MLP",
    "Conv1d",
    "Init",
    "LayerNorm",
    "Linear",
    "Standardize",
    "adam",
    "anneal",
    "clip_per_seed",
    "descend",
    "ema_",
    "gradients",
    "half_square",
    "orthogonal_",
    "set_rate",
    "xavier_uniform_",
]

Init = Literal["torch", "normal", "half"]


class Linear(nn.Module):
    """`nn.Linear` for `copies` independent layers at once: y[c] = x[c] @ weight[c] + bias[c].

    Each seed draws its own weights from its own stream. `init`: "torch" is uniform within 1/sqrt(fan_in), for bias as
    well; "normal" is N(0, 1/fan_in) with zero bias (DyDiff's code); "half" is N(0, 1/(4 fan_in)) with zero bias, for
    dynamics ensembles. Chua et al. 2018 (arXiv:1805.12114) cut that at two deviations; OfflineRL-Kit calls a function
    that cuts at +-2, which is nowhere. We measured before choosing (local/hopper-medium, one seed): with weights that
    are cut, single members are slow to learn their variances.
    """

    def __init__(self, copies: tuple[int, ...], fan_in: int, fan_out: int, rng: Streams, init: Init = "torch") -> None:
        super().__init__()
        weight = (*copies[1:], fan_in, fan_out)
        bias = (*copies[1:], 1, fan_out)
        if init == "torch":
            bound = fan_in**-0.5
            self.weight = nn.Parameter(bound * (2 * rng.uniform(*weight) - 1))
            self.bias = nn.Parameter(bound * (2 * rng.uniform(*bias) - 1))
        else:
            deviation = {"normal": 1.0, "half": 0.5}[init] * fan_in**-0.5
            self.weight = nn.Parameter(deviation * rng.normal(*weight))
            self.bias = nn.Parameter(torch.zeros(len(rng.seeds), *bias, device=rng.device))

    def forward(self, x: Float[Tensor, "*#copies B fan_in"]) -> Float[Tensor, "*#copies B fan_out"]:
        """Axes of `x` may be of size one where the copies share their input."""
        copies = self.weight.shape[:-2]
        x = x.expand(*copies, *x.shape[-2:])
        bias = self.bias.flatten(0, -3)
        x = x.reshape(-1, *x.shape[-2:])
        weight = self.weight.flatten(0, -3)
        flat = affine(bias, x, weight)
        return flat.view(*copies, *flat.shape[-2:])


class Conv1d(nn.Module):
    """Convolution along the rows (second-last axis) for `copies` independent layers, as one batched matmul.

    Output row i sees the `kernel` input rows around row stride*i; with `causal` those that end at it. Rows outside are
    zero. Rows come before channels (torch has it the other way round), so a block of layers needs no transposition.
    """

    def __init__(
        self,
        copies: tuple[int, ...],
        fan_in: int,
        fan_out: int,
        rng: Streams,
        *,
        kernel: int,
        stride: int = 1,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.linear = Linear(copies, kernel * fan_in, fan_out, rng)
        self.kernel = kernel
        self.stride = stride
        self.before = kernel - 1 if causal else kernel // 2

    def forward(self, x: Float[Tensor, "*copies B H fan_in"]) -> Float[Tensor, "*copies B I fan_out"]:
        """I = H / stride, rounded up."""
        rows = -(-x.shape[-2] // self.stride)
        x = pad(x, (0, 0, self.before, self.kernel - 1 - self.before))
        last = self.stride * (rows - 1) + 1
        seen = torch.stack([x[..., first : first + last : self.stride, :] for first in range(self.kernel)], -2)
        return self.linear(seen.flatten(-2).flatten(-3, -2)).unflatten(-2, (-1, rows))


class LayerNorm(nn.Module):
    """`nn.LayerNorm` over the last axis, with scale and shift per copy."""

    def __init__(self, copies: tuple[int, ...], width: int, rng: Streams) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*copies, 1, width, device=rng.device))
        self.bias = nn.Parameter(torch.zeros(*copies, 1, width, device=rng.device))

    def forward(self, x: Float[Tensor, "*copies B width"]) -> Float[Tensor, "*copies B width"]:
        """Each row on its own: rows that are padding move no statistic."""
        return layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class MLP(nn.Module):
    """Linear layers with an activation between them and none at the end."""

    def __init__(
        self,
        copies: tuple[int, ...],
        sizes: Iterable[int],
        rng: Streams,
        *,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        init: Init = "torch",
    ) -> None:
        super().__init__()
        sizes = list(sizes)
        self.layers = nn.ModuleList(Linear(copies, fan_in, fan_out, rng, init) for fan_in, fan_out in pairwise(sizes))
        self.activation = activation

    @property
    def linear(self) -> list[Linear]:
        return [layer for layer in self.layers if isinstance(layer, Linear)]

    def forward(self, x: Float[Tensor, "*#copies B fan_in"]) -> Float[Tensor, "*#copies B fan_out"]:
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


class Standardize(nn.Module):
    """(x - mean) / scale with constants kept per seed, so that a seed's model can be cut out, stored and stacked."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, rng: Streams) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(rng.seeds), 1, width, device=rng.device))
        self.register_buffer("scale", torch.ones(len(rng.seeds), 1, width, device=rng.device))

    def set(self, mean: Float[Tensor, "*S F"], scale: Float[Tensor, "*S F"]) -> "Standardize":
        """Use these constants; with one row for all seeds or one each."""
        self.mean.copy_(mean.view(-1, 1, mean.shape[-1]))
        self.scale.copy_(scale.view(-1, 1, scale.shape[-1]))
        return self

    def fit(self, values: Float[Tensor, "N F"], rows: Int[Tensor, "S n"]) -> "Standardize":
        """Use the mean and standard deviation of each seed's own rows; a constant column keeps its unit."""
        for seed, chosen in enumerate(rows):
            sample = values[chosen].double()
            scale = sample.std(0)
            self.mean[seed] = sample.mean(0)
            self.scale[seed] = torch.where(scale < 1e-12, 1.0, scale)
        return self

    def forward(self, x: Float[Tensor, "S *E B F"]) -> Float[Tensor, "S *E B F"]:
        return (x - self._axes(self.mean, x)) / self._axes(self.scale, x)

    def inverse(self, x: Float[Tensor, "S *E B F"]) -> Float[Tensor, "S *E B F"]:
        return x * self._axes(self.scale, x) + self._axes(self.mean, x)

    def _axes(self, constant: Tensor, x: Tensor) -> Tensor:
        return constant.view(len(constant), *[1] * (x.ndim - 2), -1)


def adam(
    parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Adam for all seeds at once: it works element by element, so each seed is updated as if it were alone.

    On a GPU rate and counts live on the device, after a state was loaded, too, so that a graph of an update can be
    replayed while they change.
    """
    parameters = list(parameters)
    if parameters[0].is_cuda:
        rate = torch.tensor(learning_rate, device=parameters[0].device)
        optimizer = torch.optim.Adam(parameters, lr=rate, betas=betas, fused=True, capturable=True)
        optimizer.register_load_state_dict_post_hook(partial(_into_rate, rate))
        return optimizer
    return torch.optim.Adam(adam_groups(parameters), lr=learning_rate, betas=betas)


def _into_rate(rate: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Torch moves the moments it loads to the device, but takes a rate, a tensor of the CPU, as it is.

    An optimiser's kernel reads a rate of the CPU once: a graph would repeat it for ever, whatever `set_rate` does.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate.fill_(group["lr"])


def descend(
    optimizer: torch.optim.Optimizer,
    loss: Callable[..., Any],
    *inputs: Any,
    max_norm: float | None = None,
    clipped_axes: int = 1,
) -> Any:
    """One step of an optimiser on its own parameters; networks that the loss also passes through get no gradient.

    With `max_norm` the gradient of each seed is shortened to that length first; with `clipped_axes=2` that of each
    network of a stack [S, K]. Returns what `loss(*inputs)` does, detached: one number per seed, or a tuple that begins
    with them.
    """
    found = gradients(optimizer, loss, *inputs, max_norm=max_norm, clipped_axes=clipped_axes)
    optimizer.step()
    return found


def gradients(
    optimizer: torch.optim.Optimizer,
    loss: Callable[..., Any],
    *inputs: Any,
    max_norm: float | None = None,
    clipped_axes: int = 1,
) -> Any:
    """`descend` up to the optimiser's step, for losses that must not see each other's steps."""
    parameters = _parameters(optimizer)
    shorten = _identity if max_norm is None else partial(_clip, max_norm=max_norm, axes=clipped_axes)
    found, along = differentiate(optimizer, loss, parameters, inputs, shorten)
    for parameter, gradient in zip(parameters, along, strict=True):
        parameter.grad = gradient
    return found


def _identity(gradients: list[Tensor]) -> None:
    pass


def _clip(gradients: list[Tensor], max_norm: float, axes: int) -> None:
    """Each network of the leading axes on its own; what is flattened here is a view."""
    clip_per_seed([gradient.flatten(0, axes - 1) for gradient in gradients], max_norm)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class _HalfSquare(torch.autograd.Function):
    """Half the sum of squares over all but the leading axes; its gradient is the tensor itself, in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, leading: int) -> Tensor:
        ctx.save_for_backward(x)
        return 0.5 * torch.linalg.vector_norm(x.flatten(leading), dim=-1).square()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        (gradient,) = upstream
        return gradient.view(*gradient.shape, *[1] * (x.ndim - gradient.ndim)) * x, None


def half_square(x: Float[Tensor, "*copies I O"]) -> Float[Tensor, "*copies"]:
    """Half the squared length of every copy's matrix: the penalty whose gradient is the matrix."""
    found: Tensor = _HalfSquare.apply(x, x.ndim - 2)  # type: ignore[no-untyped-call]
    return found


@torch.no_grad()
def clip_per_seed(gradients: list[Tensor], max_norm: float) -> Float[Tensor, " S"]:
    """Shorten, in place, the gradient of every seed that is longer than `max_norm`; returns the lengths before.

    A seed's length is the 2-norm of its share of all tensors together; as in `clip_grad_norm_`, 1e-6 is added to it.
    """
    norm = squared_norm(gradients).sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))
    return norm


def anneal(optimizer: torch.optim.Optimizer, learning_rate: float, done: int, total: int | None) -> None:
    """Half a cosine: `learning_rate` before the first update, zero from update `total` on; None: constant."""
    if total is not None:
        set_rate(optimizer, learning_rate * (1 + math.cos(math.pi * min(done / total, 1))) / 2)


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Change the learning rate of the next steps; on a GPU the tensor in place, which a graph reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


@torch.no_grad()
def orthogonal_(net: MLP, rng: Streams, gain: float, last: float) -> None:
    """Orthogonal weights times `gain`, or times `last` in the last layer, and zero biases. Source: arXiv:1312.6120."""
    for layer in net.linear:
        *copies, fan_in, fan_out = layer.weight.shape
        draw = rng.normal(*copies[1:], max(fan_in, fan_out), min(fan_in, fan_out))
        q, r = torch.linalg.qr(draw)
        q = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]  # uniform among the orthogonal matrices
        layer.weight.copy_((last if layer is net.linear[-1] else gain) * (q if fan_in >= fan_out else q.mT))
        layer.bias.zero_()


@torch.no_grad()
def xavier_uniform_(layer: Linear, rng: Streams, gain: float) -> None:
    """Weights uniform within gain sqrt(6 / (fan_in + fan_out)), zero biases. Source: Glorot and Bengio 2010, eq. 16."""
    *copies, fan_in, fan_out = layer.weight.shape
    bound = gain * (6 / (fan_in + fan_out)) ** 0.5
    layer.weight.copy_(bound * (2 * rng.uniform(*copies[1:], fan_in, fan_out) - 1))
    layer.bias.zero_()


@torch.no_grad()
def ema_(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move `target` towards `source`: (1 - rate) target + rate source, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
