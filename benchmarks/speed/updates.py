"""Updates: TD3+BC beside CORL's and unifloral's, and every method plain and compiled.

Beside peers, one seed-update is a critic step on a batch of 256, drawn from a million rows of Hopper's shape, with the
actor's and the targets' step after every second one; networks of 2 x 256. unifloral scans over steps of two critic
updates and one actor update on one batch: they count as two. All draw their own batches, inside the time. Checked:
equally many parameters.

torch.compile pays from (seconds of compiling) / (seconds saved per update) on; `benchmarks/execution/updates.py` keeps
when it is done. Measured with the default settings, one seed on one thread as a cell has it, without any cache.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from algorithms.td3bc import TD3BC
from benchmarks.peers import Peers, load
from benchmarks.speed.harness import (
    ACTION,
    OBS,
    Figure,
    Options,
    Turn,
    also_compiled,
    hopper_sized,
    ratio_figures,
    take_turns,
    threads,
    training,
)
from benchmarks.speed.peers import Worker
from core import registry
from core.data import Dataset
from core.random import Streams
from core.registry import build_method
from models.cache import FitContext
from models.compiled import compiling
from models.diffusion.returns import ReturnDiffusionConfig, WorldDiffusionConfig
from models.diffusion.trajectory import TrajectoryDiffusionConfig
from models.diffusion.transition import TransitionDiffusionConfig
from models.dynamics import DynamicsConfig

__all__ = ["figures", "measure"]

SEEDS = 8
_ASKED = {
    f"TD3+BC, {SEEDS} seeds, beside CORL": 2.2,
    f"TD3+BC, {SEEDS} seeds, beside unifloral, 1 seed": 1,
}
_WORDS = {
    "TrajectoryDiffusionConfig": "the diffusion model of trajectories",
    "TransitionDiffusionConfig": "the diffusion model of transitions",
    "ReturnDiffusionConfig": "the diffusion model of windows with returns",
    "WorldDiffusionConfig": "the diffusion model of states and rewards",
    "DynamicsConfig": "the dynamics ensemble",
    "td3bc": "TD3+BC",
    "dql": "Diffusion-QL",
}
_CPU = torch.device("cpu")


def measure(options: Options) -> dict[str, Any]:
    """Rates beside peers, and milliseconds of every method's update."""
    beside = compare(options, rows=2_000, updates=4) if options.quick else compare(options, rows=1_000_000, updates=40)
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # methods in one process share a kernel now and then
    with threads(1):
        data = hopper_sized(2_000 if options.quick else 100_000)
        compiled = [paid_back(*item, 0.1 if options.quick else 1.5) for item in _methods(data, options.quick)]
    return beside | {"compiling": compiled}


def figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Lines of the table of figures."""
    yield from ratio_figures(
        found, lambda part, own, peer: f"TD3+BC, {own.removeprefix('ours, ')}, beside {peer}", _ASKED.get
    )
    for row in found["compiling"]:
        pays = "never pays" if row["pays_from"] is None else f"paid back after {row['pays_from']:,.0f} updates"
        compiled = f"{row['compiled_ms']:.1f} ms ({row['ratio']:.2f}x); {row['compiling_s']:.0f} s to compile, {pays}"
        name = _WORDS.get(row["name"], row["name"].upper())
        yield Figure(f"Update of {name}, 1 seed, 1 thread", "", f"{row['plain_ms']:.1f} ms", compiled)


def compare(options: Options, *, rows: int, updates: int) -> dict[str, Any]:
    """Rates of all who are there, in turns of `updates` seed-updates, of many seeds of twice as many.

    Raises:
        RuntimeError: somebody's networks have another size, so the ratio would mean nothing.
    """
    data = hopper_sized(rows)
    known = Peers(options.peers)
    of_each = max(2 * updates // SEEDS, 4)
    one, all_ = "unifloral, 1 seed", f"unifloral, {SEEDS} seeds"
    turns: dict[str, Turn | None] = {}
    parameters: dict[str, int] = {}
    with ExitStack() as stack:
        stubs = ("d4rl", "gym", "pyrallis", "wandb")
        module = known.get("CORL", lambda root: load(root / "algorithms/offline/td3_bc.py", stubs))
        if module is not None:
            turns["CORL"], parameters["CORL"] = _corl(module, data, updates)

        def start(root: Path) -> Worker:
            return stack.enter_context(Worker(options.jax, root / "algorithms/td3_bc.py", rows, OBS, ACTION))

        worker = known.get("unifloral", start, (one, all_))
        if worker is not None:
            parameters["unifloral"] = worker.about["parameters"]
            turns[one] = Turn(partial(worker.run, 1, updates // 2), updates)
            turns[all_] = Turn(partial(worker.run, SEEDS, of_each // 2), SEEDS * of_each)
        own = {}
        for name, seeds, each in (("ours, 1 seed", 1, updates), (f"ours, {SEEDS} seeds", SEEDS, of_each)):
            step, state, *_ = training(TD3BC(), data, seeds, _CPU)
            own[name] = Turn(partial(step, each), seeds * each)
            parameters["ours"] = (_parameters(state.actor) + _parameters(state.critic)) // seeds
        turns |= own if options.quick else also_compiled(own)
        if len(set(parameters.values())) > 1:
            raise RuntimeError(f"all must have equally many parameters, got {parameters}")
        measured = take_turns("seed-updates/s", turns, ["CORL", one, all_], 1 if options.quick else 15)
        jax = worker and worker.about
    return {"rows": rows, "jax": jax, **known.record(), "measured": {"updates": measured}}


def paid_back(name: str, update: Callable[[int], None], seconds: float) -> dict[str, Any]:
    """Milliseconds of an update, plain and compiled, seconds of compiling, and the update from which it pays."""
    update(2)
    plain = _per_update(update, seconds)
    with compiling():
        started = time.perf_counter()
        update(2)
        took = time.perf_counter() - started
        compiled = _per_update(update, seconds)
    cost = max(took - 2 * compiled, 0.0)
    return {
        "name": name,
        "plain_ms": 1e3 * plain,
        "compiled_ms": 1e3 * compiled,
        "ratio": plain / compiled,
        "compiling_s": cost,
        "pays_from": cost / (plain - compiled) if plain > compiled else None,
    }


def _corl(module: ModuleType, data: Dataset, updates: int) -> tuple[Turn, int]:
    """(updates as its training loop makes them, parameters)."""
    config = TD3BC()
    rows = data.train
    nets = [module.Actor(OBS, ACTION, 1.0), *(module.Critic(OBS, ACTION) for _ in range(2))]
    optimizers = [torch.optim.Adam(net.parameters(), lr=config.learning_rate) for net in nets]
    trainer = module.TD3_BC(1.0, *(part for pair in zip(nets, optimizers, strict=True) for part in pair))
    buffer = module.ReplayBuffer(OBS, ACTION, len(rows.obs))
    names = {"observations": rows.obs, "actions": rows.action, "next_observations": rows.next_obs}
    names |= {"rewards": rows.reward, "terminals": rows.terminated.float()}
    buffer.load_d4rl_dataset({name: values.numpy() for name, values in names.items()})

    def call() -> None:
        for _ in range(updates):
            trainer.train(buffer.sample(config.batch_size))

    return Turn(call, updates), sum(_parameters(net) for net in nets)


def _methods(data: Dataset, quick: bool) -> Iterator[tuple[str, Callable[[int], None]]]:
    """(name, function that makes so many updates) of every algorithm and larger model, by the names `pays` knows."""
    if quick:
        return
    for name in registry.available("algorithms"):
        yield name, training(build_method("algorithms", name, {}), data, 1, _CPU)[0]
    models: tuple[tuple[Any, str], ...] = (
        (TrajectoryDiffusionConfig(), "updates"),
        (TransitionDiffusionConfig(), "updates"),
        (ReturnDiffusionConfig(), "updates"),
        (WorldDiffusionConfig(), "updates"),
        (DynamicsConfig(check_every=10**9), "max_updates"),
    )
    for config, field in models:

        def fit(count: int, config: Any = config, field: str = field) -> None:
            rng = Streams((0,))
            replace(config, **{field: count}).fit(config.init(OBS, ACTION, rng), data, FitContext(rng))

        yield type(config).__name__, fit


def _per_update(update: Callable[[int], None], seconds: float) -> float:
    """Seconds of one, from two lengths, so that what is done once does not count."""
    started = time.perf_counter()
    update(4)
    count = max(int(seconds / max((time.perf_counter() - started) / 4, 1e-6)), 4)
    times = []
    for repeats in (count, 2 * count):
        started = time.perf_counter()
        update(repeats)
        times.append(time.perf_counter() - started)
    return max(times[1] - times[0], 1e-9) / count


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())
