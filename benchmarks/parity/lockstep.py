"""Equal weights, equal batches, equal draws: do both sides' first updates do the same?

A peer's driver has written its weights before and after some updates, and the batches; here our algorithm begins with
these weights and is given these batches. What scores of few seeds cannot show, this does: each term of each loss, the
optimisers, the targets. States of the batches are normalised already, and rewards scaled, as the peer does it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.parity.drivers.lockstep import INTEGER, NORMAL, UNIFORM
from core.data import Dataset, Transitions
from core.random import Streams
from core.registry import build_method

__all__ = ["Constant", "Network", "compare"]


class Network(NamedTuple):
    """How far the weights of a network have moved, and how far both sides are apart: root mean squares."""

    name: str
    moved: float
    apart: float


class Constant(Streams):
    """Every number is the constant that the peers' drivers draw."""

    def fork(self, label: str) -> "Constant":
        return Constant(self.seeds)

    def normal(self, *shape: int) -> Tensor:
        return torch.full((len(self.seeds), *shape), NORMAL)

    def uniform(self, *shape: int) -> Tensor:
        return torch.full((len(self.seeds), *shape), UNIFORM)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.full((len(self.seeds), *shape), INTEGER % high)


def compare(method: str, settings: Mapping[str, Any], data: Dataset, file: Path) -> list[Network]:
    """Repeat the updates of the file with our algorithm."""
    with np.load(file, allow_pickle=False) as content:
        theirs = {name: torch.from_numpy(content[name]) for name in content.files}
    algorithm = build_method("algorithms", method, dict(settings))
    state = algorithm.init(data, Streams((0,)))
    for normaliser in _normalisers(state):
        normaliser.mean.zero_()
        normaliser.scale.fill_(1.0)
    networks = dict(_networks(method, state))
    for name, layers in networks.items():
        for i, (weight, bias) in enumerate(layers):
            weight.copy_(theirs[f"start_{name}_weight{i}"].T)
            bias.copy_(theirs[f"start_{name}_bias{i}"])
    rng = Constant((0,))
    scale = getattr(state, "reward_scale", 1.0)
    columns = [theirs[name] for name in ("obs", "action", "reward", "next_obs", "terminated")]
    for obs, action, reward, next_obs, terminated in zip(*columns, strict=True):
        row = obs[None], action[None], reward.view(1, -1) / scale, next_obs[None], terminated.view(1, -1).bool()
        algorithm.update(state, Transitions(*row), rng)
    return [_network(name, layers, theirs) for name, layers in networks.items()]


def _network(name: str, layers: list[tuple[Tensor, Tensor]], theirs: Mapping[str, Tensor]) -> Network:
    moved = list[Tensor]()
    apart = list[Tensor]()
    for i, (weight, bias) in enumerate(layers):
        for kind, ours in (("weight", weight.T), ("bias", bias)):
            start, end = (theirs[f"{when}_{name}_{kind}{i}"] for when in ("start", "end"))
            moved.append((end - start).flatten())
            apart.append((ours - end).flatten())
    return Network(name, *(float(torch.cat(parts).double().square().mean().sqrt()) for parts in (moved, apart)))


def _normalisers(state: Any) -> Iterator[Any]:
    """All of the state: of the critics, and of every actor."""
    yield state.policy.normaliser if hasattr(state.policy, "normaliser") else state.actor.normaliser
    for name in ("normaliser", "actor", "target_actor"):
        if (part := getattr(state, name, None)) is not None:
            yield part if name == "normaliser" else part.normaliser


def _networks(method: str, state: Any) -> Iterator[tuple[str, list[tuple[Tensor, Tensor]]]]:
    """(name, (weight [in, out], bias [out]) of every layer), as views: what is copied into them is the state's."""
    yield "actor", _layers(getattr(state, "actor", None) or state.policy, "net")
    if method == "dql":
        yield "time", _layers(state.actor, "embed")
        yield "target_time", _layers(state.target_actor, "embed")
    if hasattr(state, "target_actor"):
        yield "target_actor", _layers(state.target_actor, "net")
    if hasattr(state, "value") and isinstance(state.value, nn.Module):
        yield "value", _views(state.value, 0)
    for prefix in ("", "target_"):
        critic = getattr(state, f"{prefix}critic", None)
        if critic is not None:
            yield f"{prefix}critic1", _views(critic, (0, 0))
            yield f"{prefix}critic2", _views(critic, (0, 1))


def _layers(actor: Any, name: str) -> list[tuple[Tensor, Tensor]]:
    return _views(getattr(actor, name), 0)


def _views(net: Any, copy: Any) -> list[tuple[Tensor, Tensor]]:
    return [(layer.weight.data[copy], layer.bias.data[copy].view(-1)) for layer in net.linear]
