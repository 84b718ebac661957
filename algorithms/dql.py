"""Diffusion-QL: a diffusion model clones the data's actions while a critic pulls its samples (Wang et al. 2023).

arXiv:2208.06193.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Int
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from algorithms.base import StateDictMixin, StepwiseAlgorithm, TwinCriticMixin
from core.config import ClosedUnit, LeftOpenUnit, configuration
from core.data import Dataset, Transitions
from core.random import Streams
from models.actors import DiffusionActor, observation_normaliser
from models.bitwise import mish
from models.nn import MLP, Init, Standardize, adam, anneal, descend, ema_

__all__ = ["DQL"]

Select = Literal["q-softmax", "q-max", "sample"]


@configuration
class DQL(StepwiseAlgorithm):
    """Defaults are the authors' for locomotion; `dydiff` is what DyDiff's code calls Diffusion-QL.

    Between locomotion sets the authors vary one field: presets called like a data set.
    """

    eta: NonNegativeFloat = 1.0  # weight of Q against the denoising loss
    q_term: Literal["chain", "one-step"] = "chain"  # Q of a full reverse diffusion, or of x_0 from the noised action
    steps: PositiveInt = 5  # K
    beta_range: tuple[PositiveFloat, PositiveFloat] = (0.1, 10.0)
    discount: ClosedUnit = 0.99
    target_rate: LeftOpenUnit = 0.005  # of the critics, every update
    ema_rate: LeftOpenUnit = 0.005  # of the policy that supplies target actions ...
    ema_every: PositiveInt = 5  # ... every so many updates ...
    ema_start: NonNegativeInt = 1000  # ... from this one on; before, it is the one that training began with
    backup_samples: PositiveInt = 1  # above 1: each critic's best of so many next actions ("max_q_backup")
    actor_rate: PositiveFloat = 3e-4
    critic_rate: PositiveFloat = 3e-4
    decay_updates: PositiveInt | None = None  # learning rates fall to 0 as half a cosine; None: as in the authors' runs
    max_norm: PositiveFloat | None = 5.0  # of a gradient; the authors' vary from 1 to 9 between data sets
    clip_critics: Literal["together", "each"] = "together"  # the gradient that is shortened is of both, or of one
    select: Select = "q-softmax"  # the action at evaluation ...
    candidates: PositiveInt = 50  # ... of so many
    batch_size: PositiveInt = 256
    hidden: tuple[PositiveInt, ...] = (256, 256, 256)
    critic_hidden: tuple[PositiveInt, ...] | None = None  # None: as the policy's
    critic_activation: Literal["mish", "relu"] = "mish"
    epsilon: NonNegativeFloat | None = None  # added to the deviation that normalises states; None: states as they are
    critic_weights: Init = "torch"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {  # seconds on a CPU, for tests
            "hidden": [64, 64],
            "q_term": "one-step",
            "ema_start": 0,
            "actor_rate": 1e-3,
            "critic_rate": 1e-3,
            "candidates": 10,
            "select": "q-max",
            "epsilon": 1e-3,
        },
        "dydiff": {
            "q_term": "one-step",
            "critic_hidden": [256, 256],
            "critic_activation": "relu",
            "critic_weights": "normal",
            "clip_critics": "each",
            "epsilon": 1e-6,
        },
        **{
            f"{env}-{level}": {"max_norm": norm}
            for level, norms in {
                "medium": (9.0, 9.0, 1.0),
                "medium-replay": (2.0, 4.0, 4.0),
                "medium-expert": (7.0, 5.0, 5.0),
            }.items()
            for env, norm in zip(("halfcheetah", "hopper", "walker2d"), norms, strict=True)
        },
    }

    def __post_init__(self) -> None:
        if self.beta_range[0] > self.beta_range[1]:
            raise ValueError(f"beta_range must be in ascending order, got {self.beta_range}")

    def init(self, data: Dataset, rng: Streams) -> "_State":
        """A diffusion policy, twin critics, their targets, and one optimiser each for all seeds."""
        actor = DiffusionActor(
            data,
            self.hidden,
            rng.fork("actor"),
            steps=self.steps,
            beta_range=self.beta_range,
            epsilon=self.epsilon,
        )
        critic = MLP(
            (len(rng.seeds), 2),
            [data.train.obs.shape[-1] + data.train.action.shape[-1], *(self.critic_hidden or self.hidden), 1],
            rng.fork("critic"),
            activation=mish if self.critic_activation == "mish" else torch.relu,
            init=self.critic_weights,
        )
        return _State(
            self,
            actor,
            critic,
            deepcopy(actor).requires_grad_(False),
            deepcopy(critic).requires_grad_(False),
            adam(actor.parameters(), self.actor_rate),
            adam(critic.parameters(), self.critic_rate),
            observation_normaliser(data, rng, self.epsilon),
            rng.fork("greedy").integers(2**62, data.train.obs.shape[-1]),
        )

    def schedule(self, state: "_State") -> bool:
        """Set the learning rates; whether the averaged policy moves."""
        anneal(state.critic_optimizer, self.critic_rate, state.updates, self.decay_updates)
        anneal(state.actor_optimizer, self.actor_rate, state.updates, self.decay_updates)
        state.updates += 1
        return state.updates > self.ema_start and (state.updates - 1) % self.ema_every == 0

    def step(self, state: "_State", batch: Transitions, rng: Streams, due: bool) -> dict[str, Float[Tensor, " S"]]:
        """One step of the critics, one of the policy, and then of their targets."""
        inputs = state, batch, rng
        norm = self.max_norm
        axes = 2 if self.clip_critics == "each" else 1
        critic, q = descend(state.critic_optimizer, self.critic_loss, *inputs, max_norm=norm, clipped_axes=axes)
        _, clone, pull = descend(state.actor_optimizer, self.actor_loss, *inputs, max_norm=norm)
        if due:
            ema_(state.target_actor, state.actor, self.ema_rate)
        ema_(state.target_critic, state.critic, self.target_rate)
        return {"denoising": clone, "pull": pull, "critic": critic, "q": q}

    def critic_loss(
        self, state: "_State", batch: Transitions, rng: Streams
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, " S"]]:
        """(squared error of both critics, mean value)."""
        target = self.target(state, batch, rng)
        q = state.value(state.critic, batch.obs, batch.action[:, None])[:, :, 0]
        return (q - target[:, None]).square().mean(-1).sum(-1), q.mean((-1, -2))

    @torch.no_grad()
    def target(self, state: "_State", batch: Transitions, rng: Streams) -> Float[Tensor, "S B"]:
        """y = r + gamma (1 - d) min_i max_j Q_i'(s', a_j), a_j from the averaged policy. Source: paper, eq. 4."""
        action = state.target_actor.sample(batch.next_obs, self.backup_samples, rng)
        value = state.value(state.target_critic, batch.next_obs, action).amax(2).amin(1)
        return batch.reward + self.discount * value.where(~batch.terminated, torch.zeros_like(value))

    def actor_loss(
        self, state: "_State", batch: Transitions, rng: Streams
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, " S"], Float[Tensor, " S"]]:
        """(noise - predicted noise)^2 - eta Q_i(s, a) / mean |Q_j(s, a)|. Source: paper, eq. 2, 3 and appendix.

        The first term is of the behaviour rows. Then come the terms, without eta. A coin per seed says which critic
        is i; j is the other one.
        """
        step = rng.integers(self.steps, batch.obs.shape[1])
        noise = rng.normal(*batch.action.shape[1:])
        noised = state.actor.noised(batch.action, step, noise)
        predicted = state.actor(noised, step, batch.obs)
        clone = (predicted - noise)[:, batch.behaviour].square().mean((-1, -2))
        if self.q_term == "chain":
            action = state.actor.sample(batch.obs, 1, rng)
        else:
            action = state.actor.reconstructed(noised, step, predicted)[:, None]
        q = state.value(state.critic, batch.obs, action)[:, :, 0]  # [S, 2, B]
        i = rng.integers(2)[:, None, None].expand(-1, 1, q.shape[-1])
        q_i = q.gather(1, i)[:, 0]
        q_j = q.gather(1, 1 - i)[:, 0]
        pull = -q_i.mean(-1) / q_j.abs().mean(-1).detach()
        return clone + self.eta * pull, clone, pull


@dataclass(frozen=True)
class _Policy:
    """Acts by a sample of the diffusion model; greedily, by `select` among several.

    A diffusion model has no greedy action of its own. Where `rng` is None, its random numbers are a hash of the
    observation and the seed: the action is then a function of the observation, yet distributed as the rule says.
    """

    state: "_State"

    def sample(self, obs: Float[Tensor, "S B O"], count: int, rng: Streams) -> Float[Tensor, "S n B A"]:
        """Independent actions for every state: there is no density to ask for."""
        with torch.no_grad():
            return self.state.actor.sample(obs, count, rng)

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        if rng is not None:
            return self.sample(obs, 1, rng)[:, 0]
        config = self.state.config
        actor = self.state.actor
        (seeds, rows, width) = obs.shape
        count = 1 if config.select == "sample" else config.candidates
        latent = count * config.steps * actor.action_dim
        uniform = hashed_uniform(obs, self.state.hash_key, latent + count)
        noise = torch.special.ndtri(uniform[..., :latent]).to(obs.dtype)
        noise = noise.view(seeds, rows, count, config.steps, -1).permute(0, 3, 2, 1, 4).flatten(2, 3)  # S K nB A
        repeated = obs[:, None].expand(seeds, count, rows, width).flatten(1, 2)
        actions = actor.chain(repeated, noise).view(seeds, count, rows, -1)
        score = self.state.value(self.state.target_critic, obs, actions).amin(1)  # [S, n, B]
        if config.select == "q-softmax":  # the largest after Gumbel noise is a draw from the softmax
            gumbel = -(-uniform[..., latent:].log()).log()
            score = score + gumbel.mT
        chosen = score.argmax(1)[:, None, :, None].expand(-1, 1, -1, actions.shape[-1])
        return actions.gather(1, chosen)[:, 0]


def hashed_uniform(obs: Float[Tensor, "S B O"], key: Int[Tensor, "S O"], count: int) -> Float64[Tensor, "S B n"]:
    """Numbers in (0, 1) that are a function of the bits of each row and of the key.

    A linear hash of the row starts a counter; what it counts is mixed. Source: Steele et al. 2014, splitmix64.
    """
    bits = (obs + 0.0).float().view(torch.int32).long()  # + 0.0: the two zeros are one
    start = ((2 * key + 1)[:, None] * (bits + 1)).sum(-1)
    z = start[..., None] + torch.arange(1, count + 1, device=obs.device) * -0x61C8864680B583EB
    z = (z ^ _shifted(z, 30)) * -0x40A7B892E31B1A47
    z = (z ^ _shifted(z, 27)) * -0x6B2FB644ECCEEE15
    return (_shifted(z ^ _shifted(z, 31), 12).double() + 0.5) * 2.0**-52


def _shifted(z: Tensor, by: int) -> Tensor:
    """Logical shift to the right."""
    return (z >> by) & ((1 << (64 - by)) - 1)


@dataclass
class _State(TwinCriticMixin, StateDictMixin):
    changing = ("actor", "critic", "target_actor", "target_critic", "actor_optimizer", "critic_optimizer", "updates")

    config: DQL
    actor: DiffusionActor
    critic: MLP
    target_actor: DiffusionActor
    target_critic: MLP
    actor_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    normaliser: Standardize
    hash_key: Int[Tensor, "S O"]
    updates: int = 0

    @property
    def policy(self) -> _Policy:
        return _Policy(self)
