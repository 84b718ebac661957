"""What most time goes into, as ratios to a fixed workload of the same run: python -m benchmarks.speed.hotpaths."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from core import registry
from core.buffer import Buffer, Mixer
from core.random import Streams
from core.registry import build_method
from generators.base import start_states
from metrics.statistics import iqm, stratified_bootstrap
from models.cache import ModelCache
from tasks.base import DataOptions, load_task
from tasks.simulators.locomotion import simulator

__all__ = ["hot_paths", "measure"]

_SEEDS = (0, 1)
_GENERATORS = {  # hardly fitted: how good they are does not change how long they take
    "ensemble": {"dynamics": {"max_updates": 10}},
    "synther": {"model": {"updates": 5}},
    "trajectory": {"model": {"updates": 5}, "reward": {"max_updates": 10}},
    "dydiff": {"model": {"updates": 5}, "reward": {"max_updates": 10}, "dynamics": {"max_updates": 10}},
}


def hot_paths(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """(name, call): a call of each sampler, updates of every algorithm, a bootstrap, a replay; tens of milliseconds.

    `folder` keeps the models that the generators need.
    """
    task = load_task("toy/linear", DataOptions(size=4000))
    rng = Streams(_SEEDS)
    data, _ = task.dataset()
    policy = build_method("algorithms", "td3bc", {"preset": "smoke"}).init(data, rng.fork("policy")).policy
    for name, small in _GENERATORS.items():
        config = build_method("generators", name, {"preset": "smoke", **small})
        fitted = config.fit(task, data, ModelCache(rng.fork("models"), folder), rng.fork("fit"))
        start = start_states(data, 200, rng.fork("start"))

        def generate(fitted: Any = fitted, start: torch.Tensor = start, length: int = config.rollout_length) -> object:
            return fitted.generate(policy, start, length, rng.fork("generate"))

        yield f"generate {name}", generate
    for name in registry.available("algorithms"):
        config = build_method(
            "algorithms", name, {"preset": "smoke"} if "smoke" in registry.load("algorithms", name).presets else {}
        )
        state = config.init(data, rng.fork("init"))
        mixer = Mixer(data.train, Buffer(len(_SEEDS), 1, 4, 2, "cpu"), 1.0, config.batch_size)

        def update(config: Any = config, state: Any = state, mixer: Mixer = mixer) -> None:
            batches = rng.fork("batches")
            noise = rng.fork("noise")
            for _ in range(10):
                config.update(state, mixer.batch(batches), noise)

        yield f"update {name}", update
    scores = torch.rand(10, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    yield "bootstrap", lambda: stratified_bootstrap(scores, iqm, 2000, torch.Generator().manual_seed(0))
    hopper = simulator("Hopper-v4")
    begin = hopper.reset(32, rng)[0]
    action = 2 * rng.uniform(32, 20, 3)[0] - 1
    yield "replay", lambda: hopper.replay(begin, action)


def measure(repeats: int = 7) -> dict[str, float]:
    """Fastest of `repeats` calls, in units of the fastest call of the reference workload beside it; one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, call in hot_paths(Path(folder)):
            call()
            own = []
            reference = []
            for _ in range(repeats):  # in turns, so that both see the same machine
                reference.append(_seconds(_reference))
                own.append(_seconds(call))
            ratios[name] = min(own) / min(reference)
    torch.set_num_threads(threads)
    return ratios


def _reference() -> None:
    """Forty updates of a small network written down plainly: as much dispatch, products and memory as our own work."""
    rng = torch.Generator().manual_seed(0)
    weights = [torch.randn(2, *shape, generator=rng).requires_grad_() for shape in ((16, 64), (64, 64), (64, 8))]
    x = torch.randn(2, 128, 16, generator=rng)
    for _ in range(40):
        y = x
        for weight in weights:
            y = torch.relu(torch.bmm(y, weight))
        gradients = torch.autograd.grad(y.square().mean(), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 1e-3 * gradient


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(tabulate(measure().items(), ["hot path", "time / reference workload"], floatfmt=".3f"))
