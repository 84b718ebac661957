"""SynthER's diffusion over transitions: its `Trainer` and its sampler, with the settings of its gin file.

Width and updates are the job's: the released ones take days on a CPU. The cosine of the learning rate is that of the
job's updates, as on our side. With `averaged_as_ours` the weights are averaged as our models' are, with
`clipped_as_ours` generated actions are clipped: a control that asks whether this is what makes a difference.
"""

import ast
import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.parity.drivers import shims
from benchmarks.parity.drivers.axes import EINOPS
from benchmarks.parity.drivers.lockstep import double_precision, draws_by_row, linear, spread

_SAMPLES = 4000
_ROWS = 64  # that are looked at in lockstep


def train(job: dict[str, Any], record: shims.Recorder) -> dict[str, Any]:
    """Train and sample."""
    lockstep = job.get("lockstep")
    gin = Gin()
    env = shims.install(
        Path(job["data"]),
        ["redq", "torchdiffeq"],
        {
            "gin": {"configurable": gin.configurable},
            "accelerate": {"Accelerator": Accelerator},
            **EINOPS,
            "ema_pytorch": {"EMA": OurEMA if lockstep or job["settings"].get("averaged_as_ours") else EMA},
        },
    )
    checkout = Path(job["checkout"])
    sys.path.insert(0, str(checkout))
    parts = ("elucidated_diffusion", "train_diffuser", "utils")
    elucidated, released, utils = (import_module(f"synther.diffusion.{name}") for name in parts)
    gin.read(checkout, "config/resmlp_denoiser.gin")
    gin.bound["Trainer"] |= {"train_num_steps": lockstep or job["updates"], "save_and_sample_every": 10**9}
    gin.bound["ResidualMLPDenoiser"] |= {"mlp_width": job["settings"]["width"]}
    gin.bound["SimpleDiffusionGenerator"] |= {"sample_batch_size": _SAMPLES}
    setattr(elucidated, "cpu_count", lambda: 0)  # noqa: B010  # worker processes of the loader
    np.random.seed(job["seed"])  # noqa: NPY002
    torch.manual_seed(job["seed"])
    if lockstep:
        double_precision()
    inputs = torch.from_numpy(utils.make_inputs(env)).float()
    diffusion = utils.construct_diffusion_model(inputs=inputs)
    dataset = torch.utils.data.TensorDataset(inputs)
    trainer = elucidated.Trainer(diffusion, dataset, results_folder=str(record.folder), use_gpu=False)
    if lockstep:
        return _lockstep(trainer, inputs, record)
    record.resume()
    trainer.train()
    record.stop()
    sampler = released.SimpleDiffusionGenerator(env=env, ema_model=trainer.ema.ema_model)
    names = ("obs", "action", "reward", "next_obs", "terminal")
    drawn = dict(zip(names, sampler.sample(_SAMPLES), strict=True))
    if job["settings"].get("clipped_as_ours"):
        drawn["action"] = drawn["action"].clip(-1, 1)
    record.arrays("rollouts", **{f"sample_{name}": values for name, values in drawn.items()})
    return {"settings": gin.bound, "parameters": sum(part.numel() for part in diffusion.parameters())}


def _lockstep(trainer: Any, inputs: Tensor, record: shims.Recorder) -> dict[str, Any]:
    """What network, loss and sampler make of some rows; then a training, of which the average of the weights is kept.

    Of the average, which differs on purpose, ours is taken, after updates 10, 20, ... instead of 1, 11, ...
    """
    diffusion = trainer.model
    rows = inputs[:_ROWS]
    sigma = torch.linspace(0.01, 3.0, _ROWS)
    start = _weights("start_", diffusion.net)
    units = {"mean": diffusion.normalizer.mean, "std": diffusion.normalizer.std}
    draws_by_row()
    with torch.no_grad():
        found = {
            "denoised": diffusion.preconditioned_network_forward(rows, sigma),
            "loss": diffusion(rows),
            "samples": diffusion.sample(batch_size=_ROWS, num_sample_steps=128, clamp=False, disable_tqdm=True),
        }
    frequency = diffusion.net.time_mlp[0].weights.detach()
    trainer.dl = _batches(inputs, trainer.batch_size)
    trainer.ema.calls = 1
    trainer.train()
    end = _weights("end_", trainer.ema.ema_model.net)
    made = {"rows": rows, "sigma": sigma, "frequency": frequency, "updates": trainer.step}
    record.arrays("lockstep", **made, **units, **found, **start, **end)
    return {}


