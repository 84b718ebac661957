"""Arguments that commands of `run_bench.py` share: their types with help texts, and the rules for their values."""

import os
from pathlib import Path
from typing import Annotated, Literal

import torch
from tyro.conf import Positional, UseAppendAction, arg

from benchmarks.execution.trackers import require_tracker
from benchmarks.store import ResultStore
from core.errors import SpecError

__all__ = [
    "Address",
    "AllowMixed",
    "Cells",
    "DataDir",
    "Device",
    "Engine",
    "Folder",
    "GpusPerCell",
    "Imports",
    "Jobs",
    "Judged",
    "Out",
    "Overrides",
    "Seeds",
    "StallMinutes",
    "Suite",
    "Take",
    "Tracker",
    "cells_at_a_time",
    "chosen_device",
    "chosen_tracker",
    "existing",
    "results_folder",
    "stall_seconds",
]

Suite = Annotated[Positional[str], arg(metavar="SUITE", help="a suite of this project (see `list`) or a .toml file")]
Engine = Annotated[Literal["local", "ray"], arg(help="ray: as tasks of a Ray cluster")]
Address = Annotated[
    str | None, arg(metavar="ADDRESS", help="of a running Ray cluster, or auto; one is started here if not given")
]
GpusPerCell = Annotated[float, arg(metavar="X", help="on Ray: share of a GPU for a cell; 0 is the CPU")]
Tracker = Annotated[
    Literal["none", "tensorboard", "wandb"], arg(help="shows numbers as they come in; changes none of them")
]
Overrides = Annotated[
    UseAppendAction[tuple[tuple[str, ...], ...]],
    arg(
        name="set",
        metavar="KEY=VALUE",
        help="keys of the suite, e.g. updates=5000 ensemble.rollout_length=1; TOML values or bare text",
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], arg(help="auto takes a GPU where there is one")]
Seeds = Annotated[int | None, arg(metavar="N", help="seeds 0 .. N-1 instead of the suite's")]
Imports = Annotated[
    UseAppendAction[tuple[tuple[str, ...], ...]],
    arg(
        name="import",
        metavar="MODULE",
        help="modules of your own whose environments data sets may use; also `imports` of a suite",
    ),
]
DataDir = Annotated[Path | None, arg(metavar="DIR", help="looked into first for dataset files")]
Cells = Annotated[
    str | None,
    arg(name="cells", metavar="PATTERN", help="where 'task generator algorithm variant' matches, e.g. '*dydiff*'"),
]
StallMinutes = Annotated[
    float, arg(metavar="MIN", help="a cell that gives no sign of life for so long is ended and has failed; 0: never")
]
AllowMixed = Annotated[
    bool, arg(help="draw cells of one task together though their physics or data differ; a footnote says so")
]
Judged = Annotated[bool, arg(help="only cells in regimes that hold, by controls that have run into --out before")]
Take = Annotated[
    Path | None, arg(metavar="DIR", help="results folder whose finished cells are copied where the suite has them, too")
]
Out = Annotated[Path | None, arg(metavar="DIR", help="results folder; results/SUITE if not given")]
Folder = Annotated[Positional[Path], arg(metavar="DIR", help="a results folder")]
Jobs = Annotated[int | None, arg(metavar="N", help="cells at a time; all cores on a CPU, one cell on a GPU")]


def existing(folder: Path, name: str = "DIR") -> ResultStore:
    """A results folder. Raises: SpecError: it is none."""
    if not folder.is_dir():
        raise SpecError(f"{name} must be a results folder, got {folder}")
    return ResultStore(folder)


def results_folder(out: Path | None, suite: str) -> ResultStore:
    """Where a suite's results go. Raises: SpecError: that is a file."""
    folder = out or Path("results", Path(suite).stem if suite.endswith(".toml") else suite)
    if folder.is_file():
        raise SpecError(f"--out must be a folder, got {folder}")
    return ResultStore(folder)


def cells_at_a_time(jobs: int | None, device: torch.device) -> int:
    """`--jobs`, or its default. Raises: SpecError."""
    if jobs is not None and jobs < 1:
        raise SpecError(f"--jobs must be at least 1, got {jobs}")
    return jobs or (len(os.sched_getaffinity(0)) if device.type == "cpu" and hasattr(os, "sched_getaffinity") else 1)


def chosen_tracker(name: str) -> str | None:
    """`--tracker`; None: none. Raises: SpecError: its package is missing."""
    if name == "none":
        return None
    require_tracker(name)
    return name


def stall_seconds(minutes: float) -> float:
    """`--stall-minutes` in seconds. Raises: SpecError."""
    if not 0 <= minutes <= 60 * 24 * 7:
        raise SpecError(f"--stall-minutes must be between 0 and a week, got {minutes:g}")
    return 60 * minutes


def chosen_device(name: str) -> torch.device:
    """`--device`. Raises: SpecError: there is no GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError("--device cuda needs a GPU that torch can see, found none")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
