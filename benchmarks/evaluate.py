"""Judging a cell: the policy's return in the simulator, and what the generator's rollouts are worth there."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from benchmarks.spec import Settings
from core.data import Dataset, Trajectories
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Fitted
from metrics.compounding import over_starts, standardized_error
from metrics.score import episode_return, normalized_score
from tasks.base import Simulator, Task, rollout

__all__ = ["METRICS", "evaluate_policy", "evaluate_rollouts", "start_states"]

# What records.jsonl can hold. <actions>: policy (the learning policy's own) or logged; <h>: step of the rollout.
METRICS = {
    "return": "mean undiscounted return of the greedy policy over the evaluation's episodes",
    "normalized_score": "the return on D4RL's scale: 0 and 100 are its reference policies",
    "train/<loss>": "the algorithm's losses at the evaluation's update",
    "generate/<quantity>": "what a generator says of its call before this update: how far actions moved in each round, "
    "share of clipped entries, share kept by rank (tenths, best first), network evaluations and FLOP per transition",
    "diverged/<tensor>": "last record of a seed: at this update the tensor was seen not to be finite",
    "compounding/<actions>/median/<h>": "open loop: error of generated states against the simulator, same actions",
    "compounding/<actions>/mean/<h>": "the same, mean over rollouts",
    "compounding/<actions>/closed/<h>": "closed loop: distance to the policy's own roll-out in the simulator, median",
    "compounding/<actions>/alive/<h>": "share of generated rollouts that have not ended before step h",
    "compounding/<actions>/floor/<h>": "recorded actions replayed against recorded states, median",
    "compounding/<actions>/chaos/<h>": "simulator against simulator, started one float32 ulp away, median",
    "compounding/<actions>/still/<h>": "error of the predictor that nothing moves, median",
    "compounding/starts_excluded": "share of held-out states that do not determine the simulator's state",
    "cost/<name>": "seconds by activity, updates per second, generated rows, peak memory, network evaluations and FLOP",
}

Values = Iterator[tuple[str, Float[Tensor, " S"]]]


def start_states(
    data: Dataset, rows: int, rng: Streams, among: Int[Tensor, " N"] | None = None
) -> Float[Tensor, "S B O"]:
    """States of the training data, drawn uniformly for every seed: where synthetic rollouts begin.

    A generator that does not go everywhere says which training rows to draw from.
    """
    if among is None:
        return data.train.obs[(rng.uniform64(rows) * len(data.train.obs)).long()]
    return data.train.obs[among[(rng.uniform64(rows) * len(among)).long()]]


def evaluate_policy(task: Task, policy: Policy, episodes: int, rng: Streams) -> Values:
    """Mean return of the greedy policy; the same start states at every evaluation of a seed."""
    start = task.simulator.reset(episodes, rng.fork("reset"))
    episode = rollout(task.simulator, policy, start, task.horizon, rng, greedy=True)
    returns = episode_return(episode.reward, episode.valid).mean(-1)
    yield "return", returns
    if task.score_range:
        yield "normalized_score", normalized_score(returns, task.score_range)


def evaluate_rollouts(
    task: Task, data: Dataset, fitted: Fitted, policy: Policy, settings: Settings, rng: Streams
) -> Values:
    """Compounding error from held-out states, under the learning policy's actions and under logged ones.

    Open loop: generated states against the true simulator under the generated actions. Closed loop: against the same
    policy acting in the true simulator. Only starts whose simulator state is known exactly are used. Rollouts that
    do not keep the start they were given are judged from their own first state.
    """
    yield "compounding/starts_excluded", _excluded(data, rng)
    window = _windows(data, settings.fidelity_starts, settings.fidelity_horizon, rng.fork("starts"))
    if window is None:
        return
    real, recorded = window
    scale, simulator = data.obs_std, task.simulator

    def replay(start: Float64[Tensor, "S B X"], action: Float[Tensor, "S B L A"]) -> Float[Tensor, "S B L+1 O"]:
        return simulator.observe(simulator.replay(start, action.cpu())).to(rng.device, torch.float32)

    floor = standardized_error(replay(recorded, real.action), real.obs, scale)
    generated = {"policy": fitted.generate(policy, real.obs[:, :, 0], settings.fidelity_horizon, rng.fork("generate"))}
    if isinstance(fitted, ActionConditioned):
        imagined = fitted.imagine(real.obs[:, :, 0], real.action, rng.fork("imagine"))
        generated["logged"] = _masked(imagined, real.valid)
    for actions, made in generated.items():
        state, made = _from_own_start(simulator, recorded, real.obs[:, :, 0], made)
        truth = replay(state, made.action)
        nudged = torch.nextafter(state.float(), torch.full((), torch.inf)).double()  # one float32 ulp away
        median, mean, alive = over_starts(standardized_error(made.obs, truth, scale), made.valid)
        curves = {
            "median": median,
            "mean": mean,
            "alive": alive,
            "floor": over_starts(floor, real.valid)[0],
            "chaos": over_starts(standardized_error(replay(nudged, made.action), truth, scale), made.valid)[0],
            "still": over_starts(standardized_error(truth[:, :, :1].expand_as(truth), truth, scale), made.valid)[0],
        }
        if actions == "policy":
            lived = rollout(simulator, policy, state, settings.fidelity_horizon, rng.fork("closed"), greedy=False)
            error = standardized_error(made.obs, lived.obs, scale)
            curves["closed"] = over_starts(error, made.valid & lived.valid)[0]
        for quantity, curve in curves.items():
            for step, values in enumerate(curve.unbind(-1), 1):
                yield f"compounding/{actions}/{quantity}/{step}", values


def _excluded(data: Dataset, rng: Streams) -> Float[Tensor, " S"]:
    recorded = data.heldout.valid.cpu()
    return 1 - data.heldout_exact[recorded].double().mean().expand(len(rng.seeds))


def _windows(
    data: Dataset, rows: int, length: int, rng: Streams
) -> tuple[Trajectories, Float64[Tensor, "S B X"]] | None:
    """Held-out windows with the simulator's state at their start; of full length where the episodes allow it."""
    held, usable = data.heldout, data.heldout_exact.to(data.heldout.valid.device) & data.heldout.valid
    reach = _reach(held.valid)
    candidates = (usable & (reach >= length)).nonzero()
    if not len(candidates):
        candidates = usable.nonzero()
    if not len(candidates):
        return None
    episode, first = candidates[(rng.uniform64(rows) * len(candidates)).long()].unbind(-1)
    steps = first[..., None] + torch.arange(length + 1, device=first.device)
    inside, last = steps[..., :-1] < held.valid.shape[1], held.valid.shape[1]
    at = episode[..., None], steps[..., :-1].clamp(max=last - 1)
    window = Trajectories(
        held.action[at],
        held.obs[episode[..., None], steps.clamp(max=last)],
        held.reward[at],
        held.terminated[at],
        held.valid[at] & inside,
    )
    return window, data.heldout_state[episode.cpu(), first.cpu()]


def _from_own_start(
    simulator: Simulator, state: Float64[Tensor, "S B X"], asked: Float[Tensor, "S B O"], made: Trajectories
) -> tuple[Float64[Tensor, "S B X"], Trajectories]:
    """The states where the rollouts start; masked are those that start elsewhere than asked, where no state is sure."""
    moved = (made.obs[:, :, 0] != asked).any(-1)
    if not moved.any():
        return state, made
    own, exact = simulator.restore(made.obs[:, :, 0])
    usable = exact.to(moved.device) | ~moved
    return torch.where(moved.cpu()[..., None], own, state), _masked(made, usable[..., None].expand_as(made.valid))


def _reach(valid: Bool[Tensor, "B L"]) -> Tensor:
    """How many recorded steps follow, this one included."""
    return valid.flip(-1).cumsum(-1).flip(-1)


def _masked(made: Trajectories, valid: Bool[Tensor, "S B L"]) -> Trajectories:
    return Trajectories(made.action, made.obs, made.reward, made.terminated, made.valid & valid)
