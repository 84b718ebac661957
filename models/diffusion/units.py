"""Units in which a sequence model sees trajectories: standardised, states less what they are relative to, per step."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from core.random import Streams
from models.diffusion.windows import Window
from models.nn import Standardize

__all__ = ["TrajectoryUnits"]


class TrajectoryUnits(nn.Module):
    """Constants of the data, per seed, and how long the data's episodes are."""

    step_scale: Tensor
    longest: Tensor

    def __init__(self, obs_dim: int, action_dim: int, rows: int, rng: Streams) -> None:
        super().__init__()
        seeds = len(rng.seeds)
        self.obs = Standardize(obs_dim, rng)
        self.action = Standardize(action_dim, rng)
        self.register_buffer("step_scale", torch.ones(seeds, 1, rows, obs_dim + action_dim, device=rng.device))
        self.register_buffer("longest", torch.full((seeds,), rows - 1, device=rng.device))  # steps in a row, seen

    def fit(self, obs: Float[Tensor, "N O"], action: Float[Tensor, "N A"], longest: int, *, limits: bool) -> None:
        """Mean and deviation of states and actions, or with `limits` the middle and half of their range."""
        for units, values in ((self.obs, obs.double()), (self.action, action.double())):
            middle = values.mean(0)
            spread = values.std(0)
            if limits:
                low = values.amin(0)
                high = values.amax(0)
                middle = (low + high) / 2
                spread = (high - low) / 2
            units.set(middle[None].float(), torch.where(spread < 1e-6, 1.0, spread)[None].float())
        self.longest.fill_(min(longest, self.step_scale.shape[-2] - 1))

    def fit_steps(self, window: Window, base: Float[Tensor, "S B H O"]) -> None:
        """The deviation of the states at each step from `base`; one that no window reaches has the last one's."""
        moved = self.obs(window.obs) - base
        counted = window.present[..., None]
        number = counted.sum(1, keepdim=True)
        power = moved.double().square().where(counted, 0.0).sum(1, keepdim=True) / number.clamp(min=1)
        power = power.gather(2, _reached(number).expand_as(power))
        self.step_scale[..., : power.shape[-1]] = torch.where(power < 1e-12, 1.0, power.sqrt())

    def encode(
        self, obs: Float[Tensor, "S B H O"], action: Float[Tensor, "S B H-1 A"], base: Float[Tensor, "S B H O"]
    ) -> Float[Tensor, "S B H D"]:
        """Rows (s_t, a_{t-1}); the first row has no action."""
        return torch.cat([self.obs(obs) - base, pad(self.action(action), (0, 0, 1, 0))], -1) / self.step_scale

    def decode(self, x: Float[Tensor, "S B H D"], base: Float[Tensor, "S B H O"]) -> tuple[Tensor, Tensor]:
        """The inverse of `encode`: states and actions in environment units."""
        obs_dim = base.shape[-1]
        states, actions = torch.split(x * self.step_scale, [obs_dim, x.shape[-1] - obs_dim], -1)
        return self.obs.inverse(base + states), self.action.inverse(actions[..., 1:, :])


def _reached(number: Int[Tensor, "S 1 H 1"]) -> Int[Tensor, "S 1 H 1"]:
    """For every row itself, or the last one that some window reaches."""
    rows = torch.arange(number.shape[2], device=number.device)[:, None]
    return rows.minimum((number > 0).sum(2, keepdim=True) - 1)
