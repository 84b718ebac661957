import pytest
import torch
from torch import nn

from core.checkpoint import Checkpoint
from core.config import configuration
from core.data import Dataset
from core.random import Streams
from models.cache import FitContext
from models.training import (
    EarlyStopped,
    average_rate,
    cosine_decay,
    split_rows,
    train_averaged,
    train_until_stale,
)


@configuration
class Budget(EarlyStopped):
    learning_rate: float = 0.1
    batch_size: int = 10
    max_updates: int = 100
    check_every: int | None = 1
    patience: int = 3

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> None: ...
    def fit(self, model: object, data: Dataset, context: FitContext, *needs: object) -> None: ...


class Points(nn.Module):
    """A free number per seed and copy."""

    def __init__(self, *start: list[float]) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(start))


def train(model: Points, error: "torch.Tensor | None" = None) -> torch.Tensor:
    """Gradient descent upwards from 0, validated against a target: the error falls until the target is passed."""
    targets = torch.tensor([[0.5, 1.5], [0.2, 3.0]])[: len(model.at)] if error is None else error
    return train_until_stale(
        Budget(),
        model,
        lambda: -model.at.sum(-1),
        lambda: (model.at.detach() - targets).abs(),
        rows=100,
        draws=[],
        checkpoint=Checkpoint(),
        label="model",
    )


class Shared(Points):
    """And a number per seed, which counts the updates."""

    def __init__(self, *start: list[float]) -> None:
        super().__init__(*start)
        self.shared = nn.Parameter(torch.zeros(len(start), 1))


def test_what_copies_share_is_kept_with_the_last_improvement() -> None:
    model = Shared([0.0, 0.0], [0.0, 0.0])
    targets = torch.tensor([[0.5, 1.5], [0.2, 3.0]])
    train_until_stale(
        Budget(),
        model,
        lambda: -model.at.sum(-1) - model.shared.sum(-1),
        lambda: (model.at.detach() - targets).abs(),
        rows=100,
        draws=[],
        checkpoint=Checkpoint(),
        label="model",
    )
    assert torch.allclose(model.at, targets, atol=1e-4)
    assert torch.allclose(model.shared, targets.amax(1, keepdim=True), atol=1e-4)  # Adam: all make equal steps


def test_each_copy_keeps_the_weights_of_its_own_lowest_error() -> None:
    """B2, B3: best weights kept by reference are the last ones."""
    model = Points([0.0, 0.0], [0.0, 0.0])
    errors = train(model)
    assert torch.allclose(model.at, torch.tensor([[0.5, 1.5], [0.2, 3.0]]), atol=1e-4)
    assert torch.allclose(errors, torch.zeros(2, 2), atol=1e-4)


def test_a_stopped_seed_does_not_depend_on_the_others() -> None:
    alone = Points([0.0, 0.0])
    together = Points([0.0, 0.0], [0.0, 0.0])
    train(alone)
    train(together)
    assert torch.equal(alone.at[0], together.at[0])


def test_no_update_is_wasted_after_all_have_stopped() -> None:
    calls = []
    model = Points([0.0, 0.0])
    target = torch.full((1, 2), -1.0)  # the first step is already in the wrong direction

    def loss() -> torch.Tensor:
        calls.append(1)
        return -model.at.sum(-1)

    train_until_stale(
        Budget(check_every=2),
        model,
        loss,
        lambda: (model.at.detach() - target).abs(),
        rows=100,
        draws=[],
        checkpoint=Checkpoint(),
        label="model",
    )
    assert len(calls) == 6
    assert torch.equal(model.at, torch.zeros(1, 2))


def test_patience_counts_epochs_unless_checks_are_given() -> None:
    """Of 95 rows, ten at a time: an epoch is ten updates, and three without an improvement are 30."""
    for check_every, expected in ((None, 30), (7, 21)):
        calls = []
        model = Points([0.0, 0.0])

        def loss(model: Points = model, calls: list[int] = calls) -> torch.Tensor:
            calls.append(1)
            return -model.at.sum(-1)

        train_until_stale(
            Budget(check_every=check_every),
            model,
            loss,
            lambda model=model: (model.at.detach() + 1).abs(),
            rows=95,
            draws=[],
            checkpoint=Checkpoint(),
            label="model",
        )
        assert len(calls) == expected


