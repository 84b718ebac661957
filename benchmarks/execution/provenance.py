"""Provenance of a number: command, code, data, versions, machine."""

import hashlib
import math
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from core.data import Dataset
from core.registry import module_digests
from tasks.base import Task

__all__ = ["available_memory_mib", "command_line", "inputs", "peak_memory_mib", "provenance"]

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "numpy", "mujoco", "gymnasium", "h5py", "safetensors", "pydantic")


def provenance(device: torch.device, imports: Iterable[str] = ()) -> dict[str, Any]:
    """Code, versions and device of this process; of `imports`, imported modules of the user's, sha256 of the source."""
    own = module_digests(imports)
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": _dirty(),
        "diff_sha256": _diff(),
        "versions": {"python": platform.python_version(), **_versions()},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}",
        "cpu": _cpu_model(),
        "vectors": torch.backends.cpu.get_cpu_capability(),  # instructions of torch's kernels: they move last digits
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **({"imports": own} if own else {}),
    }


def command_line(
    suite: str,
    seeds: int | None,
    overrides: Iterable[str],
    imports: Iterable[str],
    device: str,
    *,
    judged: bool = False,
) -> str:
    """The command that asks for the same cells, quoted for a shell; files of this machine by their names alone."""
    named = {"--seeds": [] if seeds is None else [str(seeds)], "--set": list(overrides), "--import": list(imports)}
    named["--device"] = [] if device == "auto" else [device]
    options = [word for option, values in named.items() if values for word in (option, *values)]
    options += ["--judged"] if judged else []
    absolute = r"""(?<![\w.:/~])(?:[A-Za-z]:)?[/\\](?:[^'"]*[/\\])?"""  # folders, up to the file's name
    return shlex.join(["run_bench.py", "run", *(re.sub(absolute, "", word) for word in (suite, *options))])


def inputs(
    seeds: Iterable[int], task: Task, data: Dataset, card: Mapping[str, Any], models: Mapping[str, Any]
) -> dict[str, Any]:
    """Inputs of a finished run: seeds, physics, data, what its scores and episodes are, and pretrained models."""
    return {
        "seeds": list(seeds),
        "physics": task.physics,
        "dataset_sha256": data.sha256,
        "dataset": card,
        "score_range": task.score_range,
        "horizon": task.horizon,
        "models": models,
    }


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory of a GPU, or of this process since it started."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, StopIteration):  # on Linux, getrusage includes the parent before exec
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def available_memory_mib() -> float:
    """Memory for new processes: what the machine has free, within the limit of this container."""
    free = math.inf
    with suppress(OSError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) / 2**10
    with suppress(OSError, ValueError):
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, (limit - used) / 2**20)
    return free


@cache
def _cpu_model() -> str:
    """The processor's model, as Linux lists it, else as Python names it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8", errors="replace").splitlines() if listed.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    """Versions of the packages that are installed: not every machine has all of them."""
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _dirty() -> bool:
    """Whether a tracked file differs from the commit; recorded results are no part of the program."""
    return bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results"))


@cache
def _diff() -> str | None:
    """Hash of uncommitted changes to the code."""
    changed = _git("diff", "HEAD", "--", "*.py", "*.toml")
    return hashlib.sha256(changed.encode()).hexdigest() if changed else None


@cache
def _git(*arguments: str) -> str | None:
    """None outside a checkout, or without git."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=_ROOT,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
