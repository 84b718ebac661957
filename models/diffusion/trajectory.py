"""Diffusion over trajectories: rows (s_t, a_{t-1}), of which the start state and perhaps all actions are given.

A row holds the action that led to its state, so H rows are exactly H - 1 transitions, and in a causal network state t
depends on actions up to t-1 only. The same rows serve states under given actions (DyDiff), states and actions after a
given start (Diffuser), free trajectories (PGD), single steps, and regression to the conditional mean.

Source: Zhao et al. 2024 (DyDiff, arXiv:2405.19189), Janner et al. 2022 (Diffuser, arXiv:2205.09991); noise levels of
Karras et al. 2022. We differ on purpose: conditions are channels of their own, un-scaled by the noise level; only free
and present entries are scored; windows may begin at any row (`models.diffusion.windows`); states are modelled as
changes from the start, in units of their deviation at each step. Each has a field with the released behaviour.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import pad

from core.config import ClosedUnit, LeftOpenUnit, OpenUnit, configuration
from core.data import Dataset
from core.random import Streams
from models.cache import FitContext, ModelConfig
from models.diffusion.denoisers import UNetConfig
from models.diffusion.edm import Sampler, denoising_loss, masked_mean_or_zero, training_sigma
from models.diffusion.known import ConditionalDenoiser, Given, Known
from models.diffusion.units import TrajectoryUnits
from models.diffusion.windows import Windows
from models.dynamics import DynamicsConfig, EnsembleDynamics
from models.training import train_averaged

__all__ = [
    "BehaviourDiffusionConfig",
    "StepDiffusionConfig",
    "TrajectoryDiffusion",
    "TrajectoryDiffusionConfig",
    "TrajectoryRegressionConfig",
]

_SCALE_WINDOWS = 2_000  # from which the deviation at each step is measured


@configuration
class TrajectoryDiffusionConfig(ModelConfig):
    """What is modelled, by which network, for how long. Defaults are for two CPU cores; `paper` is DyDiff's code."""

    rows: PositiveInt = 32  # H
    given: Given = "start_and_actions"  # what is known of a trajectory
    objective: Literal["diffusion", "regression"] = "diffusion"  # regression: one evaluation, the conditional mean
    base: Literal["start", "zero"] = "start"  # states are modelled relative to s_0, or, as DyDiff's code does, as such
    corrects: DynamicsConfig | None = None  # relative to this ensemble's mean roll-out, which is then a condition too
    conditions: Literal["channels", "inpaint"] = "channels"  # inpaint: only as entries of x, scaled with the noise
    scored: Literal["free", "all"] = "free"  # entries that count in the loss; all: given ones as well
    windows: Literal["any", "inside"] = "any"  # inside: whole windows of one episode only
    cut: ClosedUnit = 0.1  # of the windows, which end at a random row: so may given actions, then (`knows_absent`)
    units: Literal["standard", "limits"] = "standard"  # limits: the data's range becomes [-1, 1]
    denoiser: UNetConfig = UNetConfig()
    sigma_data: PositiveFloat = 1.0
    noise_mean: float = 0.0  # P_mean; -1.2, as released, made the error after 10 steps of hopper 1.4 times as large
    noise_std: PositiveFloat = 1.2  # P_std
    updates: PositiveInt = 5_000
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    hold: OpenUnit = 0.5  # share of the updates at full learning rate, before a cosine to 0
    max_norm: PositiveFloat = 1.0  # of the gradient
    average: LeftOpenUnit = 0.995  # EMA of the weights ...
    average_every: PositiveInt = 5  # ... every so many updates

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {  # of DyDiff's released code: batches are tiny and the network is large
            "rows": 100,
            "base": "zero",
            "conditions": "inpaint",
            "scored": "all",
            "windows": "inside",
            "cut": 0.0,
            "units": "limits",
            "sigma_data": 0.5,
            "noise_mean": -1.2,
            "denoiser": {"dim": 128, "multipliers": [1, 4, 8]},
            "updates": 375_000,
            "batch_size": 8,
            "learning_rate": 3e-4,
        },
    }

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise ValueError(f"rows must be at least 2, the states of one transition, got {self.rows}")
        if self.given != "start_and_actions" and (self.corrects or self.objective == "regression"):
            raise ValueError(f"given must be 'start_and_actions' with corrects or regression, got {self.given!r}")
        if self.conditions == "inpaint" and (self.base == "start" or self.corrects):
            raise ValueError("conditions must be 'channels' where states are relative to something, got 'inpaint'")
        if self.given == "nothing" and self.base == "start":
            raise ValueError("base must be 'zero' where no start is given, got 'start'")
        if self.cut and (self.conditions == "inpaint" or self.given != "start_and_actions" or self.rows == 2):
            where = f"conditions {self.conditions!r}, given {self.given!r}, {self.rows} rows"
            raise ValueError(f"cut must be 0 where whole windows are drawn anyway ({where}), got {self.cut}")

    @property
    def knows_absent(self) -> bool:
        """Whether the network is told, and has learned, that a trajectory may end before its last row."""
        return self.conditions == "channels" and self.cut > 0

    @property
    def needs(self) -> tuple[ModelConfig, ...]:
        return () if self.corrects is None else (self.corrects,)

    def channels(self, obs_dim: int, action_dim: int) -> int:
        """Condition channels: known entries, mask, first row, ramp, presence, and the path that is corrected."""
        extra = 2 + (0 if self.corrects is None else obs_dim)
        return 0 if self.conditions == "inpaint" else 3 * (obs_dim + action_dim) + extra

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "TrajectoryDiffusion":
        return TrajectoryDiffusion(self, obs_dim, action_dim, rng)

    def fit(
        self, model: "TrajectoryDiffusion", data: Dataset, context: FitContext, ensemble: EnsembleDynamics | None = None
    ) -> None:
        """Learn from windows of the training episodes; the average of the weights is kept."""
        windows = Windows(data, self.rows, inside=self.windows == "inside")
        model.units.fit(data.train.obs, data.train.action, windows.longest, limits=self.units == "limits")
        if self.base == "start" or self.corrects is not None:
            window = windows.draw(_SCALE_WINDOWS, context.rng.fork("units"))
            model.units.fit_steps(window, model.base(window.obs[:, :, 0], window.action, ensemble))

        def loss(draw: Streams, cut: Streams, levels: Streams, noise: Streams) -> Float[Tensor, " S"]:
            window = windows.draw(self.batch_size, draw).shortened(self.cut, cut)
            known = model.known(window.obs[:, :, 0], window.action, window.present, ensemble)
            clean = model.units.encode(window.obs, window.action, known.base)
            counted = known.scored(window, self.scored)
            if self.objective == "regression":
                return masked_mean_or_zero((model.regress(known) - clean).square(), counted)
            sigma = training_sigma(self.batch_size, levels, self.noise_mean, self.noise_std)
            noisy = known.impose(clean + sigma[..., None, None] * noise.normal(*clean.shape[1:]))
            return denoising_loss(model.denoise(noisy, sigma, known), clean, sigma, self.sigma_data, counted)

        train_averaged(
            model,
            loss,
            draws=[context.rng.fork(label) for label in ("windows", "cut", "levels", "noise")],
            updates=self.updates,
            learning_rate=self.learning_rate,
            hold=self.hold,
            max_norm=self.max_norm,
            average=self.average,
            average_every=self.average_every,
            checkpoint=context.checkpoint,
            label="trajectory diffusion" if self.objective == "diffusion" else "trajectory regression",
        )


