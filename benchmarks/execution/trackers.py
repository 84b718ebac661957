"""Experiment trackers: they get the numbers of a running cell and can neither change them nor make the cell fail."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

from benchmarks.records import Record
from benchmarks.spec import RunSpec
from core.errors import SpecError, unknown
from core.progress import say

__all__ = ["TRACKERS", "Observe", "require_tracker", "tracking"]

Log = Callable[[int, Mapping[str, float]], None]  # step, values by name; steps never fall
Observe = Callable[[list[Record]], None]  # records of one step


@contextmanager
def tensorboard(spec: RunSpec, folder: Path) -> Iterator[Log]:
    """Event files of one cell in a folder of its own."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / spec.cell_id)) as writer:

        def log(step: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield log


@contextmanager
def wandb(spec: RunSpec, folder: Path) -> Iterator[Log]:
    """One run of the project "rolloutbench" per cell; without $WANDB_MODE nothing leaves this machine."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project="rolloutbench",
        name=spec.cell_id,
        config={**spec.describe(), "seeds": list(spec.seeds), "variant": spec.variant},
        dir=str(folder),
        mode=os.environ.get("WANDB_MODE") or "offline",
        reinit="create_new",
        settings=wandb.Settings(console="off", silent=True),
    )
    try:
        yield lambda step, values: run.log(dict(values), step=step)
    finally:
        run.finish()


TRACKERS: dict[str, Callable[[RunSpec, Path], AbstractContextManager[Log]]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
}


def require_tracker(name: str) -> None:
    """Check that a tracker can be used; its package has its name, and so has the extra.

    Raises:
        SpecError: no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    if find_spec(name) is None:
        raise SpecError(f"--tracker {name} needs the package {name}: pip install -e .[{name}]")


@contextmanager
def tracking(name: str | None, label: str, spec: RunSpec, root: Path) -> Iterator[Observe | None]:
    """The observer that gives the cell's records to a tracker, with files in `root`/tracker; None without a tracker.

    A tracker that raises is given up with one line.
    """
    if name is None:
        yield None
        return
    stack = ExitStack()
    given_up = False

    @contextmanager
    def guarded() -> Iterator[None]:
        nonlocal given_up
        try:
            yield
        except (Exception, SystemExit) as error:  # some packages raise SystemExit
            if not given_up:
                say(f"{label}: tracker {name} is given up, the run continues: {type(error).__name__}: {error}")
            given_up = True

    def observe(records: list[Record]) -> None:
        if records and not given_up:
            with guarded():
                log(records[0].step, _values(records))

    with guarded():
        log = stack.enter_context(TRACKERS[name](spec, root / "tracker"))
    try:
        yield observe
    finally:
        with guarded():
            stack.close()


def _values(records: list[Record]) -> dict[str, float]:
    """Means over seeds by metric (of curves: metric/horizon), and each seed's value under `seed<N>/<metric>`."""
    by_name = defaultdict[str, list[float]](list)
    values = {}
    for seed, _, metric, value, horizon in records:
        if value is not None:
            name = metric if horizon is None else f"{metric}/{horizon}"
            by_name[name].append(value)
            values[f"seed{seed}/{name}"] = value
    return {name: fmean(found) for name, found in by_name.items()} | values
