"""minari/: any Minari 0.5 dataset with a Box of actions, present on this machine or downloaded by Minari itself.

Observations of Dict and Tuple spaces are flattened as gymnasium does it; actions are mapped affinely from the
environment's Box to [-1, 1]. Needs the extra `minari`.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from jaxtyping import Float64, Num

from core.errors import DataError, SpecError, unknown
from tasks.base import DataOptions, Source, Task
from tasks.hdf5 import require_own_content
from tasks.rows import Rows, checked, require_dims
from tasks.simulators.base import Simulator

__all__ = ["SOURCE", "find", "load", "names"]

_TRUSTED = ("gymnasium", "gymnasium_robotics")
_NAME = re.compile(r"([-\w]+/)*[-\w]+-v\d+")


def names() -> list[str]:
    """Datasets on this machine; none without the extra."""
    if find_spec("minari") is None or not _folder().is_dir():
        return []
    import minari

    return list(minari.list_local_datasets())


def find(dataset: str, options: DataOptions) -> Path | None:
    """The dataset's folder, if it is on this machine."""
    path = _folder() / dataset
    return path if path.is_dir() else None


def load(dataset: str, options: DataOptions) -> Task:
    """The task `minari/<dataset>`; scores only where the dataset declares reference returns.

    Raises:
        SpecError: no such name, the extra is missing, or the actions are not a bounded Box.
        DataError: it cannot be downloaded or read.
    """
    if not _NAME.fullmatch(dataset):
        raise unknown("minari dataset", dataset, names())
    if find_spec("minari") is None:
        raise SpecError(f"minari/{dataset} needs the package minari: pip install rolloutbench[minari]")
    import minari

    folder = _folder() / dataset / "data"
    where = f"minari/{dataset} ({folder.parent})"
    with _readable(where):
        if not folder.is_dir():
            minari.download_dataset(dataset)
        _require_harmless(folder, where)
        data = minari.load_dataset(dataset)
    if data.env_spec is None:
        raise DataError(f"{where}: must name its environment, got none")
    box = data.action_space
    if not isinstance(box, spaces.Box) or not box.is_bounded() or not (box.low < box.high).all():
        raise SpecError(f"{where}: actions must be a bounded Box, got {box}")
    metadata = data.storage.metadata
    low = metadata.get("ref_min_score")
    high = metadata.get("ref_max_score")
    score_range = None if low is None or high is None else (float(low), float(high))
    simulator = _simulator(data, where)
    return Task(
        name=f"minari/{dataset}",
        simulator=simulator,
        horizon=data.env_spec.max_episode_steps or _longest(data),
        score_range=score_range,
        rows=partial(_rows, data, simulator, where),
        options=options,
    )


def _folder() -> Path:
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn what Minari and its storage raise for an unreadable dataset into DataError."""
    try:
        yield
    except DataError:
        raise
    except (OSError, KeyError, ValueError, ImportError, RuntimeError, AssertionError) as error:
        raise DataError(f"{where}: must be a readable Minari dataset: {type(error).__name__}: {error}") from error


def _require_harmless(folder: Path, where: str) -> None:
    """Check the files before Minari reads them: it follows links, and makes the environment where a space is missing.

    Raises:
        DataError: the data lead out of their file, or learning a space would run code that is not known.
    """
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    if not {"observation_space", "action_space"} <= metadata.keys():
        _require_known_code(EnvSpec.from_json(metadata["env_spec"]), where)
    file = folder / "main_data.hdf5"
    if file.exists():
        require_own_content(file)


def _simulator(data: Any, where: str) -> Simulator:
    from tasks.simulators.gym import GymSimulator
    from tasks.simulators.locomotion import ENVIRONMENTS, simulator

    spec = data.env_spec
    if spec.id in ENVIRONMENTS and not spec.kwargs:
        return simulator(spec.id)
    _require_known_code(spec, where)
    with _readable(where):
        terminates = any(episode.terminations.any() for episode in data.iterate_episodes())
    try:
        return GymSimulator(spec, terminates)
    except (gymnasium.error.Error, ImportError) as error:
        raise DataError(f"{where}: its environment {spec.id} cannot be made: {error}") from error


def _require_known_code(spec: EnvSpec, where: str) -> None:
    """A dataset names the function that makes its environment: only the Farama packages', or what is registered here.

    Raises:
        DataError: it names any other code.
    """
    registered = gymnasium.registry.get(spec.id)
    named = {str(spec.entry_point), *(wrapper.entry_point for wrapper in spec.additional_wrappers)}
    unknown_code = sorted(point for point in named if point.split(".")[0] not in _TRUSTED)
    if unknown_code and (registered is None or named != {str(registered.entry_point)}):
        raise DataError(f"{where}: {spec.id} must be registered with gymnasium before its code is run: {unknown_code}")


def _longest(data: Any) -> int:
    return max(int(episode["total_steps"]) for episode in data.storage.get_episode_metadata(data.episode_indices))


def _rows(data: Any, simulator: Simulator, where: str) -> tuple[Rows, str]:
    """All episodes, one after the other; the last step of each is terminal or a timeout."""
    parts: dict[str, list[np.ndarray]] = {}
    with _readable(where):
        for episode in data.iterate_episodes():
            for key, value in _episode(data, episode).items():
                parts.setdefault(key, []).append(value)
    if not parts:
        raise DataError(f"{where}: must have at least one episode, got 0")
    rows = checked({key: np.concatenate(values) for key, values in parts.items()}, where)
    return require_dims(rows, simulator.obs_dim, simulator.action_dim, where), _digest(rows)


def _episode(data: Any, episode: Any) -> dict[str, np.ndarray]:
    obs = _flat(data.observation_space, episode.observations)
    timeout = np.zeros(len(episode.rewards), bool)
    timeout[-1:] = ~episode.terminations[-1:]
    return {
        "observations": obs[:-1],
        "actions": _to_unit(data.action_space, episode.actions),
        "rewards": episode.rewards,
        "terminals": episode.terminations,
        "timeouts": timeout,
        "next_observations": obs[1:],
    }


def _flat(space: spaces.Space[Any], values: Any) -> Num[np.ndarray, "T O"]:
    """`gymnasium.spaces.flatten` for a whole episode at once."""
    if isinstance(space, spaces.Box):
        return np.asarray(values).reshape(len(values), -1)
    if isinstance(space, spaces.Dict):
        return np.concatenate([_flat(part, values[key]) for key, part in space.spaces.items()], 1)
    if isinstance(space, spaces.Tuple):
        return np.concatenate([_flat(part, value) for part, value in zip(space.spaces, values, strict=True)], 1)
    return np.stack([np.asarray(spaces.flatten(space, value)) for value in values])


def _to_unit(box: spaces.Box, action: np.ndarray) -> Float64[np.ndarray, "T A"]:
    low = box.low.astype(np.float64)
    high = box.high.astype(np.float64)
    return np.asarray(2 * (action - low) / (high - low) - 1).reshape(len(action), -1)


def _digest(rows: Rows) -> str:
    digest = hashlib.sha256()
    for field in fields(rows):
        value = getattr(rows, field.name)
        if value is not None:
            digest.update(f"{field.name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


SOURCE = Source(names, load, find, origin="fetch", remote=True)
