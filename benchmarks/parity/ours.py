"""Our side of a comparison of models: fit one seed through the generator, and write what the peers' drivers write."""

import json
import sys
import time
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.execution.cell import as_in_cells
from benchmarks.execution.provenance import provenance
from benchmarks.parity.export import Windows, load_windows
from core.checkpoint import Checkpoint
from core.data import Dataset
from core.files import write_json
from core.random import Streams
from core.registry import build_method
from generators.mopo import uncertainty
from models.cache import FitContext
from tasks.base import DataOptions, load_task

__all__ = ["MODELS", "main"]

_SAMPLES = 4000  # rows, as of the peers


def ensemble(data: Dataset, held: Windows, job: dict[str, Any], rng: Streams) -> tuple[dict[str, Tensor], float]:
    """What drivers/offlinerl_kit.py writes, and the seconds of training."""
    kept = build_method("generators", "mopo", job["settings"]).dynamics
    validation = min(round(kept.validation * len(data.episode)), kept.validation_rows)
    epoch = ceil((len(data.episode) - validation) / kept.batch_size)
    config = replace(kept, max_updates=max(1, job["updates"] // epoch) * epoch)
    obs, action = (torch.from_numpy(x)[None] for x in (held.obs, held.action))
    model, seconds = _fitted(config, data, rng)
    path = [obs[:, :, 0]]
    noise = rng.fork("noise")
    for step in range(action.shape[2]):
        path.append(model.draw(path[-1], action[:, :, step], noise)[0])
    rows = obs[:, :, :-1].flatten(1, 2), action.flatten(1, 2)
    _, std = model.predict(*rows)
    scale = model.output.scale[:, None]
    found = {
        "obs": torch.stack(path, 2)[0],
        "mean": model.mean(*rows)[0][0],
        "penalty": uncertainty(std / scale)[0],
        "penalty_in_environment_units": uncertainty(std)[0],
    }
    return found, seconds


def transitions(data: Dataset, held: Windows, job: dict[str, Any], rng: Streams) -> tuple[dict[str, Tensor], float]:
    """What drivers/synther.py writes."""
    kept = build_method("generators", "synther", job["settings"])
    model, seconds = _fitted(replace(kept.model, updates=job["updates"]), data, rng)
    rows = model.sample(_SAMPLES, kept.sampler, rng.fork("sample"))
    columns = {name: getattr(rows, name)[0] for name in ("obs", "action", "reward", "next_obs")}
    return {f"sample_{name}": column for name, column in columns.items()}, seconds


def sequences(data: Dataset, held: Windows, job: dict[str, Any], rng: Streams) -> tuple[dict[str, Tensor], float]:
    """What drivers/dydiff.py writes."""
    kept = build_method("generators", "dydiff", job["settings"])
    model, seconds = _fitted(replace(kept.model, updates=job["updates"]), data, rng)
    length = kept.model.rows - 1
    start, action = torch.from_numpy(held.obs[None, :, 0]), torch.from_numpy(held.action[None, :, :length])
    obs, _ = model.sample(start, action, length, kept.sampler, rng.fork("sample"))
    return {"obs": obs[0]}, seconds


MODELS = {"ensemble": ensemble, "synther": transitions, "dydiff": sequences}  # by method of the comparison


def main(job: dict[str, Any], folder: Path) -> None:
    """Do the job; writes `rollouts.npz` and `facts.json`."""
    data, _ = load_task(f"local/{job['task']}", DataOptions(dataset_rows=job["rows"])).dataset()
    rng = Streams((job["seed"],), "parity")
    with torch.no_grad():
        found, seconds = MODELS[job["method"]](data, load_windows(Path(job["windows"])), job, rng)
    arrays: dict[str, Any] = {name: x.numpy() for name, x in found.items()}
    np.savez(folder / "rollouts.npz", **arrays)
    origin = provenance(torch.device("cpu"))
    write_json(folder / "facts.json", {"train_seconds": seconds, "commit": origin["commit"], "dirty": origin["dirty"]})


@torch.enable_grad()
def _fitted(config: Any, data: Dataset, rng: Streams) -> tuple[Any, float]:
    """The trained model and the seconds that it took; no cache, so that the time is that of a training."""
    model = config.init(data.train.obs.shape[-1], data.train.action.shape[-1], rng.fork("init"))
    started = time.perf_counter()
    config.fit(model, data, FitContext(rng.fork("fit"), Checkpoint()))
    model.eval()
    return model, time.perf_counter() - started


if __name__ == "__main__":
    as_in_cells(torch.device("cpu"))
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
