"""FLOP of fits: closed forms, and what must not change them: resuming, other seeds, torch.compile."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.data import Dataset
from core.random import Streams
from models.cache import ModelCache, ModelConfig
from models.diffusion.denoisers import ResidualMLPConfig, UNetConfig
from models.diffusion.trajectory import TrajectoryDiffusionConfig
from models.diffusion.transition import TransitionDiffusionConfig
from models.dynamics import DynamicsConfig
from models.flops import FlopCount, FlopMode, counted, counting, uncounted
from models.inverse import InverseDynamicsConfig
from models.nn import MLP, adam, descend
from models.reward import RewardConfig
from models.termination import TerminationConfig

ENSEMBLE = DynamicsConfig(members=3, elites=2, width=8, weight_decay=(0.0, 0.0, 0.0), max_updates=25, check_every=10)
ROWS = 40  # kept back for validation
FITS: dict[str, ModelConfig] = {
    "ensemble": ENSEMBLE,
    "unrolled": replace(ENSEMBLE, unroll=3, unroll_updates=15, unroll_batch=8),
    "reward": RewardConfig(hidden=(8,), max_updates=45, check_every=20),
    "inverse": InverseDynamicsConfig(hidden=(8,), max_updates=45, check_every=20),
    "termination": TerminationConfig(hidden=(8,), max_updates=45, check_every=20),
    "transitions": TransitionDiffusionConfig(denoiser=ResidualMLPConfig(width=16, blocks=1, embedding=8), updates=45),
    "corrector": TrajectoryDiffusionConfig(
        rows=4, denoiser=UNetConfig(dim=8, multipliers=(1,)), updates=25, batch_size=8, corrects=ENSEMBLE
    ),
}


def spent(config: ModelConfig, data: Dataset, folder: Path, seeds: tuple[int, ...] = (0, 1), **fields: Any) -> Any:
    cache = ModelCache(Streams(seeds), folder, **fields)
    cache.get(config, data)
    return cache.flop().tolist()


def test_a_product_forward_and_backward() -> None:
    """y = x W, [5, 7] x [7, 3] per seed: the gradient of W is one more product; x needs none."""
    net = MLP((2,), [7, 3], Streams((0, 1)))
    optimizer = adam(net.parameters(), 1e-3)
    x = torch.randn(2, 5, 7)
    with counted() as mode:
        descend(optimizer, lambda x: net(x).square().mean((-1, -2)), x)
    assert mode.total == 2 * (2 * 5 * 7 * 3) * 2


def test_counts_go_to_the_innermost_block() -> None:
    x = torch.ones(4, 4)
    with counted() as outer:
        x @ x
        with counted() as inner:
            x @ x
            with uncounted():
                assert not counting()
                x @ x
            assert counting()
        x @ x
    assert (outer.total, inner.total) == (2 * 2 * 4**3, 2 * 4**3)
    assert not counting()


def test_a_kind_is_watched_once_and_multiplied() -> None:
    watched = []

    def step(size: int) -> None:
        watched.append(counting())
        torch.ones(2, size, size) @ torch.ones(2, size, size)

    work = FlopCount(2)
    for size in (4, 5, 4, 4):
        work(size, step, size)
    assert watched == [True, True, False, False]
    assert work.per_seed == [2 * (3 * 4**3 + 5**3)] * 2
    work.going = [False, True]
    work(4, step, 4)
    resumed = FlopCount(2)
    resumed.load_state_dict(work.state_dict())
    resumed(4, step, 4)
    assert resumed.per_seed == [2 * (3 * 4**3 + 5**3), 2 * (5 * 4**3 + 5**3)]


def test_an_ensembles_fit_is_its_updates_and_checks(toy: Dataset, tmp_path: Path) -> None:
    """A backward pass is twice a forward one, less the first layer's gradient of its inputs."""
    config = replace(ENSEMBLE, validation_rows=ROWS)
    sizes = config.sizes(4, 2)
    forward = config.members * config.flops(4, 2)
    first = config.members * 2 * sizes[0] * sizes[1]
    update = config.batch_size * (3 * forward - first)
    checks = 1 + 3  # before the first update, then after 10, 20 and 25
    assert spent(config, toy, tmp_path) == [25 * update + checks * ROWS * forward] * 2


def test_a_diffusion_fit_is_its_updates(toy: Dataset, tmp_path: Path) -> None:
    """Of everything that the network multiplies only its inputs and the noise feature have no gradient."""
    config = FITS["transitions"]
    assert isinstance(config, TransitionDiffusionConfig)
    width = 2 * 4 + 2 + 2
    forward = config.denoiser.flops(width)
    inputs = 2 * (width + 2 * config.denoiser.frequencies + 1) * config.denoiser.embedding
    assert spent(config, toy, tmp_path) == [45 * config.batch_size * (3 * forward - inputs)] * 2


