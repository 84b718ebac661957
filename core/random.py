"""Randomness is an argument: one generator per seed, and children by label."""

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

__all__ = ["Drawn", "Recorder", "Streams", "named"]


_Fill = Callable[[Tensor, torch.Generator], Tensor]
_Draw = tuple[tuple[int, ...], torch.dtype, _Fill]


class Streams:
    """Random numbers for S seeds at once; the numbers of one seed do not depend on which others are there.

    A child is a function of the seed and the path of labels alone, never of what was drawn before: one more draw here
    moves no number elsewhere. The same label gives the same child again, so a loop puts its step into the label.
    """

    def __init__(self, seeds: Iterable[int], label: str = "", device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.label = label
        self.device = torch.device(device)

    def fork(self, label: str) -> "Streams":
        """An independent child for every seed."""
        return Streams(self.seeds, f"{self.label}/{label}", self.device)

    def only(self, seeds: Iterable[int]) -> "Streams":
        """The same streams, from their start, of other seeds: what one of them would draw if it ran alone."""
        return Streams(seeds, self.label, self.device)

    def normal(self, *shape: int) -> Float[Tensor, "S ..."]:
        return self._draw(shape, torch.float32, lambda out, rng: out.normal_(generator=rng))

    def uniform(self, *shape: int) -> Float[Tensor, "S ..."]:
        """Uniform on [0, 1)."""
        return self._draw(shape, torch.float32, lambda out, rng: out.uniform_(generator=rng))

    def uniform64(self, *shape: int) -> Float64[Tensor, "S ..."]:
        """Uniform on [0, 1) with 53 bits: fine enough to index millions of rows."""
        return self._draw(shape, torch.float64, lambda out, rng: out.uniform_(generator=rng))

    def integers(self, high: int, *shape: int) -> Int[Tensor, "S ..."]:
        """Uniform on 0 .. high-1."""
        return self._draw(shape, torch.int64, lambda out, rng: out.random_(high, generator=rng))

    def state_dict(self) -> list[Tensor]:
        """Generator states, one per seed."""
        return [generator.get_state() for generator in self.generators]

    def load_state_dict(self, state: Iterable[Tensor]) -> None:
        """Restore generator states."""
        for generator, known in zip(self.generators, state, strict=True):
            generator.set_state(known)

    @cached_property
    def generators(self) -> list[torch.Generator]:
        """One per seed, on the device."""
        return [torch.Generator(self.device).manual_seed(self._number(seed)) for seed in self.seeds]

    def _number(self, seed: int) -> int:
        digest = hashlib.blake2b(f"{seed}:{self.label}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype, fill: _Fill) -> Tensor:
        out = torch.empty(len(self.seeds), *shape, dtype=dtype, device=self.device)
        for row, generator in zip(out, self.generators, strict=True):
            fill(row, generator)
        return out


class Recorder(Streams):
    """Draws from `source` and lists in `draws` what was drawn."""

    def __init__(self, source: Streams) -> None:
        super().__init__(source.seeds, source.label, source.device)
        self._source = source
        self.draws = list[_Draw]()

    def _draw(self, *draw: Any) -> Tensor:
        self.draws.append(draw)
        return self._source._draw(*draw)


class Drawn(Streams):
    """Numbers drawn from `source` beforehand, for one call of a function that a `Recorder` has recorded."""

    def __init__(self, source: Streams, draws: Iterable[_Draw]) -> None:
        super().__init__(source.seeds, source.label, source.device)
        self._numbers = [source._draw(*draw) for draw in draws]
        self._next = 0

    def _draw(self, *draw: Any) -> Tensor:
        self._next += 1
        return self._numbers[self._next - 1]


def named(streams: Iterable[Streams]) -> dict[str, Streams]:
    return {stream.label: stream for stream in streams}
