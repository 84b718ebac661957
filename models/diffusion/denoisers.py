"""Networks F that a diffusion model is made of: a residual MLP over transitions, a temporal U-Net over trajectories.

Both know only (scaled x, noise feature, un-scaled conditions); preconditioning is
`models.diffusion.edm`. Every weight has the seeds in front.
"""

from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import pad

from core.config import configuration
from core.random import Streams
from models.bitwise import silu
from models.nn import MLP, Conv1d, LayerNorm, Linear

__all__ = ["NoiseFeatures", "ResidualMLP", "ResidualMLPConfig", "TemporalUNet", "UNetConfig", "condition_channels"]


class NoiseFeatures(nn.Module):
    """(c, sin 2 pi w c, cos 2 pi w c) of the noise feature c, with random frequencies w ~ N(0, 1), never trained.

    Source: SynthER's time embedding. DyDiff's sinusoids of wavelengths up to 10^4 hardly change over c in -1.6 .. 1.1.
    """

    frequency: Tensor

    def __init__(self, frequencies: int, rng: Streams) -> None:
        super().__init__()
        self.register_buffer("frequency", rng.normal(1, frequencies))

    def forward(self, feature: Float[Tensor, "S B"]) -> Float[Tensor, "S B F"]:
        """F = 2 frequencies + 1."""
        angle = 2 * torch.pi * feature[..., None] * self.frequency
        return torch.cat([feature[..., None], angle.sin(), angle.cos()], -1)


@configuration
class ResidualMLPConfig:
    """SynthER's denoiser; its own width is 2048 (1024 for some sets)."""

    width: PositiveInt = 256
    blocks: PositiveInt = 6
    embedding: PositiveInt = 128  # of the row and of the noise level
    frequencies: PositiveInt = 8

    presets: ClassVar[dict[str, dict[str, Any]]] = {"small": {}, "paper": {"width": 2048}}

    def init(self, features: int, rng: Streams) -> "ResidualMLP":
        """An untrained network for rows of that many features."""
        return ResidualMLP(self, features, rng)

    def flops(self, features: int) -> int:
        """Of one forward pass of one row: two per multiply-add of the matrix products, all else left out."""
        embed = (features + 2 * self.frequencies + 1 + self.embedding) * self.embedding
        return 2 * (embed + (self.embedding + self.blocks * self.width + features) * self.width)


class ResidualMLP(nn.Module):
    """Row and noise level, embedded and added; then h <- h + Linear(relu(h)), `blocks` times; then Linear(relu(h)).

    Source: Lu et al. 2023 (SynthER, arXiv:2303.06614), settings of the released code (resmlp_denoiser.gin).
    """

    def __init__(self, config: ResidualMLPConfig, features: int, rng: Streams) -> None:
        super().__init__()
        copies = (len(rng.seeds),)
        embedding = config.embedding
        self.noise = NoiseFeatures(config.frequencies, rng.fork("noise"))
        self.embed_noise = MLP(copies, [2 * config.frequencies + 1, embedding, embedding], rng, activation=silu)
        self.embed_row = Linear(copies, features, embedding, rng)
        self.first = Linear(copies, embedding, config.width, rng)
        self.blocks = nn.ModuleList(Linear(copies, config.width, config.width, rng) for _ in range(config.blocks))
        self.last = Linear(copies, config.width, features, rng)

    def forward(self, x: Float[Tensor, "S B D"], feature: Float[Tensor, "S B"]) -> Float[Tensor, "S B D"]:
        """F(scaled x, noise feature)."""
        h = self.first(self.embed_row(x) + self.embed_noise(self.noise(feature)))
        for block in self.blocks:
            h = h + block(h.relu())
        return self.last(h.relu())


