"""Nothing here reads a format that can run code, or unpacks an archive: not now, and not by a later change."""

import ast
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.data import Dataset
from core.errors import DataError
from core.random import Streams
from models.cache import ModelCache
from models.dynamics import DynamicsConfig
from tasks import hdf5
from tasks.base import DataOptions, load_task
from tasks.recipes import policies as behaviour

ROOT = Path(__file__).resolve().parent.parent
MODULES = {"pickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal", "tarfile", "zipfile"}
CALLS = {
    "torch.load", "torch.jit.load", "torch.hub.load", "pd.read_pickle", "pandas.read_pickle", "shutil.unpack_archive",
    "pooch.Untar", "pooch.Unzip", "pooch.Decompress",
}  # fmt: skip
FEEDING = {  # make pickles, and read none but their own
    "tests/benchmarks/audit/test_verify.py",
    "tests/core/test_checkpoint.py",
    "tests/tasks/simulators/test_locomotion.py",
    "tests/test_no_pickle.py",
    "tests/test_properties.py",
}


def used(source: str) -> Iterator[str]:
    """What of the above a module's code uses; comments and texts are not code."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ({alias.name.partition(".")[0] for alias in names} & MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                yield from ({module.partition(".")[0]} & MODULES)
                yield from ({f"{module}.{alias.name}" for alias in names} & CALLS)
            case ast.Attribute() if (name := ast.unparse(node)) in CALLS:
                yield name
            case ast.keyword(arg="allow_pickle", value=value) if ast.unparse(value) != "False":
                yield "allow_pickle"


def test_no_code_of_ours_reads_what_can_run_code() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    files = tracked.stdout.split()
    assert len(files) > 100
    found = {file: set(used((ROOT / file).read_text(encoding="utf-8"))) for file in files if (ROOT / file).exists()}
    assert {file for file, names in found.items() if names} <= FEEDING
    assert "pickle" in found["tests/test_no_pickle.py"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle", "pickle"),
        ("import joblib.numpy_pickle as j", "joblib"),
        ("from marshal import loads", "marshal"),
        ("from torch import load", "torch.load"),
        ("torch.load(path, weights_only=True)", "torch.load"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("np.load(path, allow_pickle=flag)", "allow_pickle"),
        ("shutil.unpack_archive(path)", "shutil.unpack_archive"),
    ],
)
def test_the_search_finds_it(source: str, name: str) -> None:
    assert set(used(source)) == {name}
    assert not set(used(f"# {source}\nnp.load(path)\nnp.load(path, allow_pickle=False)\ntext = {source!r}"))


class Bomb:
    """Whoever unpickles it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.mkdir, (self.folder,)  # type: ignore[return-value]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "code was run"


@pytest.fixture(params=["pickle", "torch"])
def bomb(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> bytes:
    """A pickle, or what torch.save makes of one."""
    if request.param == "pickle":
        content = pickle.dumps(Bomb(folder))
        pickle.loads(content)  # it does go off
        folder.rmdir()
        return content
    torch.save(Bomb(folder), tmp_path / "bomb.pt")
    return (tmp_path / "bomb.pt").read_bytes()


def test_the_hdf5_loader_refuses_a_pickle(bomb: bytes, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "hopper_medium-v2.hdf5"
    path.write_bytes(bomb)
    with pytest.raises(DataError, match=r"hopper_medium-v2\.hdf5: must be an HDF5 file, but it starts with"):
        hdf5.read(path)
    with pytest.raises(DataError, match=r"hopper_medium-v2\.hdf5: must be an HDF5 file"):
        load_task("d4rl/hopper-medium-v2", DataOptions(data_dir=tmp_path)).dataset()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["metadata.json", "main_data.hdf5"])
def test_minari_refuses_a_pickle(
    bomb: bytes, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = tmp_path / "bomb-v0" / "data"
    data.mkdir(parents=True)
    (data / "metadata.json").write_text('{"observation_space": "{}", "action_space": "{}", "data_format": "hdf5"}')
    (data / name).write_bytes(bomb)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(DataError, match="bomb-v0"):
        load_task("minari/bomb-v0", DataOptions())
    assert not folder.exists()


def test_shipped_policies_are_no_pickles(
    bomb: bytes, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaviour, "FOLDER", tmp_path)
    (tmp_path / "hopper.safetensors").write_bytes(bomb)
    with pytest.raises(DataError, match=r"hopper\.safetensors must be a safetensors file: "):
        behaviour.load_policies("hopper")
    assert not folder.exists()


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_the_model_cache_replaces_a_pickle(
    bomb: bytes, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    config = DynamicsConfig(members=2, elites=1, width=8, weight_decay=(0.0, 0.0), max_updates=4, check_every=2)
    data: Dataset = load_task("toy/linear", DataOptions(dataset_rows=500)).dataset()[0]
    before = ModelCache(Streams((0,)), tmp_path / "models").get(config, data).state_dict()
    (path,) = (tmp_path / "models").glob(f"*.{suffix}")
    path.write_bytes(bomb)
    after = ModelCache(Streams((0,)), tmp_path / "models").get(config, data).state_dict()
    assert path.stem in capsys.readouterr().err
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not folder.exists()
