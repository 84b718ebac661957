"""What datasets there are, where they lie, and whether they are what they should be: behind `run_bench.py data`."""

import json
from importlib import import_module

from tabulate import tabulate

from core.errors import DataError, SpecError
from tasks.base import SOURCES, DataOptions, load_task

__all__ = ["describe", "inspect", "obtain", "verify"]

_ORIGINS = {"make": ("local", "toy"), "fetch": ("d4rl", "minari")}


def describe(options: DataOptions) -> str:
    """A table of every dataset known without a network."""
    rows = []
    for source in SOURCES:
        module = import_module(f"tasks.{source}")
        rows += [[f"{source}/{name}", module.find(name, options) or "not here yet"] for name in module.names()]
    return tabulate(rows, ["task", "on this machine"], tablefmt="simple")


def obtain(name: str, options: DataOptions, action: str) -> str:
    """Make a set here or fetch it, then inspect it.

    Raises:
        SpecError: no such task, or one that does not come into being that way.
        DataError: it cannot be had.
    """
    if name.partition("/")[0] not in _ORIGINS[action]:
        sources = " or ".join(f"{source}/" for source in _ORIGINS[action])
        raise SpecError(f"data {action} must be given a task of {sources}, got {name!r}")
    return inspect(name, options)


def verify(name: str, options: DataOptions) -> str:
    """Inspect what is on this machine; nothing is made or fetched.

    Raises:
        SpecError: no such task.
        DataError: the file is not here, or is damaged.
    """
    source, _, dataset = name.partition("/")
    if source in SOURCES and import_module(f"tasks.{source}").find(dataset, options) is None:
        raise DataError(f"{name} is not on this machine; `data make` or `data fetch` gets it")
    return inspect(name, options)


def inspect(name: str, options: DataOptions) -> str:
    """Read it as a run would, with every check; returns its card: episodes, split, returns, clipped states, checksum.

    Raises:
        SpecError: no such task.
        DataError: the file cannot be had or is damaged.
    """
    task = load_task(name, options)
    data, card = task.dataset()
    return json.dumps({"task": name, "sha256": data.sha256, "physics": task.simulator.physics, **card}, indent=2)
