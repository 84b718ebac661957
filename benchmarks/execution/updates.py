"""Updates: one operation after the other, or on a GPU as one replayed CUDA graph each; their FLOP are counted."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from algorithms.base import StepwiseAlgorithm
from benchmarks.spec import Compile
from core.buffer import Mixer
from core.progress import say
from core.random import Streams
from models.flops import FlopCount

__all__ = ["Stepper", "capture_on", "cuda_graph", "pays"]

Losses = dict[str, Tensor]
Work = Callable[[], Losses]
Capture = Callable[[Work, list[torch.Generator]], Work]

# Losses are compiled on a CPU from this number of updates: about twice the number after which torch.compile has paid
# off for one seed (results/speed/updates.json), for several cells compile at once. Fits with early stopping are left
# out. It must not depend on the number of seeds, or seeds added later would be another experiment.
_PAYS = {
    "bc": 10_000,
    "cql": 5_000,
    "dql": 10_000,
    "iql": 10_000,
    "td3bc": 10_000,
    "TrajectoryDiffusionConfig": 5_000,
    "TransitionDiffusionConfig": 10_000,
}

_WARM = 3  # updates before a graph is captured: libraries choose kernels and allocate in them


def pays(name: str, updates: int, chosen: Compile, device: torch.device) -> bool:
    """Whether the losses of a method or model with this name are compiled, given its number of updates."""
    if device.type != "cpu" or chosen == "never":
        return False
    return chosen == "always" or (name in _PAYS and updates >= _PAYS[name])


class Stepper:
    """The updates of a cell: each draws a batch and lets the algorithm take its step.

    With `capture` they are recorded as graphs, one for each branch of an update, and replayed from then on: same
    kernels, same random numbers, without single launches. An algorithm that has only an `update` is not captured, and
    its FLOP are not known: nobody says which of its updates are alike.
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
        self._stepwise = isinstance(algorithm, StepwiseAlgorithm)
        self._capture = capture
        self._work = FlopCount(len(noise.seeds))
        self.count = 0  # updates so far
        self.losses: Losses = {}  # of the last one
        self._seen = dict[Hashable, int]()
        self._replay = dict[Hashable, Work]()

    def state_dict(self) -> dict[str, Any]:
        """Positions of both streams, the last losses, the number of updates and their FLOP."""
        streams = {"batches": self._batches.state_dict(), "noise": self._noise.state_dict()}
        return {**streams, "losses": self.losses, "count": self.count, "work": self._work.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume; the rows of the buffer must have been loaded before."""
        self._batches.load_state_dict(state["batches"])
        self._noise.load_state_dict(state["noise"])
        self.losses = {name: loss.to(self._noise.device) for name, loss in state["losses"].items()}
        self.count = state["count"]
        self._work.load_state_dict(state["work"])
        self._mixer.refresh()

    def __call__(self) -> Losses:
        """One update; the losses are overwritten by a later one."""
        self.losses = self._update()
        self.count += 1
        return self.losses

    def flop(self) -> Float64[Tensor, " S"]:
        """FLOP of all updates so far, per seed; NaN if they are not known."""
        spent = self._work.tensor()
        return spent if self._stepwise else torch.full_like(spent, torch.nan)

    def _update(self) -> Losses:
        if not self._stepwise:
            found: Losses = self._algorithm.update(self._state, self._mixer.batch(self._batches), self._noise)
            return found
        due = self._algorithm.schedule(self._state)
        branch = due, self._mixer.batch_layout
        return self._work(branch, self._run, branch)

    def _run(self, branch: tuple[Hashable, Hashable]) -> Losses:
        due, _ = branch
        if self._capture is None:
            return self._step(due)
        if branch not in self._replay:
            self._seen[branch] = self._seen.get(branch, 0) + 1
            if self._seen[branch] <= _WARM:
                return self._step(due)
            try:
                generators = [*self._batches.generators, *self._noise.generators]
                self._replay[branch] = self._capture(lambda: self._step(due), generators)
            except RuntimeError as error:
                say(f"updates run operation by operation, because they cannot be captured: {error}")
                self._capture = None
                return self._step(due)
        return self._replay[branch]()

    def _step(self, due: Any) -> Losses:
        found: Losses = self._algorithm.step(self._state, self._mixer.batch(self._batches), self._noise, due)
        return found


def capture_on(device: torch.device) -> Capture | None:
    """How updates are recorded there; None where they run as they are."""
    return cuda_graph if device.type == "cuda" else None


def cuda_graph(work: Work, generators: list[torch.Generator]) -> Work:
    """Capture `work` as a CUDA graph; it has not run yet.

    Raises:
        RuntimeError: an operation in it synchronises or cannot be recorded.
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
