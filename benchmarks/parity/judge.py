"""Policies of both sides in one simulator, from the same start states: the peers' weights are read from plain files.

Ours are judged while they train, by the command line; theirs here, by the same function with the same random numbers.
A file of weights also says what the peer's own code does in some states: what is read must do the same.
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mish

from benchmarks.evaluation.policy import evaluate_policy
from benchmarks.execution.provenance import provenance
from benchmarks.parity.fidelity import models
from benchmarks.parity.lockstep import compare
from core.files import write_json
from core.random import Streams
from tasks.base import DataOptions, Task, load_task

__all__ = ["DiffusionPolicy", "MisreadError", "NetworkPolicy", "judge", "read_policy"]

_TOLERANCE = 1e-4  # of an action, between the peer's arithmetic and ours


class MisreadError(Exception):
    """What was read does not act as the peer says that it does."""


class NetworkPolicy:
    """The greedy policy of S networks of linear layers and ReLU: tanh of their first outputs."""

    def __init__(self, files: Sequence[dict[str, np.ndarray]]) -> None:
        self.mean, self.std = (_stacked(files, name)[:, None] for name in ("mean", "std"))
        self.layers = _layers(files, "")
        self.actions = files[0]["probe_action"].shape[-1]

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        """The greedy action; `rng` changes nothing."""
        hidden = _network((obs - self.mean) / self.std, self.layers, torch.relu)
        return hidden[..., : self.actions].tanh()


class DiffusionPolicy:
    """Diffusion-QL's policy as its authors evaluate it: of 50 samples, one is drawn by the softmax of its value.

    Source: arXiv:2208.06193, section 3 and appendix; read in the authors' repository: states are not normalised, the
    samples are the trained policy's, not the averaged one's, and the values the target critics' smaller one.
    """

    candidates = 50

    def __init__(self, files: Sequence[dict[str, np.ndarray]]) -> None:
        self.time = _layers(files, "time_")
        self.layers = _layers(files, "")
        self.critics = [_layers(files, f"q{i}_") for i in (1, 2)]
        self.betas = _stacked(files, "betas")[0]
        self.actions = files[0]["probe_action"].shape[-1]
        self.random = torch.Generator().manual_seed(0)

    def noise(self, x: Tensor, step: int | Tensor, obs: Tensor) -> Tensor:
        """What the network takes for the noise in x."""
        half = self.time[0][0].shape[1] // 2
        frequency = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
        angle = torch.as_tensor(step, dtype=torch.float32).expand(x.shape[:-1])[..., None] * frequency
        embedded = _network(torch.cat([angle.sin(), angle.cos()], -1), self.time, mish)
        return _network(torch.cat([x, embedded, obs], -1), self.layers, mish)

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "S B O"], rng: Streams | None) -> Float[Tensor, "S B A"]:
        """One of the candidates, by the softmax of its value."""
        seeds, rows, width = obs.shape
        many = obs[:, :, None].expand(-1, -1, self.candidates, -1).reshape(seeds, -1, width)
        action = self._chain(many)
        inputs = torch.cat([many, action], -1)
        value = torch.minimum(*(_network(inputs, layers, mish) for layers in self.critics))
        share = value.view(seeds * rows, self.candidates).softmax(-1)
        chosen = torch.multinomial(share, 1, generator=self.random).view(seeds, rows, 1, 1)
        action = action.view(seeds, rows, self.candidates, -1)
        return action.gather(2, chosen.expand(-1, -1, -1, self.actions))[:, :, 0]

    def _chain(self, obs: Tensor) -> Tensor:
        """Ancestral sampling from the posterior of x_(k-1) given x_k and the clipped x_0. Source: arXiv:2006.11239."""
        kept = (1 - self.betas).cumprod(0)
        before = torch.cat([torch.ones(1), kept[:-1]])
        x = self._normal(obs)
        for k in reversed(range(len(self.betas))):
            start = ((x - (1 - kept[k]).sqrt() * self.noise(x, k, obs)) / kept[k].sqrt()).clamp(-1, 1)
            towards = self.betas[k] * before[k].sqrt() / (1 - kept[k])
            stay = (1 - before[k]) * (1 - self.betas[k]).sqrt() / (1 - kept[k])
            variance = self.betas[k] * (1 - before[k]) / (1 - kept[k])
            x = towards * start + stay * x + variance.sqrt() * self._normal(obs)  # no variance at k = 0
        return x.clamp(-1, 1)

    def _normal(self, obs: Tensor) -> Tensor:
        return torch.randn((*obs.shape[:-1], self.actions), generator=self.random)


def read_policy(files: Sequence[Path]) -> NetworkPolicy | DiffusionPolicy:
    """The policies of several seeds as one.

    Raises:
        MisreadError: it does not act in the probed states as the file says.
    """
    contents = []
    for file in files:
        with np.load(file, allow_pickle=False) as content:
            contents.append({name: content[name] for name in content.files})
    probe = _stacked(contents, "probe")
    wanted = _stacked(contents, "probe_action")
    policy: NetworkPolicy | DiffusionPolicy
    if "betas" in contents[0]:
        policy = DiffusionPolicy(contents)
        step, x = (_stacked(contents, f"probe_{name}") for name in ("step", "x"))
        with torch.no_grad():
            found = policy.noise(x, step, probe)
    else:
        policy = NetworkPolicy(contents)
        found = policy.act(probe, None)
    if (worst := (found - wanted).abs().max().item()) > _TOLERANCE:
        raise MisreadError(f"{files[0].name}: must act as the peer's code within {_TOLERANCE}, but differs by {worst}")
    return policy


def judge(task: Task, files: Sequence[Path], seeds: Sequence[int], episodes: int) -> list[float]:
    """Normalised scores of the policies of these seeds: the starts are those of our policies of the same seeds."""
    rng = Streams(tuple(seeds)).fork("evaluate")
    scores = dict(evaluate_policy(task, read_policy(files), episodes, rng))["normalized_score"]
    return [float(score) for score in scores]


def main(job: dict[str, Any], folder: Path) -> None:
    """Judge what the job names; writes `values.json`."""
    task = load_task(f"local/{job['task']}", DataOptions(dataset_rows=job["rows"]))
    values: list[Any]
    if job["kind"] == "policy":
        values = list(_scores(task, job))
    elif job["kind"] == "model":
        values = models(task, job)
    else:
        data, _ = task.dataset()
        values = [list(network) for network in compare(job["method"], job["settings"], data, Path(job["file"]))]
    write_json(folder / "values.json", values)
    origin = provenance(torch.device("cpu"))
    write_json(folder / "facts.json", {name: origin[name] for name in ("commit", "dirty", "versions")})


def _scores(task: Task, job: dict[str, Any]) -> Iterator[tuple[int, int, float]]:
    """(seed, update, normalised score) of all of the peer's checkpoints."""
    seeds = [asked["seed"] for asked in job["theirs"]]
    for step in job["steps"] if seeds else []:
        files = [Path(trained) / f"policy-{step}.npz" for trained in job["theirs_folders"]]
        scores = judge(task, files, seeds, job["episodes"])
        yield from ((seed, step, score) for seed, score in zip(seeds, scores, strict=True))
        print(f"{job['task']} update {step}: {', '.join(f'{score:.1f}' for score in scores)}", flush=True)


def _stacked(files: Sequence[dict[str, np.ndarray]], name: str) -> Tensor:
    return torch.from_numpy(np.stack([file[name] for file in files]).astype(np.float32))


def _layers(files: Sequence[dict[str, np.ndarray]], prefix: str) -> list[tuple[Tensor, Tensor]]:
    """(weight [S, in, out], bias [S, 1, out]) of the layers whose names begin so."""
    count = sum(name.startswith(f"{prefix}weight") for name in files[0])
    pairs = [(_stacked(files, f"{prefix}weight{i}"), _stacked(files, f"{prefix}bias{i}")) for i in range(count)]
    layers = [(weight.transpose(1, 2).contiguous(), bias[:, None]) for weight, bias in pairs]
    assert all(one.shape[2] == other.shape[1] for (one, _), (other, _) in pairwise(layers))
    return layers


def _network(x: Tensor, layers: list[tuple[Tensor, Tensor]], activation: Any) -> Tensor:
    for i, (weight, bias) in enumerate(layers):
        x = torch.baddbmm(bias, activation(x) if i else x, weight)
    return x


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
