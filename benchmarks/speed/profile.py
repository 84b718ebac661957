"""Where the time of TD3+BC's updates goes, plain and compiled, and that of a whole cell.

Parts of an update are run alone, in turns with the whole, on one thread, in processor time: the matrix products of a
plain update (recorded, then replayed with their own inputs), the optimisers' and targets' steps, the drawing of
batches. A tiny update (2 rows, 8 units) is what Python and the dispatch of operations cost. The rest is elementwise
operations, copies, and caches that other parts have used. Shares of a cell are from its own records.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.td3bc import TD3BC
from benchmarks.execution import matrix
from benchmarks.report.results import collect
from benchmarks.speed.harness import (
    Figure,
    Options,
    Turn,
    also_compiled,
    hopper_sized,
    judged,
    take_turns,
    threads,
    training,
)
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite
from core.data import Dataset
from core.random import Streams
from models.nn import ema_
from tasks.base import load_task

__all__ = ["figures", "measure", "notes"]

CPU = torch.device("cpu")
PARTS = ("matrix products", "optimisers and targets", "batches", "Python and dispatch")
_WHOLE = "update"
_COMPILED = "update, compiled"
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the matrix products that are made, with their inputs, and counts all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = list[partial[Any]]()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if func.overloadpacket.__name__ in _PRODUCTS:
            self.calls.append(partial(func, *args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def measure(options: Options) -> dict[str, Any]:
    """Shares of an update of one seed and of eight, and shares of a cell by activity."""
    data = hopper_sized(2_000 if options.quick else 1_000_000)
    rounds = 1 if options.quick else 40
    with threads(1):
        updates = {f"{seeds} seed{'s' * (seeds > 1)}": parts(data, seeds, rounds, options.quick) for seeds in (1, 8)}
    suite, task = ("smoke", "toy/linear") if options.quick else ("demo", "local/halfcheetah-medium")
    return {"updates": updates, "cell": cell(suite, [f"tasks=['{task}']", "generators=['dydiff']"])}


def parts(data: Dataset, seeds: int, rounds: int, quick: bool = False) -> dict[str, Any]:
    """Rates of two updates, an actor's step among them, and of their parts alone."""
    step, state, mixer, _ = training(TD3BC(), data, seeds, CPU)
    tiny, *_ = training(TD3BC(batch_size=2, hidden=(8, 8)), data, seeds, CPU)
    batches = Streams(range(seeds), "batches")
    step(2)
    with _Recorder() as recorded:
        step(2)

    def products() -> None:
        with torch.no_grad():
            for call in recorded.calls:
                call()

    def optimisers() -> None:
        for optimizer in (state.critic_optimizer, state.actor_optimizer, state.critic_optimizer):
            optimizer.step()
        ema_(state.target_actor, state.actor, TD3BC().target_rate)
        ema_(state.target_critic, state.critic, TD3BC().target_rate)

    def draw() -> None:
        mixer.batch(batches)
        mixer.batch(batches)

    whole = {_WHOLE: Turn(partial(step, 2), 2)}
    calls: tuple[Callable[[], object], ...] = (products, optimisers, draw, partial(tiny, 2))
    alone = dict(zip(PARTS, calls, strict=True))
    turns = (whole if quick else also_compiled(whole)) | {name: Turn(call, 2) for name, call in alone.items()}
    found = take_turns("updates/s", turns, [_WHOLE] if quick else [_WHOLE, _COMPILED], rounds, time.process_time)
    return found | {"operations": recorded.operations / 2, "products": len(recorded.calls) / 2}


def cell(suite: str, overrides: list[str]) -> dict[str, Any]:
    """Shares of the wall time of the first cell of a suite, its models fitted afresh; `other` is not the work itself.

    Raises:
        RuntimeError: the cell failed.
    """
    spec = cells(load_suite(suite, overrides))[0]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as models:
        store = ResultStore(Path(folder))
        load_task(spec.task, spec.settings.data_options(None)).dataset()  # made at its first use: of no cell
        started = time.perf_counter()
        if matrix.run_missing([spec], store, CPU, None, matrix.local, models_folder=Path(models)):
            raise RuntimeError(f"the cell failed:\n{store.cells()[0].error}")
        spent = time.perf_counter() - started
        records = collect(store).records
    costs = records[records["metric"].str.fullmatch(r"cost/\w+_seconds")].groupby("metric")["value"].max()
    seconds = {str(name).removeprefix("cost/").removesuffix("_seconds"): value for name, value in costs.items()}
    work = {name: value / spent for name, value in seconds.items() if name not in ("total", "model")}
    return {"cell": spec.cell_id, "seconds": spent, "shares": work | {"other": 1 - sum(work.values())}}


def figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Lines of the table of figures."""
    for seeds, turns in found["updates"].items():
        rates = {name: rate["median"] for name, rate in turns["rates"].items()}
        whole, compiled = (f"{1e3 / rates[name]:.2f} ms" if name in rates else "" for name in (_WHOLE, _COMPILED))
        yield Figure(f"Update of TD3+BC taken apart, {seeds}, 1 thread", "", whole, compiled)
        for name in PARTS:
            share, of_compiled = (
                f"{1 / turns['ratios'][name][by]:.0%}" if by in rates else "" for by in (_WHOLE, _COMPILED)
            )
            yield Figure(f"... share of {name}, run alone", "", share, of_compiled)
    shares = sorted(found["cell"]["shares"].items(), key=lambda item: -item[1])
    work = ", ".join(f"{name} {share:.0%}" for name, share in shares if name != "other" and share >= 0.01)
    other = found["cell"]["shares"]["other"]
    yield Figure("Share of a whole cell that is not work", "<= 5 %", f"{other:.1%}", met=judged(other <= 0.05))
    yield Figure("Share of a whole cell by activity", "", work)


def notes(found: Mapping[str, Any]) -> str:
    """What the shares say, for below the table."""
    text = ["Where the time of a plain TD3+BC update goes, on one thread (parts overlap, they need not add up):", ""]
    for seeds, turns in found["updates"].items():
        whole = 1e3 / turns["rates"][_WHOLE]["median"]
        products, optimisers, batches, dispatch = (1 / turns["ratios"][name][_WHOLE] for name in PARTS)
        rest = max(1 - products - optimisers - batches - dispatch, 0)
        text.append(
            f"- {seeds}: {whole:.1f} ms. The {turns['products']:.0f} matrix products alone take {products:.0%}, Python "
            f"and the dispatch of {turns['operations']:.0f} operations {dispatch:.0%}, optimisers and targets "
            f"{optimisers:.0%}, batches {batches:.0%}; elementwise operations and copies about {rest:.0%}."
        )
    return "\n".join(text)
