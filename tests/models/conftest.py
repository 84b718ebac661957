import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from core import checkpoint
from core.data import Dataset
from core.interrupt import Stopped
from tasks.base import DataOptions, load_task


@pytest.fixture(scope="session")
def toy() -> Dataset:
    """A few thousand rows of the linear system."""
    return load_task("toy/linear", DataOptions(dataset_rows=4000)).dataset()[0]


@pytest.fixture(scope="session")
def falling(toy: Dataset) -> Dataset:
    """The same with a reward that a linear model cannot learn."""
    from dataclasses import replace

    return replace(toy, train=replace(toy.train, reward=torch.sin(9 * toy.train.obs[:, 0])))


@pytest.fixture
def repeatedly_stopped(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any], int], Any]:
    """`f(work, offers)`: what work returns when a signal comes at every so many offers of a checkpoint, until it ends.

    It must have been stopped twice at least.
    """

    def run(work: Callable[[], Any], offers: int) -> Any:
        stops = 0
        while True:
            left = iter(range(offers, -1, -1))
            with monkeypatch.context() as patch:
                patch.setattr(
                    checkpoint, "pending_signal", lambda left=left: signal.SIGTERM if next(left, None) == 0 else None
                )
                try:
                    found = work()
                except Stopped:
                    stops += 1
                    continue
            assert stops >= 2
            return found

    return run
