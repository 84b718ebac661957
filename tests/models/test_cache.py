import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from core import checkpoint
from core.data import Dataset
from core.interrupt import Stopped
from core.random import Streams
from models import cache as cache_module
from models.behaviour import BehaviourConfig
from models.cache import FitContext, ModelCache
from models.diffusion.denoisers import ResidualMLPConfig, UNetConfig
from models.diffusion.trajectory import TrajectoryDiffusionConfig
from models.diffusion.transition import TransitionDiffusionConfig
from models.dynamics import DynamicsConfig
from models.reward import RewardConfig
from models.termination import TerminationConfig
from tasks.base import DataOptions, load_task

TINY = DynamicsConfig(members=2, elites=1, width=8, weight_decay=(0.0, 0.0), max_updates=20, check_every=10)


def state(cache: ModelCache, data: Dataset, config: DynamicsConfig = TINY) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = cache.get(config, data).state_dict()
    return found


def test_a_model_is_fitted_once_and_comes_back_bit_for_bit(toy: Dataset, tmp_path: Path) -> None:
    first = state(ModelCache(Streams((0, 1)), tmp_path), toy)
    with patch.object(DynamicsConfig, "fit", side_effect=AssertionError("fitted again")):
        second = state(ModelCache(Streams((0, 1)), tmp_path), toy)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_missing_seeds_are_fitted_with_equal_results(toy: Dataset, tmp_path: Path) -> None:
    state(ModelCache(Streams((1,)), tmp_path / "a"), toy)
    mixed = state(ModelCache(Streams((0, 1, 2)), tmp_path / "a"), toy)
    together = state(ModelCache(Streams((0, 1, 2)), tmp_path / "b"), toy)
    assert all(torch.equal(mixed[name], together[name]) for name in mixed)
    assert not torch.equal(mixed["net.layers.0.weight"][0], mixed["net.layers.0.weight"][1])


@pytest.mark.parametrize("change", ["config", "data"])
def test_another_configuration_or_other_rows_are_another_model(toy: Dataset, tmp_path: Path, change: str) -> None:
    state(ModelCache(Streams((0,)), tmp_path), toy)
    config = replace(TINY, learning_rate=1e-4) if change == "config" else TINY
    data = replace(toy, train=replace(toy.train, reward=toy.train.reward + 1)) if change == "data" else toy
    state(ModelCache(Streams((0,)), tmp_path), data, config)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_training_sets_of_two_sizes_share_no_model(tmp_path: Path) -> None:
    """The file is the same, so are its checksum and what is held out."""
    sets = [load_task("toy/linear", DataOptions(None, 1000, train_rows=size)).dataset()[0] for size in (None, 800, 850)]
    assert len({data.sha256 for data in sets}) == 1
    for data in sets:
        state(ModelCache(Streams((0,)), tmp_path), data)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


@pytest.mark.parametrize("file", ["core/random.py", "core/buffer.py", "models/nn.py"])
def test_code_that_determines_weights_is_part_of_the_key(
    toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """A comment more in a copy of the sources: another model."""
    for folder in ("core", "models"):
        shutil.copytree(Path(cache_module.__file__).parent.parent / folder, tmp_path / folder)
    monkeypatch.setattr(cache_module, "__file__", str(tmp_path / "models/cache.py"))
    keys = []
    for _ in range(2):
        cache_module._source.cache_clear()
        keys.append(cache_module._source())
        with (tmp_path / file).open("a", encoding="utf-8") as source:
            source.write("# changed\n")
    cache_module._source.cache_clear()
    assert keys[0] != keys[1]


def test_fits_of_other_seeds_keep_checkpoints_apart(toy: Dataset, tmp_path: Path) -> None:
    """They have locks of their own, so they may run at once: one must not clear what the other resumes from."""
    folders = []

    def stopped(config: DynamicsConfig, model: object, data: Dataset, context: FitContext) -> None:
        folders.append(context.checkpoint.folder)
        raise Stopped(signal.SIGTERM)

    for seeds in ((0,), (0, 1), (0,)):
        with patch.object(DynamicsConfig, "fit", stopped), pytest.raises(Stopped):
            state(ModelCache(Streams(seeds), tmp_path), toy)
    assert folders[0] == folders[2] != folders[1]


def test_a_shared_model_is_the_first_seeds_for_all(toy: Dataset, tmp_path: Path) -> None:
    shared = state(ModelCache(Streams((4, 5)), tmp_path, shared=True), toy)
    own = state(ModelCache(Streams((4,)), tmp_path), toy)
    assert all(torch.equal(shared[name], own[name].expand_as(shared[name])) for name in shared)


def test_a_damaged_file_is_named_and_replaced(toy: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(ModelCache(Streams((0,)), tmp_path), toy)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-40])
    after = state(ModelCache(Streams((0,)), tmp_path), toy)
    assert path.name in capsys.readouterr().err
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_knows_what_its_models_once_cost_whoever_fitted_them(toy: Dataset, tmp_path: Path) -> None:
    first = ModelCache(Streams((0, 1)), tmp_path)
    second = ModelCache(Streams((0, 1)), tmp_path)
    state(first, toy)
    state(second, toy)
    assert first.used == second.used
    assert len(first.used) == 2
    assert all(
        used["seconds"] > 0 and used["model"] == "models.dynamics.DynamicsConfig" for used in first.used.values()
    )


