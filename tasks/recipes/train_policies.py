"""Trains the behaviour policies of the local locomotion sets by augmented random search, and publishes them.

    python -m tasks.recipes.train_policies all --out results/policies

A run that was killed resumes where it was saved, with the numbers it would have had. Threads: as many as torch has.
"""

import json
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np
import torch
import tyro
from jaxtyping import Float64
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.errors import SpecError
from core.files import atomic, canonical_json, write_json, write_text
from core.progress import progress, say
from core.random import Streams
from tasks.recipes.ars import ARS, EPISODES, HORIZON, State, begin, evaluate, iterate
from tasks.simulators.base import Simulator
from tasks.simulators.locomotion import simulator

__all__ = ["METHODS", "load", "main", "publish", "train"]

SHIPPED = 10  # checkpoints in a published file
_SAVE_INTERVAL = 20.0  # seconds between saves of the state

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


def publish(name: str, ars: ARS, world: Simulator, state: State, folder: Path) -> None:
    """Write `<name>.safetensors` and its card; the returns on it are of other episodes than the choice was made by."""
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
        "checkpoints": _entries(steps, returns, lengths),
        "training_curve": _entries(state.kept_steps, state.kept_returns, state.kept_lengths),
    }
    write_json(folder / f"{name}.json", card)


def spread(returns: Float64[Tensor, " K"], count: int) -> list[int]:
    """The first, the best, and between them the checkpoints whose returns lie farthest from those already chosen."""
    best = int(returns.argmax())
    chosen = sorted({0, best})
    while len(chosen) < min(count, best + 1):
        distance = (returns[: best + 1, None] - returns[chosen]).abs().amin(-1)
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return sorted(chosen)


def main(
    which: tyro.conf.Positional[Literal["hopper", "halfcheetah", "walker2d", "all"]],
    out: Path,
    steps: int | None = None,
) -> None:
    """Train, or resume training, until `steps` environment steps, and publish ten checkpoints in `out`.

    Without `steps`, as long as the shipped policies were trained: together about 35 minutes of one core.
    """
    for name in METHODS if which == "all" else [which]:
        ars = METHODS[name]
        world = simulator(ars.env_id)
        state = train(ars, world, STEPS[name] if steps is None else steps, out / name)
        publish(name, ars, world, state, out)


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


def _save(path: Path, ars: ARS, state: State) -> None:
    tensors = {field.name: getattr(state, field.name).contiguous() for field in fields(state)}
    with atomic(path) as part:
        save_file(tensors, part, metadata={"ars": canonical_json(asdict(ars))})


def _cut(log: Path, iteration: int) -> None:
    """Drop the lines of iterations after the saved state: they will be repeated."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        write_text(log, "".join(line for line in whole if json.loads(line)["iteration"] <= iteration))
    else:
        write_text(log, "")


def _entries(steps: Tensor, returns: Tensor, lengths: Tensor) -> list[dict[str, Any]]:
    return [
        {"steps": int(step), "return": _summary(episodes), "length": _summary(duration)}
        for step, episodes, duration in zip(steps, returns, lengths.double(), strict=True)
    ]


def _summary(values: Float64[Tensor, " E"]) -> dict[str, Any]:
    return {"mean": round(values.mean().item(), 3), "std": round(values.std().item(), 3)}


if __name__ == "__main__":
    tyro.cli(main)