def test_a_stopped_seed_that_fails_later_ends_no_other() -> None:
    """The first seed passes its target early and turns into NaN long after it has stopped."""
    model = Points([0.0], [0.0])
    targets = torch.tensor([[0.2], [3.0]])

    def validate() -> torch.Tensor:
        at = model.at.detach()
        return (at - targets).abs().where((at < 1.0) | (targets > 1), torch.nan)

    errors = train_until_stale(
        Budget(),
        model,
        lambda: -model.at.sum(-1),
        validate,
        rows=100,
        draws=[],
        checkpoint=Checkpoint(),
        label="model",
    )
    assert torch.allclose(model.at, targets, atol=1e-4)
    assert torch.allclose(errors, torch.zeros(2, 1), atol=1e-4)


def test_an_error_that_is_not_finite_is_named() -> None:
    with pytest.raises(FloatingPointError, match=r"model: validation error must be finite, got \[\[nan, "):
        train(Points([float("nan"), 0.0]), torch.zeros(1, 2))


def test_split_is_a_partition_per_seed() -> None:
    train_rows, validation = split_rows(100, 0.2, 15, Streams((0, 1)))
    assert validation.shape == (2, 15)
    assert not torch.equal(validation[0], validation[1])
    for seed in range(2):
        assert sorted([*train_rows[seed].tolist(), *validation[seed].tolist()]) == list(range(100))


class Tensors(nn.Module):
    """Free numbers."""

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.at = nn.Parameter(start.clone())


def test_the_learning_rate_is_held_and_then_falls_to_zero() -> None:
    assert [round(cosine_decay(step, 4), 3) for step in range(5)] == [1, 0.854, 0.5, 0.146, 0]
    assert [round(cosine_decay(step, 4, hold=0.5), 3) for step in range(5)] == [1, 1, 1, 0.5, 0]


def test_the_average_follows_quickly_at_first() -> None:
    rates = [average_rate(count, 0.995) for count in (1, 10, 100, 10_000)]
    assert rates == pytest.approx([1 - 2 ** (-2 / 3), 1 - 11 ** (-2 / 3), 1 - 101 ** (-2 / 3), 0.995])


def test_the_kept_weights_are_the_average_of_those_on_the_way() -> None:
    """Constant gradient: Adam moves by the learning rate, which only the cosine changes."""
    model = Tensors(torch.zeros(1, 3))
    way = []

    def loss() -> torch.Tensor:
        way.append(model.at.detach().clone())
        return -model.at.sum(-1)

    train_averaged(
        model,
        loss,
        draws=[],
        updates=6,
        learning_rate=0.1,
        max_norm=None,
        average_every=2,
        checkpoint=Checkpoint(),
        label="net",
    )
    expected = torch.zeros(1, 3)
    position = torch.zeros(1, 3)
    for update in range(1, 7):
        position = position + 0.1 * cosine_decay(update - 1, 6)
        if update % 2 == 0:
            expected = expected.lerp(position, 1 - average_rate(update // 2, 0.995))
    assert torch.allclose(model.at, expected, atol=1e-5)
    assert torch.allclose(way[1], torch.full((1, 3), 0.1), atol=1e-5)


def test_a_seed_is_trained_as_if_it_were_alone() -> None:
    start = torch.randn(3, 5, 7)

    def train(start: torch.Tensor) -> torch.Tensor:
        model = Tensors(start)
        train_averaged(
            model,
            lambda: (100 * model.at.square()).sum((-1, -2)),
            draws=[],
            updates=50,
            learning_rate=0.01,
            max_norm=0.5,
            checkpoint=Checkpoint(),
            label="net",
        )
        return model.at

    assert torch.equal(train(start)[1], train(start[1:2])[0])


@pytest.mark.parametrize("updates", [1, 4, 5])
def test_a_training_too_short_for_an_average_is_kept(updates: int) -> None:
    """Weights that nothing was averaged into are the untrained ones."""
    model = Tensors(torch.zeros(1, 3))
    train_averaged(
        model,
        lambda: -model.at.sum(-1),
        draws=[],
        updates=updates,
        learning_rate=0.1,
        max_norm=None,
        average_every=5,
        checkpoint=Checkpoint(),
        label="net",
    )
    whole = 0.1 * sum(cosine_decay(update, updates) for update in range(updates))
    kept = whole if updates < 5 else whole * (1 - average_rate(1, 0.995))
    assert torch.allclose(model.at, torch.full((1, 3), kept), atol=1e-5)


def test_a_loss_that_is_not_finite_is_named() -> None:
    model = Tensors(torch.full((1, 2, 1), torch.nan))
    with pytest.raises(FloatingPointError, match=r"net: loss must be finite, got \[nan\] at update 1"):
        train_averaged(
            model,
            lambda: model.at.sum((-1, -2)),
            draws=[],
            updates=5,
            learning_rate=0.1,
            checkpoint=Checkpoint(),
            label="net",
        )
