"""Augmented random search for linear policies, on the batched simulators: one update, and the state between updates.

Source: Mania, Guy and Recht 2018 (arXiv:1803.07055), Algorithm 1, version V2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from core.random import Streams
from tasks.recipes.policies import LinearPolicy
from tasks.simulators.base import Simulator, simulate

__all__ = ["ARS", "EPISODES", "HORIZON", "State", "begin", "evaluate", "improve", "iterate"]

HORIZON = 1000  # steps of an evaluation episode
EPISODES = 20  # of every evaluation


@dataclass(frozen=True)
class ARS:
    """Augmented random search V2 for one environment: linear policy, running normaliser, the best directions only."""

    env_id: str
    directions: int  # N
    kept: int  # b
    step: float  # alpha
    noise: float  # nu
    alive_bonus: float = 0.0  # subtracted from every reward in training, or standing still would be a local optimum
    grid: int = 10_000  # checkpoint k is due after grid * k^2 steps: often at first, when the returns rise fast
    ramp: int = 0  # training steps during which training episodes grow from a fifth of HORIZON to all of it
    seed: int = 0

    def streams(self) -> Streams:
        """The root of all random numbers of a run."""
        return Streams((self.seed,), f"ars/{self.env_id}")

    def length(self, steps: int) -> int:
        """Limit of a training episode after so many training steps."""
        return HORIZON if steps >= self.ramp else max(HORIZON // 5, HORIZON * steps // self.ramp)


@dataclass(frozen=True)
class State:
    """All that a run needs to resume. `count`, `mean` and `scatter` (sum of squared deviations) are of all states seen.

    K checkpoints; their last axis E counts evaluation episodes.
    """

    weight: Float64[Tensor, "A O"]
    count: Int64[Tensor, ""]
    mean: Float64[Tensor, " O"]
    scatter: Float64[Tensor, " O"]
    iteration: Int64[Tensor, ""]
    steps: Int64[Tensor, ""]  # of training; evaluation is not counted
    seconds: Float64[Tensor, ""]  # of processor time, evaluation included
    kept_weight: Float[Tensor, "K A O"]
    kept_mean: Float[Tensor, "K O"]
    kept_std: Float[Tensor, "K O"]
    kept_steps: Int64[Tensor, " K"]
    kept_returns: Float64[Tensor, "K E"]
    kept_lengths: Int64[Tensor, "K E"]

    @property
    def std(self) -> Float64[Tensor, " O"]:
        """Of the states seen; 1 before any was, or where none differed."""
        return torch.where(self.scatter > 0, (self.scatter / self.count.clamp(min=1)).sqrt(), 1.0)

    def policy(self) -> LinearPolicy:
        """The present policy as it would be shipped: float32, a batch of one."""
        return LinearPolicy(self.weight.float()[None], self.mean.float()[None], self.std.float()[None])

    def kept(self, which: Sequence[int]) -> LinearPolicy:
        """Some of the checkpoints."""
        return LinearPolicy(self.kept_weight, self.kept_mean, self.kept_std).pick(which)


def begin(world: Simulator) -> State:
    """The policy W = 0, before any step."""
    a = world.action_dim
    o = world.obs_dim
    none = torch.zeros((), dtype=torch.int64)
    zero = torch.zeros(a, o, dtype=torch.float64)
    kept = torch.zeros(0, a, o), torch.zeros(0, o), torch.zeros(0, o), torch.zeros(0, dtype=torch.int64)
    results = torch.zeros(0, EPISODES, dtype=torch.float64), torch.zeros(0, EPISODES, dtype=torch.int64)
    return State(zero, none, zero[0], zero[0], none, none, torch.zeros((), dtype=torch.float64), *kept, *results)


def improve(
    weight: Float64[Tensor, "A O"],
    delta: Float64[Tensor, "N A O"],
    plus: Float64[Tensor, " N"],
    minus: Float64[Tensor, " N"],
    kept: int,
    step: float,
) -> Float64[Tensor, "A O"]:
    """W + alpha / (b sigma_R) * sum over the b best directions of (r+ - r-) delta; sigma_R is of the 2b returns used.

    Source: arXiv:1803.07055, Algorithm 1, lines 6 and 7. A direction is as good as the better of its two returns.
    """
    best = torch.maximum(plus, minus).topk(kept).indices
    sigma = torch.cat([plus[best], minus[best]]).std(correction=0).clamp(min=1e-8)
    return weight + step / (kept * sigma) * torch.einsum("n,nao->ao", plus[best] - minus[best], delta[best])


def iterate(ars: ARS, world: Simulator, state: State) -> tuple[State, dict[str, int | float]]:
    """One update, and its line of the log. Unlike the paper's, W + noise and W - noise start from the same state."""
    rng = ars.streams().fork(f"iteration/{int(state.iteration)}")
    delta = rng.fork("delta").normal(ars.directions, *state.weight.shape)[0].double()
    candidates = torch.cat([state.weight + ars.noise * delta, state.weight - ars.noise * delta])
    start = world.reset(ars.directions, rng.fork("reset")).repeat(1, 2, 1)
    length = ars.length(int(state.steps))
    returns, first, second, count = _attempt(ars, world, candidates, state, start, length, rng.fork("dynamics"))
    plus = returns[: ars.directions]
    minus = returns[ars.directions :]
    weight = improve(state.weight, delta, plus, minus, ars.kept, ars.step)
    total = state.count + count
    after = replace(
        state,
        weight=weight,
        count=total,
        mean=state.mean + first / total,
        scatter=state.scatter + second - first.square() / total,
        iteration=state.iteration + 1,
        steps=state.steps + count,
    )
    figures = {
        "iteration": int(after.iteration),
        "steps": int(after.steps),
        "limit": length,
        "mean_length": count / len(candidates),
        "mean_return": returns.mean().item(),
        "best_return": returns.max().item(),
        "weight_norm": weight.norm().item(),
    }
    return after, figures


