"""Gradients of pure functions, eager or through torch.compile.

Compiling costs seconds to minutes and rounds differently, so only the runner decides: inside of `compiling()`
every loss is compiled together with its gradient into one graph. Methods only have to give their losses as functions of
what changes from call to call: states, batches, streams of random numbers.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from core.random import Drawn, Recorder, Streams
from models.flops import counting, uncounted

__all__ = ["call", "compiling", "differentiate"]

_GRAPHS = 64  # different losses and shapes of one process

_on = False


@contextmanager
def compiling(on: bool = True) -> Iterator[None]:
    """Inside the block losses are compiled, or are not."""
    global _on
    before = _on
    _on = on
    try:
        yield
    finally:
        _on = before


def differentiate(
    owner: object,
    loss: Callable[..., Any],
    parameters: Sequence[Tensor],
    inputs: Sequence[Any],
    finish: Callable[[list[Tensor]], object],
) -> tuple[Any, list[Tensor]]:
    """What `loss(*inputs)` returns, detached, and its gradients, laid out like the parameters.

    `loss` returns one number per seed, or a tuple that begins with them; their sum is differentiated. `owner` is
    the key of the plan cache, held weakly. `finish` may change the gradients in place.
    """
    if not _on:
        return _differentiate(loss, parameters, inputs, finish)
    plans = _plans.setdefault(owner, {})
    code = getattr(loss, "__code__", None) or loss.__func__.__code__  # type: ignore[attr-defined]
    streams = [at for at, given in enumerate(inputs) if isinstance(given, Streams)]
    handed = list(inputs)
    # One discarded call records which random numbers are drawn, so that they can be passed in; FLOP are counted in
    # another, because compiled code cannot be looked into.
    if code not in plans or counting():
        before = [inputs[at].state_dict() for at in streams]
        for at in streams:
            handed[at] = Recorder(inputs[at])
        _differentiate(loss, parameters, handed, lambda gradients: None) if counting() else loss(*handed)
        plans[code] = [handed[at].draws for at in streams]
        for at, state in zip(streams, before, strict=True):
            inputs[at].load_state_dict(state)
    for at, draws in zip(streams, plans[code], strict=True):
        handed[at] = Drawn(inputs[at], draws)
    with uncounted(), torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=_GRAPHS):
        return _compiled()(loss, parameters, handed, finish)


def call(function: Callable[..., Any], *inputs: Any) -> Any:
    """`function(*inputs)`, for functions that are called often and not differentiated."""
    if not _on:
        return function(*inputs)
    if counting():
        function(*inputs)  # discarded: compiled code cannot be looked into
    with uncounted(), torch._dynamo.config.patch(recompile_limit=_GRAPHS):
        return _called()(function, inputs)


def _differentiate(
    loss: Callable[..., Any],
    parameters: Sequence[Tensor],
    inputs: Sequence[Any],
    finish: Callable[[list[Tensor]], object],
) -> tuple[Any, list[Tensor]]:
    found = loss(*inputs)
    per_seed = found[0] if isinstance(found, tuple) else found
    # The only sum over seeds: each gradient is what it would be if the seed were alone.
    # A fused optimiser reads a gradient as if it were laid out like its parameter.
    gradients = [x.contiguous() for x in torch.autograd.grad(per_seed.sum(), parameters)]
    with torch.no_grad():
        finish(gradients)
    return tree_map(_detached, found), gradients


_plans: weakref.WeakKeyDictionary[object, dict[Any, list[Any]]] = weakref.WeakKeyDictionary()


@cache
def _compiled() -> Any:
    return torch.compile(_differentiate, dynamic=False)


@cache
def _called() -> Any:
    return torch.compile(lambda function, inputs: function(*inputs))


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
