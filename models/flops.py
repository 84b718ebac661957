"""FLOP of work that is repeated: the first run of each kind is counted, and multiplied by how often the kind ran.

Additions and multiplications count separately, so a multiply-add is two, in forward and backward passes. Counted are
the matrix products that torch has formulas for; work element by element (activations, optimisers, averages of weights)
is not. The work itself is what is watched: nothing runs twice for it, except a loss that torch.compile takes over
(`models.compiled`), and no random number moves. Products that round alike for every number of seeds cost a little more
than the formula (`models.bitwise`: padded rows; a lone seed's product with a vector, computed twice).
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["FlopCount", "FlopMode", "counted", "counting", "fit_flops", "uncounted"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class FlopMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the FLOP of every operation on tensors in its scope; use `counted`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=found)
        return found


_open: FlopMode | None = None  # the innermost one, which alone counts
_loops: list["FlopCount"] | None = None  # of the fit that is running


def counting() -> bool:
    """Whether FLOP are being counted right now."""
    return _open is not None


@contextmanager
def uncounted() -> Iterator[None]:
    """Inside the block nothing is counted, and nothing is slowed down."""
    global _open
    paused = _open
    if paused is None:
        yield
        return
    _open = None
    paused.__exit__(None, None, None)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        paused.__enter__()  # type: ignore[no-untyped-call]
        _open = paused


@contextmanager
def counted() -> Iterator[FlopMode]:
    """Count what runs inside the block; a block around this one does not count it again."""
    global _open
    with uncounted(), FlopMode() as mode:
        _open = mode
        try:
            yield mode
        finally:
            _open = None


class FlopCount:
    """FLOP of each seed in a loop whose steps are of few kinds; equal shares of what the seeds do together."""

    def __init__(self, seeds: int) -> None:
        self.per_seed = [0.0] * seeds
        self.going = [True] * seeds  # a seed that needs no more steps is charged for none, though others go on
        self._each = dict[Hashable, float]()  # by kind: FLOP of one step and one seed
        if _loops is not None:
            _loops.append(self)

    def __call__(self, kind: Hashable, work: Callable[_P, _T], *inputs: _P.args, **named: _P.kwargs) -> _T:
        """`work(*inputs)`, a step of this kind: all steps of a kind have equal shapes."""
        if kind in self._each:
            found = work(*inputs, **named)
        else:
            with counted() as mode:
                found = work(*inputs, **named)
            self._each[kind] = mode.total / len(self.per_seed)
        each = self._each[kind]
        self.per_seed = [sum_ + each * go for sum_, go in zip(self.per_seed, self.going, strict=True)]
        return found

    def state_dict(self) -> dict[str, Any]:
        """What the seeds have spent so far, and which go on; kinds are counted again after resuming."""
        return {"per_seed": self.per_seed, "going": self.going}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from there."""
        self.per_seed = list(state["per_seed"])
        self.going = list(state["going"])

    def tensor(self) -> Float64[Tensor, " S"]:
        """On the CPU."""
        return torch.tensor(self.per_seed, dtype=torch.float64)


@contextmanager
def fit_flops(seeds: int) -> Iterator[list[float]]:
    """Count a whole fit: its loops step by step, all else as it runs. The list is filled, per seed, at the end."""
    global _loops
    before = _loops
    found = list[FlopCount]()
    _loops = found
    spent = [0.0] * seeds
    try:
        with counted() as mode:
            yield spent
    finally:
        _loops = before
    for loop in found:
        spent[:] = [sum_ + more for sum_, more in zip(spent, loop.per_seed, strict=True)]
    spent[:] = [sum_ + mode.total / seeds for sum_ in spent]
