"""`split.qlearning` against d4rl's own; ROLLOUTBENCH_ORACLES names the Python that has d4rl (`make oracles`)."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.hdf5 import read, write
from tasks.rows import Rows
from tasks.split import qlearning

PYTHON = os.environ.get("ROLLOUTBENCH_ORACLES")
KEYS = {
    "observations": "obs", "actions": "action", "next_observations": "next_obs", "rewards": "reward",
    "terminals": "terminated",
}  # fmt: skip

pytestmark = [pytest.mark.oracle, pytest.mark.skipif(PYTHON is None, reason="ROLLOUTBENCH_ORACLES is not set")]


def random_rows(seed: int, size: int) -> Rows:
    """Terminals, timeouts, both at once, and an unfinished tail."""
    rng = np.random.default_rng(seed)
    terminal = rng.random(size) < 0.03
    timeout = rng.random(size) < 0.03
    both = rng.random(size) < 0.01
    terminal = terminal | both
    timeout = timeout | both
    terminal[-3:] = timeout[-3:] = False
    obs = rng.normal(size=(size, 3)).astype(np.float32)
    action = rng.uniform(-1, 1, (size, 2)).astype(np.float32)
    return Rows(obs, action, rng.normal(size=size).astype(np.float32), terminal, timeout)


def example() -> Rows:
    """Twelve rows, a timeout at 4 and a terminal at 8."""
    rows = random_rows(0, 12)
    index = np.arange(12)
    return replace(rows, terminal=index == 8, timeout=index == 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oracle")
    ends = example()
    files = {f"random{seed}": random_rows(seed, 700) for seed in range(3)} | {"example": ends}
    files["ends_in_timeout"] = replace(ends, timeout=np.arange(12) == 11)
    files["ends_in_terminal"] = replace(ends, terminal=np.arange(12) == 11)
    for name, rows in files.items():
        write(folder / f"{name}.hdf5", rows)
    script = Path(__file__).with_name("d4rl_qlearning.py")
    subprocess.run([PYTHON, script, folder], check=True, cwd=folder)
    return folder


NAMES = ["random0", "random1", "random2", "example", "ends_in_timeout", "ends_in_terminal"]


@pytest.mark.parametrize("terminate_on_end", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_qlearning_is_d4rls_row_for_row(folder: Path, name: str, terminate_on_end: bool) -> None:
    ours = qlearning(read(folder / f"{name}.hdf5"), terminate_on_end=terminate_on_end)
    theirs = np.load(folder / f"{name}.npz")
    prefix = "terminate_on_end" if terminate_on_end else "default"
    for key, field in KEYS.items():
        expected = theirs[f"{prefix}/{key}"]
        found = getattr(ours, field).numpy()
        assert found.shape == expected.shape, key
        assert found.dtype == expected.dtype, key
        assert (found == expected).all(), key
