"""Pieces of episodes, for models of whole trajectories: a window may begin at any row, however near the end.

What follows the end of an episode depends on the end. A terminal state is absorbing: it is repeated, under actions of
other rows drawn at random, which carry no information about the termination. After a timeout the continuation is
unknown, so those rows are absent. Without the absorbing rows a model would learn the distribution of surviving
trajectories only.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from core.data import Dataset
from core.random import Streams

__all__ = ["Window", "Windows"]


@dataclass(frozen=True)
class Window:
    """H states and the H-1 actions between them, environment units. Shape letters: S seeds, B windows."""

    obs: Float[Tensor, "S B H O"]
    action: Float[Tensor, "S B H-1 A"]
    present: Bool[Tensor, "S B H"]  # False for states after a timeout; they and the actions before them are fillers
    in_episode: Bool[Tensor, "S B H-1"]  # False behind its last row

    def shortened(self, share: float, rng: Streams) -> "Window":
        """A share of the windows ends earlier than it needs to, at a row drawn uniformly among 1 .. H-1."""
        batch, rows = self.present.shape[1:]
        draw = rng.uniform(batch, 2)
        last = torch.where(draw[..., :1] < share, (draw[..., 1:] * (rows - 1)).long() + 1, rows - 1)
        return replace(self, present=self.present & (torch.arange(rows, device=draw.device) <= last))


class Windows:
    """Windows of H rows of a dataset's training episodes.

    `inside`: only those that lie in one episode as a whole, and episodes that are too short for that from their first
    row on, with the rest absent. That is the selection of DyDiff's released code, which fills the rest with numbers.
    """

    def __init__(self, data: Dataset, rows: int, *, inside: bool = False) -> None:
        self._train = data.train
        self._inside = inside
        self.rows = rows
        total = len(data.episode)
        last = torch.ones_like(data.episode, dtype=torch.bool)
        last[:-1] = data.episode[1:] != data.episode[:-1]
        ends = last.nonzero()[:, 0]
        index = torch.arange(total, device=last.device)
        self.end = ends[torch.searchsorted(ends, index)]  # the last row of every row's episode
        self.longest = int(torch.diff(ends, prepend=ends.new_full((1,), -1)).max())  # steps of the longest episode
        whole = self.end - index >= rows - 2
        short = last.roll(1) & ~whole  # first rows of episodes
        self.starts = index if not inside else index[whole | short]

    def draw(self, batch: int, rng: Streams) -> Window:
        """Windows that begin at rows drawn uniformly, different ones for every seed."""
        return self.at(self.starts[(rng.uniform64(batch) * len(self.starts)).long()], rng)

    def at(self, start: Int[Tensor, "S B"], rng: Streams) -> Window:
        """The windows that begin at these training rows."""
        steps = torch.arange(self.rows, device=start.device)
        end = self.end[start][..., None]
        row = start[..., None] + steps
        past = row > end  # states after the end are the end's next state; the first of them was observed
        obs = torch.where(past[..., None], self._train.next_obs[end], self._train.obs[row.minimum(end)])
        in_episode = ~past[..., :-1]
        other = (rng.uniform64(*row.shape[1:-1], self.rows - 1) * len(self.end)).long()
        action = self._train.action[torch.where(in_episode, row[..., :-1], other)]
        present = row <= end + 1
        if not self._inside:
            present = present | self._train.terminated[end]
        return Window(obs, action, present, in_episode)
