"""TD3+BC: TD3 whose actor is pulled towards the actions of the data (Fujimoto and Gu 2021, arXiv:2106.06860)."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from algorithms.base import StateDictMixin, StepwiseAlgorithm
from core.config import ClosedUnit, LeftOpenUnit, configuration
from core.data import Dataset, Transitions
from core.random import Streams
from models.actors import DeterministicActor, TanhGaussianActor, observation_normaliser
from models.nn import MLP, Init, Standardize, adam, descend, ema_

__all__ = ["TD3BC"]


@configuration
class TD3BC(StepwiseAlgorithm):
    """Defaults are the authors' released settings; preset `dydiff` is what DyDiff's code calls TD3+BC."""

    alpha: PositiveFloat = 2.5  # weight of Q against behaviour cloning
    discount: ClosedUnit = 0.99
    target_rate: LeftOpenUnit = 0.005  # tau
    policy_every: PositiveInt = 2  # critic updates per actor and target update
    target_noise: NonNegativeFloat = 0.2  # smoothing of the target action ...
    noise_clip: NonNegativeFloat = 0.5  # ... and its bound
    learning_rate: PositiveFloat = 3e-4
    batch_size: PositiveInt = 256
    hidden: tuple[PositiveInt, ...] = (256, 256)
    actor: Literal["deterministic", "tanh-gaussian"] = "deterministic"
    critic_weight: PositiveFloat = 1.0  # factor of each critic's squared error
    behaviour_weight: NonNegativeFloat = 1.0  # factor of the squared distance to the data's action
    epsilon: NonNegativeFloat = 1e-3  # added to the deviation that normalises states
    weights: Init = "torch"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"hidden": [64, 64]},  # seconds on a CPU, for tests
        "dydiff": {  # a stochastic actor, no target smoothing, and halved squared errors: alpha counts twice
            "actor": "tanh-gaussian",
            "target_noise": 0.0,
            "critic_weight": 0.5,
            "behaviour_weight": 0.5,
            "epsilon": 1e-6,
            "weights": "normal",
        },
    }

    def init(self, data: Dataset, rng: Streams) -> "_State":
        """Twin critics, an actor, their targets and one optimiser each for all seeds."""
        kind = DeterministicActor if self.actor == "deterministic" else TanhGaussianActor
        actor = kind(data, self.hidden, rng.fork("actor"), epsilon=self.epsilon, init=self.weights)
        width = data.train.obs.shape[-1] + data.train.action.shape[-1]
        critic = MLP((len(rng.seeds), 2), [width, *self.hidden, 1], rng.fork("critic"), init=self.weights)
        return _State(
            actor,
            critic,
            deepcopy(actor).requires_grad_(False),
            deepcopy(critic).requires_grad_(False),
            adam(actor.parameters(), self.learning_rate),
            adam(critic.parameters(), self.learning_rate),
            observation_normaliser(data, rng, self.epsilon),
        )

    def schedule(self, state: "_State") -> bool:
        """Whether the actor's turn has come."""
        state.updates += 1
        return state.updates % self.policy_every == 0

    def step(self, state: "_State", batch: Transitions, rng: Streams, due: bool) -> dict[str, Float[Tensor, " S"]]:
        """One critic step; every `policy_every`-th time an actor step and a step of the targets."""
        critic_loss, q = descend(state.critic_optimizer, self.critic_loss, state, batch, rng)
        losses = {"critic": critic_loss, "q": q}
        if due:
            losses["actor"] = descend(state.actor_optimizer, self.actor_loss, state, batch, rng)
            ema_(state.target_actor, state.actor, self.target_rate)
            ema_(state.target_critic, state.critic, self.target_rate)
        return losses

    def critic_loss(
        self, state: "_State", batch: Transitions, rng: Streams
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, " S"]]:
        """(squared error of both critics, mean value)."""
        target = self.target(state, batch, rng)
        q = state.value(state.critic, batch.obs, batch.action)
        return self.critic_weight * (q - target[:, None]).square().mean(-1).sum(-1), q.mean((-1, -2))

    @torch.no_grad()
    def target(self, state: "_State", batch: Transitions, rng: Streams) -> Float[Tensor, "S B"]:
        """y = r + gamma (1 - d) min_i Q_i'(s', clip(pi'(s') + clip(noise))). Source: Fujimoto et al. 2018, alg. 1."""
        action = state.target_actor(batch.next_obs, rng)
        if self.target_noise > 0:
            noise = (self.target_noise * rng.normal(*action.shape[1:])).clamp(-self.noise_clip, self.noise_clip)
            action = (action + noise).clamp(-1, 1)
        value = state.value(state.target_critic, batch.next_obs, action).amin(1)
        return batch.reward + self.discount * value.where(~batch.terminated, torch.zeros_like(value))

    def actor_loss(self, state: "_State", batch: Transitions, rng: Streams) -> Float[Tensor, " S"]:
        """-lambda Q_1(s, pi(s)) + (pi(s) - a)^2 with lambda = alpha / mean |Q_1|. Source: paper, eq. 3 and 5.

        The square is of the behaviour rows.
        """
        action = state.actor(batch.obs, rng)
        q = state.value(state.critic, batch.obs, action)[:, 0]
        scale = self.alpha / q.abs().mean(-1).detach()  # one per seed, never one for all
        distance = (action - batch.action)[:, batch.behaviour].square().mean((-1, -2))
        return -scale * q.mean(-1) + self.behaviour_weight * distance


@dataclass
class _State(StateDictMixin):
    changing = ("actor", "critic", "target_actor", "target_critic", "actor_optimizer", "critic_optimizer", "updates")

    actor: DeterministicActor | TanhGaussianActor
    critic: MLP
    target_actor: DeterministicActor | TanhGaussianActor
    target_critic: MLP
    actor_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    normaliser: Standardize
    updates: int = 0

    @property
    def policy(self) -> DeterministicActor | TanhGaussianActor:
        return self.actor

    def value(self, critic: MLP, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S 2 B"]:
        return critic(torch.cat([self.normaliser(obs), action], -1)[:, None])[..., 0]

    @torch.no_grad()
    def action_value(self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S B"]:
        """The smaller of both critics."""
        return self.value(self.critic, obs, action).amin(1)