def _attempt(
    ars: ARS,
    world: Simulator,
    weight: Float64[Tensor, "M A O"],
    state: State,
    start: Float64[Tensor, "1 M X"],
    length: int,
    rng: Streams,
) -> tuple[Float64[Tensor, " M"], Float64[Tensor, " O"], Float64[Tensor, " O"], int]:
    """One episode for each of M policies: returns less the alive bonus; sum and sum of squares of s - mean; steps.

    Policies whose episode has ended are no longer stepped. A step that MuJoCo cannot make has reward 0 and ends the
    episode.
    """
    returns = torch.zeros(len(weight), dtype=torch.float64)
    alive = torch.arange(len(weight))
    count = 0
    first = torch.zeros_like(state.mean)
    second = torch.zeros_like(state.mean)
    gain = weight / state.std
    current = start
    for _ in range(length):
        offset = world.observe(current)[0] - state.mean
        first += offset.sum(0)
        second += offset.square().sum(0)
        count += len(offset)
        action = (gain @ offset.unsqueeze(-1)).squeeze(-1)
        current, reward, ended = world.step(current, action.unsqueeze(0), rng)
        returns[alive] += (reward[0] - ars.alive_bonus).nan_to_num(0.0)
        if ended.any():
            going = ~ended[0]
            current = current[:, going]
            gain = gain[going]
            alive = alive[going]
            if not len(alive):
                break
    return returns, first, second, count


def evaluate(
    world: Simulator, policy: LinearPolicy, rng: Streams
) -> tuple[Float64[Tensor, "P E"], Int64[Tensor, "P E"]]:
    """Raw returns and lengths of greedy episodes of HORIZON steps, EPISODES fresh starts for each of P policies."""
    path = simulate(world, policy, world.reset(EPISODES, rng.fork("reset")), HORIZON, rng, greedy=True)
    return path.reward.double().sum(-1), path.valid.sum(-1)
