"""Whatever a file holds or a user types, it works or is refused by one of our two errors: cases nobody thought of."""

import gzip
import json
import math
import pickle
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.records import Record
from benchmarks.spec import RunSpec, cell_id, restore
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core.data import Dataset
from core.errors import DataError, SpecError
from core.random import Streams
from models.cache import ModelCache
from models.dynamics import DynamicsConfig
from tasks.base import DataOptions, load_task
from tasks.hdf5 import read

reproducible = settings(
    deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow], database=None
)

# Suites

NAMES = ["toy/linear", "none", "ensemble", "td3bc", "bc", "d4rl/hopper-medium-v2", "mopo", "a:b", ":", ".x:y", "int"]
KEYS = [
    "tasks", "generators", "algorithms", "seeds", "vary", "updates", "episodes", "view", "extends", "settings", "none",
    "methods", "ensemble", "td3bc", "preset", "coupling", "label", "dynamics", "rollout_length",
    "ensemble.rollout_length",
]  # fmt: skip
texts = st.one_of(st.sampled_from([*NAMES, "smoke", "episodes", "", "builtins:int"]), st.text(max_size=8))
scalars = st.one_of(
    texts, st.integers(-3, 300), st.integers(), st.floats(), st.booleans(), st.just(10**400), st.dates(), st.times()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
tables = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), values, max_size=4)
BASE = {"tasks": ["toy/linear"], "generators": ["none", "ensemble"], "algorithms": ["td3bc"], "seeds": [0]}


