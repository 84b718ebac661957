"""Copies of real rows are real rows, evenly many of each, and training on them is training on real data."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.execution.cell import run_cell
from benchmarks.suite import cells, load_suite
from core.buffer import Buffer, pack
from core.data import Dataset, Trajectories
from core.policy import UniformPolicy
from core.random import Streams
from generators.duplicate import Duplicate
from models.cache import ModelCache
from tasks.base import DataOptions, Task, load_task

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("toy/linear", DataOptions(dataset_rows=500))


@pytest.fixture(scope="module")
def data(task: Task) -> Dataset:
    plain = task.dataset()[0]
    return replace(plain, train=replace(plain.train, terminated=plain.train.next_obs[:, 0] > 0.25))


def generate(task: Task, data: Dataset, rows: int, label: str = "", length: int = 1) -> Trajectories:
    rng = Streams(SEEDS, label)
    fitted = Duplicate().fit(task, data, ModelCache(rng), rng)
    return fitted.generate(UniformPolicy(2), torch.zeros(len(SEEDS), rows, 4), length, rng)


def test_every_row_is_there_before_one_is_there_again(task: Task, data: Dataset) -> None:
    rows, valid = generate(task, data, 2 * 450 + 100).transitions()
    assert valid.all()
    assert len(data.train.obs) == 450
    known = pack(data.train)
    seen = pack(rows)
    for seed in range(2):
        unique, count = seen[seed].unique(dim=0, return_counts=True)
        assert torch.equal(unique, known.unique(dim=0))
        assert sorted(count.tolist()) == [2] * 350 + [3] * 100
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen, pack(generate(task, data, 1000, "b").transitions()[0]))


def test_by_default_the_buffer_holds_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever `buffer_rows` and `train_rows` say: synthetic batches come from data as wide as the real ones do."""
    made = []

    class Watched(Buffer):
        def __init__(self, *dims: Any) -> None:
            super().__init__(*dims)
            made.append(self)

    monkeypatch.setattr("benchmarks.execution.cell.Buffer", Watched)
    few = ("updates=2", "evaluate_every=2", "fidelity_starts=3", "buffer_rows=10", "dataset_rows=500", "train_rows=420")
    (spec,) = cells(load_suite("smoke", ('generators=["duplicate"]', *few)))
    task = load_task(spec.task, spec.settings.data_options(None))
    run_cell(spec, task, torch.device("cpu"))
    known = pack(task.dataset()[0].train)
    assert len(known) == 400
    for seed, rows in enumerate(made[0].rows):
        assert made[0].written[seed] == 400
        assert torch.equal(rows.unique(dim=0), known.unique(dim=0))


def test_fewer_copies_can_be_asked_for(data: Dataset) -> None:
    assert Duplicate(rollouts=7).starts(data) == 7
    assert Duplicate().starts(data) == 450


def test_of_a_longer_rollout_one_step_counts(task: Task, data: Dataset) -> None:
    made = generate(task, data, 7, length=3)
    assert made.valid.sum(-1).eq(1).all()
    assert made.valid[..., 0].all()


def test_scores_are_those_of_real_data_only() -> None:
    """Six seeds each, within three standard errors; 86.8 is the behaviour policy, and BC has about 98."""
    overrides: tuple[str, ...] = ('algorithms=["bc"]', 'bc.preset="smoke"', "seeds=[0, 1, 2, 3, 4, 5]", "updates=300")
    means: dict[str, Any] = {}
    for generator in ("none", "duplicate"):
        (spec,) = cells(load_suite("smoke", (*overrides, f'generators=["{generator}"]', "evaluate_every=300")))
        records, _ = run_cell(spec, load_task(spec.task, spec.settings.data_options(None)), torch.device("cpu"))
        means[generator] = torch.tensor([x.value for x in records if x.metric == "normalized_score"])
    none = means["none"]
    copies = means["duplicate"]
    assert not torch.equal(none, copies)
    assert none.mean() > 95
    assert (none - copies).mean().abs() < 3 * (none - copies).std() / len(none) ** 0.5