@configuration
class UNetConfig:
    """Size and reach of the temporal U-Net. The defaults are `small`, for two CPU cores; `paper` is DyDiff's size."""

    dim: PositiveInt = 32  # channels are dim * multiplier at each level; each level halves the rows
    multipliers: tuple[PositiveInt, ...] = (1, 2, 4)
    blocks: PositiveInt = 2  # residual blocks at each level, on the way down and on the way up
    kernel: PositiveInt = 5  # rows that a convolution sees
    causal: bool = False  # row t of the output then depends on rows 0..t of x and of the conditions, only

    presets: ClassVar[dict[str, dict[str, Any]]] = {"small": {}, "paper": {"dim": 128, "multipliers": [1, 4, 8]}}

    def __post_init__(self) -> None:
        if not self.multipliers:
            raise ValueError("multipliers must have at least one level, got ()")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")

    def init(self, features: int, conditions: int, rng: Streams) -> "TemporalUNet":
        """An untrained network for rows of that many features and condition channels."""
        return TemporalUNet(self, features, conditions, rng)

    def flops(self, features: int, conditions: int, rows: int) -> int:
        """Of one forward pass of one trajectory: two per multiply-add of the matrix products, all else left out."""
        return _unet_flops(self, features, conditions, rows)

    def memory(self, rows: int) -> int:
        """Bytes that one trajectory takes in a forward pass, about: the largest convolution, with what goes in and out.

        The largest are those that see a skip; the skips themselves are small beside it.
        """
        reduced = (-(-rows // 2**level) * width for level, width in enumerate(self.multipliers))
        return 4 * 2 * (self.kernel + 2) * self.dim * max(reduced)


class TemporalUNet(nn.Module):
    """Residual convolutions over the rows of a trajectory, at full length, half, a quarter, and back with skips.

    Residual block: Conv k5, LayerNorm, SiLU, plus a Linear of the noise embedding, again Conv k5, LayerNorm, SiLU, plus
    the input (through a Linear where the channels differ). Down: Conv k3, stride 2. Up: transposed Conv k4, stride 2.
    Source: the layout of Janner et al. 2022 (Diffuser, arXiv:2205.09991) that DyDiff uses. We differ on purpose:
    LayerNorm over the channels of each row instead of GroupNorm over channels and rows (nothing leaks between rows, and
    no statistic depends on the length), SiLU instead of Mish, Fourier features of the noise level, conditions as
    channels of their own, any number of rows (zeros are appended up to a multiple of the reduction, then cut off), and
    a skip at full length too: without it, as there, everything passes through half the rows, and in a causal network
    every second row would not see itself.
    """

    def __init__(self, config: UNetConfig, features: int, conditions: int, rng: Streams) -> None:
        super().__init__()
        copies = (len(rng.seeds),)
        dim = config.dim
        widths = [features + conditions, *(dim * multiplier for multiplier in config.multipliers)]
        self.reduction = 2 ** (len(config.multipliers) - 1)
        self.noise = NoiseFeatures(dim // 2, rng.fork("noise"))
        self.embed_noise = MLP(copies, [2 * (dim // 2) + 1, 4 * dim, dim], rng, activation=silu)

        def level(fan_in: int, fan_out: int) -> _Level:
            sizes = [(fan_in, fan_out)] + [(fan_out, fan_out)] * (config.blocks - 1)
            return _Level(_Residual(copies, i, o, dim, rng, config) for i, o in sizes)

        self.down = nn.ModuleList(level(i, o) for i, o in pairwise(widths))
        self.shrink = nn.ModuleList(
            Conv1d(copies, width, width, rng, kernel=3, stride=2, causal=config.causal) for width in widths[1:-1]
        )
        self.middle = level(widths[-1], widths[-1])
        back = list(pairwise(widths[1:]))[::-1]
        self.up = nn.ModuleList(level(2 * o, i) for i, o in back)
        self.stretch = nn.ModuleList(_Stretch(copies, i, rng, causal=config.causal) for i, _ in back)
        self.last = _Block(copies, 2 * widths[1], dim, rng, config)
        self.out = Linear(copies, dim, features, rng)

    def forward(
        self,
        x: Float[Tensor, "S B H D"],
        feature: Float[Tensor, "S B"],
        condition: Float[Tensor, "S B H C"],
    ) -> Float[Tensor, "S B H D"]:
        """F(scaled x, noise feature, un-scaled conditions); C may be 0."""
        rows = x.shape[-2]
        h = pad(torch.cat([x, condition], -1), (0, 0, 0, -rows % self.reduction))
        level = silu(self.embed_noise(self.noise(feature)))
        skips: list[Tensor] = []
        for step, blocks in enumerate(self.down):
            h = blocks(h, level)
            skips.append(h)
            if step < len(self.shrink):
                h = self.shrink[step](h)
        h = self.middle(h, level)
        for blocks, stretch in zip(self.up, self.stretch, strict=True):
            h = stretch(blocks(torch.cat([h, skips.pop()], -1), level))
        return _rowwise(self.out, self.last(torch.cat([h, skips.pop()], -1)))[..., :rows, :]


def condition_channels(
    known: Float[Tensor, "S B H D"], mask: Bool[Tensor, "#S #B H D"]
) -> Float[Tensor, "S B H 3*D+1"]:
    """What is known of a trajectory, as channels: the known entries (0 elsewhere), their mask, the first row, a ramp.

    The first row is repeated everywhere, so that no row has to be near it to know where the trajectory starts; the ramp
    counts rows in units of 32. Row t shows what is known of row t: for a causal model of states under actions, give
    the actions shifted by one row, or state t will see the action that was chosen in it.
    """
    shown = known.where(mask, torch.zeros_like(known))
    ramp = torch.arange(known.shape[-2], dtype=known.dtype, device=known.device) / 32
    channels = mask.to(known.dtype).expand_as(known), shown[..., :1, :].expand_as(shown)
    return torch.cat([shown, *channels, ramp[:, None].expand(*known.shape[:-1], 1)], -1)


class _Block(nn.Module):
    """Convolution, LayerNorm, SiLU."""

    def __init__(self, copies: tuple[int, ...], fan_in: int, fan_out: int, rng: Streams, config: UNetConfig) -> None:
        super().__init__()
        self.conv = Conv1d(copies, fan_in, fan_out, rng, kernel=config.kernel, causal=config.causal)
        self.norm = LayerNorm(copies, fan_out, rng)

    def forward(self, x: Float[Tensor, "S B H C"]) -> Float[Tensor, "S B H W"]:
        return silu(_rowwise(self.norm, self.conv(x)))


class _Residual(nn.Module):
    """Two blocks around the noise level, beside a direct path."""

    def __init__(
        self, copies: tuple[int, ...], fan_in: int, fan_out: int, embedding: int, rng: Streams, config: UNetConfig
    ) -> None:
        super().__init__()
        self.before = _Block(copies, fan_in, fan_out, rng, config)
        self.level = Linear(copies, embedding, fan_out, rng)
        self.after = _Block(copies, fan_out, fan_out, rng, config)
        self.direct = Linear(copies, fan_in, fan_out, rng) if fan_in != fan_out else None

    def forward(self, x: Float[Tensor, "S B H C"], level: Float[Tensor, "S B F"]) -> Float[Tensor, "S B H W"]:
        h = self.after(self.before(x) + self.level(level).unsqueeze(-2))
        return h + (x if self.direct is None else _rowwise(self.direct, x))


class _Level(nn.ModuleList):
    """Residual blocks, one after the other."""

    def forward(self, x: Float[Tensor, "S B H C"], level: Float[Tensor, "S B F"]) -> Float[Tensor, "S B H W"]:
        for block in self:
            x = block(x, level)
        return x


class _Stretch(nn.Module):
    """Transposed convolution k4, stride 2: row j adds to rows 2j-1 .. 2j+2, with `causal` to rows 2j .. 2j+3."""

    def __init__(self, copies: tuple[int, ...], width: int, rng: Streams, *, causal: bool) -> None:
        super().__init__()
        self.spread = Linear(copies, width, 4 * width, rng)
        self.first = 0 if causal else 1

    def forward(self, x: Float[Tensor, "S B H C"]) -> Float[Tensor, "S B 2*H C"]:
        rows, width = x.shape[-2:]
        early, late = _rowwise(self.spread, x).chunk(2, -1)  # rows (2j, 2j+1) and (2j+2, 2j+3)
        full = pad(early, (0, 0, 0, 1)) + pad(late, (0, 0, 1, 0))
        return full.reshape(*x.shape[:-2], -1, width)[..., self.first : self.first + 2 * rows, :]


def _rowwise(layer: nn.Module, x: Float[Tensor, "S B H C"]) -> Float[Tensor, "S B H W"]:
    return layer(x.flatten(-3, -2)).unflatten(-2, x.shape[-3:-1])


@cache
def _unet_flops(config: UNetConfig, features: int, conditions: int, rows: int) -> int:
    """Counted layer by layer, as the network is built."""
    levels = len(config.multipliers)
    dim = config.dim
    kernel = config.kernel
    widths = [features + conditions, *(dim * multiplier for multiplier in config.multipliers)]
    lengths = [-(-rows // 2 ** (levels - 1)) * 2 ** (levels - 1 - level) for level in range(levels)]

    def residual(fan_in: int, fan_out: int, length: int) -> int:
        convolutions = kernel * (fan_in + fan_out) * fan_out * length
        return convolutions + dim * fan_out + (fan_in * fan_out * length if fan_in != fan_out else 0)

    def level(fan_in: int, fan_out: int, length: int) -> int:
        return residual(fan_in, fan_out, length) + (config.blocks - 1) * residual(fan_out, fan_out, length)

    total = (2 * (dim // 2) + 1) * 4 * dim + 4 * dim * dim
    total += sum(level(i, o, length) for (i, o), length in zip(pairwise(widths), lengths, strict=True))
    total += level(widths[-1], widths[-1], lengths[-1])
    for (low, high), length in zip(pairwise(widths[1:]), lengths[1:], strict=True):  # between a level and the next down
        total += 3 * low * low * length
        total += level(2 * high, low, length)
        total += low * 4 * low * length
    total += kernel * 2 * widths[1] * dim * lengths[0] + dim * features * lengths[0]
    return 2 * total
