"""DyDiff's sequence model: its training loop and its sampler, with the options of its README but for size and budget.

Its learning rate rises linearly up to the snapshot that its configurations load (3 of 10 million windows); here it
reaches the same value at the job's last update. The average of the weights is taken, as in its experiments. Written
are states that its sampler generates from held-out starts under logged actions. With `optimised_as_ours` the same loop
is optimised as our models are, with `network_as_ours` its network gets what ours has, and with `rows_as_ours` its rows
hold what ours hold: controls that ask whether this is what makes a difference.
"""

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.parity.drivers import shims
from benchmarks.parity.drivers.axes import EINOPS
from benchmarks.parity.drivers.lockstep import constant_draws, toy_denoiser

_IDLE = ("cv2", "PIL", "rlkit")  # of the checkout, too: its other methods are not needed
_CHUNK = 64  # windows at a time
SAMPLER = {"S_churn": 60, "S_max": 52.24, "S_min": 0.3699, "S_noise": 1.002, "num_steps": 34}


def train(job: dict[str, Any], record: shims.Recorder) -> dict[str, Any]:
    """Train, then sample."""
    env = shims.install(Path(job["data"]), _IDLE, {**EINOPS, "psutil": {"Process": _Process}})
    sys.path.insert(0, job["checkout"])
    loop: Any = importlib.import_module("training.training_loop")
    sampler = importlib.import_module("generate_rl").condition_guidance_sampler
    if job.get("lockstep"):
        return _lockstep(importlib.import_module("training.loss").EDMLoss, sampler, env, record)
    networks: list[nn.Module] = []

    def copied(network: nn.Module) -> nn.Module:  # the loop copies one module: the average
        networks.append(importlib.import_module("copy").deepcopy(network))
        return networks[-1]

    loop.copy = SimpleNamespace(deepcopy=copied)
    setattr(torch.nn.parallel, "DistributedDataParallel", lambda network, **given: network)  # noqa: B010
    setattr(torch.utils.data.Sampler, "__init__", lambda self, *given: None)  # noqa: B010  # it once took the data
    for name in ("max_memory_allocated", "max_memory_reserved", "reset_peak_memory_stats"):
        setattr(torch.cuda, name, lambda *given: 0)
    settings = options(job, env.observation_space.shape[0], env.action_space.shape[0], str(record.folder))
    record.resume()
    net = loop.training_loop(**settings)
    record.stop()
    average = networks[0]
    average.eval()
    with np.load(job["windows"], allow_pickle=False) as held:
        obs, action = held["obs"], held["action"]
    rows = settings["max_length_of_trajectory"]
    width = obs.shape[-1]
    held_rows = net.normalize(np.concatenate([obs[:, :rows], action[:, :rows]], -1))
    known = torch.from_numpy(later(held_rows, width) if job["settings"].get("rows_as_ours") else held_rows).float()
    made = []
    for part in torch.split(known, _CHUNK):
        with torch.inference_mode():
            noise = torch.randn_like(part)
            given = {"conditions": {0: part[:, 0, :width]}, "observation_dim": width, "cond_actions": part[..., width:]}
            made.append(sampler(average, noise, sigma_max=80, **given, **settings["sampler_kwargs"]))
    states = net.unnormalize(torch.cat(made).float().numpy())[..., :width]
    record.arrays("rollouts", obs=states)
    return {"settings": settings, "parameters": sum(part.numel() for part in average.parameters())}


def _lockstep(loss: Any, sampler: Any, env: shims.Env, record: shims.Recorder) -> dict[str, Any]:
    """What its loss and its sampler make of a denoiser that is no network, all draws being constant."""
    width, actions = env.observation_space.shape[0], env.action_space.shape[0]
    generator = torch.Generator().manual_seed(0)
    rows, latent = (torch.randn((16, 32, width + actions), generator=generator) for _ in range(2))
    rows = rows.clamp(-1, 1)
    known = {"conditions": {0: rows[:, 0, :width]}, "observation_dim": width, "cond_actions": rows[..., width:]}
    constant_draws()

    class Net:
        sigma_min = 0.0
        sigma_max = float("inf")
        round_sigma = staticmethod(torch.as_tensor)

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor, labels: Any = None, **given: Any) -> torch.Tensor:
            return toy_denoiser(x.float(), sigma.reshape(-1, 1, 1))

    samples = sampler(Net(), latent, None, torch.randn_like, sigma_max=80, **known, **SAMPLER)
    scored = loss(use_cond=True, observation_dim=width, rl_setting=True, cond_on_action=True)
    value = scored(Net(), rows.clone(), {0: rows[:, 0, :width].clone()}).mean()
    record.arrays("lockstep", rows=rows, latent=latent, samples=samples.float(), loss=value)
    return {}


class Annealed(torch.optim.Adam):
    """Adam as our diffusion models use it: a learning rate held and then let fall by a cosine, gradients clipped."""

    def __init__(self, params: Any, *, lr: float, updates: int, hold: float, max_norm: float, **given: Any) -> None:
        super().__init__(params, lr=lr, **given)
        self.rate, self.updates, self.hold, self.max_norm = lr, updates, hold, max_norm
        self.done = 0

    def step(self, closure: Any = None) -> Any:
        """The loop has set a learning rate of its own, which is replaced."""
        late = max(self.done / self.updates - self.hold, 0) / (1 - self.hold)
        for group in self.param_groups:
            group["lr"] = self.rate * (1 + math.cos(math.pi * late)) / 2
            torch.nn.utils.clip_grad_norm_(group["params"], self.max_norm)
        loss = super().step(closure)
        self.done += 1
        return loss


