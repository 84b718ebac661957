"""What is asked for does not change what is drawn: a shorter rollout is the beginning of a longer one.

A network that has learned from whole windows must be given whole windows: asked for fewer rows it is outside of what it
has seen, and its first step is wrong by an amount that depends on the length. Over every generator and preset, with
budgets of seconds, on the toy and on data whose episodes are shorter than a window.
"""

from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from core import registry
from core.config import merged
from core.data import Dataset
from core.random import Streams
from core.registry import build_method
from generators.base import ActionConditioned, Generator
from models.cache import ModelCache
from models.diffusion.known import Known
from models.diffusion.trajectory import TrajectoryDiffusion, TrajectoryDiffusionConfig
from tasks.base import DataOptions, Task, load_task

SEEDS = (0, 1)
LENGTHS = (1, 3, 7, 10)
LONGEST = 14  # two blocks


class Outwards:
    """Drives the carts out of the data, by an amount that depends on the state; with rng or without."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return 0.8 + 0.2 * (9 * obs[..., :2]).sin()


_ENSEMBLE = {"members": 2, "elites": 2, "width": 8, "weight_decay": [0.0, 0.0], "max_updates": 10, "check_every": 5}
_SEQUENCE = {"rows": 8, "denoiser": {"dim": 8, "multipliers": [1, 2]}, "updates": 10, "batch_size": 8}
TINY: dict[str, dict[str, Any]] = {
    "dynamics": _ENSEMBLE,
    "reward": {"hidden": [8], "max_updates": 10, "check_every": 5},
    "sampler": {"steps": 3},
    "model": _SEQUENCE,
    "inverse": {"hidden": [8], "max_updates": 10, "check_every": 5},
}


def cases() -> list[tuple[str, str | None]]:
    """Every generator, as it is and with each of its presets."""
    names = registry.available("generators")
    return [(name, preset) for name in names for preset in (None, *registry.load("generators", name).presets)]


def build(name: str, preset: str | None) -> Generator:
    """The generator with budgets of seconds."""
    known = {field.name for field in fields(registry.load("generators", name))}
    tiny = {field: value for field, value in TINY.items() if field in known}
    if name == "oneshot":
        tiny.pop("sampler")
    if name == "synther":
        tiny["model"] = {"denoiser": {"width": 8, "blocks": 1, "embedding": 8}, "updates": 10, "batch_size": 8}
    if name == "ar_diffusion":
        tiny["model"] = {field: value for field, value in _SEQUENCE.items() if field != "rows"}
    if preset in ("dwm", "dwm_paper"):
        tiny.pop("inverse")
    if preset == "unrolled":
        tiny["dynamics"] = _ENSEMBLE | {"unroll_updates": 5}
    if preset == "corrector":
        tiny = merged(tiny, {"model": {"corrects": _ENSEMBLE}})
    made: Generator = build_method("generators", name, tiny | {"preset": preset} if preset else tiny)
    return made


@cache
def toy() -> tuple[Task, Dataset]:
    task = load_task("toy/linear", DataOptions(dataset_rows=2000))
    return task, task.dataset()[0]


def short(steps: int) -> tuple[Task, Dataset]:
    """The same rows in episodes of so many steps, which end by timeout."""
    task, data = toy()
    return task, replace(data, episode=torch.arange(len(data.episode), dtype=torch.int32) // steps)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def fit(name: str, preset: str | None, folder: Path, task: Task, data: Dataset) -> Any:
    rng = Streams(SEEDS)
    return build(name, preset).fit(task, data, ModelCache(rng.fork("models"), folder), rng.fork("fit"))


@pytest.mark.parametrize(("name", "preset"), cases())
def test_a_shorter_rollout_begins_a_longer_one(name: str, preset: str | None, models: Path) -> None:
    task, data = toy()
    fitted = fit(name, preset, models, task, data)
    start = data.train.obs[:9].expand(2, -1, -1)
    whole = fitted.generate(Outwards(), start, LONGEST, Streams(SEEDS, "generate"))
    for length in LENGTHS:
        made = fitted.generate(Outwards(), start, length, Streams(SEEDS, "generate"))
        assert torch.equal(made.obs, whole.obs[:, :, : length + 1])
        assert torch.equal(made.action, whole.action[:, :, :length])
        assert torch.equal(made.valid, whole.valid[:, :, :length])
        assert torch.allclose(made.reward, whole.reward[:, :, :length], atol=1e-4)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(("name", "preset"), cases())
def test_networks_see_the_windows_they_have_learned(
    name: str, preset: str | None, steps: int, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are absent only for a network that knows that; none is present beyond the longest episode of the data."""
    seen = list[tuple[TrajectoryDiffusion, bool, torch.Tensor]]()
    task, data = short(steps)
    fitted = fit(name, preset, models, task, data)
    plain = TrajectoryDiffusion.known

    def known(model: TrajectoryDiffusion, *given: Any) -> Known:
        seen.append((model, given[1].shape[2] == model.config.rows - 1, given[2]))
        return plain(model, *given)

    monkeypatch.setattr(TrajectoryDiffusion, "known", known)
    start = data.train.obs[:9].expand(2, -1, -1)
    made = fitted.generate(Outwards(), start, 6, Streams(SEEDS, "generate"))
    assert made.obs.isfinite().all()
    generated = len(seen)
    if isinstance(fitted, ActionConditioned):
        assert fitted.imagine(start, made.action, Streams(SEEDS, "imagine")).obs.isfinite().all()
    for call, (model, whole, present) in enumerate(seen):
        longest = min(steps, model.config.rows - 1)
        assert whole
        assert not present[..., longest + 1 :].any()
        assert present[..., : longest + 1].all() or (call >= generated and model.config.knows_absent)


@pytest.mark.slow  # the network has to have learned something: half a minute
def test_the_first_step_is_as_good_in_a_short_rollout() -> None:
    """Median error of the first state under logged actions; asked for one step it was 6.9 times that of all 15."""
    task = load_task("toy/linear", DataOptions(dataset_rows=20_000))
    data = task.dataset()[0]
    released = {field: TrajectoryDiffusionConfig.presets["paper"][field] for field in ("base", "conditions", "scored")}
    small = {"rows": 16, "denoiser": {"dim": 16, "multipliers": [1, 2], "blocks": 1}, "learning_rate": 3e-3}
    model: Any = {**small, **released, "windows": "inside", "cut": 0.0, "units": "limits", "sigma_data": 0.5}
    model |= {"noise_mean": -1.2, "updates": 2500, "batch_size": 32}
    tiny = {field: TINY[field] for field in ("dynamics", "reward")}
    rng = Streams((0,))
    generator = build_method("generators", "dydiff", {**tiny, "box": "none", "model": model})
    fitted = generator.fit(task, data, ModelCache(rng), rng)
    start = data.heldout.obs[:200, 0][None]
    action = data.heldout.action[:200, :15][None]
    truth = task.simulator.replay(start.double(), action)[:, :, 1]

    def error(length: int) -> float:
        made = fitted.imagine(start, action[:, :, :length], rng.fork("imagine"))
        return float(((made.obs[:, :, 1] - truth) / data.obs_std).square().mean(-1).sqrt().median())

    assert error(1) < 1.5 * error(15)