def _weights(prefix: str, net: Any) -> dict[str, np.ndarray]:
    parts = {"mlp": net.residual_mlp, "row": net.proj, "time": net.time_mlp}
    return {key: x for name, part in parts.items() for key, x in linear(f"{prefix}{name}_", part).items()}


def _batches(rows: Tensor, size: int) -> Iterator[tuple[Tensor]]:
    for update in itertools.count():
        yield (rows[(spread(update * size, size) * len(rows)).long()],)


class Gin:
    """gin-config, as far as it is used: bindings of a file become arguments that are not given."""

    def __init__(self) -> None:
        self.bound: dict[str, dict[str, Any]] = {}
        self.known: dict[str, Any] = {}

    def configurable(self, made: Any) -> Any:
        """A decorator of functions and classes."""
        self.known[made.__name__] = made
        if inspect.isclass(made):
            kind: Any = made
            kind.__init__ = self._filled(made.__name__, kind.__init__)
            return made
        return self._filled(made.__name__, made)

    def _filled(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(call)

        @functools.wraps(call)
        def filled(*given: Any, **named: Any) -> Any:
            there = signature.bind_partial(*given, **named).arguments
            return call(*given, **named, **{k: v for k, v in self.bound.get(name, {}).items() if k not in there})

        return filled

    def read(self, root: Path, file: str) -> None:
        """Take the bindings of a file: literals, `%macro` and `@configurable`."""
        macros: dict[str, Any] = {}
        for line in (root / file).read_text(encoding="utf-8").splitlines():
            key, equals, text = (part.strip() for part in line.partition("#")[0].partition("="))
            if not equals:
                continue
            value = self.known[text[1:]] if text[0] == "@" else macros[text[1:]] if text[0] == "%" else _literal(text)
            name, dot, argument = key.rpartition(".")
            if dot:
                self.bound.setdefault(name, {})[argument] = value
            else:
                macros[key] = value


class Accelerator:
    """accelerate's, on one CPU: everything stays as it is."""

    is_main_process = is_local_main_process = True
    device = torch.device("cpu")
    scaler = None

    def __init__(self, **given: Any) -> None:
        self.print = print

    def prepare(self, *parts: Any) -> Any:
        return parts if len(parts) > 1 else parts[0]

    def autocast(self) -> Any:
        return nullcontext()

    def backward(self, loss: Any) -> None:
        loss.backward()

    def clip_grad_norm_(self, parameters: Any, most: float) -> None:
        nn.utils.clip_grad_norm_(parameters, most)

    def wait_for_everyone(self) -> None:
        pass


class EMA(nn.Module):
    """ema-pytorch's: weights are copied for 100 steps, then averaged with a decay that rises to `beta`.

    The decay at step t is 1 - (t - 100)^(-2/3), at most beta; only every `update_every`-th call does anything.
    """

    def __init__(self, model: nn.Module, beta: float, update_every: int, update_after_step: int = 100) -> None:
        super().__init__()
        self.online = [model]  # in a list: no submodule
        self.ema_model = deepcopy(model).requires_grad_(False)
        self.settings = SimpleNamespace(beta=beta, every=update_every, after=update_after_step)
        self.calls = 0

    def decay(self, step: int) -> float:
        """Weight of the old average."""
        since = max(step - self.settings.after - 1, 0)
        return min(1 - (1 + since) ** (-2 / 3), self.settings.beta) if since else 0.0

    @torch.no_grad()
    def update(self) -> None:
        """Count the call, and move the average if it is its turn."""
        step, self.calls = self.calls, self.calls + 1
        if step % self.settings.every:
            return
        decay = self.decay(step)
        for kept, now in zip(self.ema_model.parameters(), self.online[0].parameters(), strict=True):
            kept.lerp_(now, 1 - decay)


class OurEMA(EMA):
    """As our diffusion models average: the decay rises with the number of averagings, not of updates."""

    def decay(self, step: int) -> float:
        return min(1 - (1 + step // self.settings.every) ** (-2 / 3), self.settings.beta)


def _literal(text: str) -> Any:
    return ast.literal_eval(text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    shims.main(train)
