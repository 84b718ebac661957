"""Dynamics ensemble, ours beside OfflineRL-Kit's.

Seven members of 4 x 200, batches of 256 for each, Hopper's shape, 100,000 rows, one seed. Training: one epoch of their
`train` beside as many updates of our `fit`, both whole, with their split, bootstrap samples and validation; theirs is
only kept from writing its weights and log. Roll-outs: MOPO's own with its default actor, without its penalty, beside
ours with a tanh-Gaussian actor of the same size; no row ever terminates. Theirs evaluates all members, ours the drawn
elite only. Checked: equally many weights and biases.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from math import ceil
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import Peers, load
from benchmarks.speed.harness import (
    ACTION,
    OBS,
    Figure,
    Options,
    Turn,
    also_compiled,
    hopper_sized,
    ratio_figures,
    take_turns,
)
from core.data import Dataset
from core.random import Streams
from models.actors import TanhGaussianActor
from models.cache import FitContext
from models.dynamics import DynamicsConfig, EnsembleDynamics, rollout

__all__ = ["figures", "measure"]

PEER = "OfflineRL-Kit"
_CONFIG = DynamicsConfig()
_HIDDEN = [256, 256]  # of the actor
_STUBS = ("gym", "offlinerlkit.dynamics.mujoco_oracle_dynamics", "offlinerlkit.utils.logger")
_PARTS = ("nets", "modules", "dynamics", "policy", "utils.scaler")


def measure(options: Options) -> dict[str, Any]:
    """Updates and transitions per second of both.

    Raises:
        RuntimeError: the networks have other sizes, so the ratios would mean nothing.
    """
    rows = 1_000 if options.quick else 100_000
    shapes = [(20, 2)] if options.quick else [(5000, 5), (2048, 20)]
    rounds = 1 if options.quick else 7
    data = hopper_sized(rows)
    known = Peers(options.peers)
    kit = known.get(PEER, lambda root: load(root / "offlinerlkit/__init__.py", _STUBS, _PARTS))
    updates = ceil((rows - min(round(_CONFIG.validation * rows), _CONFIG.validation_rows)) / _CONFIG.batch_size)
    rng = Streams((0,))
    model = _CONFIG.init(OBS, ACTION, rng.fork("init"))
    config = DynamicsConfig(max_updates=updates, check_every=updates)
    own = {"ours": Turn(partial(config.fit, model, data, FitContext(rng.fork("fit"))), updates)}
    theirs = _their_ensemble(kit) if kit else None
    if theirs:
        layers = [*theirs.model.backbones, theirs.model.output_layer]
        sizes = (
            sum(part.numel() for part in model.net.parameters()),
            sum(layer.weight.numel() + layer.bias.numel() for layer in layers),
        )
        if sizes[0] != sizes[1]:
            raise RuntimeError(f"both must have equally many parameters, got {sizes[0]} and {sizes[1]}")
    peer = {PEER: _their_training(theirs, data, updates)} if theirs else {}
    turns = {**peer, **(own if options.quick else also_compiled(own))}
    measured = {"training": take_turns("updates/s", turns, [PEER], rounds)}
    for batch, length in shapes:
        peer = {PEER: _their_rollout(kit, theirs, data, batch, length)} if kit else {}
        turns = {**peer, "ours": _our_rollout(data, model, batch, length)}
        measured[f"roll-out of {batch} x {length}"] = take_turns("transitions/s", turns, [PEER], rounds)
    return {"rows": rows, "updates_of_a_turn": updates, **known.record(), "measured": measured}


def figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Lines of the table of figures."""
    yield from ratio_figures(
        found,
        lambda part, own, peer: f"Dynamics ensemble, {part.replace('roll-out', 'rollout')}, beside {peer}",
        lambda line: 1.5 if "training" in line else 5,
    )


def _our_rollout(data: Dataset, model: EnsembleDynamics, batch: int, length: int) -> Turn:
    """Of `batch` states for `length` steps, an elite drawn for every one of them, as our generators do."""
    rng = Streams((0,))
    actor = TanhGaussianActor(data, tuple(_HIDDEN), rng.fork("actor"))
    start = data.train.obs[None, :batch]
    explore = rng.fork("policy")
    noise = rng.fork("model")

    def never(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return torch.zeros(obs.shape[:-1], dtype=torch.bool)

    def call() -> object:
        draw = partial(model.draw, rng=noise, elites=model.pick())
        return rollout(draw, lambda obs, step: actor.act(obs, explore), start, length, never)

    return Turn(call, batch * length)


def _their_ensemble(kit: ModuleType) -> Any:
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


def _their_training(ensemble: Any, data: Dataset, updates: int) -> Turn:
    """One epoch of so many updates."""
    rows = data.train
    named = {"observations": rows.obs, "actions": rows.action, "next_observations": rows.next_obs}
    named["rewards"] = rows.reward[:, None]
    arrays = {name: values.numpy() for name, values in named.items()}
    return Turn(partial(ensemble.train, arrays, Mock(), max_epochs=1, batch_size=_CONFIG.batch_size), updates)


def _their_rollout(kit: ModuleType, ensemble: Any, data: Dataset, batch: int, length: int) -> Turn:
    """MOPO's, under the actor of its script."""
    nets = kit.nets
    modules = kit.modules
    head = modules.TanhDiagGaussian(_HIDDEN[-1], ACTION, unbounded=True, conditioned_sigma=True)
    critics = [modules.Critic(nets.MLP(OBS + ACTION, _HIDDEN)) for _ in range(2)]  # the policy cannot be made without
    models = [modules.ActorProb(nets.MLP(OBS, _HIDDEN), head), *critics]
    policy = kit.policy.MOPOPolicy(ensemble, *models, *(torch.optim.Adam(net.parameters()) for net in models))
    return Turn(partial(policy.rollout, data.train.obs[:batch].numpy(), length), batch * length)
