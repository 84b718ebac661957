"""minari/: any Minari 0.5 dataset with a Box of actions, present on this machine or downloaded by Minari itself.

Observations of Dict and Tuple spaces are flattened as gymnasium does it; actions are mapped affinely from the
environment's Box to [-1, 1]. Needs the extra `minari`.
"""

import hashlib
import json
import logging
import math
import os
import re
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from filelock import FileLock
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from jaxtyping import Float64, Num

from core.errors import DataError, SpecError, in_one_line, unknown
from core.files import cache_dir
from core.progress import say, waiting
from tasks.base import SKIPPING, DataOptions, Source, Task
from tasks.hdf5 import require_own_content
from tasks.rows import Rows, checked, joined, listed, require_dims
from tasks.simulators import declared
from tasks.simulators.base import Simulator

__all__ = ["SOURCE", "fetch", "find", "load", "names"]

_MALFORMED = (KeyError, ValueError, TypeError, AttributeError, IndexError, AssertionError)  # of data with other parts
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


def fetch(dataset: str, options: DataOptions) -> Path:
    """The dataset's folder, downloaded by Minari if it is not on this machine; one process does while others wait.

    Raises:
        SpecError: no such name, or the extra is missing.
        DataError: it cannot be had; says where it was looked for and how to bring it by hand.
    """
    if not _NAME.fullmatch(dataset):
        raise unknown("minari dataset", dataset, names())
    if find_spec("minari") is None:
        raise SpecError(f"minari/{dataset} needs the package minari: pip install rolloutbench[minari]")
    import minari
    from minari.storage.remotes import DEFAULT_REMOTE

    folder = _folder() / dataset
    with waiting(FileLock(cache_dir("locks") / f"minari-{dataset.replace('/', '-')}.lock")):
        if (folder / "data").is_dir():
            return folder
        new = not folder.exists()
        remote = os.environ.get("MINARI_REMOTE") or DEFAULT_REMOTE
        say(f"minari/{dataset}: is fetched from {remote}")
        try:
            with _quiet():
                minari.download_dataset(dataset)
        except Exception as error:  # the client of a remote storage, or of its network, raises errors of its own
            if new:
                shutil.rmtree(folder, ignore_errors=True)  # half of it
            raise DataError(
                f"minari/{dataset} is neither in {folder} nor to be had from {remote} ({in_one_line(error)}); "
                f"where there is a network, `minari download {dataset}` makes the folder {dataset} to be copied to "
                f"{_folder()} ($MINARI_DATASETS_PATH)"
            ) from error
    return folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Minari prints what it does where results are printed; the client of its storage logs every attempt."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        hub.setLevel(level)


