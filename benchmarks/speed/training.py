"""Updates of an algorithm on numbers out of thin air: what speed and memory of training are measured by."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.execution.updates import Stepper, cuda_graph
from benchmarks.speed.inputs import ACTION, OBS
from core.buffer import Buffer, Mixer
from core.data import Dataset, Transitions
from core.random import Streams

__all__ = ["random_rows", "training"]


def training(
    algorithm: Any, data: Dataset, seeds: int, device: torch.device, *, buffer_rows: int = 1
) -> tuple[Callable[[int], None], Any, Buffer]:
    """(`step(n)` makes n updates, state, ring) of an algorithm; batches have synthetic rows once the ring has some.

    This is how the runner trains, on a GPU by graphs: whoever measures updates does it through here. After rows were
    added, `step(0)` looks at the ring, which waits for the device.
    """
    rng = Streams(range(seeds), device=device)
    state = algorithm.init(data, rng.fork("init"))
    buffer = Buffer(seeds, buffer_rows, data.train.obs.shape[-1], data.train.action.shape[-1], device)
    mixer = Mixer(algorithm.rows(data), buffer, 0.5, algorithm.batch_size)
    capture = cuda_graph if device.type == "cuda" else None
    update = Stepper(algorithm, state, mixer, rng.fork("batches"), rng.fork("update"), capture)

    def step(updates: int) -> None:
        if not updates:
            mixer.refresh()
        for _ in range(updates):
            update()

    return step, state, buffer


def random_rows(rows: int, rng: Streams) -> Transitions:
    """[S, rows] of Hopper's shape: standard normal states and rewards, uniform actions, one end in 500."""
    obs = rng.normal(rows, OBS)
    return Transitions(
        obs=obs,
        action=2 * rng.uniform(rows, ACTION) - 1,
        reward=rng.normal(rows),
        next_obs=obs + 0.1 * rng.normal(rows, OBS),
        terminated=rng.uniform(rows) < 0.002,
    )
