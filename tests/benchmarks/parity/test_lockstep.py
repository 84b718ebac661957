"""The repetition of a peer's updates: equal ones leave equal weights, and what differs is seen."""

from copy import deepcopy
from itertools import pairwise
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.parity.drivers.lockstep import by_row, linear, spread
from benchmarks.parity.lockstep import compare
from core.data import Dataset
from tasks.base import DataOptions, load_task


@pytest.fixture(scope="module")
def toy() -> Dataset:
    return load_task("toy/linear", DataOptions(dataset_rows=500)).dataset()[0]


def recorded(file: Path, data: Dataset, rate: float, wider: float = 1.0, **more: Any) -> None:
    """Three updates of behaviour cloning in double precision, in plain torch, as a driver would write them.

    They begin with torch's weights times `wider`.
    """
    torch.manual_seed(0)
    obs, action = data.train.obs[:96].view(3, 32, -1), data.train.action[:96].view(3, 32, -1)
    sizes = [obs.shape[-1], 256, 256, action.shape[-1]]
    layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2], nn.Tanh()).double()
    layers[1].weight.data *= wider
    start = linear("start_actor_", net)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    for state, wanted in zip(obs.double(), action.double(), strict=True):
        optimizer.zero_grad()
        (net(state) - wanted).square().mean().backward()
        optimizer.step()
    rest = {"reward": np.zeros((3, 32)), "next_obs": obs.numpy(), "terminated": np.zeros((3, 32))}
    content: dict[str, Any] = {"obs": obs.numpy(), "action": action.numpy(), **rest}
    np.savez(file, **start, **linear("end_actor_", net), **content, **more)


def test_equal_updates_leave_equal_weights(toy: Dataset, tmp_path: Path) -> None:
    recorded(tmp_path / "same.npz", toy, 3e-4)
    (actor,) = compare("bc", {}, toy, tmp_path / "same.npz")
    assert actor.name == "actor"
    assert actor.moved > 1e-4
    assert actor.apart < 1e-14
    assert torch.get_default_dtype() == torch.float32


def test_another_learning_rate_is_seen(toy: Dataset, tmp_path: Path) -> None:
    recorded(tmp_path / "other.npz", toy, 4e-4)
    (actor,) = compare("bc", {}, toy, tmp_path / "other.npz")
    assert actor.apart > 0.1 * actor.moved


def test_initial_weights_of_another_law_are_seen(toy: Dataset, tmp_path: Path) -> None:
    for name, factor in (("same", 1.0), ("wider", 1.1)):
        recorded(tmp_path / f"{name}.npz", toy, 3e-4, factor)
    (same,), (wider,) = (compare("bc", {}, toy, tmp_path / f"{name}.npz") for name in ("same", "wider"))
    assert same.law is not None and same.law > 0.05  # noqa: PT018
    assert wider.law is not None and wider.law < 1e-6  # noqa: PT018
    assert wider.apart < 1e-14  # the updates themselves agree


def test_another_normalisation_of_states_is_seen(toy: Dataset, tmp_path: Path) -> None:
    obs = toy.train.obs.numpy()
    recorded(tmp_path / "a.npz", toy, 3e-4, mean=obs.mean(0), std=obs.std(0, ddof=0) + 0.1)
    found = {part.name: part for part in compare("bc", {}, toy, tmp_path / "a.npz")}
    assert found["states_mean"].apart < 1e-6
    assert found["states_std"].apart > 0.05


class Denoiser(nn.Module):
    """SynthER's, of two blocks, in plain torch: D(x; sigma) of Karras et al. 2022."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.row = nn.Sequential(nn.Linear(features, 8))
        self.time = nn.Sequential(nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 8))
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, features))
        self.register_buffer("frequency", torch.randn(2))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        noise = sigma.log()[:, None] / 4
        angle = 2 * pi * noise * self.frequency
        first, *blocks, last = self.mlp
        scale = (1 + sigma[:, None] ** 2).sqrt()
        h = first(self.row(x / scale) + self.time(torch.cat([noise, angle.sin(), angle.cos()], -1)))
        for block in blocks:
            h = h + block(h.relu())
        return x / scale**2 + sigma[:, None] / scale * last(h.relu())

    def loss(self, clean: Tensor) -> Tensor:
        draws = by_row(len(clean))
        sigma = (1.2 * draws - 1.2).exp()
        error = self(clean + (sigma * draws)[:, None], sigma) - clean
        return ((1 + 1 / sigma[:, None] ** 2) * error**2).mean()

    def weights(self, when: str) -> dict[str, np.ndarray]:
        parts = {"row": self.row, "time": self.time, "mlp": self.mlp}
        return {key: x for name, part in parts.items() for key, x in linear(f"{when}_{name}_", part).items()}


def diffused(file: Path, data: Dataset, rate: float) -> None:
    """Twenty updates of SynthER's diffusion in double precision, in plain torch, as its driver would write them."""
    train, updates, batch = data.train, 20, 32
    ends = train.reward[:, None], train.next_obs, train.terminated[:, None]
    rows = torch.cat([train.obs, train.action, *ends], -1).double()
    mean, std = rows.mean(0), rows.std(0) + 1e-5
    mean[-1], std[-1] = 0, 1
    torch.manual_seed(0)
    net = Denoiser(rows.shape[-1]).double()
    sigma = torch.linspace(0.1, 2, 8, dtype=torch.float64)
    found = {"rows": rows[:8], "sigma": sigma, "denoised": net(rows[:8], sigma), "samples": rows[:8]}
    found |= {"loss": net.loss((rows[:8] - mean) / std), "frequency": net.frequency, "mean": mean, "std": std}
    start = net.weights("start")
    adam = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99))
    average = deepcopy(net)
    for update in range(updates):
        adam.param_groups[0]["lr"] = rate * (1 + cos(pi * update / updates)) / 2
        adam.zero_grad()
        net.loss((rows[(spread(update * batch, batch) * len(rows)).long()] - mean) / std).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        if update % 10 == 9:
            for kept, now in zip(average.parameters(), net.parameters(), strict=True):
                kept.data.lerp_(now.data, (1 + (update + 1) // 10) ** (-2 / 3))
    content = {name: x.detach().numpy() for name, x in found.items()}
    np.savez(file, **content, **start, **average.weights("end"), updates=updates)


@pytest.mark.parametrize("rate", [3e-4, 4e-4])
def test_trainings_of_transitions_are_repeated(toy: Dataset, tmp_path: Path, rate: float) -> None:
    diffused(tmp_path / "synther.npz", toy, rate)
    small = {"width": 16, "blocks": 2, "embedding": 8, "frequencies": 2}
    settings = {"preset": "faithful", "model": {"denoiser": small, "batch_size": 32}}
    found = {part.name: part for part in compare("synther", settings, toy, tmp_path / "synther.npz")}
    for part in ("denoiser", "loss", "mean", "std"):
        assert found[part].apart < 1e-14
    for network in (found[name] for name in ("row", "time", "mlp")):
        assert network.moved > 1e-4
        assert network.law is not None
        assert (network.apart < 1e-14) == (rate == 3e-4)
