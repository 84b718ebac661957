"""Shapes are checked in every test: beartype enforces the annotations of our packages from here on."""

import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, no_type_check

import pytest
import torch
from beartype import beartype
from jaxtyping import install_import_hook

PACKAGES = ["core", "tasks", "models", "generators", "algorithms", "metrics", "benchmarks"]
CHECKS = 20  # of one function in one test, two a call
_checks: Counter[str] = Counter()
_unchecked: list[Callable[..., Any]] = []


def beartype_at_first(stub: Callable[..., Any]) -> Callable[..., Any]:
    """beartype until `CHECKS`, for jaxtyping's hook: a fit calls a layer thousands of times, with the same shapes.

    The contract of IQL and Diffusion-QL takes 63 seconds of a core so, with every call checked 105. Functions inside of
    others are checked in every call. jaxtyping makes two stubs of a function: one has its arguments checked, the other
    its result, too.
    """
    check = beartype(stub)
    name = f"{stub.__module__}.{stub.__qualname__}"

    @wraps(stub)
    def checked(*arguments: Any, **named: Any) -> Any:
        _checks[name] += 1
        if _checks[name] == CHECKS and (function := _function_of(stub)) is not None:
            _unchecked.append(no_type_check(function))
        return check(*arguments, **named)

    return checked


def _function_of(stub: Callable[..., Any]) -> Callable[..., Any] | None:
    found: Any = sys.modules[stub.__module__]
    for name in stub.__qualname__.split("."):
        found = inspect.getattr_static(found, name, None)
    return found if inspect.isfunction(found) else None


install_import_hook(PACKAGES, f"{__name__}.beartype_at_first")

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)  # tests run side by side; two threads each would only wait


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def own_checks() -> None:
    """Every test has its first calls checked, whatever ran before it."""
    _checks.clear()
    while _unchecked:
        del _unchecked.pop().__no_type_check__


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder, without any of the user's datasets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Overrides that make `smoke` two cells (none and ensemble) of a second each."""
    settings = ("updates=6", "evaluate_every=3", "episodes=2", "dataset_rows=1000")
    fidelity = ("fidelity_starts=4", "fidelity_horizon=3")
    ensemble = ("ensemble.dynamics.max_updates=4", "ensemble.dynamics.check_every=2", "ensemble.rollouts=8")
    return ('generators=["none","ensemble"]', *settings, *fidelity, *ensemble)


@pytest.fixture
def never() -> Callable[..., Any]:
    """In place of a function that must not be called."""

    def fail(*arguments: Any) -> Any:
        raise AssertionError("nothing was to be run")

    return fail


@pytest.fixture
def numbers() -> Callable[[list[Any]], list[str]]:
    """Records as lines, without costs: they are the same in every run."""
    return lambda records: [record.line() for record in records if not record.metric.startswith("cost/")]


_DRIFT = """
import gymnasium, numpy as np
from gymnasium.spaces import Box

class Drift(gymnasium.Env):
    observation_space = Box(-9, 9, (1,), np.float64)
    action_space = Box(-2, 2, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1)
        return self.x, {}

    def step(self, action):
        self.x = np.clip(self.x + 0.1 * action, -9, 9)
        return self.x, float(-abs(self.x[0])), False, False, {}
"""


@pytest.fixture
def drift_module() -> str:
    """Source of a module with an environment of a user's own, `Drift`."""
    return _DRIFT


@pytest.fixture
def collect() -> Callable[..., tuple[Any, list[Any]]]:
    """An environment and episodes of uniformly random actions in it, until it ends."""
    import gymnasium
    from minari.data_collector.episode_buffer import EpisodeBuffer

    def collected(env_id: str, episodes: int = 5, **kwargs: Any) -> tuple[Any, list[Any]]:
        env = gymnasium.make(env_id, **kwargs)
        env.action_space.seed(0)
        buffers = []
        for seed in range(episodes):
            obs = [env.reset(seed=seed)[0]]
            actions = []
            steps = []
            ended = False
            while not ended:
                actions.append(env.action_space.sample())
                after, reward, terminated, truncated, _ = env.step(actions[-1])
                obs.append(after)
                steps.append((reward, terminated, truncated))
                ended = terminated or truncated
            rewards, ends, limits = (list(column) for column in zip(*steps, strict=True))
            buffers.append(EpisodeBuffer(seed, seed, None, obs, actions, rewards, ends, limits, {}))
        return env, buffers

    return collected


@pytest.fixture
def create() -> Callable[..., None]:
    """Makes a Minari set of them; Minari warns of missing authors, code and other metadata."""
    import minari

    def created(name: str, buffers: list[Any], env: Any, **kwargs: Any) -> None:
        minari.create_dataset_from_buffers(name, buffers, env=env, **kwargs)

    return created


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/generators/test_contract.py --generator package.module:Class` checks a generator of yours."""
    parser.addoption("--generator", metavar="MODULE:CLASS", help="run the generators' contract on this class only")
