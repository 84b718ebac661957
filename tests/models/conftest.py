import pytest
import torch

from core.data import Dataset
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