@configuration
class TrajectoryRegressionConfig(TrajectoryDiffusionConfig):
    """The same network, conditions and data without diffusion."""

    objective: Literal["regression"] = "regression"


@configuration
class BehaviourDiffusionConfig(TrajectoryDiffusionConfig):
    """States and actions after a given start (or none at all), distributed as in the data."""

    given: Literal["start", "nothing"] = "start"
    cut: ClosedUnit = 0.0


@configuration
class StepDiffusionConfig(TrajectoryDiffusionConfig):
    """The next state only: trajectories of two rows, for use step by step."""

    rows: Literal[2] = 2
    given: Literal["start_and_actions"] = "start_and_actions"
    objective: Literal["diffusion"] = "diffusion"
    corrects: None = None
    cut: ClosedUnit = 0.0


class TrajectoryDiffusion(ConditionalDenoiser):
    """One network per seed. Inputs and outputs in environment units; noise is added in the network's own units."""

    def __init__(self, config: TrajectoryDiffusionConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        self.config = config
        self.obs_dim = obs_dim
        self.features = obs_dim + action_dim
        self.net = config.denoiser.init(self.features, config.channels(obs_dim, action_dim), rng)
        self.units = TrajectoryUnits(obs_dim, action_dim, config.rows, rng)

    @cached_property
    def block(self) -> int:
        """Steps that are drawn at once: H - 1, or the longest episode's, for longer ones were never seen."""
        return int(self.units.longest.min())

    @torch.no_grad()
    def sample(
        self,
        start: Float[Tensor, "S B O"],
        action: Float[Tensor, "S B L A"] | None,
        length: int,
        sampler: Sampler,
        rng: Streams,
        *,
        begin: Float[Tensor, "S B L+1 O"] | None = None,
        ensemble: EnsembleDynamics | None = None,
        guide: Callable[[Tensor, Tensor, int], Tensor] | None = None,
        clip: Callable[[Tensor], Tensor] = lambda obs: obs,
    ) -> tuple[Float[Tensor, "S B T O"], Float[Tensor, "S B L A"]]:
        """T = L + 1 states, L = `length` actions, block by block, each from `clip` of the last state of the one before.

        Whole blocks are drawn, then cut, for the network has learned from whole windows. Given actions that end within
        a block are followed by absent rows if the network knows those (`knows_absent`), else by the middle of the
        data's actions, which of six fillings we measured disturb the states before least. Given starts and actions come
        back unchanged, generated actions are clipped to [-1, 1]. With states to `begin` from, noise is added to those
        instead of replacing them. `ensemble` is needed by a model that corrects one. `guide(obs, action, step)` is
        added to the noisy actions before a step of the sampler, all in environment units.

        Raises:
            ValueError: no start is given, and `length` is more than one block.
        """
        block = self.block
        if self.config.given == "nothing" and length > block:
            raise ValueError(f"length must be at most {block} where no start is given to go on from, got {length}")
        obs = list[Tensor]()
        actions = list[Tensor]()
        for first in range(0, length, block):
            steps = min(block, length - first)
            drawn = steps if action is not None and self.config.knows_absent else block
            here = rng.fork(f"block/{first}")
            imposed = None if action is None else action[:, :, first : first + steps]
            old = None if begin is None else begin[:, :, first : first + steps + 1]
            begins = clip(obs[-1][:, :, -1]) if first else start
            states, taken = self._block(begins, imposed, drawn, sampler, here, old, ensemble, guide)
            obs.append(states[:, :, min(first, 1) : steps + 1])
            actions.append(taken[:, :, :steps])
        return torch.cat(obs, 2), torch.cat(actions, 2) if action is None else action

    def cost(self, sampler: Sampler, length: int, rounds: int = 1) -> dict[str, float]:
        """Network evaluations and FLOP per transition of `rounds` calls of `sample`, corrected roll-outs included."""
        config = self.config
        action_dim = self.features - self.obs_dim
        passes = rounds * -(-length // self.block) / length
        evaluations = passes * (1 if config.objective == "regression" else sampler.evaluations)
        flops = evaluations * config.denoiser.flops(
            self.features, config.channels(self.obs_dim, action_dim), config.rows
        )
        if config.corrects is not None:
            steps = passes * config.corrects.elites * (config.rows - 1)
            evaluations += steps
            flops += steps * config.corrects.flops(self.obs_dim, action_dim)
        return {"evaluations": evaluations, "flops": flops}

    def _block(
        self,
        start: Tensor,
        action: Tensor | None,
        length: int,
        sampler: Sampler,
        rng: Streams,
        old: Tensor | None,
        ensemble: EnsembleDynamics | None,
        guide: Callable[[Tensor, Tensor, int], Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        rows = self.config.rows
        filled = self.units.action.mean.unsqueeze(2).repeat(1, start.shape[1], rows - 1, 1)
        if action is not None:
            filled[:, :, : action.shape[2]] = action
        present = (torch.arange(rows, device=start.device) <= length).expand(*start.shape[:2], -1)
        known = self.known(start, filled, present, ensemble)

        def guided(noisy: Tensor, step: int) -> Tensor:
            if guide is None:
                return noisy
            obs, actions = self.units.decode(noisy, known.base)
            return self.units.encode(obs, actions + guide(obs[:, :, :-1], actions, step), known.base)

        if self.config.objective == "regression":
            x = known.impose(self.regress(known))
        else:
            latent = rng.fork("latent").normal(start.shape[1], rows, self.features)
            begin: Tensor | float = 0.0
            if old is not None:
                held = old[:, :, -1:].expand(-1, -1, rows - old.shape[2], -1)
                begin = self.units.encode(torch.cat([old, held], 2), filled, known.base)
            evaluate = partial(self.evaluate, known=known)
            x = sampler.sample(evaluate, latent, rng.fork("sampler"), known.impose, guided, begin)
        obs, actions = self.units.decode(x, known.base)
        if self.config.given != "nothing":
            obs[:, :, 0] = start
        return obs, actions.clamp(-1, 1)

    def regress(self, known: Known) -> Float[Tensor, "S B H D"]:
        """The conditional mean in one evaluation: free entries are 0, there is no noise level."""
        return self.net(known.entries, known.entries.new_zeros(known.entries.shape[:2]), known.channels)

    def known(
        self,
        start: Float[Tensor, "S B O"],
        action: Float[Tensor, "S B T A"],
        present: Bool[Tensor, "S B T+1"],
        ensemble: EnsembleDynamics | None = None,
    ) -> Known:
        """What the configuration says is known of trajectories with this start and these actions."""
        config = self.config
        return Known.of(
            config.given,
            self.units.obs(start),
            pad(self.units.action(action), (0, 0, 1, 0)),
            present,
            self.base(start, action, ensemble),
            self.units.step_scale,
            as_channels=config.conditions == "channels",
            with_base=config.corrects is not None,
        )

    @torch.no_grad()
    def base(self, start: Tensor, action: Tensor, ensemble: EnsembleDynamics | None) -> Float[Tensor, "S B H O"]:
        """What states are relative to, in the network's units: the start, the corrected ensemble's path, or 0."""
        if self.config.corrects is None:
            base: Tensor = self.units.obs(start.unsqueeze(2).repeat(1, 1, action.shape[2] + 1, 1))
            return base if self.config.base == "start" else torch.zeros_like(base)
        if ensemble is None:
            raise ValueError("ensemble must be given to a model that corrects one, got None")
        path: Tensor = self.units.obs(ensemble.mean_rollout(start, action))
        return path