def toml(value: Any) -> str:
    """A value as TOML, tables inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else str(value)


def expand(content: bytes, *overrides: str) -> None:
    """Cells or a `SpecError`."""
    with TemporaryDirectory() as folder, suppress(SpecError):
        path = Path(folder, "mine.toml")
        path.write_bytes(content)
        for spec in cells(load_suite(str(path), overrides)):
            assert cell_id(json.loads(json.dumps(spec.describe(), allow_nan=False))) == spec.cell_id


@reproducible
@given(table=tables, whole=st.booleans())
def test_any_table_is_a_suite_or_a_spec_error(table: dict[str, Any], whole: bool) -> None:
    suite = table if whole else BASE | table
    expand("\n".join(f"{toml(key)} = {toml(value)}" for key, value in suite.items()).encode())


@reproducible
@given(
    content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
)
def test_any_text_is_a_suite_or_a_spec_error(content: bytes) -> None:
    expand(content)


@reproducible
@given(
    key=st.sampled_from([*KEYS, "vary.ensemble", "vary.coupling", "vary.updates", "ensemble.dynamics.members"])
    | st.text(max_size=6),
    value=st.one_of(values.map(toml), st.text(max_size=20)),
)
def test_any_override_is_one_or_a_spec_error(key: str, value: str) -> None:
    content = "\n".join(f"{name} = {toml(listed)}" for name, listed in BASE.items()).encode()
    expand(content, f"{key}={value}")
    expand(content, key + value)


@pytest.mark.parametrize(
    "override",
    [
        f"updates={'1' * 5000}",
        f"updates={'[' * 5000}",
        'generators=[":x"]',
        'generators=[".x:y"]',
        'generators=["builtins:int"]',
        "ensemble.preset=[]",
        "ensemble.preset={}",
        "vary.ensemble=[{label=5}]",
        "vary.ensemble=[{label=[1]}]",
    ],
)
def test_overrides_that_once_ended_in_a_traceback(override: str) -> None:
    content = "\n".join(f"{name} = {toml(listed)}" for name, listed in BASE.items())
    with TemporaryDirectory() as folder, pytest.raises(SpecError):
        path = Path(folder, "mine.toml")
        path.write_text(content, encoding="utf-8")
        cells(load_suite(str(path), [override]))


def test_a_parent_with_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for name in ("x" * 5000, "\\u0000"):
        for suffix in ("", ".toml"):
            path.write_text(f'extends = "{name}{suffix}"', encoding="utf-8")
            with pytest.raises(SpecError):
                load_suite(str(path))


# Specifications


@cache
def spec() -> RunSpec:
    return cells(load_suite("smoke", ('generators=["ensemble"]',)))[0]


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "updates": st.integers(1, 10**9),
        "real_fraction": st.floats(0, 1),
        "heldout": st.floats(0, 1, exclude_min=True, exclude_max=True),
        "view": st.sampled_from(["episodes", "qlearning"]),
        "shared_models": st.booleans(),
        "skip_broken_episodes": st.booleans(),
    },
)


@reproducible
@given(one=CHANGES, other=CHANGES, seeds=st.lists(st.integers(0, 99), max_size=3), variant=st.text(max_size=5))
def test_equal_specs_have_equal_ids_and_others_others(
    one: dict[str, Any], other: dict[str, Any], seeds: list[int], variant: str
) -> None:
    base = spec()
    first, second = (replace(base, settings=base.settings.model_copy(update=changes)) for changes in (one, other))
    assert (first.cell_id == second.cell_id) == (first.settings.model_dump() == second.settings.model_dump())
    described = json.loads(json.dumps(dict(reversed(first.describe().items()))))
    again = restore(described, seeds, variant)
    assert again.cell_id == cell_id(described) == first.cell_id
    assert (again.settings, again.generator, again.algorithm) == (first.settings, first.generator, first.algorithm)


# Results


@reproducible
@given(
    seed=st.integers(0, 2**63 - 1),
    step=st.integers(0, 2**63 - 1),
    metric=st.text(),
    value=st.none() | st.floats(),
    horizon=st.none() | st.integers(1, 2**63 - 1),
)
def test_records_read_back_as_they_were(
    seed: int, step: int, metric: str, value: float | None, horizon: int | None
) -> None:
    line = Record(seed, step, metric, value, horizon).line()
    kept = value if value is None or math.isfinite(value) else None
    found = Record.parse(line)
    assert found == Record(seed, step, metric, kept, horizon)
    assert len(line.splitlines()) == 1
    assert found.value is None or math.copysign(1, found.value) == math.copysign(1, float(str(value)))


texts_of_json = values.map(lambda value: json.dumps(value, default=str))
contents = st.one_of(
    st.binary(max_size=80),
    texts_of_json.map(str.encode),
    st.sampled_from(
        [b"[" * 100_000, b'{"seeds": {"0": 1}}', b'{"seeds": {"x": "y"}}', b'{"seed": [], "step": 1}', b"1" * 5000]
    ),
)


@reproducible
@given(
    name=st.sampled_from(["records.jsonl", "records.jsonl.gz", "DONE", "spec.json", "plan.json"]),
    content=contents,
    appended=st.booleans(),
)
def test_any_bytes_in_a_results_folder_are_read_or_refused(name: str, content: bytes, appended: bool) -> None:
    with TemporaryDirectory() as folder:
        store = ResultStore(Path(folder))
        store.plan("smoke", [spec()])
        store.finish(spec(), {"seeds": [0]}, [Record(0, 1, "return", 1.0)])
        path = store.root / name if name == "plan.json" else store.root / spec().cell_id / name
        if name == "records.jsonl":
            packed = path.with_name("records.jsonl.gz")
            path.write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
        path.write_bytes(path.read_bytes() + content if appended else content)
        with suppress(DataError):
            for cell in store.cells():
                assert cell.error is not None or cell.records == [Record(0, 1, "return", 1.0)] or not cell.done
        for read_it in (store.planned, lambda: store.missing(spec()), lambda: store.strays(spec().cell_id)):
            with suppress(DataError):
                read_it()


# Models

TINY = DynamicsConfig(members=2, elites=1, width=4, weight_decay=(0.0, 0.0), max_updates=2, check_every=1)


@cache
def fitted() -> tuple[Dataset, bytes, bytes, dict[str, torch.Tensor]]:
    """Rows, the file and card of a model that was fitted to them, and its weights."""
    data = load_task("toy/linear", DataOptions(dataset_rows=500)).dataset()[0]
    with TemporaryDirectory() as folder:
        weights = ModelCache(Streams((0,)), Path(folder)).get(TINY, data).state_dict()
        (file,) = Path(folder).glob("*.safetensors")
        (card,) = Path(folder).glob("*.json")
        return data, file.read_bytes(), card.read_bytes(), weights


@settings(reproducible, max_examples=25)
@given(
    kind=st.sampled_from(["flip", "cut", "insert", "pickle"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_no_altered_model_is_loaded_unnoticed(kind: str, place: float, bit: int) -> None:
    data, content, card, weights = fitted()
    at = int(place * len(content))
    altered = {
        "flip": content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :],
        "cut": content[:at],
        "insert": content[:at] + bytes([bit]) + content[at:],
        "pickle": pickle.dumps({"weights": [bit, place]}),
    }[kind]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        said = list[str]()
        patch.setattr("models.cache.say", said.append)
        cache = ModelCache(Streams((0,)), Path(folder))
        (key,) = cache._keys(TINY, data, Streams((0,)).fork("DynamicsConfig"))
        Path(folder, f"{key}.safetensors").write_bytes(altered)
        Path(folder, f"{key}.json").write_bytes(card)
        found = cache.get(TINY, data).state_dict()
        assert len(said) == 1
        assert "is damaged (its checksum differs from its card)" in said[0]
        assert all(torch.equal(found[name], weights[name]) for name in weights)


# Data

DTYPES = ["f4", "f8", "f2", "i1", "i8", "u8", "?", "c8", "S3", ">f4", "V4", "(2,)f4", "i4,f4", "f16"]
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
arrays = st.tuples(
    shapes | st.sampled_from([(4,), (4, 2)]), st.sampled_from(DTYPES), st.sampled_from([0, 1, -1, 3, math.nan])
)
LIKELY = {"observations": (4, 2), "actions": (4, 2), "rewards": (4,), "terminals": (4,)}
OPTIONAL = ["timeouts", "next_observations", "infos/qpos", "infos/qvel", "infos/action_log_probs"]


@reproducible
@given(
    changed=st.dictionaries(st.sampled_from([*LIKELY, *OPTIONAL]), arrays, max_size=3),
    gone=st.sets(st.sampled_from([*LIKELY]), max_size=1),
    max_steps=st.none() | st.integers(1, 5),
)
def test_any_small_hdf5_file_is_read_or_refused(changed: dict[str, Any], gone: set[str], max_steps: int | None) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "set.hdf5")
        with h5py.File(path, "w") as file:
            for key, shape in LIKELY.items():
                if key not in gone and key not in changed:
                    file[key] = np.zeros(shape, np.float32)
            for key, (shape, dtype, fill) in changed.items():
                kind = np.dtype(dtype)
                filled = np.zeros(shape, kind)
                if kind.kind in "fiub" and not (kind.kind != "f" and math.isnan(fill)):
                    filled = np.full(shape, fill).astype(kind)
                file[key] = filled
        with suppress(DataError):
            rows = read(path, max_steps)
            assert gone <= changed.keys()
            assert rows.obs.ndim == 2
            assert len(rows.obs) == len(rows.reward) == len(rows.timeout) > 0
            assert np.isfinite(rows.obs).all()
            assert np.abs(rows.action).max() <= 1
