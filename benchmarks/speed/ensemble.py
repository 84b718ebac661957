"""Dynamics ensemble, ours beside OfflineRL-Kit's: python -m benchmarks.speed.ensemble --peers DIR.

Seven members of 4 x 200, batches of 256 for each, Hopper's shape, 100,000 rows, one seed. Training: one epoch of their
`train` beside as many updates of our `fit`, both whole, with their split, bootstrap samples and validation; theirs is
only kept from writing its weights and log. Roll-outs: MOPO's own with its default actor, without its penalty, beside
ours with a tanh-Gaussian actor of the same size; no row ever terminates. Theirs evaluates all members, ours the drawn
elite only. Checked: equally many weights and biases.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.command import Peers, finish, options, threads
from benchmarks.speed.inputs import ACTION, OBS, hopper_sized
from benchmarks.speed.peers import folder, load
from benchmarks.speed.turns import Figure, Turn, also_compiled, ratio_text, take_turns
from core.data import Dataset
from core.random import Streams
from models.actors import TanhGaussianActor
from models.cache import FitContext
from models.dynamics import DynamicsConfig, EnsembleDynamics, rollout

__all__ = ["compare", "figures", "main"]

PEER = "OfflineRL-Kit"
FULL: dict[str, Any] = {"rows": 100_000, "shapes": [(5000, 5), (2048, 20)], "compiled": True}
QUICK: dict[str, Any] = {"rows": 1_000, "shapes": [(20, 2)], "compiled": False}

_CONFIG = DynamicsConfig()
_HIDDEN = (256, 256)  # of the actor
_STUBS = ("gym", "offlinerlkit.dynamics.mujoco_oracle_dynamics", "offlinerlkit.utils.logger")
_PARTS = ("nets", "modules", "dynamics", "policy", "utils.scaler")


def our_training(data: Dataset, updates: int) -> tuple[Turn, EnsembleDynamics]:
    """(a fit of so many updates, what is fitted)."""
    rng = Streams((0,))
    model = _CONFIG.init(OBS, ACTION, rng.fork("init"))
    config = DynamicsConfig(max_updates=updates, check_every=updates)
    return Turn(partial(config.fit, model, data, FitContext(rng.fork("fit"))), updates), model


def our_rollout(data: Dataset, model: EnsembleDynamics, batch: int, length: int) -> Turn:
    """Of `batch` states for `length` steps, an elite drawn for every one of them."""
    rng = Streams((0,))
    actor = TanhGaussianActor(data, _HIDDEN, rng.fork("actor"))
    start = data.train.obs[None, :batch]
    explore = rng.fork("policy")
    noise = rng.fork("model")

    def never(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return torch.zeros(obs.shape[:-1], dtype=torch.bool)

    def call() -> object:
        draw = partial(model.draw, rng=noise, elites=model.pick())  # as our generators do
        return rollout(draw, lambda obs, step: actor.act(obs, explore), start, length, never)

    return Turn(call, batch * length)


def their_ensemble(kit: ModuleType) -> Any:
    """With the settings of its MOPO script, but no penalty."""
    hidden = [_CONFIG.width] * (len(_CONFIG.weight_decay) - 1)
    decay = list(_CONFIG.weight_decay)
    net = kit.modules.EnsembleDynamicsModel(OBS, ACTION, hidden, _CONFIG.members, _CONFIG.elites, weight_decays=decay)
    optimizer = torch.optim.Adam(net.parameters(), lr=_CONFIG.learning_rate)
    scaler = kit.utils.scaler.StandardScaler()

    class Unsaved(kit.dynamics.EnsembleDynamics):  # type: ignore[misc, name-defined]
        def save(self, save_path: str) -> None:
            pass

    return Unsaved(net, optimizer, scaler, lambda obs, action, next_obs: np.zeros((len(obs), 1), dtype=bool))


def their_training(ensemble: Any, data: Dataset, updates: int) -> Turn:
    """One epoch of so many updates."""
    rows = data.train
    named = {"observations": rows.obs, "actions": rows.action, "next_observations": rows.next_obs}
    named["rewards"] = rows.reward[:, None]
    arrays = {name: values.numpy() for name, values in named.items()}
    return Turn(partial(ensemble.train, arrays, Mock(), max_epochs=1, batch_size=_CONFIG.batch_size), updates)


def their_rollout(kit: ModuleType, ensemble: Any, data: Dataset, batch: int, length: int) -> Turn:
    """MOPO's, under the actor of its script."""
    nets = kit.nets
    modules = kit.modules
    hidden = list(_HIDDEN)
    head = modules.TanhDiagGaussian(hidden[-1], ACTION, unbounded=True, conditioned_sigma=True)
    critics = [modules.Critic(nets.MLP(OBS + ACTION, hidden)) for _ in range(2)]  # the policy cannot be made without
    models = [modules.ActorProb(nets.MLP(OBS, hidden), head), *critics]
    policy = kit.policy.MOPOPolicy(ensemble, *models, *(torch.optim.Adam(net.parameters()) for net in models))
    return Turn(partial(policy.rollout, data.train.obs[:batch].numpy(), length), batch * length)


