"""Behaviour policies of the local locomotion sets: small networks, with exploration of a known density.

Beside `tasks/policies/<environment>.safetensors` lies a card with the training and the returns of the policies;
`tasks.recipes.train_policies` makes both files again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log, pi
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Float64, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from core.errors import DataError, unknown
from core.random import Streams

__all__ = ["FOLDER", "ExploringPolicy", "Policies", "load_policies"]

FOLDER = Path(__file__).parents[1] / "policies"
_GRID = 2.0**-15  # actions are multiples of it, so that the last bits of a processor's float64 do not matter
_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True)
class ExploringPolicy:
    """P policies at once, p acting in row p of a batch: a = clip(g(s) + deviation N(0, I), -1, 1), or uniform.

    g is a network of normalised states, in float64. With probability `uniform` an action is drawn uniformly from the
    box instead. A clipped action lies on a bound, where the distribution of its entry has an atom; no other does.
    """

    layers: tuple[tuple[Float64[Tensor, "P _ _"], Float64[Tensor, "P _"]], ...]  # (weights, biases), first to last
    mean: Float64[Tensor, "P O"]  # of the states in training ...
    std: Float64[Tensor, "P O"]  # ... and their deviation
    limit: float | None  # bound of a normalised state
    hidden: Literal["tanh", "relu"]  # activation behind every layer but the last
    output: Literal["identity", "tanh"]  # behind the last; the greedy action is clipped to the box after it
    deviation: float = 0.0  # of the Gaussian noise, in every dimension
    uniform: float = 0.0  # share of uniformly random actions

    def exploring(self, deviation: float, uniform: float) -> "ExploringPolicy":
        """The same policies with another exploration."""
        return replace(self, deviation=deviation, uniform=uniform)

    def pick(self, which: Sequence[int]) -> "ExploringPolicy":
        """Some of the policies, in this order; any of them repeatedly."""
        index = torch.tensor(which)
        layers = tuple((weight[index], bias[index]) for weight, bias in self.layers)
        return replace(self, layers=layers, mean=self.mean[index], std=self.std[index])

    def act(self, obs: Float[Tensor, "P B O"], rng: Streams | None) -> Float[Tensor, "P B A"]:
        """Greedy without `rng`; otherwise one stream for every policy."""
        return self.greedy(obs).to(obs.dtype) if rng is None else self.sample(obs, rng)[0].to(obs.dtype)

    def greedy(self, obs: Float[Tensor, "P B O"]) -> Float64[Tensor, "P B A"]:
        """Clipped to the box."""
        policy = self._on(obs.device)
        hidden = (obs.double() - policy.mean.unsqueeze(1)) / policy.std.unsqueeze(1)
        if self.limit is not None:
            hidden = hidden.clamp(-self.limit, self.limit)
        *inner, last = policy.layers
        for weight, bias in inner:
            hidden = _ACTIVATIONS[self.hidden](torch.baddbmm(bias.unsqueeze(1), hidden, weight.mT))
        action = torch.baddbmm(last[1].unsqueeze(1), hidden, last[0].mT)
        return (action.tanh() if self.output == "tanh" else action).clamp(-1, 1)

    def sample(
        self, obs: Float[Tensor, "P B O"], rng: Streams
    ) -> tuple[Float64[Tensor, "P B A"], Float64[Tensor, "P B"]]:
        """Actions on the grid, and their log-densities."""
        greedy = self.greedy(obs)
        number = rng.uniform64(*greedy.shape[1:])
        random = rng.uniform64(greedy.shape[1]) < self.uniform
        drawn = greedy + self.deviation * torch.special.ndtri(number) if self.deviation else greedy
        inner = (drawn / _GRID).round().mul(_GRID).clamp(_GRID - 1, 1 - _GRID)
        noisy = torch.where(drawn.abs() < 1, inner, drawn.sign())
        flat = ((2 * number - 1) / _GRID).round().mul(_GRID).clamp(_GRID - 1, 1 - _GRID)
        action = torch.where(random.unsqueeze(-1), flat, noisy)
        return action, self._log_density(greedy, action)

    def log_prob(self, obs: Float[Tensor, "P B O"], action: Float[Tensor, "P B A"]) -> Float64[Tensor, "P B"]:
        """Log-density with respect to length inside the box and to one atom on each of its bounds."""
        return self._log_density(self.greedy(obs), action.double())

    def smoothed_log_prob(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"], std: float
    ) -> Float[Tensor, "S B"]:
        """Log-density of an action to which N(0, std^2 I) was added, for a single policy; exact."""
        self._require_density()
        action = action.double()
        centre = self.greedy(obs)
        variance = self.deviation**2 + std**2
        inside = _normal(action - centre, variance**0.5) + _log_mass(
            (centre * std**2 + action * self.deviation**2) / variance, self.deviation * std / variance**0.5
        )
        low = torch.special.log_ndtr((-1 - centre) / self.deviation) + _normal(action + 1, std)
        high = torch.special.log_ndtr((centre - 1) / self.deviation) + _normal(action - 1, std)
        noisy = torch.stack([inside, low, high]).logsumexp(0).sum(-1)
        return self._mixed(noisy, (_log_mass(action, std) - log(2)).sum(-1)).to(obs.dtype)

    def _log_density(self, greedy: Tensor, action: Tensor) -> Tensor:
        self._require_density()
        inside = _normal(action - greedy, self.deviation)
        low = torch.special.log_ndtr((-1 - greedy) / self.deviation)
        high = torch.special.log_ndtr((greedy - 1) / self.deviation)
        clipped: Bool[Tensor, "P B A"] = action.abs() >= 1
        noisy = torch.where(clipped, torch.where(action < 0, low, high), inside).sum(-1)
        flat = torch.full_like(noisy, -action.shape[-1] * log(2)).masked_fill(clipped.any(-1), -torch.inf)
        return self._mixed(noisy, flat)

    def _mixed(self, noisy: Tensor, flat: Tensor) -> Tensor:
        if not self.uniform:
            return noisy
        return torch.logaddexp(noisy + log(1 - self.uniform), flat + log(self.uniform))

    def _require_density(self) -> None:
        if self.deviation <= 0:
            raise ValueError(f"deviation must be positive for an action to have a density, got {self.deviation}")

    def _on(self, device: torch.device) -> "ExploringPolicy":
        if self.mean.device == device:
            return self
        layers = tuple((weight.to(device), bias.to(device)) for weight, bias in self.layers)
        return replace(self, layers=layers, mean=self.mean.to(device), std=self.std.to(device))


@dataclass(frozen=True)
class Policies:
    """The shipped checkpoints of one environment in the order of training, without exploration."""

    policy: ExploringPolicy
    steps: Int64[Tensor, " P"]  # of training before each checkpoint
    card: dict[str, Any]  # `checkpoints` is a list as long as `steps`

    @cached_property
    def returns(self) -> Float64[Tensor, " P"]:
        """Mean return of the greedy actions of every checkpoint, from the card."""
        return torch.tensor([entry["greedy"]["mean"] for entry in self.card["checkpoints"]], dtype=torch.float64)

    @property
    def expert(self) -> int:
        """The checkpoint with the highest return."""
        return int(self.returns.argmax())

    @property
    def medium(self) -> int:
        """The checkpoint whose return is nearest to a third of the highest."""
        return int((self.returns - self.returns.max() / 3).abs().argmin())


def load_policies(environment: str) -> Policies:
    """The checkpoints of `hopper`, `halfcheetah` or `walker2d`.

    Raises:
        SpecError: no policies of this name are shipped.
        DataError: their file is damaged; names it.
    """
    path = FOLDER / f"{environment}.safetensors"
    if not path.exists():
        raise unknown("environment with policies", environment, (file.stem for file in FOLDER.glob("*.safetensors")))
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} must be a safetensors file: {error}") from None
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Policies(policy_of(tensors, card["network"]), tensors["steps"], card)


def policy_of(tensors: dict[str, Tensor], network: dict[str, Any]) -> ExploringPolicy:
    """The policies in a file: `<k>.weight` and `<k>.bias` by layer, `mean`, `std`; `network` is the card's."""
    count = sum(name.endswith(".weight") for name in tensors)
    layers = tuple((tensors[f"{k}.weight"].double(), tensors[f"{k}.bias"].double()) for k in range(count))
    return ExploringPolicy(layers, tensors["mean"].double(), tensors["std"].double(), **network)


def _normal(residual: Tensor, std: float) -> Tensor:
    return -(residual / std).square() / 2 - log(std) - log(2 * pi) / 2


def _log_mass(centre: Tensor, std: float) -> Tensor:
    """Log-probability that N(centre, std^2) lies in [-1, 1]; by the tail that is not near 1."""
    outer = centre.abs()
    return (torch.special.ndtr((1 - outer) / std) - torch.special.ndtr((-1 - outer) / std)).log()
