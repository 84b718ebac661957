"""Networks, Adam and log-densities in float64 NumPy, and the batches that the oracles run on."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.evaluation.policy import evaluate_policy
from core.buffer import Buffer, Mixer
from core.data import Batch, Dataset
from core.random import Streams
from core.registry import build_method
from tasks.base import DataOptions, load_task

Arrays = list[np.ndarray]
SEEDS = (0, 1)


@pytest.fixture(scope="session")
def toy() -> Dataset:
    """The linear system's data in float64, so that rounding hides no mistake."""
    data = load_task("toy/linear", DataOptions(dataset_rows=2000)).dataset()[0]
    return replace(data, train=data.train.map(doubled), obs_mean=data.obs_mean, obs_std=data.obs_std)


@pytest.fixture(scope="session")
def draw(toy: Dataset) -> Callable[..., Batch]:
    """Another batch for every number and seed; every third row ends, behaviour terms act on the first rows."""

    def batch(number: int = 0, rows: int = 5, behaviour_rows: int | None = None) -> Batch:
        chosen = (Streams(SEEDS, f"batch/{number}").uniform64(rows) * len(toy.train.obs)).long()
        drawn = vars(toy.train.map(lambda x: x[chosen]))
        ends = (torch.arange(rows) % 3 == 0).expand(len(SEEDS), -1)
        acted_on = rows if behaviour_rows is None else behaviour_rows
        return Batch(**{**drawn, "terminated": ends}, behaviour_rows=acted_on)

    return batch


@pytest.fixture(scope="session")
def hand() -> SimpleNamespace:
    """What the oracles are made of."""
    return SimpleNamespace(
        adam=Adam,
        backward=backward,
        double=double,
        forward=forward,
        normal=normal,
        relu=RELU,
        mish=MISH,
        weights=weights,
    )


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.is_floating_point() else x


def double(state: Any) -> Any:
    """Every network of a fresh state in float64 (before the first step of any optimiser)."""
    for value in vars(state).values():
        if isinstance(value, torch.nn.Module):
            value.double()
        elif isinstance(value, torch.nn.Parameter):
            value.data = value.data.double()
    return state


def normal(data: Dataset, obs: torch.Tensor, epsilon: float = 1e-3) -> np.ndarray:
    mean, scale = data.obs_mean.numpy(), (data.obs_std + epsilon).numpy()  # float32, as the networks keep them
    return np.asarray((obs.numpy() - mean.astype(float)) / scale.astype(float))


def weights(net: Any, copy: Any) -> Arrays:
    """Weight and bias of every layer in turn."""
    return [x[copy].detach().double().numpy().copy() for layer in net.linear for x in (layer.weight, layer.bias)]


def _mish(x: np.ndarray) -> np.ndarray:
    return x * np.tanh(np.log1p(np.exp(x)))


def _mish_slope(x: np.ndarray) -> np.ndarray:
    t = np.tanh(np.log1p(np.exp(x)))
    return t + x * (1 - t**2) / (1 + np.exp(-x))


RELU = (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float))
MISH = (_mish, _mish_slope)


def forward(parameters: Arrays, x: np.ndarray, activation: Any = RELU) -> tuple[np.ndarray, list[Arrays]]:
    """(output, [input, pre-activation] of every layer)."""
    trace: list[Arrays] = []
    pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
    for number, (weight, bias) in enumerate(pairs):
        before = x @ weight + bias
        trace.append([x, before])
        x = activation[0](before) if number < len(pairs) - 1 else before
    return x, trace


def backward(
    parameters: Arrays, trace: list[Arrays], upstream: np.ndarray, activation: Any = RELU
) -> tuple[Arrays, np.ndarray]:
    """(gradient of every parameter, gradient of the input)."""
    gradients: Arrays = []
    for number in reversed(range(len(trace))):
        x, before = trace[number]
        if number < len(trace) - 1:
            upstream = upstream * activation[1](before)
        gradients[:0] = [x.T @ upstream, upstream.sum(0, keepdims=True)]
        upstream = upstream @ parameters[2 * number].T
    return gradients, upstream


class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.steps = 0
        self.m = {}
        self.v = {}

    def step(self, parameters: Arrays, gradients: Arrays) -> None:
        """In place."""
        self.steps += 1
        for i, (parameter, g) in enumerate(zip(parameters, gradients, strict=True)):
            self.m[i] = 0.9 * self.m.get(i, 0.0) + 0.1 * g
            self.v[i] = 0.999 * self.v.get(i, 0.0) + 0.001 * g * g
            m = self.m[i] / (1 - 0.9**self.steps)
            v = self.v[i] / (1 - 0.999**self.steps)
            parameter -= self.rate * m / (np.sqrt(v) + 1e-8)


@pytest.fixture(scope="session")
def score() -> Callable[..., torch.Tensor]:
    """Normalized score per seed after some updates on toy/linear, where the behaviour policy has 86.8."""

    def train(name: str, updates: int, **fields: Any) -> torch.Tensor:
        task = load_task("toy/linear", DataOptions(dataset_rows=20_000))
        config = build_method("algorithms", name, {"preset": "smoke", **fields})
        rng = Streams(SEEDS, "learn")
        data, _ = task.dataset()
        state = config.init(data, rng.fork("init"))
        batches = rng.fork("batches")
        noise = rng.fork("update")
        mixer = Mixer(data.train, Buffer(len(SEEDS), 1, 4, 2, "cpu"), 1.0, config.batch_size)
        for _ in range(updates):
            config.update(state, mixer.batch(batches), noise)
        return dict(evaluate_policy(task, state.policy, 50, rng.fork("evaluate")))["normalized_score"]

    return train
