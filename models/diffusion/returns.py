"""Diffusion over trajectories with rewards, told the return: classifier-free guidance towards it.

Rows (s_t, a_{t-1}, r_{t-1}) of windows in which nothing is known, or rows (s_t, r_{t-1}) after a known start state and
action. The network sees the return-to-go of the window's first row, or, in a share of the windows, is told that it does
not: D(x) = D(x; no return) + w (D(x; return) - D(x; no return)).

Source: Ho and Salimans 2022 (arXiv:2207.12598) for the guidance; Lee et al. 2024 (GTA, arXiv:2405.16907), Ding et al.
2024 (DWM, arXiv:2402.03570) and Li et al. 2025 (DAWM, arXiv:2509.19538) for what is modelled. We differ on purpose:
this suite's network, with conditions as channels; windows that may begin at any row, with absorbing ends
(`models.diffusion.windows`), in which a terminal state pays nothing; states after a known start as changes from it.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import pad

from core.config import ClosedUnit, LeftOpenUnit, OpenUnit, configuration
from core.data import Dataset
from core.random import Streams
from models.cache import FitContext, ModelConfig
from models.diffusion.denoisers import UNetConfig
from models.diffusion.edm import Denoiser, Sampler, denoising_loss, training_sigma
from models.diffusion.known import ConditionalDenoiser, Known
from models.diffusion.units import TrajectoryUnits
from models.diffusion.windows import Window, Windows
from models.nn import Standardize
from models.training import train_averaged

__all__ = [
    "Drawn",
    "Recorded",
    "RecordedWindows",
    "ReturnDiffusion",
    "ReturnDiffusionConfig",
    "WorldDiffusionConfig",
    "guided",
    "returns_to_go",
]

_SCALE_WINDOWS = 2_000  # from which the deviation at each step is measured


@dataclass(frozen=True)
class Recorded:
    """Windows of the data with what they paid."""

    window: Window
    reward: Float[Tensor, "S B L"]  # 0 behind the end of the episode
    returns: Float[Tensor, "S B"]  # return-to-go of the first row


class RecordedWindows:
    """Windows of H rows of a dataset's training episodes, with rewards and returns-to-go."""

    def __init__(self, data: Dataset, rows: int, discount: float) -> None:
        self.windows = Windows(data, rows)
        self.returns = returns_to_go(data.train.reward, self.windows.end, discount)
        self._reward = data.train.reward

    def draw(self, batch: int, rng: Streams) -> Recorded:
        """Windows that begin at rows drawn uniformly, different ones for every seed."""
        start = (rng.uniform64(batch) * len(self.returns)).long()
        window = self.windows.at(start, rng)
        steps = torch.arange(self.windows.rows - 1, device=start.device)
        row = (start[..., None] + steps).clamp(max=len(self.returns) - 1)
        return Recorded(window, self._reward[row].where(window.in_episode, 0.0), self.returns[start])


class Drawn(NamedTuple):
    """What a model of windows generates, environment units."""

    obs: Float[Tensor, "S B L+1 O"]
    action: Float[Tensor, "S B L A"] | None  # None: not generated
    reward: Float[Tensor, "S B L"]


