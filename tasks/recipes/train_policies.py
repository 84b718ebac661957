"""Trains the behaviour policies of the local locomotion sets by augmented random search, on the batched simulators.

    python -m tasks.recipes.train_policies all --out results/policies

A run that was killed goes on where it was saved, with the numbers it would have had. Threads: as many as torch has.
Source: Mania, Guy and Recht 2018 (arXiv:1803.07055), Algorithm 1, version V2.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np
import torch
import tyro
from jaxtyping import Float, Float64, Int64
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.errors import SpecError
from core.files import atomic, canonical_json, write_json, write_text
from core.progress import progress, say
from core.random import Streams
from tasks.recipes.policies import LinearPolicy
from tasks.simulators.base import Simulator, simulate
from tasks.simulators.locomotion import simulator

__all__ = ["ARS", "METHODS", "State", "begin", "evaluate", "improve", "iterate", "load", "main", "publish", "train"]

HORIZON = 1000  # steps of an evaluation episode
EPISODES = 20  # of every evaluation
SHIPPED = 10  # checkpoints in a published file
_SAVE_INTERVAL = 20.0  # seconds between saves of the state


@dataclass(frozen=True)
class ARS:
    """Augmented random search V2 for one environment: linear policy, running normaliser, the best directions only."""

    env_id: str
    directions: int  # N
    kept: int  # b
    step: float  # alpha
    noise: float  # nu
    alive_bonus: float = 0.0  # subtracted from every reward in training: else standing still is good enough
    grid: int = 10_000  # checkpoint k is due after grid * k^2 steps: often at first, when the returns rise fast
    ramp: int = 0  # training steps during which training episodes grow from a fifth of HORIZON to all of it
    seed: int = 0

    def simulator(self) -> Simulator:
        """The environment."""
        return simulator(self.env_id)

    def streams(self) -> Streams:
        """The root of all random numbers of a run."""
        return Streams((self.seed,), f"ars/{self.env_id}")

    def length(self, steps: int) -> int:
        """Limit of a training episode after so many training steps."""
        return HORIZON if steps >= self.ramp else max(HORIZON // 5, HORIZON * steps // self.ramp)


# Also tried, one run each: hopper with step 0.01 (seed 0: 2400 after 8.5e5 steps and no more by 1.8e6; seed 1: 340
# after 3.2e5), halfcheetah without ramp (3350 after 4.0e6) and with a ramp of 1e7 (flips over as soon as an episode
# is longer than in training).
METHODS = {
    "hopper": ARS("Hopper-v4", directions=8, kept=4, step=0.02, noise=0.025, alive_bonus=1.0, grid=5_000),
    "halfcheetah": ARS("HalfCheetah-v4", directions=32, kept=4, step=0.02, noise=0.03, grid=20_000, ramp=2_000_000),
    "walker2d": ARS(
        "Walker2d-v4", directions=32, kept=16, step=0.03, noise=0.025, alive_bonus=1.0, grid=25_000, ramp=4_000_000
    ),
}
STEPS = {"hopper": 1_130_000, "halfcheetah": 11_900_000, "walker2d": 4_500_000}  # behind the shipped policies


@dataclass(frozen=True)
class State:
    """All that a run needs to go on. `count`, `mean` and `scatter` (sum of squared deviations) are of all states seen.

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
    """The policy that does nothing, which has seen nothing."""
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
    """One update, and what the log says of it. Where we differ from the paper: W + noise and W - noise start alike."""
    rng = ars.streams().fork(f"iteration/{int(state.iteration)}")
    delta = rng.fork("delta").normal(ars.directions, *state.weight.shape)[0].double()
    tried = torch.cat([state.weight + ars.noise * delta, state.weight - ars.noise * delta])
    start = world.reset(ars.directions, rng.fork("reset")).repeat(1, 2, 1)
    length = ars.length(int(state.steps))
    returns, first, second, count = _attempt(ars, world, tried, state, start, length, rng.fork("dynamics"))
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
        "mean_length": count / len(tried),
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

    Who has fallen leaves the batch. A step on which MuJoCo gave up pays nothing and ends the episode.
    """
    returns = torch.zeros(len(weight), dtype=torch.float64)
    alive = torch.arange(len(weight))
    count = 0
    first = torch.zeros_like(state.mean)
    second = torch.zeros_like(state.mean)
    gain = weight / state.std
    here = start
    for _ in range(length):
        offset = world.observe(here)[0] - state.mean
        first += offset.sum(0)
        second += offset.square().sum(0)
        count += len(offset)
        action = (gain @ offset.unsqueeze(-1)).squeeze(-1)
        here, reward, ended = world.step(here, action.unsqueeze(0), rng)
        returns[alive] += (reward[0] - ars.alive_bonus).nan_to_num(0.0)
        if ended.any():
            going = ~ended[0]
            here = here[:, going]
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


def _checkpoint(ars: ARS, world: Simulator, state: State) -> State:
    policy = state.policy()
    returns, lengths = evaluate(world, policy, ars.streams().fork(f"evaluate/{int(state.steps)}"))
    say(f"{ars.env_id}: {int(state.steps)} steps, return {returns.mean():.0f} +- {returns.std():.0f}")
    return replace(
        state,
        kept_weight=torch.cat([state.kept_weight, policy.weight]),
        kept_mean=torch.cat([state.kept_mean, policy.mean]),
        kept_std=torch.cat([state.kept_std, policy.std]),
        kept_steps=torch.cat([state.kept_steps, state.steps[None]]),
        kept_returns=torch.cat([state.kept_returns, returns]),
        kept_lengths=torch.cat([state.kept_lengths, lengths]),
    )


def train(ars: ARS, world: Simulator, steps: int, folder: Path) -> State:
    """Until `steps` training steps are done, from the state in `folder` if there is one.

    Raises:
        SpecError: the state there belongs to other hyper-parameters.
    """
    path = folder / "state.safetensors"
    log = folder / "log.jsonl"
    state = load(path, ars) if path.exists() else begin(world)
    _cut(log, int(state.iteration))
    saved = time.monotonic()
    clock = time.process_time()
    with progress(ars.env_id, steps) as advance, log.open("a", encoding="utf-8") as file:
        advance(int(state.steps))
        while int(state.steps) < steps:
            if due := int(state.steps) >= ars.grid * len(state.kept_steps) ** 2:
                state = _checkpoint(ars, world, state)
            before = state.steps
            state, figures = iterate(ars, world, state)
            clock, spent = time.process_time(), time.process_time() - clock
            state = replace(state, seconds=state.seconds + spent)
            print(canonical_json(figures), file=file, flush=True)
            advance(int(state.steps - before))
            if due or time.monotonic() - saved > _SAVE_INTERVAL:
                _save(path, ars, state)
                saved = time.monotonic()
    _save(path, ars, state)
    return state


def _save(path: Path, ars: ARS, state: State) -> None:
    tensors = {field.name: getattr(state, field.name).contiguous() for field in fields(state)}
    with atomic(path) as part:
        save_file(tensors, part, metadata={"ars": canonical_json(asdict(ars))})


def load(path: Path, ars: ARS) -> State:
    """The state that was saved last.

    Raises:
        SpecError: it belongs to other hyper-parameters.
    """
    with safe_open(path, "pt") as file:
        theirs = file.metadata()["ars"]
        mine = canonical_json(asdict(ars))
        if theirs != mine:
            raise SpecError(f"{path} must have been written by the same hyper-parameters {mine}, got {theirs}")
        return State(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _cut(log: Path, iteration: int) -> None:
    """Drop the lines of iterations that the saved state does not know of: they will be done again."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        write_text(log, "".join(line for line in whole if json.loads(line)["iteration"] <= iteration))
    else:
        write_text(log, "")


