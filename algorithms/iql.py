"""IQL: the value of the best action in the data by expectile regression, and a policy regressed on good actions.

Kostrikov, Nair and Levine 2021, arXiv:2110.06169. No action outside the batch is evaluated.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from algorithms.base import RewardScale, StateDictMixin, StepwiseAlgorithm, reward_scale
from core.config import ClosedUnit, LeftOpenUnit, OpenUnit, configuration
from core.data import Dataset, Transitions
from core.random import Streams
from models.actors import DeterministicActor, GaussianActor, observation_normaliser
from models.nn import MLP, Init, Standardize, adam, anneal, descend, ema_

__all__ = ["IQL"]


@configuration
class IQL(StepwiseAlgorithm):
    """Defaults are the paper's for locomotion, with states normalised and rewards as they come.

    The paper scales the rewards of locomotion sets (preset `locomotion`); CORL, whose numbers most others compare with,
    scales those of two hopper sets only. Presets called like a data set are CORL's where they are not our defaults.
    """

    expectile: OpenUnit = 0.7  # tau
    temperature: NonNegativeFloat = 3.0  # beta: 0 is behaviour cloning
    weight_limit: PositiveFloat = 100.0  # of exp(beta advantage)
    reward: RewardScale = "raw"
    discount: ClosedUnit = 0.99
    target_rate: LeftOpenUnit = 0.005
    learning_rate: PositiveFloat = 3e-4
    decay_updates: PositiveInt | None = 1_000_000  # the actor's rate falls to 0 as half a cosine; None: it stays
    batch_size: PositiveInt = 256
    hidden: tuple[PositiveInt, ...] = (256, 256)
    actor: Literal["gaussian", "deterministic"] = "gaussian"
    epsilon: NonNegativeFloat = 1e-3  # added to the deviation that normalises states
    weights: Init = "torch"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"hidden": [64, 64], "learning_rate": 1e-3, "decay_updates": None},  # seconds on a CPU, for tests
        "locomotion": {"reward": "return_range"},
        **{
            name: {"reward": "return_range", "actor": "deterministic", "target_rate": 0.001}
            for name in ("hopper-medium", "hopper-medium-replay")
        },
        "hopper-medium-expert": {"temperature": 6.0, "expectile": 0.5},
    }

    def init(self, data: Dataset, rng: Streams) -> "_State":
        """A policy, twin critics, their target, a value network, and one optimiser each for all seeds."""
        seeds = len(rng.seeds)
        obs = data.train.obs.shape[-1]
        action = data.train.action.shape[-1]
        kind = GaussianActor if self.actor == "gaussian" else DeterministicActor
        actor = kind(data, self.hidden, rng.fork("actor"), epsilon=self.epsilon, init=self.weights)
        critic = MLP((seeds, 2), [obs + action, *self.hidden, 1], rng.fork("critic"), init=self.weights)
        value = MLP((seeds,), [obs, *self.hidden, 1], rng.fork("value"), init=self.weights)
        return _State(
            actor,
            critic,
            deepcopy(critic).requires_grad_(False),
            value,
            adam(actor.parameters(), self.learning_rate),
            adam(critic.parameters(), self.learning_rate),
            adam(value.parameters(), self.learning_rate),
            observation_normaliser(data, rng, self.epsilon),
            reward_scale("iql", self.reward, data),
        )

    def schedule(self, state: "_State") -> None:
        anneal(state.actor_optimizer, self.learning_rate, state.updates, self.decay_updates)
        state.updates += 1

    def step(self, state: "_State", batch: Transitions, rng: Streams, due: None) -> dict[str, Float[Tensor, " S"]]:
        """One step of V, of both Q, of their target, and of the policy; all use the V and target Q from before."""
        value, advantage, target = descend(state.value_optimizer, self.value_loss, state, batch)
        critic, q = descend(state.critic_optimizer, self.critic_loss, state, batch, target)
        ema_(state.target_critic, state.critic, self.target_rate)
        actor = descend(state.actor_optimizer, self.actor_loss, state, batch, advantage)
        return {"value": value, "critic": critic, "actor": actor, "q": q}

    def value_loss(
        self, state: "_State", batch: Transitions
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S B"], Float[Tensor, "S B"]]:
        """(expectile loss of V(s), advantage min_i Q_i'(s, a) - V(s), target y = r + gamma (1 - d) V(s'))."""
        obs = state.normaliser(batch.obs)
        value = state.value(obs)[..., 0]
        with torch.no_grad():
            best = state.q(state.target_critic, obs, batch.action).amin(1)
            following = state.value(state.normaliser(batch.next_obs))[..., 0]
            reward = state.reward_scale * batch.reward
            target = reward + self.discount * following.where(~batch.terminated, torch.zeros_like(following))
        advantage = best - value
        return expectile_loss(advantage, self.expectile).mean(-1), advantage, target

    def critic_loss(
        self, state: "_State", batch: Transitions, target: Float[Tensor, "S B"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, " S"]]:
        """(squared error of both critics, mean value)."""
        q = state.q(state.critic, state.normaliser(batch.obs), batch.action)
        return (q - target[:, None]).square().mean((-1, -2)), q.mean((-1, -2))

    def actor_loss(self, state: "_State", batch: Transitions, advantage: Float[Tensor, "S B"]) -> Float[Tensor, " S"]:
        """Misfit of the policy on behaviour rows, weighted by exp(beta advantage). Source: paper, eq. 7."""
        weight = (self.temperature * advantage).exp().clamp(max=self.weight_limit)
        return (weight * state.misfit(batch))[:, batch.behaviour].mean(-1)


def expectile_loss(difference: Float[Tensor, "*rows"], expectile: float) -> Float[Tensor, "*rows"]:
    """|tau - 1(u < 0)| u^2. Source: paper, eq. 4."""
    return torch.where(difference < 0, 1 - expectile, expectile) * difference.square()


@dataclass
class _State(StateDictMixin):
    changing = (
        "actor",
        "critic",
        "target_critic",
        "value",
        "actor_optimizer",
        "critic_optimizer",
        "value_optimizer",
        "updates",
    )

    actor: GaussianActor | DeterministicActor
    critic: MLP
    target_critic: MLP
    value: MLP
    actor_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    value_optimizer: torch.optim.Optimizer
    normaliser: Standardize
    reward_scale: float
    updates: int = 0

    @property
    def policy(self) -> GaussianActor | DeterministicActor:
        return self.actor

    def q(self, critic: MLP, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S 2 B"]:
        """Both critics at normalised states."""
        return critic(torch.cat([obs, action], -1)[:, None])[..., 0]

    def misfit(self, batch: Transitions) -> Float[Tensor, "S B"]:
        """-log pi(a | s), or the squared distance summed over dimensions of a deterministic policy."""
        if isinstance(self.actor, GaussianActor):
            return -self.actor.log_prob(batch.obs, batch.action)
        return (self.actor(batch.obs) - batch.action).square().sum(-1)

    @torch.no_grad()
    def action_value(self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"]) -> Float[Tensor, "S B"]:
        """The smaller of both critics, of rewards as they are scaled for learning."""
        return self.q(self.critic, self.normaliser(obs), action).amin(1)