@configuration
class ReturnDiffusionConfig(ModelConfig):
    """Whole windows, of which nothing is known. Network and budget are for two CPU cores."""

    rows: PositiveInt = 32  # H
    discount: LeftOpenUnit = 0.99  # of returns-to-go; where episodes end by time these tell the steps left, too
    dropout: ClosedUnit = 0.25  # share of the windows whose return the network is not told
    denoiser: UNetConfig = UNetConfig()
    sigma_data: PositiveFloat = 1.0
    noise_mean: float = -1.2  # P_mean
    noise_std: PositiveFloat = 1.2  # P_std
    updates: PositiveInt = 5_000
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    beta2: OpenUnit = 0.999  # of Adam
    hold: OpenUnit = 0.5  # share of the updates at full learning rate, before a cosine to 0
    max_norm: PositiveFloat = 1.0  # of the gradient
    average: LeftOpenUnit = 0.995  # EMA of the weights ...
    average_every: PositiveInt = 5  # ... every so many updates

    starts: ClassVar[bool] = False  # whether the start state and the action in it are known; then no action is drawn

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise ValueError(f"rows must be at least 2, the states of one transition, got {self.rows}")

    def check_guidance(self, guidance: float) -> None:
        """Raises ValueError unless the network has learned what this guidance asks of it."""
        if guidance != 1 and self.dropout == 0:
            raise ValueError(f"guidance must be 1 with model.dropout 0: the return is always shown, got {guidance}")
        if guidance != 0 and self.dropout == 1:
            raise ValueError(f"guidance must be 0 with model.dropout 1: the return is never shown, got {guidance}")

    def features(self, obs_dim: int, action_dim: int) -> int:
        """Width of a row: state, action if it is drawn, reward."""
        return obs_dim + 1 + (0 if self.starts else action_dim)

    def channels(self, obs_dim: int, action_dim: int) -> int:
        """Condition channels: presence, ramp, whether the return is shown, the return, and what is known."""
        return 4 + (obs_dim + action_dim if self.starts else 0)

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "ReturnDiffusion":
        return ReturnDiffusion(self, obs_dim, action_dim, rng)

    def fit(self, model: "ReturnDiffusion", data: Dataset, context: FitContext) -> None:
        """Learn from windows of the training episodes; the average of the weights is kept."""
        recorded = RecordedWindows(data, self.rows, self.discount)
        model.fit_units(data, recorded, context.rng.fork("units"))

        def loss(draw: Streams, drop: Streams, levels: Streams, noise: Streams) -> Float[Tensor, " S"]:
            real = recorded.draw(self.batch_size, draw)
            window = real.window
            shown = drop.uniform(self.batch_size) >= self.dropout
            known = model.known(real.returns, shown, window.present, window.obs[:, :, 0], window.action[:, :, 0])
            clean = model.encode(real, known)
            sigma = training_sigma(self.batch_size, levels, self.noise_mean, self.noise_std)
            noisy = known.impose(clean + sigma[..., None, None] * noise.normal(*clean.shape[1:]))
            denoised = model.denoise(noisy, sigma, known)
            return denoising_loss(denoised, clean, sigma, self.sigma_data, model.scored(window, known))

        train_averaged(
            model,
            loss,
            draws=[context.rng.fork(label) for label in ("windows", "dropout", "levels", "noise")],
            updates=self.updates,
            learning_rate=self.learning_rate,
            betas=(0.9, self.beta2),
            hold=self.hold,
            max_norm=self.max_norm,
            average=self.average,
            average_every=self.average_every,
            checkpoint=context.checkpoint,
            label="return-conditioned diffusion",
        )


@configuration
class WorldDiffusionConfig(ReturnDiffusionConfig):
    """States and rewards after a known start state and the action in it."""

    rows: PositiveInt = 8
    noise_mean: float = 0.0

    starts: ClassVar[bool] = True


