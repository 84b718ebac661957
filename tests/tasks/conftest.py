"""Small sets of rows whose observations say which row they are, and one file of local/ that was made once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.base import DataOptions
from tasks.rows import Rows
from tasks.sources.local import location, make

RESET = 100.0  # the observation of every episode's first row starts here, so that a leak across a reset shows
HOPPER = DataOptions(dataset_rows=400)


def _make_rows(terminal: np.ndarray, timeout: np.ndarray, *, stored: bool = True) -> Rows:
    """Rows whose observation is (RESET * episode + step, row, 0, 0), and its successor one step further."""
    size = len(terminal)
    ends = np.append(0, np.cumsum(terminal | timeout)[:-1])
    row = np.arange(size)
    start = np.maximum.accumulate(np.where(np.append(True, (terminal | timeout)[:-1]), row, 0))
    first = RESET * ends + row - start
    rng = np.random.default_rng(size)

    def obs(ahead: int) -> np.ndarray:
        return np.stack([first + ahead, row + ahead, 0 * row, 0 * row], 1).astype(np.float32)

    action = rng.uniform(-1, 1, (size, 2)).astype(np.float32)
    reward = rng.normal(size=size).astype(np.float32)
    return Rows(obs(0), action, reward, terminal, timeout, obs(1) if stored else None)


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    """Rows with given flags; the observation is (RESET * episode + step, row, 0, 0), its successor one step further."""
    return _make_rows


@pytest.fixture
def rows() -> Rows:
    """Twelve rows, a timeout at row 4, a terminal at row 8."""
    return _make_rows(np.arange(12) == 8, np.arange(12) == 4)


@pytest.fixture
def arrays(rows: Rows) -> dict[str, np.ndarray]:
    """The same under D4RL's keys, without next observations."""
    return {
        "observations": rows.obs,
        "actions": rows.action,
        "rewards": rows.reward,
        "terminals": rows.terminal,
        "timeouts": rows.timeout,
    }


@pytest.fixture(scope="session")
def hopper_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """local/hopper-random with 400 rows, made once; tests work on copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path_factory.mktemp("made")))
        return make("hopper-random", HOPPER)


@pytest.fixture
def hopper_set(hopper_once: Path) -> Path:
    """A copy of that file in the cache of this test, with its card."""
    copy = location("hopper-random", HOPPER)
    copy.write_bytes(hopper_once.read_bytes())
    copy.with_suffix(".json").write_bytes(hopper_once.with_suffix(".json").read_bytes())
    return copy


@pytest.fixture
def hopper_options() -> DataOptions:
    """The options under which that file is found."""
    return HOPPER
