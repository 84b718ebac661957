"""Ways to run the same updates: they must be the same updates."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from algorithms.base import StepwiseAlgorithm
from benchmarks.execution.updates import Stepper, cuda_graph, pays
from core import registry
from core.buffer import Buffer, Mixer
from core.data import Dataset
from core.random import Streams
from core.registry import build_method
from models.flops import counted
from tasks.base import DataOptions, load_task

SEEDS = (0, 1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_task("toy/linear", DataOptions(dataset_rows=2000)).dataset()[0]


def made(name: str, data: Dataset, device: str = "cpu", **fields: Any) -> tuple[Any, ...]:
    """(algorithm, state, mixer, batches, noise, buffer), always from the same seeds."""
    algorithm = build_method("algorithms", name, {"hidden": [16, 16], **fields})
    rng = Streams(SEEDS, device=device)
    data = data.to(torch.device(device))
    buffer = Buffer(len(SEEDS), 50, 4, 2, device, refreshes=1)
    mixer = Mixer(data.train, buffer, 0.5, 32, "real_only")
    return algorithm, algorithm.init(data, rng.fork("init")), mixer, rng.fork("batches"), rng.fork("noise"), buffer


def refresh(number: int, data: Dataset, mixer: Mixer, buffer: Buffer) -> None:
    """Rows that come in before some updates: of one seed, of both, and around the end of the ring."""
    counts = {8: (30, 0), 12: (20, 10), 20: (25, 25)}.get(number)
    if counts is not None:
        rows = data.train.map(lambda x: x[number : number + 30].expand(2, *x[:30].shape).to(buffer.rows.device))
        buffer.add(rows, (torch.arange(30) < torch.tensor(counts)[:, None]).to(buffer.rows.device))
        mixer.refresh()


def tensors(state: Any) -> list[torch.Tensor]:
    return [x for part in (state.policy, getattr(state, "critic", None)) for x in _parameters(part)]


def _parameters(part: Any) -> list[torch.Tensor]:
    part = getattr(getattr(part, "state", None), "actor", part)
    return [] if part is None else list(part.parameters())


class Recorded:
    """Stands for a graph: what is captured runs only when it is replayed, and answers in the same tensors."""

    def __init__(self) -> None:
        self.captured = 0
        self.replayed = 0

    def __call__(self, work: Callable[[], dict[str, torch.Tensor]], generators: list[torch.Generator]) -> Any:
        assert len(generators) == 2 * len(SEEDS)
        self.captured += 1
        kept: dict[str, torch.Tensor] = {}

        def replay() -> dict[str, torch.Tensor]:
            self.replayed += 1
            for name, value in work().items():
                kept.setdefault(name, torch.empty_like(value)).copy_(value)
            return kept

        return replay


@pytest.mark.parametrize("name", registry.available("algorithms"))
def test_replayed_updates_are_those_that_would_have_run(name: str, data: Dataset) -> None:
    """Branches of the algorithm, learning rates that fall, rows that come in between: all as without graphs."""
    fields = {"dql": {"ema_start": 4, "decay_updates": 30}, "iql": {"decay_updates": 30}}.get(name, {})
    results = []
    recorded = Recorded()
    for capture in (None, recorded):
        *parts, buffer = made(name, data, **fields)
        update = Stepper(*parts, capture=capture)
        mixer = parts[2]
        losses = []
        for number in range(28):
            refresh(number, data, mixer, buffer)
            losses.append({key: value.clone() for key, value in update().items()})
        results.append((losses, tensors(parts[1]), update.flop().tolist()))
    (plain, weights, spent), (replayed, same, equally) = results
    assert spent == equally
    assert all(one[key].equal(two[key]) for one, two in zip(plain, replayed, strict=True) for key in two)
    assert [one.keys() for one in plain] == [two.keys() for two in replayed]
    assert all(a.equal(b) for a, b in zip(weights, same, strict=True))
    assert recorded.captured >= 2
    assert recorded.replayed > 8


def test_an_update_that_cannot_be_captured_runs_as_it_is(data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*given: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    (*one, _) = made("td3bc", data)
    (*two, _) = made("td3bc", data)
    plain = Stepper(*one)
    refused = Stepper(*two, capture=refuse)
    for _ in range(9):
        assert plain()["critic"].equal(refused()["critic"])
    assert capsys.readouterr().err.count("cannot be captured: operation not permitted") == 1


def test_an_algorithm_with_an_update_only_is_never_captured(data: Dataset) -> None:
    algorithm, *parts, _ = made("bc", data)

    class Plain:
        batch_size = algorithm.batch_size
        update = staticmethod(algorithm.update)

    recorded = Recorded()
    update = Stepper(Plain(), *parts, capture=recorded)
    for _ in range(6):
        update()
    assert recorded.captured == 0
    assert update.flop().isnan().all()
    assert isinstance(algorithm, StepwiseAlgorithm)


def test_flop_of_td3bc_by_hand(data: Dataset) -> None:
    """Critics [6, 16, 16, 1] twice and an actor [4, 16, 16, 2] on 32 rows; the actor moves every second update."""
    critics = 2 * 2 * (6 * 16 + 16 * 16 + 16 * 1)
    actor = 2 * (4 * 16 + 16 * 16 + 16 * 2)
    first_critics, first_actor = 2 * 2 * 6 * 16, 2 * 4 * 16
    target = actor + critics
    critic_step = target + 3 * critics - first_critics  # no gradient of the inputs
    actor_step = actor + 2 * critics + 2 * actor - first_actor  # through the critics to the actions
    (*parts, _) = made("td3bc", data)
    update = Stepper(*parts)
    for _ in range(7):
        update()
    assert update.flop().tolist() == [32 * (7 * critic_step + 3 * actor_step)] * 2


@pytest.mark.parametrize("name", registry.available("algorithms"))
def test_flop_are_those_of_every_update_counted(name: str, data: Dataset) -> None:
    """All branches, rows that come in between, and an interruption."""
    fields = {"dql": {"ema_start": 4}}.get(name, {})
    algorithm, state, mixer, batches, noise, buffer = made(name, data, **fields)
    total = 0
    for number in range(28):
        refresh(number, data, mixer, buffer)
        with counted() as mode:
            algorithm.update(state, mixer.batch(batches), noise)
        total += mode.total
    *parts, buffer = made(name, data, **fields)
    update = Stepper(*parts)
    for number in range(28):
        refresh(number, data, parts[2], buffer)
        if number == 14:
            saved = update.state_dict()
            update = Stepper(*parts)
            update.load_state_dict(saved)
        update()
    assert update.flop().tolist() == [total / len(SEEDS)] * len(SEEDS)


@pytest.mark.parametrize("name", registry.available("algorithms"))
def test_a_step_changes_nothing_but_tensors(name: str, data: Dataset) -> None:
    """A graph replays kernels: what Python counts must be counted by `schedule`."""
    algorithm, state, mixer, batches, noise, _ = made(name, data)

    def counted() -> list[Any]:
        numbers = [x for x in vars(state).values() if isinstance(x, int | float)]
        groups = [x.param_groups for x in vars(state).values() if isinstance(x, torch.optim.Optimizer)]
        return [*numbers, *(group["lr"] for each in groups for group in each)]

    for _ in range(4):
        due = algorithm.schedule(state)
        before = counted()
        algorithm.step(state, mixer.batch(batches), noise, due)
        assert counted() == before


def test_compiling_is_chosen_by_measured_cost() -> None:
    assert not pays("td3bc", 10**9, "never", CPU)
    assert pays("bc", 1, "always", CPU)
    assert pays("td3bc", 10**6, "auto", CPU)
    assert not pays("td3bc", 100, "auto", CPU)
    assert not pays("DynamicsConfig", 10**9, "auto", CPU), "nobody knows how many updates it will make"
    assert not pays("td3bc", 10**9, "always", torch.device("cuda")), "graphs are replayed there"


_COMPILED = """
import torch
from benchmarks.execution.updates import Stepper
from models.compiled import compiling
import sys
sys.path.insert(0, {folder!r})
from test_updates import SEEDS, made, tensors
from tasks.base import DataOptions, load_task
data = load_task("toy/linear", DataOptions(dataset_rows=2000)).dataset()[0]
results = []
flop = []
for on in (False, True):
    *parts, _ = made({name!r}, data, **{fields!r})
    update = Stepper(*parts)
    with compiling(on):
        for _ in range(4):
            losses = update()
    results.append([*losses.values(), *tensors(parts[1])])
    flop.append(update.flop().tolist())
assert flop[0] == flop[1], flop
worst = max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-3)) for a, b in zip(*results, strict=True))
from torch._dynamo.utils import counters
print(worst, sum(counters["graph_break"].values()), counters["stats"]["unique_graphs"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.available("algorithms"))
def test_compiled_updates_agree_to_rounding_without_a_break(name: str) -> None:
    """In a process of its own: here every annotation is enforced, which torch.compile would trace."""
    fields = {"cql": {"samples": 2, "lagrange_gap": 5.0}}.get(name, {})
    script = _COMPILED.format(folder=str(Path(__file__).parent), name=name, fields=fields)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    worst, breaks, graphs = found.stdout.split()[-3:]
    assert float(worst) < 1e-4
    assert int(breaks) == 0
    assert int(graphs) >= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", registry.available("algorithms"))
def test_a_cuda_graph_gives_the_same_numbers(name: str, data: Dataset) -> None:
    results = []
    for capture in (None, cuda_graph):
        *parts, buffer = made(name, data, "cuda")
        update = Stepper(*parts, capture=capture)
        for number in range(28):
            refresh(number, data, parts[2], buffer)
            losses = update()
        results.append([*losses.values(), *tensors(parts[1])])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
