"""The files that both sides learn from and are judged by: made from our own data, in plain formats.

TASK.hdf5      the training rows of our split, in D4RL's layout and in their order in the data set; where an episode
               stops without a terminal row, its last row is a timeout
TASK.npz       held-out windows: start states, recorded actions, recorded states, and the simulator's state at the start
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from benchmarks.evaluation.rollouts import windows
from core.data import Dataset
from core.files import atomic, sha256
from core.random import Streams
from tasks import hdf5
from tasks.base import DataOptions, Task, load_task
from tasks.rows import Rows

__all__ = ["Exported", "Windows", "export", "load_windows", "training_rows"]


class Exported(NamedTuple):
    """A task and what was written of it."""

    task: Task
    data: Dataset
    file: Path
    windows: Path
    sha256: str


class Windows(NamedTuple):
    """B pieces of held-out episodes, L steps each."""

    obs: np.ndarray  # [B, L+1, O] as recorded
    action: np.ndarray  # [B, L, A] as recorded
    reward: np.ndarray  # [B, L]
    valid: np.ndarray  # [B, L]: not behind the end of the episode
    state: np.ndarray  # [B, X] of the simulator at the start


def export(name: str, folder: Path, rows: int, starts: int, length: int) -> Exported:
    """Write both files of `local/NAME` unless they are there; the same arguments give the same bytes."""
    task = load_task(f"local/{name}", DataOptions(dataset_rows=rows))
    data, _ = task.dataset()
    file = folder / f"{name}-{rows}.hdf5"
    held = folder / f"{name}-{rows}-{starts}x{length}.npz"
    if not file.exists():
        hdf5.write(file, training_rows(data))
    if not held.exists():
        _write_windows(held, data, starts, length)
    return Exported(task, data, file, held, sha256(file))


def training_rows(data: Dataset) -> Rows:
    """The training transitions as rows of a file."""
    rows = data.train
    last = np.append(np.diff(data.episode.numpy()) != 0, True)
    return Rows(
        obs=rows.obs.numpy(),
        action=rows.action.numpy(),
        reward=rows.reward.numpy(),
        terminal=rows.terminated.numpy(),
        timeout=last & ~rows.terminated.numpy(),
        next_obs=rows.next_obs.numpy(),
    )


def load_windows(file: Path) -> Windows:
    """What `export` wrote."""
    with np.load(file, allow_pickle=False) as content:
        return Windows(**{name: content[name] for name in Windows._fields})


def _write_windows(file: Path, data: Dataset, starts: int, length: int) -> None:
    found = windows(data, starts, length, Streams((0,), "parity/windows"))
    assert found is not None
    real, state = found

    def first(x: Tensor) -> np.ndarray:
        return x[0].numpy()

    content = Windows(first(real.obs), first(real.action), first(real.reward), first(real.valid), first(state))
    with atomic(file) as part, part.open("wb") as stream:
        np.savez(stream, **content._asdict())