def compare(
    peers: Path | None,
    repeats: int,
    *,
    rows: int,
    shapes: Sequence[tuple[int, int]],
    compiled: bool = False,
) -> dict[str, Any]:
    """Updates and transitions per second of both, in turns.

    Raises:
        RuntimeError: the networks have other sizes, so the ratios would mean nothing.
    """
    data = hopper_sized(rows)
    known = Peers(peers)
    kit = known.get(PEER, lambda root: load(root / "offlinerlkit/__init__.py", _STUBS, _PARTS))
    updates = ceil((rows - min(round(_CONFIG.validation * rows), _CONFIG.validation_rows)) / _CONFIG.batch_size)
    training, model = our_training(data, updates)
    theirs = their_ensemble(kit) if kit else None
    parameters = sum(parameter.numel() for parameter in model.net.parameters())
    if theirs:
        layers = [*theirs.model.backbones, theirs.model.output_layer]
        other = sum(layer.weight.numel() + layer.bias.numel() for layer in layers)
        if other != parameters:
            raise RuntimeError(f"both must have equally many parameters, got {parameters} and {other}")
    own = also_compiled({"ours": training}) if compiled else {"ours": training}
    turns = {PEER: their_training(theirs, data, updates) if kit else None, **own}
    measured = {"training": take_turns("updates/s", turns, [PEER], repeats)}
    for batch, length in shapes:
        turns = {
            PEER: their_rollout(kit, theirs, data, batch, length) if kit else None,
            "ours": our_rollout(data, model, batch, length),
        }
        measured[f"roll-out of {batch} x {length}"] = take_turns("transitions/s", turns, [PEER], repeats)
    return {
        "rows": rows,
        "batch": _CONFIG.batch_size,
        "updates_of_a_turn": updates,
        "parameters": parameters,
        **known.record(),
        "measured": measured,
    }


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Lines of the table of figures."""
    asked = {"training": ">= 1.5x"}
    return [
        Figure(
            f"Dynamics ensemble, {name}{own.removeprefix('ours')}, beside {PEER}",
            asked.get(name, ">= 5x"),
            ratio_text(turns, own, PEER, found["not_there"]),
        )
        for name, turns in found["measured"].items()
        for own in turns["rates"]
        if own != PEER
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, write json."""
    asked = options(__doc__, repeats=7).parse_args(arguments)
    with threads(asked.threads):
        repeats, size = (1, QUICK) if asked.quick else (asked.repeats, FULL)
        found = compare(folder(asked.peers), repeats, **size)
        finish(f"{_CONFIG.members} members, batches of {found['batch']}", found, asked.out)


if __name__ == "__main__":
    main()
