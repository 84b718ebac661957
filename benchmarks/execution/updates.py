"""How updates are run: one operation after the other, or on a GPU as one replayed graph each."""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from algorithms.base import StepwiseAlgorithm
from benchmarks.spec import Compile
from core.buffer import Mixer
from core.progress import say
from core.random import Streams

__all__ = ["Stepper", "cuda_graph", "pays"]

Losses = dict[str, Tensor]
Work = Callable[[], Losses]
Capture = Callable[[Work, list[torch.Generator]], Work]

# Updates of one seed from which on losses are compiled on a CPU: about twice those after which torch.compile has paid
# for itself (results/speed/updates.json), for several cells compile at once. Fits that end by themselves are missing.
# It must not depend on the number of seeds, or those that come later would be another experiment.
_PAYS = {
    "bc": 10_000,
    "cql": 5_000,
    "dql": 10_000,
    "iql": 10_000,
    "td3bc": 10_000,
    "TrajectoryDiffusionConfig": 5_000,
    "TransitionDiffusionConfig": 10_000,
}

_WARM = 3  # updates before a graph is captured: libraries and allocators make their choices in them


def pays(name: str, updates: int, chosen: Compile, device: torch.device) -> bool:
    """Whether the losses of a method or model of that name are compiled for so many updates."""
    if device.type != "cpu" or chosen == "never":
        return False
    return chosen == "always" or (name in _PAYS and updates >= _PAYS[name])


class Stepper:
    """The updates of a cell: each draws a batch and lets the algorithm take its step.

    With `capture` they are recorded as graphs, one for each way an update can go, and replayed from then on: same
    kernels, same random numbers, no launch of them one by one. An algorithm that has only an `update` runs as it is.
    """

    def __init__(
        self,
        algorithm: Any,
        state: Any,
        mixer: Mixer,
        batches: Streams,
        noise: Streams,
        capture: Capture | None = None,
    ) -> None:
        self._algorithm = algorithm
        self._state = state
        self._mixer = mixer
        self._batches = batches
        self._noise = noise
        self._capture = capture if isinstance(algorithm, StepwiseAlgorithm) else None
        self._seen = dict[Hashable, int]()
        self._replay = dict[Hashable, Work]()

    def __call__(self) -> Losses:
        """One update; the losses are overwritten by a later one."""
        if self._capture is None:
            found: Losses = self._algorithm.update(self._state, self._mixer.batch(self._batches), self._noise)
            return found
        due = self._algorithm.schedule(self._state)
        way = due, self._mixer.batch_layout
        if way not in self._replay:
            self._seen[way] = self._seen.get(way, 0) + 1
            if self._seen[way] <= _WARM:
                return self._step(due)
            try:
                generators = [*self._batches.generators, *self._noise.generators]
                self._replay[way] = self._capture(lambda: self._step(due), generators)
            except RuntimeError as error:
                say(f"updates run operation by operation, for they cannot be captured: {error}")
                self._capture = None
                return self._step(due)
        return self._replay[way]()

    def _step(self, due: Any) -> Losses:
        found: Losses = self._algorithm.step(self._state, self._mixer.batch(self._batches), self._noise, due)
        return found


def cuda_graph(work: Work, generators: list[torch.Generator]) -> Work:
    """`work` as a CUDA graph, which has not run yet.

    Raises:
        RuntimeError: something in it waits for the device or cannot be recorded.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        losses = work()

    def replay() -> Losses:
        graph.replay()
        return losses

    return replay