def test_what_a_model_was_built_on_is_named_with_it(toy: Dataset, tmp_path: Path) -> None:
    dynamics = replace(TINY, max_updates=20)
    config = TrajectoryDiffusionConfig(
        rows=4, updates=2, batch_size=4, corrects=dynamics, denoiser=UNetConfig(dim=8, multipliers=(1,))
    )
    cache = ModelCache(Streams((0,)), tmp_path)
    again = ModelCache(Streams((0,)), tmp_path)
    cache.get(config, toy)
    again.get(config, toy)
    kinds = {used["model"] for used in again.used.values()}
    assert again.used == cache.used
    assert kinds == {
        "models.dynamics.DynamicsConfig",
        "models.diffusion.trajectory.TrajectoryDiffusionConfig",
    }


def test_a_model_without_its_card_is_fitted_again(toy: Dataset, tmp_path: Path) -> None:
    before = state(ModelCache(Streams((0,)), tmp_path), toy)
    next(tmp_path.glob("*.json")).unlink()
    after = state(ModelCache(Streams((0,)), tmp_path), toy)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert list(tmp_path.glob("*.json"))


FITS = {
    "ensemble": replace(TINY, max_updates=45),
    "unrolled": replace(TINY, unroll=3, unroll_updates=15, unroll_batch=8),
    "reward": RewardConfig(hidden=(8,), max_updates=45, check_every=20),
    "termination": TerminationConfig(hidden=(8,), max_updates=45, check_every=20),
    "behaviour": BehaviourConfig(smoothing=0.2, max_updates=45, check_every=20),
    "transitions": TransitionDiffusionConfig(denoiser=ResidualMLPConfig(width=16, blocks=1, embedding=8), updates=45),
    "trajectories": TrajectoryDiffusionConfig(rows=8, denoiser=UNetConfig(dim=8, multipliers=(1, 2)), updates=45),
}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_stopped_repeatedly_equals_an_undisturbed_one(
    name: str, toy: Dataset, tmp_path: Path, repeatedly_stopped: Callable[..., dict[str, torch.Tensor]]
) -> None:
    data = replace(toy, train=replace(toy.train, terminated=toy.train.obs[:, 0] > 0.3))

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = ModelCache(Streams((0, 1)), folder).get(FITS[name], data).state_dict()
        return found

    whole = weights(tmp_path / "a")
    torn = repeatedly_stopped(lambda: weights(tmp_path / "b"), 12)
    assert all(torch.equal(value, torn[key]) for key, value in whole.items())
    assert not list((tmp_path / "b").glob("*.partial"))


def test_a_fit_that_had_other_threads_starts_again(
    toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Adam groups parameters by the number of threads, so the state of its groups would not fit."""
    config = FITS["reward"]
    with pytest.raises(Stopped), monkeypatch.context() as patch:
        patch.setattr(checkpoint, "pending_signal", lambda: signal.SIGTERM)
        ModelCache(Streams((0,)), tmp_path / "a").get(config, toy)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        torn = ModelCache(Streams((0,)), tmp_path / "a").get(config, toy).state_dict()
        whole = ModelCache(Streams((0,)), tmp_path / "b").get(config, toy).state_dict()
    finally:
        torch.set_num_threads(threads)
    assert "is not used: it belongs to other code, versions" in capsys.readouterr().err
    assert all(torch.equal(value, torn[key]) for key, value in whole.items())


@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_one_changed_byte_is_said_and_fitted_again(
    toy: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    before = state(ModelCache(Streams((0,)), tmp_path), toy)
    (path,) = tmp_path.glob(f"*.{kind}")
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    after = state(ModelCache(Streams((0,)), tmp_path), toy)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "is damaged" in said[0]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert state(ModelCache(Streams((0,)), tmp_path), toy)
    assert capsys.readouterr().err == ""
