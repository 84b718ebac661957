"""CQL: SAC whose critic is pushed down on the policy's actions and up on the data's (Kumar et al. 2020).

arXiv:2006.04779, variant CQL(H) with the log-sum-exp estimated by importance sampling (its appendix F).
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from algorithms.base import RewardScale, StateDictMixin, StepwiseAlgorithm, TwinCriticMixin, reward_scale
from core.config import ClosedUnit, LeftOpenUnit, configuration
from core.data import Dataset, Transitions
from core.random import Streams
from models.actors import TanhGaussianActor, observation_normaliser
from models.nn import MLP, Init, Standardize, adam, descend, ema_, gradients, orthogonal_, xavier_uniform_

__all__ = ["CQL"]


@configuration
class CQL(StepwiseAlgorithm):
    """Defaults are the authors' for locomotion as CORL reproduces them, `maze2d` are CORL's for that environment.

    CORL scales the rewards of one set: preset `hopper-medium`. `dydiff` is what DyDiff's code calls CQL.
    """

    weight: NonNegativeFloat = 10.0  # of the conservative term
    samples: PositiveInt = 10  # of each of three kinds in the log-sum-exp
    lagrange_gap: NonNegativeFloat | None = (
        None  # keep that term at this gap by a multiplier (times `weight`); None: fixed
    )
    backup_samples: PositiveInt = 1  # above 1: best of so many next actions ("max backup")
    reward: RewardScale = "raw"
    discount: ClosedUnit = 0.99
    target_rate: LeftOpenUnit = 0.005
    actor_rate: PositiveFloat = 3e-5  # learning rate of policy and temperature ...
    critic_rate: PositiveFloat = 3e-4  # ... and of critics and multiplier
    actor_first: bool = False  # temperature, policy, critics in turn, each with the new one; else all with the old ones
    log_temperature_range: tuple[float, float] | None = None  # applied where it is used; the parameter itself is free
    batch_size: PositiveInt = 256
    hidden: tuple[PositiveInt, ...] = (256, 256, 256)
    scaled_log_std: bool = True  # two more parameters of the policy: models/actors.py
    epsilon: NonNegativeFloat = 1e-3  # added to the deviation that normalises states
    weights: Init | Literal["orthogonal"] = "orthogonal"  # gain sqrt 2, last layers 0.01

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "hidden": [64, 64],
            "samples": 4,
            "actor_rate": 1e-3,
            "critic_rate": 1e-3,
            "weight": 1.0,
        },  # for tests
        "maze2d": {"lagrange_gap": 5.0},
        "hopper-medium": {"reward": "return_range"},
        "dydiff": {
            "hidden": [256, 256],
            "actor_first": True,
            "log_temperature_range": [-10.0, 0.5],
            "scaled_log_std": False,
            "epsilon": 1e-6,
            "weights": "normal",
        },
    }

    def __post_init__(self) -> None:
        low, high = self.log_temperature_range or (0.0, 0.0)
        if low > high:
            raise ValueError(f"log_temperature_range must be in ascending order, got {self.log_temperature_range}")

    def init(self, data: Dataset, rng: Streams) -> "_State":
        """A policy, twin critics, their target, temperature, multiplier, and one optimiser each for all seeds."""
        seeds = len(rng.seeds)
        obs_dim = data.train.obs.shape[-1]
        action_dim = data.train.action.shape[-1]
        init: Init = "torch" if self.weights == "orthogonal" else self.weights
        actor = TanhGaussianActor(
            data, self.hidden, rng.fork("actor"), epsilon=self.epsilon, init=init, scaled=self.scaled_log_std
        )
        critic = MLP((seeds, 2), [obs_dim + action_dim, *self.hidden, 1], rng.fork("critic"), init=init)
        if self.weights == "orthogonal":
            xavier_uniform_(actor.net.linear[-1], rng.fork("actor/last"), 0.01)
            orthogonal_(critic, rng.fork("critic/orthogonal"), 2**0.5, 0.01)
        temperature = nn.Parameter(torch.zeros(seeds, device=rng.device))
        multiplier = nn.Parameter(torch.ones(seeds, device=rng.device))
        return _State(
            actor,
            critic,
            deepcopy(critic).requires_grad_(False),
            temperature,
            multiplier,
            adam(actor.parameters(), self.actor_rate),
            adam(critic.parameters(), self.critic_rate),
            adam([temperature], self.actor_rate),
            adam([multiplier], self.critic_rate),
            observation_normaliser(data, rng, self.epsilon),
            reward_scale("cql", self.reward, data),
        )

    def step(self, state: "_State", batch: Transitions, rng: Streams, due: None) -> dict[str, Float[Tensor, " S"]]:
        """One step of temperature, policy, multiplier, critics and their target."""
        losses = self.actor_step(state, batch, rng) if self.actor_first else {}
        _, error, gap, q = gradients(state.critic_optimizer, self.critic_loss, state, batch, rng)
        if self.lagrange_gap is not None:
            descend(state.multiplier_optimizer, self.multiplier_loss, state, gap)
        if not self.actor_first:
            losses = self.actor_step(state, batch, rng)
        state.critic_optimizer.step()
        ema_(state.target_critic, state.critic, self.target_rate)
        return losses | {"critic": error, "gap": gap.mean(-1), "q": q}

    def critic_loss(
        self, state: "_State", batch: Transitions, rng: Streams
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, " S"], Float[Tensor, "S 2"], Float[Tensor, " S"]]:
        """Squared error plus conservative term, of both critics; then (squared error, gap, mean value)."""
        q = state.value(state.critic, batch.obs, batch.action[:, None])[:, :, 0]
        error = (q - self.target(state, batch, rng)[:, None]).square().mean(-1)
        gap = self.gap(state, batch, q, rng)
        loss = (error + self.weight * self.multiplier(state).detach()[:, None] * gap).sum(-1)
        return loss, error.sum(-1), gap, q.mean((-1, -2))

    @torch.no_grad()
    def target(self, state: "_State", batch: Transitions, rng: Streams) -> Float[Tensor, "S B"]:
        """y = r + gamma (1 - d) max_j min_i Q_i'(s', a_j), a_j ~ pi(s'); no entropy in it."""
        action, _ = state.actor.sample_and_log_prob(
            batch.next_obs, rng.normal(self.backup_samples, *batch.action.shape[1:])
        )
        value = state.value(state.target_critic, batch.next_obs, action).amin(1).amax(1)
        return state.reward_scale * batch.reward + self.discount * value.where(
            ~batch.terminated, torch.zeros_like(value)
        )

    def gap(self, state: "_State", batch: Transitions, q: Float[Tensor, "S 2 B"], rng: Streams) -> Float[Tensor, "S 2"]:
        """Mean log-sum-exp of Q(s, .) minus mean Q(s, a) of the data, per critic. Source: paper, eq. 4 and appendix F.

        Q is pushed down in all states of the batch, and up at the actions of its behaviour rows.

        The log-sum-exp is over 3n values Q(s, a_j) - log density(a_j): n actions uniform in the box, n of the policy at
        s, and n of the policy at s', all taken in state s.
        """
        _, rows, action_dim = batch.action.shape
        with torch.no_grad():
            shape = self.samples, rows, action_dim
            uniform = 2 * rng.uniform(*shape) - 1
            here, log_here = state.actor.sample_and_log_prob(batch.obs, rng.normal(*shape))
            there, log_there = state.actor.sample_and_log_prob(batch.next_obs, rng.normal(*shape))
            log_uniform = torch.full_like(log_here, -action_dim * math.log(2))
        actions = torch.cat([uniform, here, there], 1)
        log_density = torch.cat([log_uniform, log_here, log_there], 1)
        values = state.value(state.critic, batch.obs, actions) - log_density[:, None]  # [S, 2, 3n, B]
        return values.logsumexp(2).mean(-1) - q[:, :, batch.behaviour].mean(-1)

    def multiplier(self, state: "_State") -> Float[Tensor, " S"]:
        """Of the conservative term: 1, or what keeps it at `lagrange_gap`."""
        if self.lagrange_gap is None:
            return torch.ones_like(state.multiplier)
        return state.multiplier.exp().clamp(max=1e6)

    def multiplier_loss(self, state: "_State", gap: Float[Tensor, "S 2"]) -> Float[Tensor, " S"]:
        """-multiplier * (gap - lagrange_gap)."""
        excess = self.weight * (gap - (self.lagrange_gap or 0.0))
        return -self.multiplier(state) * excess.mean(-1)

    def actor_step(self, state: "_State", batch: Transitions, rng: Streams) -> dict[str, Float[Tensor, " S"]]:
        """One step of the temperature and one of the policy."""
        noise = rng.normal(1, *batch.action.shape[1:])
        with torch.no_grad():
            entropy = -state.actor.sample_and_log_prob(batch.obs, noise)[1].mean((-1, -2))
        old = self.temperature(state)
        descend(state.temperature_optimizer, self.temperature_loss, state, entropy + batch.action.shape[-1])
        alpha = self.temperature(state) if self.actor_first else old
        loss = descend(state.actor_optimizer, self.actor_loss, state, batch, noise, alpha)
        return {"actor": loss, "temperature": alpha, "entropy": entropy}

    def temperature(self, state: "_State") -> Float[Tensor, " S"]:
        """alpha, without gradient. Outside of the range the parameter goes on and must come back, as in DyDiff."""
        free = state.temperature.detach()
        return (free if self.log_temperature_range is None else free.clamp(*self.log_temperature_range)).exp()

    def temperature_loss(self, state: "_State", surplus: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
        """log alpha * (entropy + A): it falls while the entropy is above -A. Source: SAC."""
        return state.temperature * surplus

    def actor_loss(
        self, state: "_State", batch: Transitions, noise: Float[Tensor, "S 1 B A"], alpha: Float[Tensor, " S"]
    ) -> Float[Tensor, " S"]:
        """alpha log pi(a|s) - min_i Q_i(s, a). Source: SAC."""
        action, log_prob = state.actor.sample_and_log_prob(batch.obs, noise)
        value = state.value(state.critic, batch.obs, action)[:, :, 0].amin(1)
        return alpha * log_prob[:, 0].mean(-1) - value.mean(-1)


@dataclass
class _State(TwinCriticMixin, StateDictMixin):
    changing = (
        "actor",
        "critic",
        "target_critic",
        "actor_optimizer",
        "critic_optimizer",
        "temperature_optimizer",
        "multiplier_optimizer",
        "temperature",
        "multiplier",
    )

    actor: TanhGaussianActor
    critic: MLP
    target_critic: MLP
    temperature: nn.Parameter  # log alpha [S]
    multiplier: nn.Parameter  # log of the Lagrange multiplier [S]
    actor_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    temperature_optimizer: torch.optim.Optimizer
    multiplier_optimizer: torch.optim.Optimizer
    normaliser: Standardize
    reward_scale: float

    @property
    def policy(self) -> TanhGaussianActor:
        return self.actor
