"""The emulated GPU computes what a CPU computes, and catches every kind of fault that is planted."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algorithms.base import StepwiseAlgorithm
from benchmarks.execution.updates import Stepper, capture_on
from core.buffer import Buffer, Mixer
from core.checkpoint import _describe, _restore
from core.random import Streams
from models.nn import MLP, adam, half_square, set_rate
from tasks.base import DataOptions, load_task

CUDA = torch.device("cuda")


def test_tensors_are_on_the_device_and_move(gpu: Any) -> None:
    made = torch.zeros(3, device=CUDA)
    assert made.is_cuda
    assert torch.tensor([1.0], device=CUDA).is_cuda
    assert (made + 1).is_cuda
    assert made.new_full((2,), 3).is_cuda
    assert torch.arange(3).to(CUDA).cpu().numpy().tolist() == [0, 1, 2]
    made[1] = 5  # a view shares its numbers
    assert made.tolist() == [0, 5, 0]


def test_random_numbers_are_those_of_a_cpu(gpu: Any) -> None:
    assert torch.equal(Streams((0, 1), device=CUDA).normal(4).cpu(), Streams((0, 1)).normal(4))


ENGINE = torch.autograd.grad  # before the fixture replaces it


def test_gradients_are_those_of_autograd(gpu: Any) -> None:
    """With a broadcast bias, a value that is used twice, an own Function and a parameter's view."""

    def loss(net: MLP, x: Tensor) -> Tensor:
        y = net(x)
        return ((y - y.mean()).square().sum() + half_square(net.linear[0].weight).sum()) * y.exp().sum()

    found = {}
    for device, differentiate in (("cpu", ENGINE), ("cuda", torch.autograd.grad)):
        rng = Streams((0, 1), device=device)
        net = MLP((2,), [3, 4, 1], rng)
        parameters = list(net.parameters())
        gradients = differentiate(loss(net, rng.normal(5, 3)), parameters)
        found[device] = [gradient.cpu() for gradient in gradients]
    for one, other in zip(found["cpu"], found["cuda"], strict=True):
        torch.testing.assert_close(one, other)


def test_two_devices_in_one_operation(gpu: Any) -> None:
    with pytest.raises(RuntimeError, match="tensors must be on one device"):
        torch.zeros(3, device=CUDA) + torch.zeros(3)
    with pytest.raises(RuntimeError, match="tensors must be on one device"):
        torch.cat([torch.zeros(3, device=CUDA), torch.zeros(3)])


def test_an_index_on_another_device(gpu: Any) -> None:
    rows = torch.zeros(3, 2, device=CUDA)
    with pytest.raises(RuntimeError, match="indices must be on the device"):
        rows[torch.tensor([0, 2])]
    with pytest.raises(RuntimeError, match="indices must be on the device"):
        rows[torch.tensor([True, False, True])] = 0
    with pytest.raises(RuntimeError, match="indices must be on the device"):
        rows.cpu()[torch.tensor([0, 2], device=CUDA)]


def test_a_policy_whose_weights_stay_on_the_cpu(gpu: Any) -> None:
    net = MLP((1,), [4, 2], Streams((0,)))
    with pytest.raises(RuntimeError, match="tensors must be on one device"):
        net(torch.zeros(1, 3, 4, device=CUDA))


class Planted(StepwiseAlgorithm):
    """Descends on a square; `fault(state)` comes with every step."""

    batch_size = 4

    def __init__(self, fault: Callable[[Any], Any]) -> None:
        self.fault = fault

    def init(self, data: Any, rng: Streams) -> Any:
        raise NotImplementedError

    def step(self, state: Any, batch: Any, rng: Streams, due: Any) -> dict[str, Tensor]:
        weight, optimizer = state
        weight.grad = weight.detach().clone()
        optimizer.step()
        self.fault(state)
        return {"loss": weight.detach().sum(-1)}


def stepper(fault: Callable[[Any], Any]) -> tuple[Stepper, torch.optim.Optimizer]:
    rng = Streams((0, 1), device=CUDA)
    weight = torch.nn.Parameter(rng.normal(3))
    optimizer = adam([weight], 0.1)
    data = load_task("toy/linear", DataOptions(dataset_rows=200)).dataset()[0].to(CUDA)
    mixer = Mixer(data.train, Buffer(2, 1, 4, 2, CUDA), 1.0, 4)
    made = Stepper(Planted(fault), (weight, optimizer), mixer, rng.fork("b"), rng.fork("n"), capture_on(CUDA))
    return made, optimizer


FAULTS = {
    "item": (lambda state: state[0].sum().item(), "cannot wait for numbers"),
    "truth": (lambda state: bool((state[0] > 0).all()), "cannot wait for numbers"),
    "nonzero": (lambda state: state[0].nonzero(), "cannot wait for numbers"),
    "mask": (lambda state: state[0][state[0] > 0], "cannot wait for numbers"),
    "copy": (lambda state: state[0].detach().cpu(), "freeze or copy a tensor of the CPU"),
    "constant": (lambda state: state[0] * torch.tensor(2.0), "freeze or copy a tensor of the CPU"),
    "upload": (lambda state: torch.ones(3).to(CUDA), "freeze or copy a tensor of the CPU"),
    "index": (lambda state: state[0][torch.tensor([0])], "indices must be on the device"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_inside_an_update(gpu: Any, fault: str) -> None:
    plant, said = FAULTS[fault]
    update, _ = stepper(plant)
    with pytest.raises(RuntimeError, match=said):
        for _ in range(6):
            update()


def test_a_number_of_the_host_that_changes(gpu: Any) -> None:
    numbers = iter(range(10))
    update, _ = stepper(lambda state: state[0] * next(numbers))
    with pytest.raises(AssertionError, match="a graph would repeat"):
        for _ in range(6):
            update()


def test_a_rate_on_the_cpu_is_frozen(gpu: Any) -> None:
    update, optimizer = stepper(lambda state: None)
    optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
    with pytest.raises(RuntimeError, match="freeze or copy a tensor of the CPU"):
        for _ in range(6):
            update()


def test_a_rate_that_was_loaded_is_on_the_device(gpu: Any) -> None:
    """And stays the tensor that a graph has read: its next value is what the next replay uses."""
    update, optimizer = stepper(lambda state: None)
    for _ in range(5):
        update()
    rate = optimizer.param_groups[0]["lr"]
    set_rate(optimizer, 0.03)
    tensors: dict[str, Tensor] = {}
    stored = _restore(_describe(optimizer.state_dict(), tensors), tensors)  # as a checkpoint does
    assert not stored["param_groups"][0]["lr"].is_cuda
    set_rate(optimizer, 0.5)
    optimizer.load_state_dict(stored)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.is_cuda
    torch.testing.assert_close(rate.cpu(), torch.tensor(0.03))
    set_rate(optimizer, 0.0)
    before = update()["loss"].cpu()
    assert torch.equal(update()["loss"].cpu(), before)
