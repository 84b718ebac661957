"""The known part of a trajectory: its start, or its start and actions, or nothing; the rest is drawn or learned."""

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import pad

from models.compiled import call
from models.diffusion.denoisers import TemporalUNet, condition_channels
from models.diffusion.edm import precondition
from models.diffusion.windows import Window

__all__ = ["ConditionalDenoiser", "Given", "Known"]

_MEMORY = 2**28  # bytes of each seed that one evaluation of the network may take, about

Given = Literal["start_and_actions", "start", "nothing"]


@dataclass(frozen=True)
class Known:
    """What is known of a batch of trajectories, in the network's units."""

    entries: Float[Tensor, "S B H D"]  # the known entries of x, 0 elsewhere
    mask: Bool[Tensor, "S B H D"]
    channels: Float[Tensor, "S B H C"]  # the network's conditions
    present: Bool[Tensor, "S B H"]
    base: Float[Tensor, "S B H O"]  # what states are relative to, standardised units

    @classmethod
    def of(
        cls,
        given: Given,
        start: Float[Tensor, "S B O"],
        action: Float[Tensor, "S B H A"],
        present: Bool[Tensor, "S B H"],
        base: Float[Tensor, "S B H O"],
        scale: Float[Tensor, "S 1 H D"],
        *,
        as_channels: bool,
        with_base: bool,
    ) -> "Known":
        """Of trajectories with this start and these actions (each in the row it leads to), standardised units.

        Conditions are channels of their own or, without `as_channels`, entries of x only; `with_base` adds the path
        that states are relative to.
        """
        obs_dim = start.shape[-1]
        mask = torch.zeros(*action.shape[:-1], obs_dim + action.shape[-1], dtype=torch.bool, device=start.device)
        mask[..., :1, obs_dim:] = True  # nothing led to the first row
        if given != "nothing":
            mask[..., :1, :obs_dim] = True
        if given == "start_and_actions":
            mask[..., obs_dim:] = True
        mask &= present[..., None]
        known = torch.cat([pad(start.unsqueeze(-2), (0, 0, 0, action.shape[-2] - 1)), action], -1)
        known = known.where(mask, 0.0)
        entries = torch.cat([known[..., :obs_dim] - base, known[..., obs_dim:]], -1) / scale
        channels = known[..., :0]
        if as_channels:
            here = present[..., None].to(known.dtype)
            extra = [here, base] if with_base else [here]
            channels = torch.cat([condition_channels(known, mask), *extra], -1) * here
        return cls(entries.where(mask, 0.0), mask, channels, present, base)

    def some(self, which: slice) -> "Known":
        """The same of these trajectories only."""
        return Known(*(getattr(self, field.name)[:, which] for field in fields(self)))

    def impose(self, x: Float[Tensor, "S B H D"]) -> Float[Tensor, "S B H D"]:
        """`x` with the known entries put back."""
        return torch.where(self.mask, self.entries, x)

    def scored(self, window: Window, which: Literal["free", "all"]) -> Bool[Tensor, "S B H D"]:
        """Entries of recorded windows that count in the loss: present, of this episode, and free unless "all" count."""
        states = window.present[..., None].expand(window.obs.shape)
        actions = (window.present[..., 1:] & window.in_episode)[..., None].expand(window.action.shape)
        counted = torch.cat([states, pad(actions, (0, 0, 1, 0))], -1)
        return counted if which == "all" else counted & ~self.mask


class ConditionalDenoiser(nn.Module):
    """What models of trajectories share: a network that sees what is known in channels of its own."""

    config: Any  # with fields `denoiser`, `rows` and `sigma_data`
    net: TemporalUNet

    def denoise(
        self, x: Float[Tensor, "S B H D"], sigma: Float[Tensor, "S B"], known: Known
    ) -> Float[Tensor, "S B H D"]:
        """D(x; sigma). Absent rows are 0 for the network, as is everything outside of the trajectory."""

        def network(scaled: Tensor, feature: Tensor) -> Tensor:
            return self.net(scaled * known.present[..., None], feature, known.channels)

        return precondition(network, x, sigma, self.config.sigma_data)

    def evaluate(self, x: Tensor, sigma: Tensor, known: Known) -> Tensor:
        """`denoise`, so many trajectories at a time that memory is enough; their number is that of a seed alone."""
        most = max(_MEMORY // self.config.denoiser.memory(self.config.rows), 1)
        if x.shape[1] <= most:
            return call(self.denoise, x, sigma, known)
        parts = (slice(first, first + most) for first in range(0, x.shape[1], most))
        return torch.cat([call(self.denoise, x[:, some], sigma[:, some], known.some(some)) for some in parts], 1)
