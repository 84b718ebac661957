"""D4RL's file format: written atomically, and read with validation, since a file may come from anybody."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from core.errors import DataError
from core.files import atomic
from tasks.rows import Rows, checked

__all__ = ["damage", "read", "require_own_content", "write"]

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations", "infos/qpos", "infos/qvel", "infos/action_log_probs")
MAX_BYTES = 16 * 2**30  # the largest D4RL set is below 1 GiB in memory
_MAX_COMPRESSION = 1100  # deflate cannot do better than 1032 : 1
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}  # those that come with HDF5 and h5py; others are plug-ins: code


def read(path: Path, max_steps: int | None = None, *, skip_broken: bool = False) -> Rows:
    """The rows of a file, checked; links, types and declared sizes are checked before any value is read.

    `max_steps` is the length of an episode, for old files that have no timeouts; `skip_broken` as in `rows.checked`.

    Raises:
        DataError: names the file and the rule it breaks.
    """
    if (problem := damage(path)) is not None:
        raise DataError(f"{path}: {problem}")
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            arrays = {key: np.asarray(dataset[()]) for key, dataset in _datasets(file, path).items()}
    except DataError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # what h5py raises for truncated or altered bytes
        raise DataError(f"{path}: must be a whole HDF5 file, but it is truncated or damaged ({error})") from error
    return checked(arrays, str(path), max_steps, skip_broken=skip_broken)


def write(path: Path, rows: Rows) -> None:
    """Write the rows atomically under D4RL's keys; the same rows give the same bytes."""
    arrays = {
        "observations": rows.obs,
        "actions": rows.action,
        "rewards": rows.reward,
        "terminals": rows.terminal,
        "timeouts": rows.timeout,
        "next_observations": rows.next_obs,
        "infos/qpos": rows.qpos,
        "infos/qvel": rows.qvel,
        "infos/action_log_probs": rows.action_log_prob,
    }
    with atomic(path) as part, h5py.File(part, "w") as file:
        for key, value in arrays.items():
            if value is not None:
                file.create_dataset(key, data=value, compression="gzip", track_times=False)


def damage(path: Path) -> str | None:
    """Why this is not a whole HDF5 file, as far as its first bytes and its declared length tell; None if it may be."""
    if not path.is_file():
        return "must be a file" if path.exists() else "no such file"
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return "must be an HDF5 file, but it is empty (0 bytes)"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return f"must be an HDF5 file, but it is an HTML page: {head[:24]!r}"
    if not head.startswith(_SIGNATURE):
        return f"must be an HDF5 file, but it starts with {head[:8]!r}"
    try:
        h5py.File(path, "r", locking="best-effort").close()
    except OSError as error:
        return f"must be a whole HDF5 file, but it is truncated or damaged ({error})"
    return None


def require_own_content(path: Path) -> None:
    """Refuse an HDF5 file with links out of itself or with more declared data than it can hold; no value is read.

    Raises:
        DataError: names the file, the key and the rule.
    """
    if (problem := damage(path)) is not None:
        raise DataError(f"{path}: {problem}")
    links = dict[str, Any]()
    items = dict[str, Any]()
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            file.visititems_links(lambda key, link: links.update({key: link}))
            for key, link in links.items():
                _require_hard_link(link, key, path)
            file.visititems(lambda key, item: items.update({key: item}))
            datasets = {key: item for key, item in items.items() if isinstance(item, h5py.Dataset)}
            for key, dataset in datasets.items():
                _require_inside(dataset, key, path)
            _require_size(datasets.values(), path)
    except DataError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: must be a whole HDF5 file, but it is truncated or damaged ({error})") from error


def _datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """The datasets to read: all in this file, and not larger than it can hold."""
    found = {key: dataset for key in REQUIRED + OPTIONAL if (dataset := _dataset(file, key, path)) is not None}
    if missing := [key for key in REQUIRED if key not in found]:
        raise DataError(f"{path}: must have the keys {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
    _require_size(found.values(), path)
    return found


def _dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset | None:
    group: Any = file
    for name in key.split("/"):
        link = group.get(name, getlink=True)
        if link is None:
            return None
        _require_hard_link(link, key, path)
        group = group[name]
    if not isinstance(group, h5py.Dataset) or group.shape is None:
        raise DataError(f"{path}: {key} must be an array, got {type(group).__name__} without a shape")
    if group.dtype.kind not in "fiub":
        raise DataError(f"{path}: {key} must be numbers, got dtype {group.dtype}")
    _require_inside(group, key, path)
    return group


def _require_hard_link(link: Any, key: str, path: Path) -> None:
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{path}: {key} must lie in this file, got a link ({type(link).__name__})")


def _require_inside(dataset: h5py.Dataset, key: str, path: Path) -> None:
    if dataset.is_virtual or dataset.external:
        kind = "a virtual dataset" if dataset.is_virtual else f"external storage {dataset.external[0][0]!r}"
        raise DataError(f"{path}: {key} must lie in this file, got {kind}")
    plist = dataset.id.get_create_plist()
    if foreign := {plist.get_filter(number)[0] for number in range(plist.get_nfilters())} - _FILTERS:
        raise DataError(f"{path}: {key} must use HDF5's own filters, got filter {foreign}")


def _require_size(datasets: Iterable[h5py.Dataset], path: Path) -> None:
    size = sum(math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize for dataset in datasets)
    limit = min(MAX_BYTES, 2**20 + _MAX_COMPRESSION * path.stat().st_size)
    if size > limit:
        raise DataError(f"{path}: declares {size} bytes of data, more than the {limit} that such a file can hold")
