"""What the peers import and no longer installs, as far as they use it: gym, d4rl, wandb, pyrallis.

Written from how the peers call them. The data are those of one HDF5 file in D4RL's layout, every row of it, with the
next observations that it stores; an environment knows its shapes and nothing else: policies are judged elsewhere.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import h5py
import numpy as np

from benchmarks.peers import Stub

__all__ = ["Box", "Env", "Finished", "Recorder", "install", "main", "read"]

_KEYS = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")


class Finished(Exception):  # noqa: N818
    """Raised inside a peer's training loop when the job's updates are done."""


class Box:
    """gym's: bounds and a shape."""

    def __init__(self, size: int, bound: float) -> None:
        self.shape = (size,)
        self.high = np.full(size, bound, np.float32)
        self.low = -self.high
        self.dtype = np.float32

    def seed(self, seed: int) -> None:
        pass


class Env:
    """An environment of which only shapes and data are ever asked."""

    _max_episode_steps = 1000

    def __init__(self, file: Path) -> None:
        self.data = read(file)
        self.observation_space = Box(self.data["observations"].shape[1], np.inf)
        self.action_space = Box(self.data["actions"].shape[1], 1.0)
        self.spec = SimpleNamespace(max_episode_steps=self._max_episode_steps)

    def seed(self, seed: int) -> None:
        pass

    def get_dataset(self, **given: Any) -> dict[str, np.ndarray]:
        """Copies: peers change rewards in place."""
        return {name: values.copy() for name, values in self.data.items()}

    def get_normalized_score(self, score: float) -> float:
        return float("nan")


def read(file: Path) -> dict[str, np.ndarray]:
    """The columns of the file under D4RL's names."""
    with h5py.File(file, "r") as content:
        return {name: np.asarray(content[name]) for name in _KEYS}


def install(file: Path, idle: Iterable[str] = (), more: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Env:
    """Put the shims where `import` finds them; returns the environment that `gym.make` makes, whatever its name.

    Modules named in `idle` can be imported, too, and do nothing; `more` are others, with their content. So can
    everything below any of them.
    """
    env = Env(file)
    known: dict[str, Mapping[str, Any]] = {
        "gym": {"make": lambda name, **given: env, "Env": Env},
        "gym.wrappers": {"TransformObservation": _same, "TransformReward": _same},
        "d4rl": {"qlearning_dataset": lambda env, **given: env.get_dataset()},
        "wandb": {"log": _nothing, "init": _nothing},
        "pyrallis": {"wrap": lambda *given, **named: lambda train: train},
    }
    modules = {**known, **{name: {} for name in idle}, **more}
    sys.meta_path.append(_Below(modules))
    for name, content in modules.items():
        module = Stub(name)
        module.__path__ = []
        for key, value in content.items():
            setattr(module, key, value)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], child, module)
    return env


class Recorder:
    """Writes what a driver finds, and counts the time between two of its checkpoints as training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Training pauses."""
        self.seconds += time.perf_counter() - self._since

    def resume(self) -> None:
        self._since = time.perf_counter()

    def arrays(self, name: str, **values: Any) -> None:
        """Write `name.npz`; it is there whole or not at all."""
        part = self.folder / f"{name}.part.npz"
        content: dict[str, Any] = {key: np.asarray(value) for key, value in values.items()}
        np.savez(part, **content)
        part.replace(self.folder / f"{name}.npz")


def main(train: Callable[[dict[str, Any], Recorder], dict[str, Any]]) -> None:
    """Do the job of the command line; what `train` returns is added to the facts of the run in `facts.json`."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    record = Recorder(Path(sys.argv[2]))
    facts = train(job, record)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    if isinstance(torch := sys.modules.get("torch"), ModuleType):
        versions["torch"] = str(torch.__version__)
    facts = {"train_seconds": record.seconds, "versions": versions, **facts}
    plain = json.loads(json.dumps(facts, default=str), parse_constant=str)  # JSON has no infinity
    (record.folder / "facts.json").write_text(json.dumps(plain), encoding="utf-8")


class _Below(MetaPathFinder, Loader):
    """Finds an idle module for every name below the given ones that nothing else finds."""

    def __init__(self, above: Iterable[str]) -> None:
        self.above = tuple(f"{name}." for name in above)

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Asked last."""
        return ModuleSpec(name, self, is_package=True) if name.startswith(self.above) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _same(env: Any, *given: Any) -> Any:
    return env


def _nothing(*given: Any, **named: Any) -> None:
    pass