class ReturnDiffusion(ConditionalDenoiser):
    """One network per seed. Inputs and outputs in environment units; noise is added in the network's own units."""

    def __init__(self, config: ReturnDiffusionConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        self.config = config
        self.dims = (obs_dim, action_dim)
        self.net = config.denoiser.init(config.features(*self.dims), config.channels(*self.dims), rng)
        self.units = TrajectoryUnits(obs_dim, config.features(*self.dims) - obs_dim, config.rows, rng)
        self.action = Standardize(action_dim, rng)
        self.returns = Standardize(1, rng)

    @property
    def block(self) -> int:
        """Steps that are drawn at once: H - 1, or the longest episode's, for longer ones were never seen."""
        return int(self.units.longest.min())

    def fit_units(self, data: Dataset, recorded: RecordedWindows, rng: Streams) -> None:
        """Constants of the data; states after a known start in their deviation from it at each step."""
        rows = data.train
        paid = rows.reward[:, None]
        extra = paid if self.config.starts else torch.cat([rows.action, paid], -1)
        self.units.fit(rows.obs, extra, recorded.windows.longest, limits=False)
        for units, values in ((self.action, rows.action.double()), (self.returns, recorded.returns[:, None].double())):
            spread = values.std(0)
            units.set(values.mean(0)[None].float(), torch.where(spread < 1e-6, 1.0, spread)[None].float())
        if self.config.starts:
            window = recorded.draw(_SCALE_WINDOWS, rng).window
            self.units.fit_steps(window, self._base(window.obs[:, :, 0]))

    def known(
        self,
        returns: Float[Tensor, "S B"],
        shown: Bool[Tensor, "S B"],
        present: Bool[Tensor, "S B H"],
        start: Float[Tensor, "S B O"],
        action: Float[Tensor, "S B A"],
    ) -> Known:
        """What the network is told; `start` and `action` are, if the configuration says so."""
        asked = self.returns(returns[..., None])[..., 0].where(shown, 0.0)
        told = [shown.to(asked.dtype)[..., None], asked[..., None]]
        mask = torch.zeros(*present.shape, self.config.features(*self.dims), dtype=torch.bool, device=present.device)
        mask[:, :, :1, self.dims[0] :] = True  # nothing led to the first row
        if self.config.starts:
            mask[:, :, :1] = True  # the change of the start from itself is 0
            told += [self.units.obs(start), self.action(action)]
        here = present[..., None].to(asked.dtype)
        ramp = torch.arange(present.shape[-1], dtype=asked.dtype, device=present.device) / 32
        everywhere = torch.cat(told, -1).unsqueeze(2).expand(-1, -1, present.shape[-1], -1)
        channels = torch.cat([here, ramp[:, None].expand_as(here), everywhere], -1) * here
        return Known(torch.zeros_like(mask, dtype=asked.dtype), mask, channels, present, self._base(start))

    def encode(self, real: Recorded, known: Known) -> Float[Tensor, "S B H D"]:
        """Recorded windows in the network's units."""
        reward = real.reward[..., None]
        extra = reward if self.config.starts else torch.cat([real.window.action, reward], -1)
        return self.units.encode(real.window.obs, extra, known.base)

    def scored(self, window: Window, known: Known) -> Bool[Tensor, "S B H D"]:
        """Entries that count in the loss: present and free; of the actions those of the episode."""
        column = torch.arange(known.mask.shape[-1], device=known.mask.device)
        is_action = (column >= self.dims[0]) & (column < known.mask.shape[-1] - 1)
        acted = pad(window.in_episode, (1, 0), value=False)[..., None]
        return window.present[..., None] & (acted | ~is_action) & ~known.mask

    def sample(
        self,
        start: Float[Tensor, "S B O"],
        action: Float[Tensor, "S B A"],
        returns: Float[Tensor, "S B"],
        guidance: float,
        sampler: Sampler,
        rng: Streams,
    ) -> Drawn:
        """The states and rewards of a block after these start states and actions, under this return-to-go."""
        steps = torch.arange(self.config.rows, device=start.device)
        present = (steps <= self.block).expand(*start.shape[:2], -1)
        drawn = self._draw(returns, present, start, action, guidance, sampler, rng, 0.0)
        drawn.obs[:, :, 0] = start
        return drawn

    def redraw(
        self, real: Recorded, returns: Float[Tensor, "S B"], guidance: float, sampler: Sampler, rng: Streams
    ) -> Drawn:
        """Recorded windows with noise of the sampler's highest level, denoised under this return-to-go."""
        window = real.window
        begins = window.obs[:, :, 0], window.action[:, :, 0]
        return self._draw(returns, window.present, *begins, guidance, sampler, rng, real)

    def cost(self, sampler: Sampler, guidance: float) -> dict[str, float]:
        """Network evaluations and FLOP of one window."""
        evaluations = float(sampler.evaluations * (1 if guidance in (0, 1) else 2))
        config = self.config
        flops = config.denoiser.flops(config.features(*self.dims), config.channels(*self.dims), config.rows)
        return {"evaluations": evaluations, "flops": evaluations * flops}

    @torch.no_grad()
    def _draw(
        self,
        returns: Tensor,
        present: Tensor,
        start: Tensor,
        action: Tensor,
        guidance: float,
        sampler: Sampler,
        rng: Streams,
        begin: Recorded | float,
    ) -> Drawn:
        always = torch.ones_like(present[..., 0])
        known = self.known(returns, always, present, start, action)
        untold = self.known(returns, ~always, present, start, action)
        denoise = guided(partial(self.evaluate, known=known), partial(self.evaluate, known=untold), guidance)
        latent = rng.fork("latent").normal(*known.entries.shape[1:])
        first = self.encode(begin, known) if isinstance(begin, Recorded) else begin
        x = sampler.sample(denoise, latent, rng.fork("sampler"), known.impose, begin=first)
        obs, extra = self.units.decode(x, known.base)
        acted = None if self.config.starts else extra[..., :-1].clamp(-1, 1)
        return Drawn(obs, acted, extra[..., -1])

    def _base(self, start: Float[Tensor, "S B O"]) -> Float[Tensor, "S B H O"]:
        """What states are relative to, in the network's units: a known start, or 0."""
        base: Tensor = self.units.obs(start.unsqueeze(2).repeat(1, 1, self.config.rows, 1))
        return base if self.config.starts else torch.zeros_like(base)


def guided(told: Denoiser, untold: Denoiser, guidance: float) -> Denoiser:
    """D(x; no return) + w (D(x; return) - D(x; no return)); w = 1 and w = 0 evaluate one of them only."""
    if guidance in (0, 1):
        return told if guidance == 1 else untold

    def both(x: Tensor, sigma: Tensor) -> Tensor:
        plain = untold(x, sigma)
        return plain + guidance * (told(x, sigma) - plain)

    return both


def returns_to_go(reward: Float[Tensor, " N"], end: Int[Tensor, " N"], discount: float) -> Float[Tensor, " N"]:
    """Discounted sum of the rewards from every row to the `end` row of its episode, by doubling its length."""
    total = reward.double()
    row = torch.arange(len(end), device=end.device)
    longest = int((end - row).max()) + 1
    reach = 1  # rows that are summed up
    while reach < longest:
        ahead = row + reach
        rest = total[ahead.clamp(max=len(end) - 1)].where(ahead <= end, 0.0)
        total = total + discount**reach * rest
        reach *= 2
    return total.float()