def spread(returns: Float64[Tensor, " K"], count: int) -> list[int]:
    """The first, the best, and between them the checkpoints whose returns lie farthest from those already chosen."""
    best = int(returns.argmax())
    chosen = sorted({0, best})
    while len(chosen) < min(count, best + 1):
        distance = (returns[: best + 1, None] - returns[chosen]).abs().amin(-1)
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return sorted(chosen)


def publish(name: str, ars: ARS, world: Simulator, state: State, folder: Path) -> None:
    """Write `<name>.safetensors` and its card. The returns on it are of new episodes: the choice was made by others."""
    which = spread(state.kept_returns.mean(-1), SHIPPED)
    policy = state.kept(which)
    steps = state.kept_steps[which]
    rng = Streams(range(len(which)), f"ars/{ars.env_id}/publish")
    returns, lengths = evaluate(world, policy, rng)
    with atomic(folder / f"{name}.safetensors") as part:
        save_file({"W": policy.weight, "mean": policy.mean, "std": policy.std, "steps": steps}, part)
    card = {
        "name": name,
        "method": "augmented random search V2 (arXiv:1803.07055), linear policy a = clip(W (s - mean) / std, -1, 1)",
        "hyper_parameters": asdict(ars),
        "horizon": HORIZON,
        "evaluation_episodes": EPISODES,
        "physics": world.physics,
        "versions": {"mujoco": mujoco.__version__, "numpy": np.__version__, "torch": str(torch.__version__)},
        "trained_steps": int(state.steps),
        "iterations": int(state.iteration),
        "processor_hours": round(state.seconds.item() / 3600, 3),
        "checkpoints": [
            {"steps": int(step), "return": _summary(pay), "length": _summary(long)}
            for step, pay, long in zip(steps, returns, lengths.double(), strict=True)
        ],
        "training_curve": [
            {"steps": int(step), "return": _summary(pay), "length": _summary(long)}
            for step, pay, long in zip(state.kept_steps, state.kept_returns, state.kept_lengths.double(), strict=True)
        ],
    }
    write_json(folder / f"{name}.json", card)


def _summary(values: Float64[Tensor, " E"]) -> dict[str, Any]:
    return {"mean": round(values.mean().item(), 3), "std": round(values.std().item(), 3)}


def main(
    which: tyro.conf.Positional[Literal["hopper", "halfcheetah", "walker2d", "all"]],
    out: Path,
    steps: int | None = None,
) -> None:
    """Train (or go on training) until `steps` environment steps, and publish ten checkpoints in `out`.

    Without `steps`, as long as the shipped policies were trained: together about 35 minutes of one core.
    """
    for name in METHODS if which == "all" else [which]:
        ars = METHODS[name]
        state = train(ars, ars.simulator(), STEPS[name] if steps is None else steps, out / name)
        publish(name, ars, ars.simulator(), state, out)


if __name__ == "__main__":
    tyro.cli(main)