@pytest.mark.parametrize("name", FITS)
def test_a_resumed_fit_has_spent_what_an_undisturbed_one_has(
    name: str, toy: Dataset, tmp_path: Path, repeatedly_stopped: Callable[..., list[float]]
) -> None:
    data = replace(toy, train=replace(toy.train, terminated=toy.train.obs[:, 0] > 0.3))
    whole = spent(FITS[name], data, tmp_path / "a")
    assert all(x > 0 for x in whole)
    torn = repeatedly_stopped(lambda: spent(FITS[name], data, tmp_path / "b"), 8)
    assert torn == whole


@pytest.mark.parametrize("name", FITS)
def test_a_seed_spends_what_it_would_alone(name: str, falling: Dataset, tmp_path: Path) -> None:
    """Also where it stops before the others. A lone seed computes products with a vector twice: a tenth here."""
    config = FITS[name]
    if name == "reward":
        config = replace(config, max_updates=4000, learning_rate=1e-2, patience=2)  # type: ignore[call-arg]
    data = replace(falling, train=replace(falling.train, terminated=falling.train.obs[:, 0] > 0.3))
    together = spent(config, data, tmp_path / "a", (0, 1, 2))
    alone = [spent(config, data, tmp_path / "b", (seed,))[0] for seed in (0, 1, 2)]
    assert together == pytest.approx(alone, rel=0.15 if name in ("reward", "termination") else 1e-12)
    if name == "reward":
        assert len(set(together)) > 1


def test_a_shared_model_counts_in_full_for_every_seed(toy: Dataset, tmp_path: Path) -> None:
    assert spent(ENSEMBLE, toy, tmp_path, (4, 5), shared=True) == spent(ENSEMBLE, toy, tmp_path, (4,)) * 2


def test_what_a_model_was_built_on_counts_once(toy: Dataset, tmp_path: Path) -> None:
    alone = spent(ENSEMBLE, toy, tmp_path, (0,))[0]
    cache = ModelCache(Streams((0, 1)), tmp_path)
    cache.get(FITS["corrector"], toy)
    with_needs = cache.flop().tolist()
    cache.get(ENSEMBLE, toy)
    assert cache.flop().tolist() == with_needs
    own = {model["flop"] for model in cache.used.values() if "Trajectory" in model["model"]}
    assert with_needs == [own.pop() + alone] * 2
    assert not own


def test_a_card_without_flop_is_unknown_not_free(toy: Dataset, tmp_path: Path) -> None:
    cache = ModelCache(Streams((0, 1)), tmp_path)
    cache.get(ENSEMBLE, toy)
    old = next(model for model in cache.used.values() if model["seed"] == 1)
    del old["flop"]
    one, two = cache.flop().tolist()
    assert one > 0
    assert two != two


def test_counting_moves_no_number(toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(self: FlopCount, kind: object, work: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        with uncounted():
            return work(*inputs, **named)

    for name, config in FITS.items():
        watched = ModelCache(Streams((0, 1)), tmp_path / "a").get(config, toy).state_dict()
        with monkeypatch.context() as patch:
            patch.setattr(FlopCount, "__call__", bare)
            plain = ModelCache(Streams((0, 1)), tmp_path / "b").get(config, toy).state_dict()
        assert all(torch.equal(plain[key], watched[key]) for key in plain), name


_COMPILED = """
import sys
from pathlib import Path
import torch
from core.random import Streams
from models.cache import ModelCache
from tasks.base import DataOptions, load_task
sys.path.insert(0, {folder!r})
from test_flops import FITS
data = load_task("toy/linear", DataOptions(dataset_rows=1000)).dataset()[0]
for on in (False, True):
    cache = ModelCache(Streams((0, 1)), Path(sys.argv[1]), compiled=lambda config: on)
    cache.get(FITS["corrector"], data)
    print(cache.flop().tolist())
"""


@pytest.mark.slow
def test_a_compiled_fit_counts_the_same(tmp_path: Path) -> None:
    """In a process of its own: here every annotation is enforced, which torch.compile would trace."""
    script = _COMPILED.format(folder=str(Path(__file__).parent))
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    plain, compiled = ran.stdout.splitlines()[-2:]
    assert plain == compiled


def test_modes_may_be_left_and_entered_again() -> None:
    """`uncounted` relies on it."""
    mode = FlopMode()
    for expected in (16, 32):
        with mode:
            nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2))
        assert mode.total == expected
