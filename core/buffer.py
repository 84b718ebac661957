"""Batches of real and synthetic rows: a ring of the newest synthetic rows per seed, and the mix of exact fractions."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from core.data import Batch, Transitions
from core.random import Streams

__all__ = ["Buffer", "Mixer", "Regularise"]

Regularise = Literal["all", "real_only"]  # rows of a batch on which behaviour terms act


class Buffer:
    """The newest `capacity` synthetic rows of every seed. Rows live in one packed tensor: a batch is one gather.

    With `refreshes`, only rows of so many newest calls of `add` can be drawn, however few those have left valid.
    """

    def __init__(
        self,
        seeds: int,
        capacity: int,
        obs_dim: int,
        action_dim: int,
        device: torch.device | str,
        refreshes: int | None = None,
    ) -> None:
        self.rows = torch.zeros(seeds, capacity, 2 * obs_dim + action_dim + 2, device=device)
        self.written = torch.zeros(seeds, dtype=torch.int64, device=device)  # rows ever added
        self.calls = torch.zeros((), dtype=torch.int64, device=device)  # of `add`, whatever was valid
        self._before = torch.zeros(seeds, refreshes or 0, dtype=torch.int64, device=device)  # `written` before each

    def add(self, rows: Transitions, valid: Bool[Tensor, "S B"]) -> None:
        """Append the valid rows of each seed, oldest out first; of more than `capacity` rows the last ones stay."""
        capacity = self.rows.shape[1]
        self.calls += 1
        self._before.copy_(torch.cat([self._before, self.written[:, None]], 1)[:, 1:])
        packed = pack(rows)
        for seed, (new, mask) in enumerate(zip(packed, valid, strict=True)):
            kept = new[mask]
            slots = (self.written[seed] + torch.arange(len(kept), device=kept.device)) % capacity
            self.rows[seed, slots[-capacity:]] = kept[-capacity:]
            self.written[seed] += len(kept)

    def state_dict(self) -> dict[str, Tensor]:
        """The slots ever used and the counts."""
        counts = {"written": self.written, "calls": self.calls, "before": self._before}
        return {"rows": self.rows[:, : int(self.written.max())], **counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Into a buffer of equal capacity and `refreshes`."""
        self.rows[:, : state["rows"].shape[1]] = state["rows"].to(self.rows)
        self.written.copy_(state["written"])
        self.calls.copy_(state["calls"])
        self._before.copy_(state["before"])

    def oldest(self) -> Int[Tensor, " S"]:
        """Number, counted over all rows ever added, of the oldest one that can be drawn, per seed."""
        held = (self.written - self.rows.shape[1]).clamp(min=0)
        return torch.maximum(held, self._before[:, 0]) if self._before.shape[1] else held

    def filled(self) -> Int[Tensor, " S"]:
        """Rows that can be drawn, per seed."""
        return self.written - self.oldest()

    def gather(self, draw: Float64[Tensor, "S B"]) -> Float[Tensor, "S B D"]:
        """Packed rows for numbers in [0, 1), from the oldest to the newest that can be drawn."""
        oldest = self.oldest()
        numbers = oldest[:, None] + (draw * (self.written - oldest)[:, None]).long()
        slots = numbers % self.rows.shape[1]
        return self.rows.gather(1, slots[..., None].expand(-1, -1, self.rows.shape[-1]))


class Mixer:
    """Batches of `round(real_fraction * size)` real rows and synthetic rows behind them, drawn with replacement.

    A seed without synthetic rows gets real ones in their place, whatever the other seeds have. With `regularise`
    "real_only" behaviour terms act on the first kind alone; on every row until the buffer is first added to. They do
    not wait for a valid row: how many rows they act on would then depend on what the other seeds have.
    """

    def __init__(
        self, real: Transitions, synthetic: Buffer, real_fraction: float, size: int, regularise: Regularise = "all"
    ) -> None:
        self._real = pack(real)
        self._synthetic = synthetic
        self._size = size
        self._dims = (real.obs.shape[-1], real.action.shape[-1])
        self._share = round(real_fraction * size)
        self._regularise = regularise
        self._empty = synthetic.filled() == 0
        self.refresh()

    def refresh(self) -> None:
        """To be called after rows were added (it synchronises with the device, a batch does not)."""
        self._empty.copy_(self._synthetic.filled() == 0)
        self._all_empty = bool(self._empty.all())
        self._some_empty = bool(self._empty.any())
        self._behaviour_rows = self._size
        if self._regularise == "real_only" and self._synthetic.calls:
            self._behaviour_rows = self._share

    @property
    def batch_layout(self) -> tuple[bool, bool, int]:
        """Key of the batch layout; constant until `refresh`."""
        return self._all_empty, self._some_empty, self._behaviour_rows

    def batch(self, rng: Streams) -> Batch:
        """The next batch, different for every seed."""
        draw = rng.uniform64(self._size)
        share = self._size if self._all_empty else self._share
        rows = self._draw_real(draw[:, :share])
        if share < self._size:
            chosen = self._synthetic.gather(draw[:, share:])
            if self._some_empty:
                chosen = torch.where(self._empty[:, None, None], self._draw_real(draw[:, share:]), chosen)
            rows = torch.cat([rows, chosen], 1)
        return Batch(**vars(unpack(rows, *self._dims)), behaviour_rows=self._behaviour_rows)

    def _draw_real(self, draw: Float[Tensor, "S B"]) -> Float[Tensor, "S B D"]:
        chosen = self._real.index_select(0, (draw * len(self._real)).long().flatten())
        return chosen.view(*draw.shape, chosen.shape[-1])


def pack(rows: Transitions) -> Float[Tensor, "*SB D"]:
    """(s, a, s', r, d) side by side."""
    ends = (rows.reward[..., None], rows.terminated[..., None].to(rows.reward.dtype))
    return torch.cat([rows.obs, rows.action, rows.next_obs, *ends], -1)


def unpack(packed: Float[Tensor, "*SB D"], obs_dim: int, action_dim: int) -> Transitions:
    """The inverse of `pack`."""
    parts = torch.split(packed, [obs_dim, action_dim, obs_dim, 1, 1], -1)
    obs, action, next_obs, reward, terminated = parts
    return Transitions(obs, action, reward[..., 0], next_obs, terminated[..., 0] > 0.5)
