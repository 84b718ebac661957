"""OfflineRL-Kit's dynamics ensemble, with the settings of its MOPO script, for so many whole epochs.

With `units` "deviations" in the job's settings it is given states in units of the deviation of their changes, and
rewards in units of their own: its targets, differences of states and rewards, are then standardised, as ours are.
Written are: states that it generates under logged actions of held-out windows, step by step with its own `step`; and of
every row of the windows the mean of its elites and its penalty.
"""

import sys
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import torch

from benchmarks.parity.drivers import shims

HIDDEN, DECAY = [200, 200, 200, 200], [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4]
_HOLDOUT, _BATCH = 1000, 256


def train(job: dict[str, Any], record: shims.Recorder) -> dict[str, Any]:
    """Fit, then look at held-out windows."""
    shims.install(Path(job["data"]), ["torch.utils.tensorboard"])
    sys.path.insert(0, job["checkout"])
    kit = {name: import_module(f"offlinerlkit.{name}") for name in ("dynamics", "modules", "utils.scaler")}
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002
    rows = shims.read(Path(job["data"]))
    sizes = rows["observations"].shape[1], rows["actions"].shape[1]
    model = kit["modules"].EnsembleDynamicsModel(*sizes, HIDDEN, 7, 5, weight_decays=DECAY, device="cpu")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scaler = kit["utils.scaler"].StandardScaler()
    dynamics = kit["dynamics"].EnsembleDynamics(model, optimizer, scaler, _never, penalty_coef=1.0)
    dynamics.save = lambda path: None
    epochs = max(1, job["updates"] // ceil((len(rows["rewards"]) - _HOLDOUT) / _BATCH))
    rows["rewards"] = rows["rewards"][:, None]
    unit = np.ones(sizes[0], np.float32)
    if job["settings"].get("units") == "deviations":
        unit = (rows["next_observations"] - rows["observations"]).std(0)
        rows["rewards"] = (rows["rewards"] - rows["rewards"].mean()) / rows["rewards"].std()
    for name in ("observations", "next_observations"):
        rows[name] = rows[name] / unit
    record.resume()
    dynamics.train(rows, Mock(), max_epochs=epochs, max_epochs_since_update=5)
    record.stop()
    with np.load(job["windows"], allow_pickle=False) as held:
        obs, action = held["obs"] / unit, held["action"]
    path = [obs[:, 0]]
    for step in range(action.shape[1]):
        path.append(dynamics.step(path[-1], action[:, step])[0])
    state, acted = obs[:, :-1].reshape(-1, sizes[0]), action.reshape(-1, sizes[1])
    with torch.no_grad():
        mean, _ = model(scaler.transform(np.concatenate([state, acted], -1)))
    elites = mean[model.elites.long()].mean(0).numpy()
    penalty = dynamics.step(state, acted)[3]["penalty"][:, 0]
    record.arrays("rollouts", obs=np.stack(path, 1) * unit, mean=(state + elites[:, :-1]) * unit, penalty=penalty)
    return {"epochs": epochs}


def _never(obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    return np.zeros((len(obs), 1), dtype=bool)


if __name__ == "__main__":
    torch.set_num_threads(1)
    shims.main(train)
