"""The supervised training loop of small models: keep the best weights of every copy, stop when nothing improves."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.checkpoint import Checkpoint, Stateful, load_all, state_of
from core.interrupt import deferred
from core.progress import progress
from core.random import Streams, named
from models.cache import Facts, FitContext, ModelConfig
from models.nn import adam, descend

__all__ = ["EarlyStopped", "fit_rows", "split_rows", "train_until_stale", "unseen_loss"]

_THRESHOLD = 0.01  # share by which an error must fall to count as an improvement
_UNSEEN = 16  # batches over which the loss of unseen rows is a mean


class EarlyStopped(ModelConfig):
    """Base of configurations whose fit ends by itself; all five must be fields."""

    learning_rate: float
    batch_size: int
    patience: int  # checks without an improvement
    check_every: int | None  # updates between checks; None: an epoch
    max_updates: int

    def interval(self, rows: int) -> int:
        """Updates between checks; those of an epoch draw as many rows as there are to learn from."""
        return self.check_every or -(-rows // self.batch_size)


def train_until_stale(
    config: EarlyStopped,
    model: nn.Module,
    loss: Callable[..., Float[Tensor, " S"]],
    validate: Callable[[], Float[Tensor, "S *E"]],
    *,
    rows: int,
    draws: Sequence[Streams],
    checkpoint: Checkpoint,
    label: str,
) -> Float[Tensor, "S *E"]:
    """Adam until, for every seed, no copy's validation error has fallen by one per cent in `patience` checks.

    Afterwards the parameters hold each copy's best weights; returned are the errors of those weights. A seed that has
    stopped keeps what it has while others go on, so its result does not depend on them. Parameters have the axes of
    `validate()` in front. `loss(*draws)` draws from these streams and no others: a resumed fit continues with them.
    `rows`: training rows, the length of an epoch. Raises FloatingPointError once the error of a seed that has not
    stopped is not finite.
    """
    every = config.interval(rows)
    parameters = list(model.parameters())
    optimizer = adam(parameters, config.learning_rate)
    best = _validate(model, validate)
    weights = [parameter.detach().clone() for parameter in parameters]
    stale = torch.zeros(len(best), dtype=torch.int64, device=best.device)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, **named(draws)}

    def snapshot() -> dict[str, Any]:
        return state_of(parts) | {"best": best, "stale": stale, "weights": weights}

    done, found = checkpoint.load() or (0, {})
    if found:
        load_all(parts, found)
        best = found["best"].to(best)
        stale = found["stale"].to(stale)
        weights = [kept.to(parameter) for kept, parameter in zip(found["weights"], parameters, strict=True)]
    with progress(f"fit {label}", config.max_updates) as advance, deferred():
        advance(done - done % every)
        for update in range(done + 1, config.max_updates + 1):
            descend(optimizer, loss, *draws)
            if update % every == 0 or update == config.max_updates:
                advance(update % every or every)
                error = _validate(model, validate)
                learning = _like(stale < config.patience, error)
                if not bool((error.isfinite() | ~learning).all()):
                    rule = f"{label}: validation error must be finite"
                    raise FloatingPointError(f"{rule}, got {error.tolist()} at update {update}")
                better = (error < best * (1 - _THRESHOLD)) & learning
                best = torch.where(better, error, best)
                for kept, parameter in zip(weights, parameters, strict=True):
                    kept.copy_(torch.where(_like(better, kept), parameter.detach(), kept))
                stale = torch.where(better.view(len(better), -1).any(1), 0, stale + 1)
                if bool((stale >= config.patience).all()):
                    break
            checkpoint.offer(update, snapshot)
    with torch.no_grad():
        for parameter, kept in zip(parameters, weights, strict=True):
            parameter.copy_(kept)
    return best


def fit_rows(
    config: EarlyStopped,
    model: nn.Module,
    error: Callable[[Int[Tensor, "S B"]], Float[Tensor, " S"]],
    train: Int[Tensor, "S n"],
    validation: Int[Tensor, "S h"],
    *,
    batch_size: int,
    context: FitContext,
    label: str,
) -> Facts:
    """`train_until_stale` on batches of the training rows; `error` is that of chosen rows, the loss as well.

    Returns the fact `validation`, the error of the kept weights.
    """

    def loss(batches: Streams) -> Float[Tensor, " S"]:
        position = (batches.uniform64(batch_size) * train.shape[-1]).long()
        return error(train.gather(-1, position))

    best = train_until_stale(
        config,
        model,
        loss,
        lambda: error(validation),
        rows=train.shape[-1],
        draws=[context.rng.fork("batches")],
        checkpoint=context.checkpoint,
        label=label,
    )
    return {"validation": best}


@torch.no_grad()
def unseen_loss(loss: Callable[..., Float[Tensor, " S"]], draws: Sequence[Streams]) -> Facts:
    """The fact `validation` of a fit of known length: a mean of `loss(*draws)`, over rows that it has not learned from.

    Nothing depends on it: it says of several fits of one model and data whose budget was enough.
    """
    return {"validation": torch.stack([loss(*draws) for _ in range(_UNSEEN)]).mean(0)}


def split_rows(rows: int, share: float, most: int, rng: Streams) -> tuple[Int[Tensor, "S n"], Int[Tensor, "S h"]]:
    """(rows to learn from, rows to stop by), drawn anew for every seed: a share of all rows, but `most` at the most."""
    validation = min(max(round(share * rows), 1), most)
    order = rng.uniform64(rows).argsort(-1)
    return order[:, validation:], order[:, :validation]


def _validate(model: nn.Module, validate: Callable[[], Tensor]) -> Tensor:
    model.eval()
    with torch.no_grad():
        error = validate()
    model.train()
    return error


def _like(mask: Tensor, other: Tensor) -> Tensor:
    return mask.view(*mask.shape, *[1] * (other.ndim - mask.ndim))
