"""Where the numbers of a page come from: what ran, when, on what, by which code; one record per cell."""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.report.page.prose import counted, listed
from benchmarks.report.results import CellView, Results
from benchmarks.report.text import without_folders

__all__ = ["about", "cells", "environments", "headline", "newest", "release"]


def release() -> str:
    """Name and version of the code that draws."""
    try:
        return f"RolloutBench {version('rolloutbench')}"
    except PackageNotFoundError:  # a checkout that was not installed
        return "RolloutBench"


def newest(results: Results) -> str:
    """The day on which the newest run began, empty where no run says: never the day of drawing."""
    return max((str(run["started"])[:10] for run in _runs(results) if run.get("started")), default="")


def headline(results: Results) -> str:
    """One line: how much was compared, when it ran, by which code."""
    cells = results.cells
    seeds = sorted({cell.seeds for cell in cells})
    count = f"{seeds[0]} to {counted(seeds[-1], 'seed')}" if len(seeds) > 1 else counted(sum(seeds), "seed")
    variants = len({cell.variant for cell in cells})
    size = [
        counted(len({cell.task for cell in cells}), "task"),
        counted(len({cell.generator for cell in cells}), "generator"),
        counted(len({cell.algorithm for cell in cells}), "algorithm"),
        count,
    ]
    commits = list(dict.fromkeys(_commit(run, 7) for run in _runs(results)))
    code = {0: "", 1: f"commit {''.join(commits)}"}.get(len(commits), f"{len(commits)} commits")
    varied = counted(variants, "variant") if variants > 1 else ""
    return ", ".join(part for part in (" × ".join(size), varied, newest(results), release(), code) if part)


def about(results: Results) -> list[tuple[str, str]]:
    """What was compared, and under which settings."""
    cells = results.cells
    settings = [cell.spec["settings"] for cell in cells]

    def setting(name: str) -> str:
        return listed(_plain(one[name]) for one in settings if name in one)

    finished = sum(cell.state in ("finished", "diverged") for cell in cells)
    seeds = sorted({seed for cell in cells for seed in (*cell.done, *cell.failed, *cell.missing)})
    return [
        ("tasks", listed(cell.task for cell in cells)),
        ("generators", listed(cell.generator for cell in cells)),
        ("algorithms", listed(cell.algorithm for cell in cells)),
        ("seeds", listed(str(seed) for seed in seeds)),
        ("updates", setting("updates")),
        ("episodes per evaluation", setting("episodes")),
        ("real fraction of a batch", setting("real_fraction")),
        ("training rows", setting("train_rows")),
        ("models shared by the seeds of a cell", setting("shared_models")),
        ("cells", f"{finished} of {len(cells)} finished"),
    ]


def environments(results: Results) -> list[tuple[str, str]]:
    """Every date, commit, processor, physics and package version behind the results of this folder."""
    runs = [dict(_run(run)) for run in _runs(results)]
    days = sorted({run["started"][:10] for run in runs})
    names = ("commit", "CPU model", "CPU cores", "device", "threads", "physics", "versions")
    known = [(name, "; ".join(sorted({run[name] for run in runs}))) for name in names]
    return [("date", " to ".join(dict.fromkeys((days[0], days[-1])))), *known] if runs else []


def cells(results: Results) -> list[dict[str, Any]]:
    """Of every cell: the end of its id, name, state, runs, and its specification on one line a method."""
    return [
        {
            "id": cell.cell_id,
            "key": key(cell.cell_id),
            "name": cell.name,
            "runs": [_run(run) for run in cell.runs],
            "spec": [(part, _spec(cell, part)) for part in ("generator", "algorithm", "settings")],
            "state": cell.state,
        }
        for cell in results.cells
    ]


def key(cell_id: str) -> str:
    """What its address on the page ends with: the hash of its specification."""
    return cell_id.rpartition("--")[2]


def _spec(cell: CellView, part: str) -> str:
    return without_folders(json.dumps(cell.spec[part], sort_keys=True))


def _runs(results: Results) -> list[Mapping[str, Any]]:
    return [run for cell in results.cells for run in cell.runs]


def _run(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the numbers of some seeds come from; what an older run did not write down is unknown."""
    versions = run.get("versions")
    seconds = run.get("seconds")
    return [
        ("seeds", ", ".join(str(seed) for seed in run["seeds"]) if "seeds" in run else "unknown"),
        ("status", _known(run, "status")),
        ("started", _known(run, "started")),
        ("took", "unknown" if seconds is None else f"{seconds:,.1f} s"),
        ("commit", _commit(run)),
        ("data sha256", _known(run, "dataset_sha256")),
        ("physics", _known(run, "physics")),
        ("device", _known(run, "device")),
        ("CPU model", _known(run, "cpu")),
        ("CPU vectors", _known(run, "vectors")),
        ("CPU cores", _known(run, "cores")),
        ("threads", _known(run, "threads")),
        (
            "versions",
            ", ".join(f"{name} {value}" for name, value in sorted(versions.items())) if versions else "unknown",
        ),
        ("dataset", without_folders(json.dumps(run["dataset"], sort_keys=True)) if run.get("dataset") else "unknown"),
    ]


def _commit(run: Mapping[str, Any], digits: int = 40) -> str:
    dirty = {True: " + uncommitted changes", False: "", None: " (clean or not: unknown)"}[run.get("dirty")]
    return f"{run['commit'][:digits]}{dirty}" if run.get("commit") else "unknown"


def _known(run: Mapping[str, Any], key: str) -> str:
    return "unknown" if run.get(key) is None else str(run[key])


def _plain(value: Any) -> str:
    return (
        {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:,}" if value is not None else "all"
    )
