"""Generated rollouts beside the simulator's from the same start states: what every metric of rollouts reads."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from core.data import Trajectories, Transitions
from core.policy import Policy
from core.random import Streams
from tasks.simulators.base import Simulator, replayed, simulate

__all__ = ["SimulatedCounterparts", "gather"]


@dataclass(frozen=True)
class SimulatedCounterparts:
    """Generated rollouts and their counterparts in the simulator, [S, B, L] each, all on the device of the run.

    Rollouts of which no generated step is valid count nowhere: no step of their on-policy counterparts is valid.
    """

    generated: Trajectories  # not valid where the first state determines no state of the simulator
    replayed: Trajectories  # the same starts and actions in the simulator, open loop, past any end; valid until the end
    one_step: Transitions  # one step of the simulator from every generated state, under the generated action
    one_step_valid: Bool[Tensor, "S B L"]  # of valid steps, those whose state determines one of the simulator
    on_policy: Trajectories | None  # the learning policy from the same starts, closed loop; None for logged actions
    again: Trajectories | None  # the same with other random numbers: how far a perfect generator would be from it
    state: Float64[Tensor, "S B X"]  # the simulator's at every start; on the CPU


def gather(
    simulator: Simulator,
    state: Float64[Tensor, "S B X"],
    start: Float[Tensor, "S B O"],
    generated: Trajectories,
    policy: Policy | None,
    rng: Streams,
) -> SimulatedCounterparts:
    """Run the simulator beside generated rollouts; `state` is its state at the `start` they were to begin from.

    Rollouts that begin elsewhere are compared from their own first state, if that determines a state of the simulator.
    """
    state, generated = _from_own_start(simulator, state, start, generated)
    own, exact = simulator.restore(generated.obs[:, :, :-1])
    after, reward, ended = simulator.step(own, generated.action.cpu(), None)
    one_step = Transitions(
        generated.obs[:, :, :-1],
        generated.action,
        reward.to(rng.device, torch.float32),
        simulator.observe(after).to(rng.device, torch.float32),
        ended.to(rng.device),
    )
    on_policy = again = None
    if policy is not None:
        counts = generated.valid[..., :1]
        on_policy, again = (
            simulate(simulator, policy, state, generated.action.shape[2], rng.fork(label), greedy=False)
            for label in ("closed", "again")
        )
        on_policy, again = (replace(x, valid=x.valid & counts) for x in (on_policy, again))
    truth = replayed(simulator, state, generated.action)
    valid = generated.valid & exact.to(rng.device)
    return SimulatedCounterparts(generated, truth, one_step, valid, on_policy, again, state)


def _from_own_start(
    simulator: Simulator, state: Float64[Tensor, "S B X"], start: Float[Tensor, "S B O"], generated: Trajectories
) -> tuple[Float64[Tensor, "S B X"], Trajectories]:
    moved = (generated.obs[:, :, 0] != start).any(-1)
    if not moved.any():
        return state, generated
    own, exact = simulator.restore(generated.obs[:, :, 0])
    usable = exact.to(moved.device) | ~moved
    masked = replace(generated, valid=generated.valid & usable[..., None])
    return torch.where(moved.cpu()[..., None], own, state), masked
