"""Probabilistic ensemble: p(s' - s, r | s, a) as K diagonal Gaussians, and its roll-out with one drawn elite per step.

Source: Chua et al. 2018 (arXiv:1805.12114, "TS1"), Janner et al. 2019 (arXiv:1906.08253). We differ on purpose in two
points: targets are standardised like the inputs (MOPO's penalty then has the same meaning in every task), and batches
are drawn with replacement from each member's bootstrap sample instead of walking through it in shuffled order.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from core.config import OpenUnit, configuration
from core.data import Dataset, Trajectories, Transitions
from core.random import Streams
from models.bitwise import pad_rows, silu, softplus
from models.cache import Facts, FitContext
from models.diffusion.windows import Windows
from models.nn import MLP, Standardize, half_square
from models.training import EarlyStopped, split_rows, train_averaged, train_until_stale

__all__ = ["DynamicsConfig", "Elites", "EnsembleDynamics", "bounded_log_variance", "gaussian_nll", "rollout"]


@configuration
class DynamicsConfig(EarlyStopped):
    """How the ensemble looks and how long it learns; defaults are MOPO's (OfflineRL-Kit), except for `max_updates`."""

    members: PositiveInt = 7  # K
    elites: PositiveInt = 5  # E, those with the lowest validation error
    width: PositiveInt = 200
    weight_decay: tuple[NonNegativeFloat, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)  # one per layer
    learning_rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 256
    validation: OpenUnit = 0.2  # share of the rows kept back for early stopping ...
    validation_rows: PositiveInt = 1000  # ... and at most this many
    patience: PositiveInt = 5  # checks without an improvement of one per cent
    check_every: PositiveInt | None = None  # updates between checks; None: an epoch
    max_updates: PositiveInt = 50_000  # 13 epochs of a million rows; MOPO's fit ends by its patience alone
    log_variance_weight: NonNegativeFloat = 0.01
    unroll: PositiveInt = 1  # steps of the multi-step loss that the fitted members are tuned with; 1: they are not
    unroll_updates: PositiveInt = 2000
    unroll_batch: PositiveInt = 64  # windows of every member
    unroll_learning_rate: PositiveFloat = 5e-4  # falls to 0 by half a cosine

    def __post_init__(self) -> None:
        if self.elites > self.members:
            raise ValueError(f"elites must be at most members ({self.members}), got {self.elites}")
        if not self.weight_decay:
            raise ValueError("weight_decay must have one value per layer, got none")

    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> "EnsembleDynamics":
        return EnsembleDynamics(self, obs_dim, action_dim, rng)

    def sizes(self, obs_dim: int, action_dim: int) -> list[int]:
        """Widths of a member's layers, input and output included."""
        return [obs_dim + action_dim, *[self.width] * (len(self.weight_decay) - 1), 2 * (obs_dim + 1)]

    def flops(self, obs_dim: int, action_dim: int) -> int:
        """Of one forward pass of one member for one row: two per multiply-add of the matrix products."""
        return 2 * sum(fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes(obs_dim, action_dim)))

    def fit(self, model: "EnsembleDynamics", data: Dataset, context: FitContext) -> Facts:
        """Maximum likelihood on a bootstrap sample per member; the best weights of each member are kept.

        With `unroll` above 1 members are then tuned by `unrolled`. The fact `validation` is the elites' mean error.
        """
        x = _inputs(data.train.obs, data.train.action)
        y = _targets(data.train)
        train, validation = split_rows(len(x), self.validation, self.validation_rows, context.rng.fork("split"))
        model.input.fit(x, train)
        model.output.fit(y, train)
        bootstrap = _bootstrap(train, self.members, context.rng.fork("bootstrap"))
        copies = (len(context.rng.seeds), self.members)

        def loss(batches: Streams) -> Float[Tensor, " S"]:
            position = (batches.uniform64(self.members, self.batch_size) * bootstrap.shape[-1]).long()
            rows = bootstrap.gather(-1, position).long().flatten()
            return model.loss(x[rows].view(*copies, -1, x.shape[-1]), y[rows].view(*copies, -1, y.shape[-1]))

        def validate() -> Float[Tensor, "S K"]:
            rows = validation.flatten()
            inputs = x[rows].view(len(validation), -1, x.shape[-1])
            targets = y[rows].view(len(validation), -1, y.shape[-1])
            mean, _ = model.standard(model.input(inputs)[:, None])
            return (mean - model.output(targets)[:, None]).square().mean((-1, -2))

        errors = train_until_stale(
            self,
            model,
            loss,
            validate,
            rows=train.shape[-1],
            draws=[context.rng.fork("batches")],
            checkpoint=context.checkpoint.part("members"),
            label="dynamics ensemble",
        )
        if self.unroll > 1:
            tuning = FitContext(context.rng.fork("unroll"), context.checkpoint.part("unrolled"))
            errors = self._tune(model, data, bootstrap, validation, tuning)
        model.elites.copy_(errors.argsort(-1)[:, : self.elites])
        return {"validation": errors.gather(-1, model.elites).mean(-1)}

    def _tune(
        self,
        model: "EnsembleDynamics",
        data: Dataset,
        bootstrap: Int[Tensor, "S K n"],
        validation: Int[Tensor, "S h"],
        context: FitContext,
    ) -> Float[Tensor, "S K"]:
        """The multi-step loss on windows that begin in each member's own sample; returns that of the validation rows.

        Rows kept back begin no window but may lie inside one, of every member alike: the errors only rank members.
        """
        windows = Windows(data, self.unroll + 1)
        draws = [context.rng.fork("starts"), context.rng.fork("others")]
        steps = torch.arange(self.unroll, device=context.rng.device)

        def error(start: Int[Tensor, "S K b"], others: Streams) -> Float[Tensor, "S K"]:
            window = windows.at(start.flatten(1), others)
            reward = data.train.reward[(start[..., None] + steps).clamp(max=len(data.episode) - 1)]
            views = (x.view(*start.shape, *x.shape[2:]) for x in (window.action, window.obs, window.in_episode))
            action, obs, in_episode = views
            return model.unrolled(action, obs, reward, in_episode)

        def loss(starts: Streams, others: Streams) -> Float[Tensor, " S"]:
            position = (starts.uniform64(self.members, self.unroll_batch) * bootstrap.shape[-1]).long()
            return error(bootstrap.gather(-1, position).long(), others).sum(-1) + model.regularization()

        train_averaged(
            model,
            loss,
            draws=draws,
            updates=self.unroll_updates,
            learning_rate=self.unroll_learning_rate,
            checkpoint=context.checkpoint,
            label="dynamics ensemble, unrolled",
        )
        with torch.no_grad():
            return error(validation[:, None].expand(-1, self.members, -1), draws[1])


