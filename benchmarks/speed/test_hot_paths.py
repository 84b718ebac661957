"""Hot paths, timed by pytest-benchmark beside a fixed workload: `make bench-ci`; `run_bench.py check` compares ratios.

Not collected by `make test`. One thread, processor time: other programs count as little as can be. Before every timed
call the reference workload runs, so that both see the same machine; its fastest time is `reference` in the json.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core import registry
from core.buffer import Buffer, Mixer
from core.random import Streams
from core.registry import build_method
from generators.base import start_states
from metrics.intervals import stratified_bootstrap
from metrics.statistics import iqm
from models.cache import ModelCache
from tasks.base import DataOptions, load_task
from tasks.simulators.locomotion import simulator

pytestmark = pytest.mark.benchmark(timer=time.process_time)
ROUNDS = 15
SEEDS = (0, 1)
GENERATORS: dict[str, dict[str, Any]] = {  # hardly fitted: how good they are does not change how long they take
    "ensemble": {"dynamics": {"max_updates": 10}},
    "synther": {"model": {"updates": 5}},
    "trajectory": {"model": {"updates": 5}, "reward": {"max_updates": 10}},
    "dydiff": {"model": {"updates": 5}, "reward": {"max_updates": 10}, "dynamics": {"max_updates": 10}},
}
Time = Callable[[Callable[[], object]], None]


def reference() -> None:
    """Matrix products of fixed size: forty gradient steps of a small network, as much dispatch as our own work."""
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


@pytest.fixture
def timed(benchmark: Any) -> Iterator[Time]:
    """Times a call in turns with the reference workload."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = list[float]()

    def run_reference() -> None:
        started = time.process_time()
        reference()
        seconds.append(time.process_time() - started)

    yield lambda call: benchmark.pedantic(call, setup=run_reference, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["reference"] = min(seconds)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", GENERATORS)
def test_generate(name: str, timed: Time, tmp_path: Path) -> None:
    task = load_task("toy/linear", DataOptions(dataset_rows=4000))
    rng = Streams(SEEDS)
    data, _ = task.dataset()
    policy = build_method("algorithms", "td3bc", {"preset": "smoke"}).init(data, rng.fork("policy")).policy
    config = build_method("generators", name, {"preset": "smoke", **GENERATORS[name]})
    fitted = config.fit(task, data, ModelCache(rng.fork("models"), tmp_path), rng.fork("fit"))
    start = start_states(data, 200, rng.fork("start"))
    timed(lambda: fitted.generate(policy, start, config.rollout_length, rng.fork("generate")))


@pytest.mark.parametrize("name", registry.available("algorithms"))
def test_update(name: str, timed: Time) -> None:
    rng = Streams(SEEDS)
    data, _ = load_task("toy/linear", DataOptions(dataset_rows=4000)).dataset()
    preset = {"preset": "smoke"} if "smoke" in registry.load("algorithms", name).presets else {}
    config = build_method("algorithms", name, preset)
    state = config.init(data, rng.fork("init"))
    mixer = Mixer(data.train, Buffer(len(SEEDS), 1, 4, 2, "cpu"), 1.0, config.batch_size)

    def ten_updates() -> None:
        batches = rng.fork("batches")
        noise = rng.fork("noise")
        for _ in range(10):
            config.update(state, mixer.batch(batches), noise)

    timed(ten_updates)


def test_bootstrap(timed: Time) -> None:
    scores = torch.rand(10, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    timed(lambda: stratified_bootstrap(scores, iqm, 2000, torch.Generator().manual_seed(0)))


def test_replay(timed: Time) -> None:
    rng = Streams(SEEDS)
    hopper = simulator("Hopper-v4")
    begin = hopper.reset(32, rng)[0]
    action = 2 * rng.uniform(32, 20, 3)[0] - 1
    timed(lambda: hopper.replay(begin, action))
