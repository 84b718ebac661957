import pytest
import torch
from torch import nn

from core.checkpoint import Checkpoint
from models.averaging import average_rate, cosine_decay, train_averaged


class Points(nn.Module):
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
    model = Points(torch.zeros(1, 3))
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
        model = Points(start)
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
    model = Points(torch.zeros(1, 3))
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
    model = Points(torch.full((1, 2, 1), torch.nan))
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