class Elites(NamedTuple):
    """The elites' own weights, gathered among those of all members."""

    layers: list[tuple[Tensor, Tensor]]  # (weight, bias), first to last
    min_log_variance: Tensor
    max_log_variance: Tensor


class EnsembleDynamics(nn.Module):
    """K members for each of S seeds, in environment units; members share the bounds of the log-variance, as in PETS."""

    elites: Tensor

    def __init__(self, config: DynamicsConfig, obs_dim: int, action_dim: int, rng: Streams) -> None:
        super().__init__()
        seeds = len(rng.seeds)
        outputs = obs_dim + 1
        sizes = config.sizes(obs_dim, action_dim)
        self.config = config
        self.obs_dim = obs_dim
        self.net = MLP((seeds, config.members), sizes, rng, activation=silu, init="half")
        self.max_log_variance = nn.Parameter(torch.full((seeds, 1, 1, outputs), 0.5, device=rng.device))
        self.min_log_variance = nn.Parameter(torch.full((seeds, 1, 1, outputs), -10.0, device=rng.device))
        self.input = Standardize(sizes[0], rng)
        self.output = Standardize(outputs, rng)
        self.register_buffer("elites", torch.arange(config.elites, device=rng.device).repeat(seeds, 1))

    def standard(self, x: Float[Tensor, "S #K B F"]) -> tuple[Float[Tensor, "S K B P"], Float[Tensor, "S K B P"]]:
        """(mean, log variance) of every member, all in standardised units."""
        mean, raw = self.net(x).chunk(2, -1)
        return mean, bounded_log_variance(raw, self.min_log_variance, self.max_log_variance)

    def loss(self, x: Float[Tensor, "S K B F"], y: Float[Tensor, "S K B P"]) -> Float[Tensor, " S"]:
        """Negative log-likelihood, summed over members, with weight decay and the pull on the variance bounds."""
        mean, log_variance = self.standard(self.input(x))
        return gaussian_nll(self.output(y), mean, log_variance).mean((-1, -2)).sum(-1) + self.regularization()

    def regularization(self) -> Float[Tensor, " S"]:
        """Weight decay, and the pull of the variance bounds, which members share, towards each other."""
        bounds = (self.max_log_variance - self.min_log_variance).sum((-1, -2, -3))
        total = self.config.log_variance_weight * bounds
        for weight, layer in zip(self.config.weight_decay, self.net.linear, strict=True):
            total = total + weight * half_square(layer.weight).sum(-1)
        return total

    def unrolled(
        self,
        action: Float[Tensor, "S K B L A"],
        obs: Float[Tensor, "S K B L+1 O"],
        reward: Float[Tensor, "S K B L"],
        in_episode: Bool[Tensor, "S K B L"],
    ) -> Float[Tensor, "S K"]:
        """Each member's error along its own roll-out, in which each step continues from the member's own mean.

        The first step is scored by its likelihood, so that variances remain those of one step; the later ones by the
        squared error in deviations of s' - s and r. Steps outside the episode count as 0. We measured before choosing
        (local/hopper-medium, 800 updates of 8 steps): with the likelihood in every step the variance grows to that of
        many, and the median error of a sampled roll-out after 31 steps was 1.6 times as large. No paper's: a control.
        """
        state = obs[..., 0, :]
        total = torch.zeros_like(reward[..., 0])
        for step, counts in enumerate(in_episode.unbind(-1)):
            mean, log_variance = self.standard(self.input(_inputs(state, action[..., step, :])))
            target = self.output(torch.cat([obs[..., step + 1, :] - state, reward[..., step, None]], -1))
            score = (target - mean).square() if step else gaussian_nll(target, mean, log_variance)
            total = total + score.mean(-1).where(counts, 0.0)
            state = state + self.output.inverse(mean)[..., :-1]
        return total.mean(-1) / in_episode.shape[-1]

    def predict(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]
    ) -> tuple[Float[Tensor, "S K B P"], Float[Tensor, "S K B P"]]:
        """(mean, standard deviation) of (s' - s, r) under every member, environment units."""
        mean, log_variance = self.standard(self.input(_inputs(obs, action))[:, None])
        return self.output.inverse(mean), (0.5 * log_variance).exp() * self.output.scale[:, None]

    def pick(self) -> Elites:
        """The elites' weights, to be gathered once per roll-out: gathering per step dominates small batches."""

        def gathered(parameter: Tensor) -> Tensor:
            index = self.elites.view(*self.elites.shape, 1, 1).expand(-1, -1, *parameter.shape[-2:])
            return parameter.gather(1, index)

        layers = [(gathered(layer.weight), gathered(layer.bias)) for layer in self.net.linear]
        return Elites(layers, self.min_log_variance, self.max_log_variance)

    def draw(
        self,
        obs: Float[Tensor, "S B O"],
        action: Float[Tensor, "S B A"],
        rng: Streams,
        *,
        sample: bool = True,
        elites: Elites | None = None,
    ) -> tuple[Float[Tensor, "S B O"], Float[Tensor, "S B"]]:
        """A sample of (s', r), each row from one elite drawn at random; or, without `sample`, that elite's mean.

        A random permutation deals the rows, and what lacks to equal shares, to the elites; only those are evaluated.
        For every row the law is that of an independent draw. Pass what `pick` returned when drawing more than once.
        """
        seeds, batch, _ = obs.shape
        number = self.elites.shape[-1]
        share = -(-batch // number)
        order = rng.uniform(share * number).argsort(-1)  # `batch` and above: a place that stays empty
        dealt = order.clamp(max=batch - 1)
        x = self.input(_inputs(obs, action)).gather(1, dealt[..., None].expand(-1, -1, self.input.mean.shape[-1]))
        mean, log_variance = _members(elites or self.pick(), x.view(seeds, number, share, -1))
        if sample:
            mean = mean + (0.5 * log_variance).exp() * rng.normal(number, share, mean.shape[-1])
        y = self.output.inverse(mean.flatten(1, 2))
        drawn = torch.empty_like(y).scatter_(1, order[..., None].expand_as(y), y)[:, :batch]
        return obs + drawn[..., :-1], drawn[..., -1]

    def mean(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"], elites: Elites | None = None
    ) -> tuple[Float[Tensor, "S B O"], Float[Tensor, "S B"]]:
        """(s', r) expected by the elites together."""
        x = self.input(_inputs(obs, action)).unsqueeze(1)
        mean, _ = _members(elites or self.pick(), x.expand(-1, self.elites.shape[-1], -1, -1))
        y = self.output.inverse(mean.mean(1))
        return obs + y[..., :-1], y[..., -1]

    def mean_rollout(
        self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"]
    ) -> Float[Tensor, "S B L+1 O"]:
        """The states that the elites together expect under these actions, each from the one before."""
        elites = self.pick()
        path = [start]
        for step in range(action.shape[2]):
            path.append(self.mean(path[-1], action[:, :, step], elites)[0])
        return torch.stack(path, 2)


def _members(elites: Elites, x: Float[Tensor, "S E B F"]) -> tuple[Tensor, Tensor]:
    """(mean, log variance) of block e under elite e."""
    *copies, rows, _ = x.shape
    h = pad_rows(x).flatten(0, 1)
    *hidden, last = [(weight.flatten(0, 1), bias.flatten(0, 1)) for weight, bias in elites.layers]
    for weight, bias in hidden:
        h = silu(torch.baddbmm(bias, h, weight))
    mean, raw = torch.baddbmm(last[1], h, last[0])[:, :rows].view(*copies, rows, -1).chunk(2, -1)
    return mean, bounded_log_variance(raw, elites.min_log_variance, elites.max_log_variance)


def bounded_log_variance(
    raw: Float[Tensor, "*copies B P"], low: Float[Tensor, "*#copies 1 P"], high: Float[Tensor, "*#copies 1 P"]
) -> Float[Tensor, "*copies B P"]:
    """Soft clamp to (low, high) that lets gradients reach both bounds. Source: Chua et al. 2018, appendix A.1."""
    return low + softplus(high - softplus(high - raw) - low)


def gaussian_nll(
    y: Float[Tensor, "*shape"], mean: Float[Tensor, "*shape"], log_variance: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """(y - mean)^2 / variance + log variance: twice the negative log-likelihood, less a constant."""
    return (y - mean).square() * (-log_variance).exp() + log_variance


@torch.no_grad()
def rollout(
    draw: Callable[
        [Float[Tensor, "S B O"], Float[Tensor, "S B A"]], tuple[Float[Tensor, "S B O"], Float[Tensor, "S B"]]
    ],
    act: Callable[[Float[Tensor, "S B O"], int], Float[Tensor, "S B A"]],
    start: Float[Tensor, "S B O"],
    length: int,
    terminated: Callable[..., Bool[Tensor, "S B"]],
) -> Trajectories:
    """Autoregressive roll-out of any one-step model: `draw(s, a)` gives (s', r), `act(s, step)` the action.

    A row that has ended by the rule `terminated(s, a, s')` keeps its last state and is not valid.
    """
    obs = [start]
    action = list[Tensor]()
    reward = list[Tensor]()
    ended = list[Tensor]()
    valid = list[Tensor]()
    alive = torch.ones(start.shape[:-1], dtype=torch.bool, device=start.device)
    for step in range(length):
        action.append(act(obs[-1], step))
        next_obs, paid = draw(obs[-1], action[-1])
        ended.append(terminated(obs[-1], action[-1], next_obs) & alive)
        reward.append(paid.where(alive, torch.zeros_like(paid)))
        valid.append(alive)
        obs.append(torch.where(alive[..., None], next_obs, obs[-1]))
        alive = alive & ~ended[-1]
    return Trajectories(*(torch.stack(x, 2) for x in (action, obs, reward, ended, valid)))


def _inputs(obs: Tensor, action: Tensor) -> Tensor:
    return torch.cat([obs, action], -1)


def _targets(rows: Transitions) -> Float[Tensor, "N P"]:
    return torch.cat([rows.next_obs - rows.obs, rows.reward[..., None]], -1)


def _bootstrap(rows: Int[Tensor, "S n"], members: int, rng: Streams) -> Int[Tensor, "S K n"]:
    """As many rows as there are, drawn with replacement once per member; int32 to keep large sets small."""
    drawn = (rng.uniform64(members, rows.shape[-1]) * rows.shape[-1]).long()
    return rows.to(torch.int32)[:, None].expand(-1, members, -1).gather(-1, drawn)
