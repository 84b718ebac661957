"""d4rl/: D4RL's own files for Gym-MuJoCo (v1, v2) and maze2d (v1), found on this machine or downloaded at first use."""

import csv
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from core.errors import DataError, unknown
from core.files import cache_dir, sha256
from tasks import download
from tasks.base import SKIPPING, DataOptions, Source, Task
from tasks.hdf5 import read
from tasks.rows import BrokenRowsError, Rows, require_dims
from tasks.simulators.base import Simulator

__all__ = ["BASE_URL", "SOURCE", "Reference", "fetch", "find", "load", "names", "reference"]

BASE_URL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
_ENVIRONMENTS = {"hopper": "Hopper-v4", "halfcheetah": "HalfCheetah-v4", "walker2d": "Walker2d-v4"}

_PAID_BEFORE = (
    "rewards in the file are those of the current state, and the simulator pays the next one "
    "(rewards = 'simulator' relabels the file)"
)
_GOALS = "timeouts in the file mark goals that the navigator reached, no time limits: the rows are one stream"


@dataclass(frozen=True)
class Reference:
    """What D4RL declares of a dataset: one row of `d4rl_refs.csv`."""

    ref_min: float  # the return that counts as 0: uniformly random actions
    ref_max: float  # ... as 100: SAC trained to convergence, or the maze controller
    url_path: str
    max_episode_steps: int
    obs_dim: int
    act_dim: int


def names() -> list[str]:
    """Datasets of this source, present or not."""
    return list(_references())


def reference(dataset: str) -> Reference:
    """D4RL's numbers for it. Raises: SpecError."""
    if dataset not in _references():
        raise unknown("d4rl dataset", dataset, names())
    return _references()[dataset]


def load(dataset: str, options: DataOptions) -> Task:
    """The task `d4rl/<dataset>`; the file is searched for, or downloaded, when its rows are first needed.

    Raises:
        SpecError: no such dataset.
    """
    declared = reference(dataset)

    def rows() -> tuple[Rows, str]:
        path = fetch(dataset, options)
        try:
            found = read(path, declared.max_episode_steps, skip_broken=options.skip_broken_episodes)
        except BrokenRowsError as error:
            raise DataError(f"{error}; {SKIPPING}") from error
        return require_dims(found, declared.obs_dim, declared.act_dim, str(path)), sha256(path)

    return Task(
        f"d4rl/{dataset}",
        _simulator(dataset),
        declared.max_episode_steps,
        (declared.ref_min, declared.ref_max),
        rows,
        options,
        conventions=_conventions(dataset, options),
    )


def find(dataset: str, options: DataOptions) -> Path | None:
    """The file on this machine, if it is there: the user's folders first, then our cache.

    Raises:
        SpecError: no such dataset.
    """
    names = _file_names(dataset)
    paths = [folder / name for folder in (*_user_folders(options), cache_dir("datasets")) for name in names]
    return next((path for path in paths if path.is_file()), None)


def fetch(dataset: str, options: DataOptions) -> Path:
    """The file, downloaded into our cache unless the user has it; a file of ours is verified by its checksum.

    Raises:
        SpecError: no such dataset.
        DataError: it cannot be obtained; the message says where to put a copy.
    """
    path = find(dataset, options)
    cache = cache_dir("datasets")
    if path is not None and path.parent != cache:
        return path
    base = os.environ.get("ROLLOUTBENCH_D4RL_URL", BASE_URL).rstrip("/")
    return download.fetch(f"{base}/{reference(dataset).url_path}", path or cache / _file_names(dataset)[0])


def _file_names(dataset: str) -> tuple[str, str]:
    """D4RL's own flat name, and the one that people give copies."""
    return PurePosixPath(reference(dataset).url_path).name, f"{dataset}.hdf5"


def _user_folders(options: DataOptions) -> list[Path]:
    named = os.environ.get("D4RL_DATASET_DIR")
    folders = [options.data_dir, Path(named) if named else None, Path.home() / ".d4rl" / "datasets"]
    return [folder for folder in folders if folder is not None]


def _conventions(dataset: str, options: DataOptions) -> tuple[str, ...]:
    """What D4RL's files are known to do otherwise than the environment."""
    if not dataset.startswith("maze2d-"):
        return ()
    return (_PAID_BEFORE, _GOALS) if options.rewards == "file" else (_GOALS,)


def _simulator(dataset: str) -> Simulator:
    family, size, *_ = dataset.split("-")
    if family == "maze2d":
        from tasks.simulators.maze import Maze

        return Maze(size, dense="-dense-" in dataset)
    from tasks.simulators.locomotion import simulator

    return simulator(_ENVIRONMENTS[family])


@cache
def _references() -> dict[str, Reference]:
    with Path(__file__).with_name("d4rl_refs.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["dataset"]: Reference(
                ref_min=float(row["ref_min"]),
                ref_max=float(row["ref_max"]),
                url_path=row["url_path"],
                max_episode_steps=int(row["max_episode_steps"]),
                obs_dim=int(row["obs_dim"]),
                act_dim=int(row["act_dim"]),
            )
            for row in csv.DictReader(file)
        }


SOURCE = Source(names, load, find, fetch, origin="fetch")
