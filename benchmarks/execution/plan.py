"""The plan of a suite: its cells, the pretrained models they share, and the estimated time; starts nothing."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, NamedTuple

from tabulate import tabulate

from benchmarks.spec import RunSpec
from benchmarks.store import Cell, ResultStore
from core.files import canonical_json, free_space
from models.cache import ModelConfig, describe_model
from models.termination import TerminationConfig
from tasks.base import termination_known

__all__ = ["describe", "needed_models", "pretrained"]


def describe(specs: Iterable[RunSpec], store: ResultStore) -> str:
    """Two tables as text; estimates come from finished cells in the same results folder, else they are unknown."""
    specs = list(specs)
    rates = _rates(store)
    rows = list[list[Any]]()
    total = 0.0
    size = 0.0
    for spec in specs:
        missing = len(store.missing(spec))
        rate = rates.get(_kind(spec))
        seconds = None if rate is None else missing * rate.seconds(spec.settings.updates, spec.refreshes)
        total += seconds or 0.0
        size += 0.0 if rate is None else rate.size * missing
        methods = (spec.generator.name, spec.algorithm.name)
        rows.append([spec.task, *methods, spec.variant, len(spec.seeds), missing, _minutes(seconds), spec.cell_id])
    headers = ["task", "generator", "algorithm", "variant", "seeds", "to run", "estimate", "cell"]
    unknown = sum(row[-2] == "unknown" for row in rows)
    lines = [
        tabulate(rows, headers, tablefmt="simple"),
        "",
        f"{len(specs)} cells, {sum(row[5] for row in rows)} seeds to run, estimated {_minutes(total)}"
        + (f" and {unknown} cells whose cost is not known yet" if unknown else ""),
        f"disk: {_mib(size)} more for the results"
        + (" of the cells whose cost is known" if unknown else "")
        + f", {_mib(float(free_space(store.root)))} are free there",
        "",
        tabulate(_models(specs), ["pretrained model", "task", "fits", "shared by cells"], tablefmt="simple"),
    ]
    return "\n".join(lines)


def needed_models(spec: RunSpec) -> list[ModelConfig]:
    """The pretrained models of a cell, each behind those that it builds on.

    A classifier of ends is among them unless the environment's rule is known: where the data are not here, it may be.

    Raises:
        SpecError: the task does not exist or needs an extra.
        DataError: the data are here, but damaged.
    """
    configs = (getattr(spec.generator.config, field.name) for field in fields(spec.generator.config))
    models = [config for config in configs if isinstance(config, ModelConfig)]
    ends = [config for config in models if isinstance(config, TerminationConfig)]
    if ends and termination_known(spec.task, spec.settings.data_options(None)):
        models = [config for config in models if config not in ends]
    return [each for model in models for each in (*model.needs, model)]


def pretrained(spec: RunSpec) -> set[str]:
    """The pretrained models of a cell by name; equal names are equal models."""
    names = ("dataset_rows", "heldout", "view", "train_rows", "rewards", "skip_broken_episodes", "imports")
    data = {name: getattr(spec.settings, name) for name in names}
    return {canonical_json([spec.task, data, describe_model(model)]) for model in needed_models(spec)}


def _models(specs: list[RunSpec]) -> list[list[Any]]:
    """Models by what determines them; one fit per seed unless the suite shares one."""
    users: dict[str, list[RunSpec]] = defaultdict(list)
    for spec in specs:
        for model in sorted(pretrained(spec)):
            users[model].append(spec)
    rows = []
    for key, cells in users.items():
        task, _, model = json.loads(key)
        fits = 1 if cells[0].settings.shared_models else len(cells[0].seeds)
        rows.append([model["model"].rpartition(".")[2].removesuffix("Config"), task, fits, len(cells)])
    return rows


def _kind(spec: RunSpec) -> tuple[str, str, str]:
    return spec.task, spec.generator.name, spec.algorithm.name


class _Rate(NamedTuple):
    """Costs of a finished cell."""

    update: float  # seconds per seed and update, those of generating apart
    refresh: float  # seconds per seed and refresh of the buffer
    size: float  # bytes per seed

    def seconds(self, updates: int, refreshes: int) -> float:
        """Per seed."""
        return self.update * updates + self.refresh * refreshes


def _rates(store: ResultStore) -> dict[tuple[str, str, str], _Rate]:
    rates = {}
    for cell in store.cells():
        spent = sum(run["seconds"] for run in cell.runs if run["status"] == "ok")
        if cell.done:
            kind = (cell.spec["task"], cell.spec["generator"]["name"], cell.spec["algorithm"]["name"])
            generating = spent * _generating(cell)
            refreshes = {record.step for record in cell.records if record.metric.startswith("generate/")}
            update = (spent - generating) / (len(cell.done) * cell.spec["settings"]["updates"])
            refresh = generating / (len(cell.done) * max(1, len(refreshes)))
            rates[kind] = _Rate(update, refresh, store.size(cell.cell_id) / len(cell.done))
    return rates


def _generating(cell: Cell) -> float:
    """Share of the cell's seconds in which rollouts were generated."""
    seconds = {"cost/generate_seconds": 0.0, "cost/total_seconds": 0.0}
    for record in cell.records:
        if record.metric in seconds:
            seconds[record.metric] += record.value or 0.0
    generating, total = seconds.values()
    return generating / total if total else 0.0


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
