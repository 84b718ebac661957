"""Files that are damaged, of another kind, or that lead out of themselves are refused by path and rule."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from core.errors import DataError
from core.files import sha256
from tasks.hdf5 import read, write
from tasks.rows import Rows

Arrays = dict[str, np.ndarray]
Plant = Callable[[h5py.File, Path], None]


def save(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.hdf5"


def test_what_is_written_is_read(path: Path, rows: Rows) -> None:
    rows = replace(rows, qpos=np.random.default_rng(0).normal(size=(12, 2)), qvel=np.zeros((12, 2)))
    rows = replace(rows, action_log_prob=np.linspace(-3, 3, 12, dtype=np.float32))
    write(path, rows)
    found = read(path)
    for field in fields(rows):
        expected = getattr(rows, field.name)
        value = getattr(found, field.name)
        assert getattr(value, "dtype", None) == getattr(expected, "dtype", None), field.name
        assert np.array_equal(value, expected), field.name


def test_same_rows_same_bytes(path: Path, rows: Rows) -> None:
    write(path, rows)
    first = sha256(path)
    time.sleep(1.1)  # HDF5's time stamps have a resolution of a second
    write(path, rows)
    assert sha256(path) == first


def test_values_of_a_file_are_checked(path: Path, arrays: Arrays) -> None:
    arrays["rewards"][3] = np.nan
    refused(save(path, arrays), "rewards must be finite")


def test_the_length_of_an_episode_stands_in_for_timeouts(path: Path, arrays: Arrays) -> None:
    del arrays["timeouts"]
    assert np.flatnonzero(read(save(path, arrays), max_steps=5).timeout).tolist() == [4]


def refused(path: Path, *parts: str) -> None:
    """`read` refuses the file, naming it and every one of `parts`."""
    with pytest.raises(DataError) as caught:
        read(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)


def test_a_missing_file_is_refused(path: Path) -> None:
    refused(path, "no such file")
    path.mkdir()
    refused(path, "must be a file")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"\n<!DOCTYPE html><html><body>403</body></html>", "it is an HTML page: b'\\n<!DOCTYPE html>"),
        (b"PK\x03\x04 an archive", "it starts with b'PK"),
        (b"\x89HDF\r\n\x1a\n and no more", "it is truncated or damaged"),
    ],
)
def test_files_of_another_kind_are_refused(path: Path, content: bytes, rule: str) -> None:
    path.write_bytes(content)
    refused(path, "must be", rule)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused(path: Path, rows: Rows, share: float) -> None:
    write(path, rows)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "must be a whole HDF5 file, but it is truncated or damaged")


def test_flipped_bytes_never_pass_as_another_kind_of_error(path: Path, rows: Rows) -> None:
    write(path, rows)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with suppress(DataError):  # or none: a bit in a name, or in unused space, goes unnoticed without a checksum
            read(path)


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_key_is_refused(path: Path, arrays: Arrays, key: str) -> None:
    del arrays[key]
    refused(save(path, arrays), f"missing: {key}")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.array([b"x"] * 12), "|S1"), (np.zeros(12, np.complex64), "complex64"), (np.zeros(12, "i4,f4"), "[(")],
)
def test_types_that_are_no_numbers_are_refused(path: Path, arrays: Arrays, value: np.ndarray, dtype: str) -> None:
    refused(save(path, arrays | {"rewards": value}), "rewards must be numbers, got dtype", dtype)


def test_objects_are_refused(path: Path, arrays: Arrays) -> None:
    del arrays["rewards"]
    with h5py.File(save(path, arrays), "a") as file:
        file.create_dataset("rewards", (12,), dtype=h5py.string_dtype())
    refused(path, "rewards must be numbers, got dtype object")


def external_link(file: h5py.File, other: Path) -> None:
    file["observations"] = h5py.ExternalLink(str(other), "observations")


def soft_link(file: h5py.File, other: Path) -> None:
    file["hidden"] = h5py.ExternalLink(str(other), "/")
    file["observations"] = h5py.SoftLink("/hidden/observations")


def external_group(file: h5py.File, other: Path) -> None:
    file["infos"] = h5py.ExternalLink(str(other), "/")
    file["observations"] = np.zeros((12, 4))


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout(shape=(12, 4), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "observations", shape=(12, 4))
    file.create_virtual_dataset("observations", layout)


def external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("observations", (12, 4), "f4", external=[(str(other), 0, 12 * 4 * 4)])


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (external_link, "observations must lie in this file, got a link (ExternalLink)"),
        (soft_link, "observations must lie in this file, got a link (SoftLink)"),
        (external_group, "infos/qpos must lie in this file, got a link (ExternalLink)"),
        (virtual, "observations must lie in this file, got a virtual dataset"),
        (external_storage, "observations must lie in this file, got external storage"),
    ],
)
def test_files_that_lead_elsewhere_are_refused(path: Path, arrays: Arrays, plant: Plant, rule: str) -> None:
    other = save(path.with_name("other.hdf5"), arrays | {"qpos": np.zeros((12, 2))})
    del arrays["observations"]
    with h5py.File(save(path, arrays), "a") as file:
        plant(file, other)
    refused(path, rule)


def test_a_group_in_place_of_an_array_is_refused(path: Path, arrays: Arrays) -> None:
    del arrays["actions"]
    refused(save(path, arrays | {"actions/low": np.zeros(12)}), "actions must be an array, got Group")


@pytest.mark.parametrize("declared", [10**7, 10**12])
def test_more_data_than_the_file_can_hold_is_refused(path: Path, arrays: Arrays, declared: int) -> None:
    del arrays["observations"]
    with h5py.File(save(path, arrays), "a") as file:
        file.create_dataset("observations", (declared, 4), "f4", chunks=(1024, 4))
    refused(path, f"declares {declared * 16 + 12 * (8 + 4 + 1 + 1)} bytes of data, more than the")


def test_a_filter_of_a_plug_in_is_refused(path: Path, arrays: Arrays) -> None:
    del arrays["observations"]
    with h5py.File(save(path, arrays), "a") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 4))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((12, 4))
        h5py.h5d.create(file.id, b"observations", h5py.h5t.IEEE_F32LE, space, dcpl=plist)
    refused(path, "observations must use HDF5's own filters, got filter {32015}")
