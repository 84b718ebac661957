"""What all measurements share: implementations that take turns, figures of the table, data of Hopper's shape."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.execution.updates import Stepper, capture_on
from core.buffer import Buffer, Mixer
from core.data import Dataset, Trajectories, Transitions
from core.random import Streams
from models.compiled import compiling

__all__ = [
    "ACTION",
    "NOISE",
    "OBS",
    "Figure",
    "Options",
    "Turn",
    "also_compiled",
    "hopper_sized",
    "judged",
    "paced",
    "ratio_figures",
    "take_turns",
    "threads",
    "training",
]

OBS = 11
ACTION = 3
_EPISODE = 1000  # rows
_COMPILED = ", compiled"
NOISE = 1.15  # a ratio nearer to 1 than this says nothing


class Options(NamedTuple):
    """What the command line says to a measurement."""

    peers: Path | None = None  # folder of checkouts
    jax: Path | None = None  # interpreter
    quick: bool = False  # tiny work, one round: does it run?


class Figure(NamedTuple):
    """A line of the table of figures."""

    figure: str
    target: str
    plain: str
    compiled: str = ""
    met: str = ""  # "met" or "missed", where there are a target and a number


def judged(met: bool) -> str:
    """The word for a target in the table."""
    return "met" if met else "missed"


@dataclass(frozen=True)
class Turn:
    """What one implementation does when it is its turn."""

    call: Callable[[], object]
    work: int  # how many units of work the call does


def also_compiled(turns: Mapping[str, Turn]) -> dict[str, Turn]:
    """The turns, and each once more with its losses compiled, under its name and ", compiled"."""

    def compiled(call: Callable[[], object]) -> None:
        with compiling():
            call()

    return {
        **turns,
        **{name + _COMPILED: Turn(partial(compiled, turn.call), turn.work) for name, turn in turns.items()},
    }


def take_turns(
    unit: str,
    turns: Mapping[str, Turn | None],
    peers: Sequence[str],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Rates of all, in units of work per second of the clock, and how many times those of each peer ours are.

    Everybody has one turn to warm up, compile and fill caches. A ratio is the median over the rounds of the ratios
    within a round. None stands for who is not there.
    """
    present = {name: turn for name, turn in turns.items() if turn is not None}
    for turn in present.values():
        turn.call()
    rates: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(rounds):
        for name, turn in present.items():
            started = clock()
            turn.call()
            rates[name].append(turn.work / (clock() - started))

    def ratio(name: str, peer: str) -> float | None:
        if peer not in rates:
            return None
        return median(own / their for own, their in zip(rates[name], rates[peer], strict=True))

    return {
        "unit": unit,
        "rounds": rounds,
        "rates": {
            name: {"median": median(values), "lowest": min(values), "highest": max(values)}
            for name, values in rates.items()
        },
        "ratios": {name: {peer: ratio(name, peer) for peer in peers} for name in rates if name not in peers},
    }


def ratio_figures(
    found: Mapping[str, Any], title: Callable[[str, str, str], str], target: Callable[[str], float | None]
) -> Iterator[Figure]:
    """A line for each of ours beside each peer, plain and compiled; `title` is given part, own name and peer.

    `target`, the least ratio asked for, is given the title; the compiled one has to reach it, where there is one.
    """
    missing = found["not_there"]
    for part, turns in found["measured"].items():
        ratios = turns["ratios"]

        def text(own: str, peer: str, ratios: Any = ratios) -> str:
            if own not in ratios:
                return ""
            ratio = ratios[own][peer]
            if ratio is None:
                return missing.get(peer, "not there")
            return f"{ratio:.2f}x" + (" (slower)" if ratio < 1 / NOISE else " (level)" if ratio < NOISE else "")

        for own in [name for name in ratios if not name.endswith(_COMPILED)]:
            for peer in ratios[own]:
                line = title(part, own, peer)
                least = target(line)
                judge = own + _COMPILED if own + _COMPILED in ratios else own
                asked = "" if least is None else f">= {least:g}x" + (", compiled" if judge != own else "")
                reached = ratios[judge][peer]
                met = "" if least is None or reached is None else judged(reached >= least)
                yield Figure(line, asked, text(own, peer), text(own + _COMPILED, peer), met)


def paced(call: Callable[[], object], device: torch.device, seconds: float, least: int = 3) -> float:
    """Median seconds of a call, the device's work included; repeated until `seconds` are over, after one to warm up."""

    def once() -> float:
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    once()
    runs = list[float]()
    ends = time.perf_counter() + seconds
    while len(runs) < least or time.perf_counter() < ends:
        runs.append(once())
    return median(runs)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block torch uses so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training(
    algorithm: Any, data: Dataset, seeds: int, device: torch.device, *, buffer_rows: int = 1
) -> tuple[Callable[[int], None], Any, Mixer, Buffer]:
    """(`step(n)` makes n updates, state, batches, ring) of an algorithm, as a cell trains: on a GPU by graphs.

    After rows were added to the ring, refresh the batches.
    """
    rng = Streams(range(seeds), device=device)
    state = algorithm.init(data, rng.fork("init"))
    buffer = Buffer(seeds, buffer_rows, data.train.obs.shape[-1], data.train.action.shape[-1], device)
    mixer = Mixer(algorithm.rows(data), buffer, 0.5, algorithm.batch_size)
    update = Stepper(algorithm, state, mixer, rng.fork("batches"), rng.fork("update"), capture_on(device))

    def step(updates: int) -> None:
        for _ in range(updates):
            update()

    return step, state, mixer, buffer


def hopper_sized(rows: int) -> Dataset:
    """Random data of Hopper's shape: normal states and rewards, actions in the box, episodes of 1000 rows, no ends."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    obs = normal(rows, OBS)
    action = normal(rows, ACTION).clamp(-1, 1)
    train = Transitions(obs, action, normal(rows), normal(rows, OBS), torch.zeros(rows, dtype=torch.bool))
    alive = torch.ones(1, 2, dtype=torch.bool)
    heldout = Trajectories(normal(1, 2, ACTION).clamp(-1, 1), normal(1, 3, OBS), normal(1, 2), ~alive, alive)
    return Dataset(
        train,
        (torch.arange(rows) // _EPISODE).int(),
        heldout,
        heldout_state=normal(1, 3, 2).double(),
        heldout_exact=torch.ones(1, 3, dtype=torch.bool),
        recorded_obs=normal(0, OBS),
        recorded_state=normal(0, 2).double(),
        obs_mean=obs.mean(0),
        obs_std=obs.std(0),
        sha256="",
    )
