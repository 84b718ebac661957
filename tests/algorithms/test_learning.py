"""On a locomotion set made here, cloning reaches what the behaviour policies earn, and the others earn more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.evaluation.policy import evaluate_policy
from core.buffer import Buffer, Mixer
from core.data import Dataset
from core.random import Streams
from core.registry import build_method
from tasks.base import DataOptions, Task, load_task

SEEDS = (0, 1, 2, 3)
EVERY, LAST = 1000, 3  # updates between evaluations, and how many of these are averaged
SMALL = {"hidden": [128, 128]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Dataset, float]:
    """Runs of a half-trained policy that explores, and their mean return."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path_factory.mktemp("set")))
        task = load_task("local/halfcheetah-medium", DataOptions(dataset_rows=20_000))
        data, card = task.dataset()
    return task, data, card["return_mean"]


def evaluations(task: Task, data: Dataset, config: Any, updates: int) -> Iterator[torch.Tensor]:
    """Mean return per seed of five episodes, every so many updates."""
    rng = Streams(SEEDS, "learn")
    state = config.init(data, rng.fork("init"))
    batches = rng.fork("batches")
    noise = rng.fork("update")
    nothing = Buffer(len(SEEDS), 1, data.train.obs.shape[-1], data.train.action.shape[-1], "cpu")
    mixer = Mixer(config.rows(data), nothing, 1.0, config.batch_size)
    for step in range(1, updates + 1):
        config.update(state, mixer.batch(batches), noise)
        if step % EVERY == 0:
            yield dict(evaluate_policy(task, state.policy, 5, rng.fork(f"evaluate/{step}")))["return"]


def earned(task: Task, data: Dataset, config: Any, updates: int) -> torch.Tensor:
    """Mean return per seed over the last evaluations: single ones differ by hundreds."""
    return torch.stack(list(evaluations(task, data, config, updates))[-LAST:]).mean(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "updates", "times", "fields"),
    [
        ("bc", 3000, 1.0, {"learning_rate": 1e-3}),
        ("bc", 3000, 1.1, {"learning_rate": 1e-3, "top_share": 0.3}),  # 0.1 would be one episode
        ("td3bc", 4000, 1.25, {"learning_rate": 1e-3}),
        ("iql", 4000, 1.0, {"learning_rate": 1e-3, "decay_updates": 4000}),
        (
            "cql",
            6000,
            1.25,
            {"actor_rate": 1e-3, "critic_rate": 1e-3, "weight": 5.0, "samples": 4, "batch_size": 128},
        ),
    ],
    ids=["bc", "filtered bc", "td3bc", "iql", "cql"],
)
def test_it_earns_a_multiple_of_the_behaviour_policies(
    world: tuple[Task, Dataset, float], name: str, updates: int, times: float, fields: dict[str, Any]
) -> None:
    """So many times the mean episode of the data, as the mean of all seeds."""
    task, data, behaviour = world
    returns = earned(task, data, build_method("algorithms", name, {**SMALL, **fields}), updates)
    print(f"{name}: {[round(x) for x in returns.tolist()]}, behaviour {behaviour:.0f}")
    assert returns.mean() > times * behaviour


@pytest.mark.slow
@pytest.mark.parametrize("level", ["medium", "medium-replay"])
@pytest.mark.parametrize("env", ["hopper", "halfcheetah", "walker2d"])
def test_published_settings_earn_more_than_the_behaviour(
    env: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TD3+BC with its published alpha, within 10 000 updates: the mean of three evaluations in a row, of all seeds."""
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path))
    task = load_task(f"local/{env}-{level}", DataOptions(dataset_rows=50_000))
    data, card = task.dataset()
    config = build_method("algorithms", "td3bc", {**SMALL, "learning_rate": 1e-3})
    found = list[float]()
    for returns in evaluations(task, data, config, 10_000):
        found.append(returns.mean().item())
        if len(found) >= LAST and sum(found[-LAST:]) / LAST > card["return_mean"]:
            return
    raise AssertionError(f"{found} never stay above {card['return_mean']}")
