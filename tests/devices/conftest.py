"""A GPU that is emulated on the CPU: its tensors say `cuda`, are computed on the CPU, and obey the rules of CUDA.

Every operation passes through `EmulatedGPU`, which raises where a GPU would (tensors on two devices) and where a GPU
would be slow or wrong (an index on the CPU; inside a graph: a read, a copy, a number that changes between replays).
Values are real, so that whole cells run and their numbers can be compared with a CPU's.
"""

import ctypes
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from core.random import Streams
from core.registry import build_method, loadable

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)

_COPIES = {"aten::_to_copy", "aten::copy_"}  # operations that may take tensors of both devices
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_CUDA_GUARD, _LAZY_GUARD = 1, 17  # c10::DeviceType


class GPUTensor(Tensor):
    """A tensor on the emulated GPU; `held` has the numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls: type["GPUTensor"], held: Tensor) -> "GPUTensor":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        self = Tensor._make_wrapper_subclass(cls, held.shape, **layout, device=CUDA)
        self.held = held
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return EmulatedGPU.current.execute(operation, args, kwargs or {})

    def tolist(self) -> list[Any]:
        return self.cpu().tolist()

    def __repr__(self) -> str:
        return f"GPUTensor({self.held})"


class EmulatedGPU(TorchDispatchMode):
    """Inside the block `device="cuda"` works."""

    current: "EmulatedGPU"

    def __init__(self) -> None:
        super().__init__()
        EmulatedGPU.current = self
        self._recorded: list[tuple[Any, ...]] | None = None  # operations of the graph that is being replayed

    def __enter__(self) -> "EmulatedGPU":
        self._lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") then passes through us
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lifts)
        super().__exit__(*error)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.execute(operation, args, kwargs or {})

    def execute(self, operation: Any, args: Any, kwargs: Any) -> Any:
        """The operation on the numbers, its result on the device that torch would choose."""
        tensors = list(_tensors((args, *kwargs.values())))
        there = {id(x.held): x for x in tensors if isinstance(x, GPUTensor)}
        asked = kwargs.get("device")
        on_gpu = bool(there) if asked is None else torch.device(asked).type == "cuda"
        name = operation._schema.name
        if name == "aten::copy_":
            on_gpu = isinstance(args[0], GPUTensor)
        if there or on_gpu:
            self._check(name, args, tensors)
            if self._recorded is not None:
                self._record(name, operation.tags, args, kwargs, tensors, on_gpu)
        kwargs = {key: _held(value) for key, value in kwargs.items() if key not in ("device", "pin_memory")}
        if asked is not None:
            kwargs["device"] = CPU
        found = operation(*_held(args), **kwargs)
        return _placed(found, there) if on_gpu else found

    def _check(self, name: str, args: Any, tensors: list[Tensor]) -> None:
        """Raise where tensors of both devices meet."""
        if name in _INDEXED and any(isinstance(x, GPUTensor) != isinstance(args[0], GPUTensor) for x in _indices(args)):
            raise RuntimeError(f"{name}: indices must be on the device of the tensor, {args[0].device}")
        if name not in _COPIES and any(x.ndim for x in tensors if not isinstance(x, GPUTensor)):
            raise RuntimeError(f"{name}: tensors must be on one device, got {[str(x.device) for x in tensors]}")

    def _record(self, name: str, tags: Any, args: Any, kwargs: Any, tensors: list[Tensor], on_gpu: bool) -> None:
        """Raise where a graph could not be captured or would not be what was meant; else remember the numbers."""
        if _READS & set(tags) and not (name in _INDEXED and all(x.dtype != torch.bool for x in _indices(args))):
            raise RuntimeError(f"{name}: a graph cannot wait for numbers from the device")
        if not on_gpu or not all(isinstance(x, GPUTensor) for x in tensors):
            raise RuntimeError(f"{name}: a graph would freeze or copy a tensor of the CPU")
        self._recorded.append((name, *map(repr, (*_numbers(args), *_numbers(kwargs.values())))))  # repr: NaN is NaN

    @contextmanager
    def recording(self) -> Iterator[list[tuple[Any, ...]]]:
        """Inside the block operations are those of a graph: yields their names and numbers."""
        self._recorded = []
        try:
            yield self._recorded
        finally:
            self._recorded = None

    def graph(self, work: Callable[[], Any], generators: list[torch.Generator]) -> Callable[[], Any]:
        """In place of `cuda_graph`: a replay runs `work` and asserts that it is what the first replay was."""
        first: list[tuple[Any, ...]] = []

        def replay() -> Any:
            with self.recording() as operations:
                losses = work()
            first.extend(operations if not first else ())
            changed = next(((was, now) for was, now in zip_longest(first, operations) if was != now), None)
            assert changed is None, "a graph would repeat {}, not {}".format(*changed)
            return losses

        return replay


def _tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, tuple | list):
        for part in x:
            yield from _tensors(part)


def _indices(args: Any) -> list[Tensor]:
    return [x for x in args[1] if x is not None]


def _held(x: Any) -> Any:
    if isinstance(x, tuple | list):
        return [_held(part) for part in x]
    return x.held if isinstance(x, GPUTensor) else x


def _placed(x: Any, there: dict[int, GPUTensor]) -> Any:
    """Results as tensors on the GPU; an operation in place returns the tensor that it was given."""
    if isinstance(x, tuple | list):
        return type(x)(_placed(part, there) for part in x)
    if not isinstance(x, Tensor):
        return x
    return there[id(x)] if id(x) in there else GPUTensor(x)


def _numbers(x: Any) -> list[Any]:
    """What a graph would repeat of the arguments of an operation: all but tensors and streams of random numbers."""
    if isinstance(x, str) or not isinstance(x, Iterable):
        return [] if isinstance(x, torch.Generator) else [x]
    return [] if isinstance(x, Tensor) else [number for part in x for number in _numbers(part)]


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """`torch.autograd.grad` of a scalar, node by node in Python: torch's own engine asks for a real device."""
    nodes: dict[Any, None] = {}
    queue = [output.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in nodes:
            nodes[node] = None
            queue += [after for after, _ in node.next_functions]
    upstream: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    upstream[output.grad_fn][output.output_nr] = torch.ones_like(output)
    leaves = {id(node.variable): node for node in nodes if hasattr(node, "variable")}
    inner = [node for node in nodes if not hasattr(node, "variable")]
    for node in sorted(inner, key=lambda node: -node._sequence_nr()):  # the later made, the nearer to the output
        given = [upstream[node].get(at) for at in range(len(node._input_metadata))]
        if all(x is None for x in given):
            continue
        with torch.no_grad():
            for after, at, gradient in _backward(node, given):
                shaped = gradient.sum_to_size(after._input_metadata[at].shape)
                known = upstream[after].get(at)
                upstream[after][at] = shaped if known is None else known + shaped
    return [upstream[leaves[id(x)]][0] for x in inputs]


def _backward(node: Any, given: list[Tensor | None]) -> Iterator[tuple[Any, int, Tensor]]:
    """The gradients that a node passes on, each with the node that it is for and the number of that node's output."""
    if hasattr(node, "apply"):  # of an autograd.Function: it also answers for arguments that are no tensors
        answers = zip(node.apply(*given), node.needs_input_grad, strict=True)
        found = tuple(gradient for gradient, needed in answers if needed)
        towards = [(after, at) for after, at in node.next_functions if after is not None]
    else:
        found = node(*given)
        found = found if isinstance(found, tuple) else (found,)
        towards = node.next_functions
    for (after, at), gradient in zip(towards, found, strict=True):
        if after is not None and gradient is not None:
            yield after, at, gradient


@contextmanager
def guard_without_a_device() -> Iterator[None]:
    """Let a torch that was built without CUDA accept tensors that say `cuda`; skips the test where that is impossible.

    Torch calls a device guard around most operations. It replaces the guard of CUDA by one that does nothing if that
    guard counts no devices; without CUDA there is none to be replaced, so we put in another that counts none.
    """
    try:
        library = next(Path(torch.__file__).parent.glob("lib/libc10.*"))
        guards = (ctypes.c_void_p * 21).in_dll(ctypes.CDLL(str(library)), "_ZN3c104impl26device_guard_impl_registryE")
    except (StopIteration, OSError, ValueError) as error:
        pytest.skip(f"torch {torch.__version__} has no table of device guards that we know: {error}")
    torch.ones((), requires_grad=True).backward()  # autograd starts, and sees no device that it would need a thread for
    before = guards[_CUDA_GUARD]
    guards[_CUDA_GUARD] = before or guards[_LAZY_GUARD]
    torch._C._ensureCUDADeviceGuardSet()
    try:
        yield
    finally:
        guards[_CUDA_GUARD] = before


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedGPU]:
    """`device="cuda"` is emulated during the test; random numbers are those of a CPU."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU; CUDA_VISIBLE_DEVICES= hides it, and one is emulated")
    generators = cached_property(lambda rng: [torch.Generator().manual_seed(rng._number(seed)) for seed in rng.seeds])
    generators.__set_name__(Streams, "generators")
    emulated = EmulatedGPU()
    monkeypatch.setattr(Streams, "generators", generators)
    monkeypatch.setattr(torch.autograd, "grad", gradients)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "emulated")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
    monkeypatch.setattr("benchmarks.execution.updates.cuda_graph", emulated.graph)
    monkeypatch.setattr("benchmarks.execution.updates._WARM", 1)
    with guard_without_a_device(), emulated:
        yield emulated


_SIZES = {  # fields that cost time, and the most a test can afford
    "updates": 4,
    "max_updates": 4,
    "unroll_updates": 2,
    "check_every": 2,
    "rollouts": 6,
    "rollout_length": 7,
    "refresh_every": 8,
    "decay_updates": 20,
    "rows": 8,
    "dim": 8,
    "width": 16,
    "embedding": 8,
    "blocks": 1,
    "members": 3,
    "elites": 2,
    "batch_size": 16,
    "steps": 3,
    "validation_rows": 50,
}


def shrunk(config: Any) -> Any:
    """The same method with small networks and few updates; its switches stay as they are.

    A method may insist on the default of a field that it does not use: that one is left alone.
    """
    changed: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changed[field.name] = shrunk(value)
        elif field.name == "hidden":
            changed["hidden"] = (16,)
        elif field.name == "multipliers":
            changed["multipliers"] = value[:2]
        elif field.name in _SIZES and value is not None:
            changed[field.name] = min(value, _SIZES[field.name])
    for alone in (None, *changed):
        with suppress(ValueError):
            return replace(config, **{name: value for name, value in changed.items() if name != alone})
    raise ValueError(f"{type(config).__name__} cannot be made small by {changed}")


def switches(config: Any) -> Any:
    """All that decides which code runs: of numbers only whether they are zero."""
    if is_dataclass(config):
        return type(config).__name__, *(switches(getattr(config, field.name)) for field in fields(config))
    if isinstance(config, tuple):
        return tuple(map(switches, config))
    return bool(config) if isinstance(config, int | float) else config


def variants(folder: str) -> dict[str, Any]:
    """Every method by name, small, and its presets that are more than other numbers."""
    found: dict[str, Any] = {}
    known = set()
    for kind in loadable(folder):
        name = kind.__module__.rpartition(".")[2]
        for preset in (None, *kind.presets):
            config = shrunk(build_method(folder, name, {"preset": preset} if preset else {}))
            if switches(config) not in known:
                known.add(switches(config))
                found[f"{name}-{preset}" if preset else name] = config
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with an argument `algorithm` or `generator` run for all variants, with `any_...` for one of each method."""
    for folder in ("algorithms", "generators"):
        argument = folder.removesuffix("s")
        every = variants(folder)
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, every.values(), ids=every.keys())
        if f"any_{argument}" in metafunc.fixturenames:
            plain = {name: config for name, config in every.items() if "-" not in name}
            metafunc.parametrize(f"any_{argument}", plain.values(), ids=plain.keys())


@pytest.fixture(scope="session")
def small() -> Callable[[Any], Any]:
    """`small(config)`: the method with its own switches, made cheap."""
    return shrunk