def load(dataset: str, options: DataOptions) -> Task:
    """The task `minari/<dataset>`; scores only where the dataset declares reference returns.

    Raises:
        SpecError: no such name, the extra is missing, or the actions are not a bounded Box.
        DataError: it cannot be downloaded or read.
    """
    folder = fetch(dataset, options) / "data"
    import minari

    where = f"minari/{dataset} ({folder.parent})"
    with _readable(where):
        _require_harmless(folder, options.imports, where)
        data = minari.load_dataset(dataset)
    spec = data.env_spec
    if spec is None:
        raise DataError(f"{where}: must name its environment, got none")
    box = data.action_space
    if not isinstance(box, spaces.Box) or not box.is_bounded() or not (box.low < box.high).all():
        raise SpecError(f"{where}: actions must be a bounded Box, got {box}")
    scored = data._eval_env_spec or spec  # as Minari's `recover_environment(eval_env=True)`, which runs foreign code
    for each in (spec, scored):
        declared.require_known_code(each, options.imports, where)
    longest = 0 if spec.max_episode_steps and scored.max_episode_steps else _longest(data, where)
    simulator = declared.simulator(spec, box, where)
    evaluator = None if declared.alike(spec, scored) else declared.simulator(scored, box, where)
    if evaluator and (evaluator.obs_dim != simulator.obs_dim):
        rule = f"observations must be as wide in the evaluation environment, {evaluator.physics}, as in the data's"
        raise DataError(f"{where}: {rule}, got {evaluator.obs_dim} and {simulator.obs_dim}")
    score_range, notes = _references(data.storage.metadata, where)
    horizon = scored.max_episode_steps or longest
    collected_horizon = spec.max_episode_steps or longest
    if evaluator or horizon != collected_horizon:
        notes["collected_in"] = {"physics": simulator.physics, "max_episode_steps": collected_horizon}
        notes["scored_in"] = {"physics": (evaluator or simulator).physics, "max_episode_steps": horizon}
    return Task(
        name=f"minari/{dataset}",
        simulator=simulator,
        horizon=horizon,
        score_range=score_range,
        rows=partial(_rows, data, simulator, where, options.skip_broken_episodes),
        options=options,
        evaluator=evaluator,
        collected_horizon=collected_horizon,
        notes=notes,
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
    except (OSError, ImportError, RuntimeError, gymnasium.error.Error, *_MALFORMED) as error:
        raise DataError(f"{where}: must be a readable Minari dataset: {in_one_line(error)}") from error


def _require_harmless(folder: Path, imports: Iterable[str], where: str) -> None:
    """Check the files before Minari reads them: it follows links, and makes the environment where a space is missing.

    Raises:
        DataError: the data lead out of their file, or learning a space would run code that is not known.
    """
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    if not {"observation_space", "action_space"} <= metadata.keys():
        declared.require_known_code(EnvSpec.from_json(metadata["env_spec"]), imports, where)
    file = folder / "main_data.hdf5"
    if file.exists():
        require_own_content(file)


def _references(metadata: Mapping[str, Any], where: str) -> tuple[tuple[float, float] | None, dict[str, Any]]:
    """The returns that count as 0 and 100, if the dataset declares any that can; and what the card says of others."""
    low = metadata.get("ref_min_score")
    high = metadata.get("ref_max_score")
    if low is None or high is None:
        return None, {}
    if -math.inf < low < high < math.inf:
        return (float(low), float(high)), {}
    refused = f"ref_min_score must be below ref_max_score, both finite, got {low} and {high}"
    say(f"{where}: has no reference returns, so no scores: {refused}")
    return None, {"reference_returns": f"none: {refused}"}


def _longest(data: Any, where: str) -> int:
    """Steps of the longest episode of those that can be read."""
    longest = 0
    with _readable(where):
        for _, episode in _each(data):
            if not isinstance(episode, Exception):
                longest = max(longest, len(episode.rewards))
    return longest


def _each(data: Any) -> Iterator[tuple[int, Any]]:
    """Every episode by its number; the error where what it must have is not there."""
    left = deque(int(index) for index in data.episode_indices)
    while left:
        found = data.iterate_episodes(list(left))  # ends with the first one that cannot be read
        while left:
            try:
                episode = next(found)
            except _MALFORMED as error:
                yield left.popleft(), error
                break
            yield left.popleft(), episode


def _rows(data: Any, simulator: Simulator, where: str, skip_broken: bool) -> tuple[Rows, str]:
    """All episodes, one after the other; the last step of each is terminal or a timeout.

    Episodes without a step hold nothing. Broken ones are left out if that was asked for; a line says so.
    """
    parts = list[Rows]()
    empty = list[int]()
    broken = dict[int, DataError]()
    with _readable(where):
        for number, episode in _each(data):
            try:
                part = _episode(data, episode, f"episode {number}")
                if part is None:
                    empty.append(number)
                else:
                    parts.append(require_dims(part, simulator.obs_dim, simulator.action_dim, f"episode {number}"))
            except DataError as error:
                broken[number] = error
    if empty:
        say(f"{where}: {len(empty)} episodes have no step: {listed(empty)}")
    if broken:
        first = next(iter(broken.values()))
        total = f"{len(broken)} of {len(data.episode_indices)} episodes"
        if not skip_broken:
            raise DataError(f"{where}, {first}; {total} break a rule ({listed(list(broken))}); {SKIPPING}")
        say(f"{where}: {total} are left out ({listed(list(broken))}): {first}")
    if not parts:
        raise DataError(f"{where}: must have at least one episode to use, got 0")
    rows = joined(parts)
    return replace(rows, left_out=len(broken)), _digest(rows)


def _episode(data: Any, episode: Any, where: str) -> Rows | None:
    """The rows of an episode; None if it has no step. Raises: DataError."""
    if isinstance(episode, Exception):
        raise DataError(f"{where}: must have all that an episode has, got {in_one_line(episode)}")
    steps = len(episode.rewards)
    try:
        obs = _flat(data.observation_space, episode.observations)
        found = {name: len(getattr(episode, name)) for name in ("actions", "terminations", "truncations")}
    except _MALFORMED as error:
        raise DataError(f"{where}: must hold what its spaces say, got {in_one_line(error)}") from error
    if len(obs) != steps + 1 or set(found.values()) != {steps}:
        rule = "must have one observation more than rewards, and as many of all else"
        lengths = {"observations": len(obs), "rewards": steps, **found}
        raise DataError(f"{where}: {rule}, got {', '.join(f'{count} {name}' for name, count in lengths.items())}")
    if not steps:
        return None
    timeout = np.zeros(steps, bool)
    timeout[-1:] = np.asarray(episode.terminations)[-1:] == 0
    arrays = {
        "observations": obs[:-1],
        "actions": _to_unit(data.action_space, episode.actions),
        "rewards": np.asarray(episode.rewards),
        "terminals": np.asarray(episode.terminations),
        "timeouts": timeout,
        "next_observations": obs[1:],
    }
    return checked(arrays, where)


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
        if isinstance(value, np.ndarray):
            digest.update(f"{field.name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


SOURCE = Source(names, load, find, fetch, origin="fetch", remote=True)
