"""TD3+BC, seed-updates per second: ours beside CORL's and unifloral's: python -m benchmarks.speed.updates --peers DIR.

One seed-update is a critic step on a batch of 256, drawn from a million rows of Hopper's shape, with the actor's and
the targets' step after every second one; networks of 2 x 256. unifloral scans over steps of two critic updates and one
actor update on one batch: they count as two. All draw their own batches, inside the time. Checked: equal batches and
equally many parameters.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from algorithms.td3bc import TD3BC
from benchmarks.speed.command import Peers, finish, options, threads
from benchmarks.speed.inputs import ACTION, OBS, hopper_sized
from benchmarks.speed.jax_worker import Worker
from benchmarks.speed.peers import NotThereError, folder, load
from benchmarks.speed.training import training
from benchmarks.speed.turns import Figure, Turn, also_compiled, ratio_text, take_turns
from core.data import Dataset

__all__ = ["compare", "figures", "main"]

SEEDS = 8
_ONE = "1 seed"
_ALL = f"{SEEDS} seeds"
_OF_JAX = (f"unifloral, {_ONE}", f"unifloral, {_ALL}")
_STUBS = ("d4rl", "gym", "pyrallis", "wandb")
FULL: dict[str, Any] = {"rows": 1_000_000, "updates": 40, "compiled": True}
QUICK: dict[str, Any] = {"rows": 2_000, "updates": 4, "compiled": False}


def ours(data: Dataset, seeds: int, updates: int) -> tuple[Turn, int]:
    """(updates of all seeds in one program, parameters of one seed)."""
    step, state, _ = training(TD3BC(), data, seeds, torch.device("cpu"))
    return Turn(partial(step, updates), seeds * updates), (
        _parameters(state.actor) + _parameters(state.critic)
    ) // seeds


def corl(module: ModuleType, data: Dataset, updates: int) -> tuple[Turn, int]:
    """(updates as its training loop makes them, parameters)."""
    config = TD3BC()
    rows = data.train
    actor = module.Actor(OBS, ACTION, 1.0)
    critics = [module.Critic(OBS, ACTION) for _ in range(2)]
    nets = [actor, *critics]
    optimizers = [torch.optim.Adam(net.parameters(), lr=config.learning_rate) for net in nets]
    paired = [part for pair in zip(nets, optimizers, strict=True) for part in pair]
    trainer = module.TD3_BC(1.0, *paired)
    buffer = module.ReplayBuffer(OBS, ACTION, len(rows.obs))
    names = {"observations": rows.obs, "actions": rows.action, "next_observations": rows.next_obs}
    names |= {"rewards": rows.reward, "terminals": rows.terminated.float()}
    buffer.load_d4rl_dataset({name: values.numpy() for name, values in names.items()})

    def call() -> None:
        for _ in range(updates):
            trainer.train(buffer.sample(config.batch_size))

    return Turn(call, updates), sum(_parameters(net) for net in nets)


def compare(
    peers: Path | None, jax: Path | None, repeats: int, *, rows: int, updates: int, compiled: bool = False
) -> dict[str, Any]:
    """Rates of all who are there, in turns of `updates` seed-updates, of many seeds of twice as many.

    Raises:
        RuntimeError: somebody's networks have another size, so the ratio would mean nothing.
    """
    data = hopper_sized(rows)
    known = Peers(peers)
    of_each = max(2 * updates // SEEDS, 4)
    turns: dict[str, Turn | None] = dict.fromkeys(["CORL", *_OF_JAX])
    parameters: dict[str, int] = {}
    with ExitStack() as stack:
        module = known.get("CORL", lambda root: load(root / "algorithms/offline/td3_bc.py", _STUBS))
        if module is not None:
            turns["CORL"], parameters["CORL"] = corl(module, data, updates)
        worker = known.get("unifloral", lambda root: stack.enter_context(_worker(root, jax, rows)), _OF_JAX)
        if worker is not None:
            parameters["unifloral"] = worker.about["parameters"]
            turns[_OF_JAX[0]] = Turn(partial(worker.run, 1, updates // 2), updates)
            turns[_OF_JAX[1]] = Turn(partial(worker.run, SEEDS, of_each // 2), SEEDS * of_each)
        own = {name: ours(data, seeds, each) for name, seeds, each in ((_ONE, 1, updates), (_ALL, SEEDS, of_each))}
        parameters["ours"] = own[_ONE][1]
        plain = {f"ours, {name}": turn for name, (turn, _) in own.items()}
        turns |= also_compiled(plain) if compiled else plain
        if len(set(parameters.values())) > 1:
            raise RuntimeError(f"all must have equally many parameters, got {parameters}")
        measured = {"updates": take_turns("seed-updates/s", turns, ["CORL", *_OF_JAX], repeats)}
    return {
        "rows": rows,
        "batch": TD3BC().batch_size,
        "parameters": parameters["ours"],
        "jax": worker and worker.about,
        **known.record(),
        "measured": measured,
    }


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Lines of the table of figures."""
    turns = found["measured"]["updates"]
    missing = found["not_there"]

    def line(name: str, peer: str, asked: str = "") -> Figure:
        return Figure(f"TD3+BC, {name}, beside {peer}", asked, ratio_text(turns, f"ours, {name}", peer, missing))

    return [
        line(f"{_ALL}, compiled", "CORL", ">= 2.2x"),
        line(f"{_ALL}, compiled", _OF_JAX[0], "level"),
        line(f"{_ALL}, compiled", _OF_JAX[1]),
        line(f"{_ONE}, compiled", "CORL"),
        line(f"{_ONE}, compiled", _OF_JAX[0]),
        line(_ALL, "CORL"),
        line(_ONE, "CORL"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write json."""
    parser = options(__doc__, repeats=15)
    parser.add_argument("--jax", type=Path, metavar="PYTHON", help="interpreter with jax, flax, optax and distrax")
    asked = parser.parse_args(arguments)
    with threads(asked.threads):
        repeats, size = (1, QUICK) if asked.quick else (asked.repeats, FULL)
        found = compare(folder(asked.peers), asked.jax, repeats, **size)
        finish(f"TD3+BC, batches of {found['batch']} out of {found['rows']:,} rows", found, asked.out)


def _worker(root: Path, python: Path | None, rows: int) -> Worker:
    if python is None:
        raise NotThereError("--jax")
    return Worker(python, root / "algorithms/td3_bc.py", rows, OBS, ACTION)


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


if __name__ == "__main__":
    main()
