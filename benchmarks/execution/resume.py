"""Resuming a cell: checkpoints between its updates, from which a run has the numbers of one that was never stopped."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.spec import RunSpec
from core.checkpoint import Checkpoint, Stateful, load_all, state_of
from core.data import Dataset
from core.files import canonical_json
from core.interrupt import deferred
from core.progress import progress, say

__all__ = ["identity", "resumable"]


@contextmanager
def resumable(
    spec: RunSpec, folder: Path | None, identity: str, parts: Mapping[str, Stateful], going: Callable[[], bool]
) -> Iterator[Iterator[int]]:
    """Yields the numbers of the updates still to make, after `parts` have the state of the last checkpoint.

    Behind an update a checkpoint is saved when one is due; there are no more numbers once `going()` is false.

    Raises:
        Stopped: the process was asked to stop; a checkpoint has been written.
    """
    checkpoint = Checkpoint(folder, identity)
    done, found = checkpoint.load() or (0, None)
    if found:
        say(f"{spec.label}: resumes after update {done}")
        load_all(parts, found)

    def steps() -> Iterator[int]:
        step = shown = done
        advance(shown)
        while step < spec.settings.updates and going():
            step += 1
            yield step
            if spec.evaluation_due(step):
                advance(step - shown)
                shown = step
            checkpoint.offer(step, lambda: state_of(parts))
        if step > done:
            checkpoint.save(step, state_of(parts))

    with progress(spec.label, spec.settings.updates) as advance, deferred():
        yield steps()


def identity(spec: RunSpec, data: Dataset, origin: Mapping[str, Any], device: torch.device) -> str:
    """What a checkpoint must have in common with the run that resumes from it: all that determines a number.

    On a CPU that includes the number of threads: sums are split among them, and Adam groups parameters by it.
    """
    threads = origin["threads"] if device.type == "cpu" else None
    imports = origin.get("imports", {})
    code = [origin["commit"], origin["diff_sha256"], origin["versions"], imports, device.type, threads]
    return canonical_json([spec.describe(), list(spec.seeds), data.sha256, *code])
