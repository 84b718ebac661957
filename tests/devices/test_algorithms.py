"""Every algorithm on the emulated GPU: updates as graphs, policies, and resuming."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from algorithms.base import CriticState
from benchmarks.execution.updates import Stepper, capture_on
from core.buffer import Buffer, Mixer
from core.checkpoint import Checkpoint, load_all, state_of
from core.data import Dataset
from core.policy import GaussianPolicy, ImplicitPolicy
from core.random import Streams
from tasks.base import DataOptions, load_task

SEEDS = (0, 1)
UPDATES = 12  # each branch of an update is replayed, with and without synthetic rows
REFRESH = 6


@pytest.fixture(scope="module")
def toy() -> Dataset:
    return load_task("toy/linear", DataOptions(dataset_rows=600)).dataset()[0]


class Training:
    """Updates of one method, with synthetic rows from update `REFRESH` on."""

    def __init__(self, algorithm: Any, toy: Dataset, device: str) -> None:
        rng = Streams(SEEDS, device=device)
        self.data = toy.to(device)
        self.state = algorithm.init(self.data, rng.fork("init"))
        self.buffer = Buffer(len(SEEDS), 50, 4, 2, device)
        self.mixer = Mixer(algorithm.rows(self.data), self.buffer, 0.5, algorithm.batch_size)
        streams = rng.fork("batches"), rng.fork("noise")
        self.update = Stepper(algorithm, self.state, self.mixer, *streams, capture_on(torch.device(device)))
        self.parts = {"state": self.state, "buffer": self.buffer, "update": self.update}

    def run(self, until: int = UPDATES) -> dict[str, Tensor]:
        while self.update.count < until:
            if self.update.count == REFRESH:
                rows = self.data.train.map(lambda x: x[:30].expand(len(SEEDS), *x[:30].shape))
                self.buffer.add(rows, torch.ones(len(SEEDS), 30, dtype=torch.bool, device=rows.obs.device))
                self.mixer.refresh()
            losses = self.update()
        return {name: loss.clone() for name, loss in losses.items()}


def tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ():
        yield from tensors(value)


def test_updates_are_those_of_a_cpu(gpu: Any, toy: Dataset, algorithm: Any) -> None:
    training = Training(algorithm, toy, "cuda")
    found = training.run()
    assert all(x.is_cuda for x in (*found.values(), *tensors(training.state.state_dict())))
    for loss, expected in Training(algorithm, toy, "cpu").run().items():
        torch.testing.assert_close(found[loss].cpu(), expected, rtol=1e-3, atol=1e-4)


def test_a_resumed_run_equals_an_undisturbed_one(gpu: Any, toy: Dataset, tmp_path: Path, algorithm: Any) -> None:
    """With a rate that changes, where the algorithm has one."""
    expected = Training(algorithm, toy, "cuda").run()
    stopped = Training(algorithm, toy, "cuda")
    stopped.run(until=8)
    Checkpoint(tmp_path).save(8, state_of(stopped.parts))
    resumed = Training(algorithm, toy, "cuda")
    load_all(resumed.parts, (Checkpoint(tmp_path).load() or (0, {}))[1])
    found = resumed.run()
    assert all(x.is_cuda for x in tensors(resumed.state.state_dict()))
    assert all(torch.equal(found[loss].cpu(), value.cpu()) for loss, value in expected.items())


def test_policies_answer_on_the_device(gpu: Any, toy: Dataset, algorithm: Any) -> None:
    rng = Streams(SEEDS, device="cuda")
    state = algorithm.init(toy.to("cuda"), rng.fork("init"))
    obs = rng.normal(5, 4)
    action = state.policy.act(obs, None)
    answers = [action, state.policy.act(obs, rng)]
    if isinstance(state.policy, GaussianPolicy):
        answers.extend(state.policy.latent(obs, action))
    if isinstance(state.policy, ImplicitPolicy):
        answers.append(state.policy.sample(obs, 3, rng))
    if isinstance(state, CriticState):
        answers.append(state.action_value(obs, action))
    assert all(answer.is_cuda for answer in answers)