def extended(**given: Any) -> Any:
    """Its network with a skip at full length, without which every row passes through half the rows, and other layers.

    The features of the noise level: random frequencies as SynthER's, where its own are wavelengths up to 10^4. Every
    row is normalised for itself, not eighths of the channels over all rows, and SiLU is the activation.
    """
    net: Any = importlib.import_module("training.networks").EDMPrecond(**given)
    unet, dim = net.model, given["dim"]
    unet.time_mlp[0] = _Fourier(dim)
    unet.time_mlp[1] = nn.Linear(dim + 1, 4 * dim)
    block = type(unet.final_conv[0])
    unet.final_conv[0] = block(2 * dim, dim, kernel_size=5, mish=True)
    for part in [each for each in unet.modules() if isinstance(each, block)]:
        part.block[2] = _RowNorm(part.block[2].num_channels)
    for part in list(unet.modules()):
        for name, layer in part.named_children():
            if isinstance(layer, nn.Mish):
                setattr(part, name, nn.SiLU())
    full: list[torch.Tensor] = []
    unet.downs[0][1].register_forward_hook(lambda module, rows, out: full.append(out))
    unet.final_conv.register_forward_pre_hook(lambda module, rows: (torch.cat([rows[0], full.pop()], 1),))
    return net


class _Fourier(nn.Module):
    frequency: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.randn(dim // 2))

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        angle = 2 * math.pi * level[:, None] * self.frequency
        return torch.cat([level[:, None], angle.sin(), angle.cos()], -1)


class _RowNorm(nn.LayerNorm):
    """LayerNorm over the channels of [batch, channels, 1, rows]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 3)).transpose(1, 3)


def shifted(**given: Any) -> Any:
    """Its data set with rows as ours: a state and the action before it."""
    made: Any = importlib.import_module("training.dataset").MujocoDataset(**given)
    window = made._load_raw_image

    def moved(index: int) -> Any:
        rows, start = window(index)
        return later(rows, made.observation_dim), start

    made._load_raw_image = moved
    return made


def later(rows: np.ndarray, width: int) -> np.ndarray:
    """Windows [..., H, O + A] whose actions stand a row later; that of the first is zero, the last is gone."""
    action = np.zeros_like(rows[..., width:])
    action[..., 1:, :] = rows[..., :-1, width:]
    return np.concatenate([rows[..., :width], action], -1)


class _Process:
    """psutil's: it has no memory."""

    def __init__(self, number: int) -> None:
        pass

    def memory_info(self) -> SimpleNamespace:
        return SimpleNamespace(rss=0)


def options(job: dict[str, Any], observation_dim: int, action_dim: int, folder: str) -> dict[str, Any]:
    """Arguments of the training loop: those of the README's command, with the job's size and budget."""
    size = job["settings"]
    thousands = job["updates"] * size["batch"] / 1000
    here = "benchmarks.parity.drivers.dydiff"
    rows = f"{here}.shifted" if size.get("rows_as_ours") else "training.dataset.MujocoDataset"
    data = {"class_name": rows, "name": job["task"], "use_labels": 0, "use_cond": True}
    adam: dict[str, Any] = {"class_name": "torch.optim.Adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}
    optimised: dict[str, Any] = {}
    if size.get("optimised_as_ours"):
        schedule = {"lr": 3e-4, "updates": job["updates"], "hold": 0.5, "max_norm": 1.0}
        adam |= {"class_name": f"{here}.Annealed", **schedule}
        entries = size["rows"] * (observation_dim + action_dim)
        optimised = {
            "ema_rampup_ratio": 0.1,  # of the updates so far is the half-life: about what our average has
            "loss_scaling": 1 / entries,  # theirs is a sum over a window's entries, whose gradient is clipped at once
        }
    network: dict[str, Any] = {"class_name": "training.networks.EDMPrecond"}
    if size.get("network_as_ours"):
        network = {"class_name": f"{here}.extended"}
    return {
        "run_dir": folder,
        "dataset_kwargs": {**data, "observation_dim": observation_dim},
        "data_loader_kwargs": {"num_workers": 0},
        "network_kwargs": {
            **network,
            "model_type": "UNet_RL",
            "embedding_type": "positional",
            "channel_mult_noise": 1,
            "resample_filter": [1, 1],
            "use_cond": True,
            "dim": size["dim"],
        },
        "loss_kwargs": {
            "class_name": "training.loss.EDMLoss",
            "use_cond": True,
            "observation_dim": observation_dim,
            "rl_setting": True,
            "cond_on_action": True,
        },
        "optimizer_kwargs": adam,
        "seed": job["seed"],
        "batch_size": size["batch"],
        "total_kimg": thousands,
        "ema_halflife_kimg": 500,
        **optimised,
        "lr_rampup_kimg": thousands / 0.3,
        "kimg_per_tick": 1,
        "snapshot_ticks": None,
        "state_dump_ticks": None,
        "device": torch.device("cpu"),
        "rl_setting": True,
        "max_length_of_trajectory": size["rows"],
        "use_cond": True,
        "include_action": True,
        "sampler_kwargs": SAMPLER,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    shims.main(train)
