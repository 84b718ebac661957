"""The texts of `run_bench.py data`: which datasets there are, where they lie, and what each of them holds."""

import json

from tabulate import tabulate

from core.errors import SpecError
from tasks.audit import card
from tasks.base import SOURCES, DataOptions, Source, load_source, load_task

__all__ = ["describe", "obtain"]


def describe(options: DataOptions) -> str:
    """A table of every dataset known without a network."""
    sources = {name: load_source(name) for name in SOURCES}
    rows = [
        [f"{name}/{dataset}", _place(source, dataset, options)]
        for name, source in sources.items()
        for dataset in source.names()
    ]
    return tabulate(rows, ["task", "on this machine"], tablefmt="simple")


def obtain(name: str, options: DataOptions, action: str) -> str:
    """Make a set here or fetch it, with every check; returns its card: episodes, split, returns, checksum.

    Raises:
        SpecError: no such task, or one of a source with the other command.
        DataError: it cannot be obtained or is damaged.
    """
    origins = [source for source in SOURCES if load_source(source).origin == action]
    if name.partition("/")[0] not in origins:
        sources = " or ".join(f"{source}/" for source in origins)
        raise SpecError(f"data {action} must be given a task of {sources}, got {name!r}")
    return json.dumps(card(load_task(name, options)), indent=2)


def _place(source: Source, dataset: str, options: DataOptions) -> str:
    if source.find is None:
        return "made in memory"
    return str(source.find(dataset, options) or "not here yet")
