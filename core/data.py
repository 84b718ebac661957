"""The three shapes in which data travels: transitions, trajectories, and the dataset of a task.

Shape letters: S seeds, B batch, L rollout steps, O observation, A action. `*S` means: with or without a seed axis.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32
from torch import Tensor

__all__ = ["Batch", "Dataset", "Trajectories", "Transitions"]


_T = TypeVar("_T", bound="_Tensors")


@dataclass(frozen=True)
class _Tensors:
    """A record of tensors that share their leading axes."""

    def map(self: _T, change: Callable[[Tensor], Tensor]) -> _T:
        """The same record with `change` applied to every tensor."""

        def changed(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: change(x) for name, x in value.items()}
            return change(value) if isinstance(value, Tensor) else value

        return type(self)(**{entry.name: changed(getattr(self, entry.name)) for entry in fields(self)})


@dataclass(frozen=True)
class Transitions(_Tensors):
    """Rows (s, a, r, s', d) in environment units."""

    obs: Float[Tensor, "*SB O"]
    action: Float[Tensor, "*SB A"]  # in [-1, 1]
    reward: Float[Tensor, "*SB"]
    next_obs: Float[Tensor, "*SB O"]
    terminated: Bool[Tensor, "*SB"]  # end of the MDP; running out of time is not one

    @property
    def behaviour(self) -> slice:
        """The rows on which behaviour terms, the pull of an algorithm towards the rows' own actions, act: all."""
        return slice(None)


@dataclass(frozen=True)
class Batch(Transitions):
    """Rows to learn from, real ones first; behaviour terms act on the first `behaviour_rows` of every seed.

    The action of a synthetic row is the learning policy's own of a while ago: a behaviour term imitates it there.
    """

    behaviour_rows: int

    @property
    def behaviour(self) -> slice:
        """The rows on which behaviour terms act; their mean is over these rows."""
        return slice(self.behaviour_rows)


@dataclass(frozen=True)
class Trajectories(_Tensors):
    """Rollouts of equal length L; rows that do not count are masked, never removed.

    The reward of a step that is not valid is whatever the model said there, and counts for nothing but a filter that is
    not `masked`.
    """

    action: Float[Tensor, "*S B L A"]
    obs: Float[Tensor, "*S B L+1 O"]  # obs[..., 0, :] are the start states
    reward: Float[Tensor, "*S B L"]
    terminated: Bool[Tensor, "*S B L"]
    valid: Bool[Tensor, "*S B L"]  # False after termination and in filtered-out rollouts
    info: dict[str, Float[Tensor, "*S"] | Float[Tensor, "*S n"]] = field(
        default_factory=dict, kw_only=True
    )  # diagnostics

    @classmethod
    def until_terminated(
        cls,
        action: Float[Tensor, "*S B L A"],
        obs: Float[Tensor, "*S B L+1 O"],
        reward: Float[Tensor, "*S B L"],
        ended: Bool[Tensor, "*S B L"],
    ) -> "Trajectories":
        """Rollouts that ignored termination, cut where the rule first said `ended`: the last state then repeats.

        Rewards stay as they are, behind the end too.
        """
        valid = ended.long().cumsum(-1) - ended.long() == 0
        steps = torch.arange(obs.shape[-2], device=obs.device).minimum(valid.sum(-1, keepdim=True))
        kept = obs.gather(-2, steps[..., None].expand(obs.shape))
        return cls(action, kept, reward, ended & valid, valid)

    def finite(self) -> "Trajectories":
        """The same rollouts, none valid from its first step on that is not finite; `info` has the share cut off."""
        steps = torch.cat([self.obs[..., :-1, :], self.action, self.obs[..., 1:, :], self.reward[..., None]], -1)
        kept = self.valid & steps.isfinite().all(-1).cumprod(-1).bool()
        lost = 1 - kept.sum((-2, -1)) / self.valid.sum((-2, -1)).clamp(min=1)
        return replace(self, valid=kept, info=self.info | {"not_finite": lost.where(self.valid.any(-1).any(-1), 0)})

    def transitions(self) -> tuple[Transitions, Bool[Tensor, "*S BL"]]:
        """Every step as a row, rollout by rollout, and the mask of those that count."""
        rows = Transitions(
            obs=self.obs[..., :-1, :].flatten(-3, -2),
            action=self.action.flatten(-3, -2),
            reward=self.reward.flatten(-2),
            next_obs=self.obs[..., 1:, :].flatten(-3, -2),
            terminated=self.terminated.flatten(-2),
        )
        return rows, self.valid.flatten(-2)


@dataclass(frozen=True)
class Dataset:
    """Training rows of a task and its held-out episodes. No seed axis: shared by all seeds."""

    train: Transitions
    episode: Int32[Tensor, " N"]  # of every training row; equal numbers lie together, in the order of recording
    heldout: Trajectories  # real episodes no model has seen, padded to the longest
    heldout_state: Float64[Tensor, "B L X"]  # the simulator's state at every observation of `heldout`
    heldout_exact: Bool[Tensor, "B L"]  # False where the observation had lost part of that state
    recorded_obs: Float32[Tensor, "R O"]  # all observations, held-out ones too, that had lost part of a state ...
    recorded_state: Float64[Tensor, "R X"]  # ... which the file has stored: the simulator's
    obs_mean: Float32[Tensor, " O"]  # of the training rows: the one normalisation everybody uses
    obs_std: Float32[Tensor, " O"]
    sha256: str  # of the file the rows came from

    def unseen(self) -> "Dataset":
        """The held-out episodes in the place of the training rows: to measure what was learned, never to learn from."""
        rows, valid = self.heldout.transitions()
        count, length = self.heldout.valid.shape
        episode = torch.arange(count, dtype=torch.int32, device=valid.device).repeat_interleave(length)
        return replace(self, train=rows.map(lambda x: x[valid]), episode=episode[valid])

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data on another device; the simulator's states stay on the CPU."""
        return replace(
            self,
            train=self.train.map(lambda x: x.to(device)),
            episode=self.episode.to(device),
            heldout=self.heldout.map(lambda x: x.to(device)),
            obs_mean=self.obs_mean.to(device),
            obs_std=self.obs_std.to(device),
        )
