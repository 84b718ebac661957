"""The training loop of diffusion models: a fixed number of updates, and the running average of the weights is kept."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import cos, pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.checkpoint import Checkpoint, Stateful, load_all, state_of
from core.interrupt import deferred
from core.progress import progress
from core.random import Streams, named
from models.nn import adam, descend, ema_, set_rate

__all__ = ["average_rate", "cosine_decay", "train_averaged"]


def cosine_decay(step: int, steps: int, hold: float = 0.0) -> float:
    """Factor of the learning rate: 1 for the share `hold` of the steps, then half a cosine down to 0."""
    return (1 + cos(pi * max(step / steps - hold, 0) / (1 - hold))) / 2


def average_rate(count: int, limit: float) -> float:
    """Weight of the old average when the weights are averaged for the `count`-th time: 1 - (1 + count)^(-2/3).

    At most `limit`, so that the average forgets where training began, however short it is.
    """
    return min(limit, 1 - (1 + count) ** (-2 / 3))


def train_averaged(
    model: nn.Module,
    loss: Callable[..., Float[Tensor, " S"]],
    *,
    draws: Sequence[Streams],
    updates: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    hold: float = 0.0,
    max_norm: float | None = 1.0,
    average: float = 0.995,
    average_every: int = 10,
    checkpoint: Checkpoint,
    label: str,
) -> None:
    """Adam with a cosine learning rate and gradients clipped per seed; afterwards `model` holds the average.

    With fewer updates than `average_every` there is no average, and `model` holds its last weights.

    `loss(*draws)` draws from these streams and no others: a resumed fit continues with them.

    Raises:
        FloatingPointError: the loss is no longer finite (looked at a hundred times).
    """
    averaged = deepcopy(model)
    optimizer = adam(model.parameters(), learning_rate, betas)
    check_every = max(updates // 100, 1)
    parts: dict[str, Stateful] = {"model": model, "averaged": averaged, "optimizer": optimizer, **named(draws)}
    done, found = checkpoint.load() or (0, {})
    if found:
        load_all(parts, found)
    with progress(f"fit {label}", updates) as advance, deferred():
        advance(done - done % check_every)
        for update in range(done + 1, updates + 1):
            set_rate(optimizer, learning_rate * cosine_decay(update - 1, updates, hold))
            value = descend(optimizer, loss, *draws, max_norm=max_norm)
            if update % average_every == 0:
                ema_(averaged, model, 1 - average_rate(update // average_every, average))
            if update % check_every == 0:
                advance(check_every)
                if not bool(value.isfinite().all()):
                    raise FloatingPointError(f"{label}: loss must be finite, got {value.tolist()} at update {update}")
            checkpoint.offer(update, lambda: state_of(parts))
    if updates < average_every:
        return
    with torch.no_grad():
        for parameter, kept in zip(model.parameters(), averaged.parameters(), strict=True):
            parameter.copy_(kept)
