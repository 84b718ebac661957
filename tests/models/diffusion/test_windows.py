"""Windows of a data set small enough to know by heart: rows 0-3 end in a terminal state, 4-6 by timeout, 7 terminal."""

from dataclasses import replace

import pytest
import torch

from core.data import Dataset, Transitions
from core.random import Streams
from models.diffusion.windows import Window, Windows

LAST = torch.tensor([3, 6, 7])


@pytest.fixture(scope="module")
def small(toy: Dataset) -> Dataset:
    """The state of row i is i, its action i / 10; the state behind an episode's last row i is 100 + i."""
    row = torch.arange(8.0)
    after = row + 1
    after[LAST] = 100.0 + LAST
    ends = torch.isin(torch.arange(8), LAST[[0, 2]])
    episode = torch.tensor([5, 5, 5, 5, 2, 2, 2, 9], dtype=torch.int32)  # numbers may come in any order
    return replace(toy, train=Transitions(row[:, None], row[:, None] / 10, row, after[:, None], ends), episode=episode)


def at(data: Dataset, start: int, rows: int) -> Window:
    return Windows(data, rows).at(torch.tensor([[start]]), Streams((0,)))


def flat(x: torch.Tensor) -> list[float]:
    return x.flatten().tolist()


def test_a_window_inside_an_episode_is_its_rows(small: Dataset) -> None:
    window = at(small, 1, 3)
    assert flat(window.obs) == [1, 2, 3]
    assert flat(window.action) == pytest.approx([0.1, 0.2])
    assert window.in_episode.all()
    assert window.present.all()


def test_a_terminal_state_is_absorbing(small: Dataset) -> None:
    window = at(small, 2, 6)
    assert flat(window.obs) == [2, 3, 103, 103, 103, 103]
    assert window.present.all()
    assert flat(window.in_episode) == [True, True, False, False, False]
    assert flat(window.action)[:2] == pytest.approx([0.2, 0.3])


def test_rows_after_a_timeout_are_absent_but_its_state_is_not(small: Dataset) -> None:
    window = at(small, 5, 6)
    assert flat(window.obs)[:3] == [5, 6, 106]
    assert flat(window.in_episode) == [True, True, False, False, False]
    assert flat(window.present) == [True, True, True, False, False, False]


def test_the_very_last_row_starts_a_window_too(small: Dataset) -> None:
    window = at(small, 7, 3)
    assert flat(window.obs) == [7, 107, 107]
    assert flat(window.in_episode) == [True, False]
    assert window.present.all()


def test_actions_after_the_end_are_those_of_any_row_alike(small: Dataset) -> None:
    window = Windows(small, 5).at(torch.full((1, 4000), 7), Streams((0,)))
    assert torch.equal(window.action[..., 0, 0], torch.full((1, 4000), 0.7))
    rows = (10 * window.action[0, :, 1:, 0]).round().long()
    assert (rows.flatten().bincount(minlength=8) / rows.numel() - 1 / 8).abs().max() < 0.015
    assert ((rows[:, 0] == rows[:, 1]).float().mean() - 1 / 8).abs() < 0.03  # anew at every step


@pytest.mark.parametrize(
    ("rows", "starts", "short"), [(2, list(range(8)), []), (3, [0, 1, 2, 4, 5], [7]), (4, [0, 1, 4], [7])]
)
def test_windows_inside_have_no_step_beyond_an_episode(
    small: Dataset, rows: int, starts: list[int], short: list[int]
) -> None:
    windows = Windows(small, rows, inside=True)
    assert windows.starts.tolist() == sorted(starts + short)
    window = windows.at(torch.tensor([starts]), Streams((0,)))
    assert window.obs.shape == (1, len(starts), rows, 1)
    assert window.action.shape == (1, len(starts), rows - 1, 1)
    assert window.in_episode.all()
    assert window.present.all()


def test_inside_episodes_that_are_too_short_are_whole(small: Dataset) -> None:
    """From their first row on, with the rest absent, whatever ended them; longer rows than any episode are no error."""
    windows = Windows(small, 7, inside=True)
    assert windows.longest == 4
    assert windows.starts.tolist() == [0, 4, 7]
    window = windows.at(windows.starts[None], Streams((0,)))
    assert window.present[0].sum(-1).tolist() == [5, 4, 2]
    assert window.in_episode[0].sum(-1).tolist() == [4, 3, 1]


def test_every_row_is_drawn_equally_often(small: Dataset) -> None:
    first = Windows(small, 3).draw(40_000, Streams((0,))).obs[0, :, 0, 0].long()
    assert (first.bincount(minlength=8) / 40_000 - 1 / 8).abs().max() < 0.006  # 3.6 standard deviations


def test_a_seed_draws_alone_what_it_draws_among_others(toy: Dataset) -> None:
    windows = Windows(toy, 20)
    together = windows.draw(64, Streams((0, 1, 2)))
    alone = windows.draw(64, Streams((1,)))
    for name, value in vars(alone).items():
        assert torch.equal(value[0], getattr(together, name)[1]), name
    assert not torch.equal(together.obs[0], together.obs[1])


def test_every_step_that_was_lived_is_a_training_row(toy: Dataset) -> None:
    start = torch.arange(len(toy.episode))[None]
    window = Windows(toy, 9).at(start, Streams((0,)))
    for step in range(8):
        in_episode = window.in_episode[0, :, step]
        row = start[0, in_episode] + step
        assert torch.equal(window.obs[0, in_episode, step], toy.train.obs[row])
        assert torch.equal(window.action[0, in_episode, step], toy.train.action[row])
        assert torch.equal(window.obs[0, in_episode, step + 1], toy.train.next_obs[row])
        same = toy.episode[(start[0] + step).clamp(max=len(toy.episode) - 1)] == toy.episode
        assert torch.equal(in_episode, same & (start[0] + step < len(toy.episode)))
    assert not window.present.all()
    assert window.present[..., :2].all()
