"""What every simulator offers, and how a policy is run in one."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from core.data import Trajectories
from core.policy import Policy
from core.progress import sign_of_life
from core.random import Streams

__all__ = ["Simulator", "replayed", "simulate"]


@runtime_checkable
class Simulator(Protocol):
    """The true dynamics: eleven members, batched over any leading axes `*N`.

    A simulator keeps nothing between calls: the state X, float64 on the CPU, holds all that a step depends on, so any
    state can be stepped at any time. O and A are the widths of an observation and of an action, S counts seeds, B
    episodes of a seed, L steps. Actions are clipped to [-1, 1]. `tasks.sources.toy` has the shortest one; `isinstance`
    checks that the members are there.
    """

    @property
    def obs_dim(self) -> int:
        """Numbers in an observation."""

    @property
    def action_dim(self) -> int:
        """Numbers in an action."""

    @property
    def physics(self) -> str:
        """Environment and version, recorded with every result to be comparable: "Hopper-v4, mujoco 3.4.0"."""

    @property
    def has_termination_rule(self) -> bool:
        """Whether `terminated` can be asked; where not, ends of episodes are learned from the flags of the data."""

    def reset(self, rows: int, rng: Streams) -> Float64[Tensor, "S B X"]:
        """Start states of new episodes, `rows` for every seed, each drawn from its seed's own stream."""

    def observe(self, state: Float64[Tensor, "*N X"]) -> Float64[Tensor, "*N O"]:
        """The observation of a state."""

    def restore(self, obs: Float[Tensor, "*N O"]) -> tuple[Float64[Tensor, "*N X"], Bool[Tensor, "*N"]]:
        """A state with this observation, and whether it is the only one (False: clipping hides part of the state)."""

    def step(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], rng: Streams | None
    ) -> tuple[Float64[Tensor, "*N X"], Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """(next state, reward, terminated) of one step. `rng` None: without process noise, so it can be repeated."""

    def outcome(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], after: Float64[Tensor, "*N X"]
    ) -> tuple[Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """(reward, terminated) of a step from `state` to `after`, which need not be what `step` would return."""

    def replay(self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N L A"]) -> Float64[Tensor, "*N L+1 X"]:
        """Open loop: `state` and the states after each of L actions, past any termination; no process noise."""

    def terminated(
        self, obs: Float[Tensor, "*N O"], action: Float[Tensor, "*N A"], next_obs: Float[Tensor, "*N O"]
    ) -> Bool[Tensor, "*N"]:
        """The environment's own termination rule on observations, any device: generators may use it on model states.

        Raises:
            DataError: not `has_termination_rule`.
        """


def simulate(
    simulator: Simulator, policy: Policy, start: Float64[Tensor, "S B X"], length: int, rng: Streams, *, greedy: bool
) -> Trajectories:
    """A rollout of the policy in the simulator: `length` steps, all seeds and episodes in parallel.

    Steps after an episode's end repeat its last state and are not `valid`. Policies get float32 on their own device.
    """
    act_rng = None if greedy else rng.fork("policy")
    noise = rng.fork("dynamics")
    state = start
    alive = torch.ones(start.shape[:-1], dtype=torch.bool)
    obs = [simulator.observe(state).float()]
    action = list[Tensor]()
    reward = list[Tensor]()
    ended = list[Tensor]()
    valid = list[Tensor]()
    for _ in range(length):
        sign_of_life()
        if alive.any() or not action:
            action.append(policy.act(obs[-1].to(rng.device), act_rng).clamp(-1, 1).cpu())
            state, step_reward, end = _step_alive(simulator, state, action[-1], alive, noise)
            alive_after = alive & ~end
        reward.append(step_reward.float().where(alive, torch.zeros(())))
        ended.append(end & alive)
        valid.append(alive)
        obs.append(simulator.observe(state).float())
        alive = alive_after
    action += action[-1:] * (length - len(action))
    steps = Trajectories(*(torch.stack(x, 2) for x in (action, obs, reward, ended, valid)))
    return steps.map(lambda x: x.to(rng.device))


def replayed(simulator: Simulator, state: Float64[Tensor, "S B X"], action: Float[Tensor, "S B L A"]) -> Trajectories:
    """The simulator under given actions. It is stepped past an end; the steps behind the first are not valid."""
    states = simulator.replay(state, action.cpu())
    reward, ended = simulator.outcome(states[:, :, :-1], action.cpu(), states[:, :, 1:])
    before = ended.long().cumsum(-1) - ended.long() == 0
    obs = simulator.observe(states).float()
    return Trajectories(action.cpu(), obs, reward.float(), ended, before).map(lambda x: x.to(action.device))


def _step_alive(
    simulator: Simulator, state: Tensor, action: Tensor, alive: Tensor, noise: Streams
) -> tuple[Tensor, Tensor, Tensor]:
    if alive.all():
        return simulator.step(state, action, noise)
    after = state.clone()
    reward = torch.zeros(alive.shape, dtype=torch.float64)
    ended = torch.zeros_like(alive)
    after[alive], reward[alive], ended[alive] = simulator.step(state[alive], action[alive], _OfAlive(noise, alive))
    return after, reward, ended


class _OfAlive(Streams):
    """Draws for all rows of every seed and gives the numbers of those that are alive: no seed depends on others."""

    def __init__(self, source: Streams, alive: Bool[Tensor, "S B"]) -> None:
        super().__init__(source.seeds, source.label, source.device)
        self._source = source
        self._alive = alive.to(source.device)

    def _draw(self, shape: tuple[int, ...], *how: Any) -> Tensor:
        return self._source._draw((self._alive.shape[1], *shape), *how)[self._alive]
