import pytest

from core.data import Dataset
from core.random import Streams
from models.cache import ModelCache
from tasks.base import DataOptions, Task, load_task


@pytest.fixture(scope="module")
def task() -> Task:
    """The linear system with enough rows to learn a distribution from; files that need fewer have their own."""
    return load_task("toy/linear", DataOptions(dataset_rows=10_000))


@pytest.fixture(scope="module")
def data(task: Task) -> Dataset:
    return task.dataset()[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    """For all tests of a file, so that a model is fitted once."""
    return ModelCache(Streams((0, 1)), tmp_path_factory.mktemp("models"))
