"""Datasets made with Minari's own API."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import minari
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def _collect(env_id: str, episodes: int = 5, **kwargs: Any) -> tuple[gymnasium.Env[Any, Any], list[EpisodeBuffer]]:
    """Uniformly random actions until the environment ends."""
    env = gymnasium.make(env_id, **kwargs)
    env.action_space.seed(0)
    buffers = []
    for seed in range(episodes):
        observations = [env.reset(seed=seed)[0]]
        actions = []
        steps = []
        ended = False
        while not ended:
            actions.append(env.action_space.sample())
            obs, reward, terminated, truncated, _ = env.step(actions[-1])
            observations.append(obs)
            steps.append((reward, terminated, truncated))
            ended = terminated or truncated
        rewards, terminations, truncations = (list(column) for column in zip(*steps, strict=True))
        buffers.append(EpisodeBuffer(seed, seed, None, observations, actions, rewards, terminations, truncations, {}))
    return env, buffers


def _create(name: str, buffers: list[EpisodeBuffer], env: Any, **kwargs: Any) -> None:
    """Minari warns of missing authors, code and other metadata; `pytestmark` ignores that."""
    minari.create_dataset_from_buffers(name, buffers, env=env, **kwargs)


@pytest.fixture
def collect() -> Callable[..., tuple[Any, list[EpisodeBuffer]]]:
    """An environment and episodes of uniformly random actions in it."""
    return _collect


@pytest.fixture
def create() -> Callable[..., None]:
    """Makes a dataset of them."""
    return _create
