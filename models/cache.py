"""Every pretrained model is fitted once per configuration, training rows and seed, and shared by all that need it.

One safetensors file per seed with a json card beside it, found by a hash of everything that determines its weights:
configuration, training rows, seed, the source of this folder and of `core` (random numbers, batches, ...), torch's
version and the kind of device. Nothing is ever invalidated by hand. Seeds that are there are loaded, the others are
fitted together; a file whose checksum is not that of its card is fitted again.
"""

import hashlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from jaxtyping import Float, Float64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.buffer import pack
from core.checkpoint import Checkpoint
from core.config import adapter
from core.data import Dataset
from core.files import atomic, cache_dir, canonical_json, sha256, write_json
from core.progress import say, waiting
from core.random import Streams
from models.compiled import compiling
from models.flops import fit_flops

__all__ = ["FitContext", "ModelCache", "ModelConfig", "describe_model"]

_USED = ("model", "seed", "seconds", "flop", "facts")  # of a card, for the runs that use its model


@dataclass(frozen=True)
class FitContext:
    """What a fit is given besides its data."""

    rng: Streams
    checkpoint: Checkpoint = field(default_factory=Checkpoint)


class ModelConfig(ABC):
    """Base of every model's configuration: a frozen dataclass that makes its model and fits it."""

    updates: int = 0  # of a fit whose length is known beforehand; 0: it ends by itself

    @property
    def needs(self) -> tuple["ModelConfig", ...]:
        """Models that this one builds on; `fit` gets them, fitted, as further arguments."""
        return ()

    @abstractmethod
    def init(self, obs_dim: int, action_dim: int, rng: Streams) -> Any:
        """The untrained model; every tensor of its state has the seeds in front."""

    @abstractmethod
    def fit(self, model: Any, data: Dataset, context: FitContext, *needs: Any) -> dict[str, Float[Tensor, " S"]] | None:
        """Train it in place on `data.train`; facts that are returned, one number per seed, are kept on its card."""


def describe_model(config: ModelConfig) -> dict[str, Any]:
    """A model's kind and every field of its configuration, as JSON."""
    kind: type[Any] = type(config)
    fields = adapter(kind).dump_python(config, mode="json")
    return {"model": f"{kind.__module__}.{kind.__qualname__}", "config": fields}


class ModelCache:
    """Models for the seeds of one run."""

    def __init__(
        self,
        rng: Streams,
        folder: Path | None = None,
        *,
        shared: bool = False,
        compiled: Callable[["ModelConfig"], bool] = lambda config: False,
    ) -> None:
        self._rng = rng.only(rng.seeds[:1]) if shared else rng
        self._compiled = compiled  # whether the losses of its fit go through torch.compile
        self._seeds = rng.seeds
        self._copies = len(rng.seeds) if shared else 1  # a shared model is the first seed's, for all
        self._folder = folder or cache_dir("models")
        self.used: dict[str, dict[str, Any]] = {}  # by key: kind of model, its seed, seconds and FLOP of its fit, facts

    def get(self, config: ModelConfig, data: Dataset) -> Any:
        """The fitted model, in eval mode and without gradients."""
        rng = self._rng.fork(type(config).__name__)
        dims = (data.train.obs.shape[-1], data.train.action.shape[-1])
        keys = self._keys(config, data, rng)
        lock = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        with waiting(FileLock(self._folder / f"{lock}.lock")):
            missing = {seed: key for seed, key in zip(rng.seeds, keys, strict=True) if self._load(key) is None}
            if missing:
                # a folder per lock: another set of seeds has another lock, and may be fitting at the same time
                threads = torch.get_num_threads() if rng.device.type == "cpu" else None  # Adam groups parameters by it
                identity = canonical_json([*missing.values(), threads])
                checkpoint = Checkpoint(self._folder / f"{lock}.partial", identity)
                self._fit(config, data, dims, rng.only(missing), missing, checkpoint)
        for key in keys:
            card = self._card(key)
            self.used |= card["needs"] | {key: {name: card.get(name) for name in _USED}}
        states = [self._load(key) for key in keys] * self._copies
        model = config.init(*dims, Streams([0] * len(states), "replaced", rng.device))
        model.load_state_dict({name: torch.cat([state[name] for state in states if state]) for name in states[0] or {}})
        return model.eval().requires_grad_(False)

    def flop(self) -> Float64[Tensor, " S"]:
        """FLOP of the fits behind each seed's models; a shared model counts in full. NaN: a card does not say.

        A card also names what the other seeds of its fit needed.
        """
        spent = dict.fromkeys(self._rng.seeds, 0.0)
        for model in self.used.values():
            seed, flop = model.get("seed"), model.get("flop")
            for each in spent if seed is None else spent.keys() & {seed}:
                spent[each] += math.nan if flop is None else flop
        own = [spent[self._rng.seeds[0] if self._copies > 1 else seed] for seed in self._seeds]
        return torch.tensor(own, dtype=torch.float64)

    def _fit(
        self,
        config: ModelConfig,
        data: Dataset,
        dims: tuple[int, int],
        rng: Streams,
        keys: dict[int, str],
        checkpoint: Checkpoint,
    ) -> None:
        """Fit these seeds together and store each under its key."""
        same_seeds = ModelCache(self._rng.only(rng.seeds), self._folder, compiled=self._compiled)
        needs = [same_seeds.get(need, data) for need in config.needs]
        started = time.perf_counter()
        model: nn.Module = config.init(*dims, rng.fork("init"))
        with compiling(self._compiled(config)), fit_flops(len(rng.seeds)) as flop:
            facts = config.fit(model, data, FitContext(rng.fork("fit"), checkpoint), *needs) or {}
        share = (time.perf_counter() - started) / len(rng.seeds)
        state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        for row, (seed, key) in enumerate(keys.items()):
            path = self._folder / f"{key}.safetensors"
            with atomic(path) as part:
                save_file({name: tensor[row : row + 1].contiguous() for name, tensor in state.items()}, part)
            spent = {"seconds": round(share, 3), "flop": flop[row]}
            card = {**describe_model(config), "seed": seed, **spent, "needs": same_seeds.used}
            card["facts"] = {name: _number(values[row]) for name, values in facts.items()}
            write_json(path.with_suffix(".json"), {**card, "sha256": sha256(path)})
        checkpoint.clear()

    def _load(self, key: str) -> dict[str, Tensor] | None:
        path = self._folder / f"{key}.safetensors"
        if not (path.exists() and path.with_suffix(".json").exists()):
            return None
        try:
            if self._card(key)["sha256"] != sha256(path):
                raise ValueError("its checksum differs from its card")
            return load_file(path, device=str(self._rng.device))
        except (SafetensorError, ValueError, KeyError) as error:
            say(f"{path} or its card is damaged ({error}); the model is fitted again")
            path.unlink()
            return None

    def _card(self, key: str) -> dict[str, Any]:
        card: dict[str, Any] = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
        return card

    def _keys(self, config: ModelConfig, data: Dataset, rng: Streams) -> list[str]:
        common = {
            **describe_model(config),
            "rows": [_digest(pack(data.train)), _digest(data.episode)],
            "source": _source(),
            "torch": torch.__version__,
            "device": rng.device.type,
        }
        if self._compiled(config):
            common["compiled"] = True
        return [
            hashlib.sha256(canonical_json({**common, "seed": seed}).encode()).hexdigest()[:32] for seed in rng.seeds
        ]


def _number(value: Tensor) -> float | None:
    """For JSON, which has no NaN: None where a fact is not defined."""
    return float(value) if bool(value.isfinite()) else None


def _digest(x: Tensor) -> str:
    return hashlib.sha256(x.cpu().numpy().tobytes()).hexdigest()


@cache
def _source() -> str:
    """Of all that a fit imports from us: `models` imports `core` and nothing else (tests/test_imports.py)."""
    here = Path(__file__).resolve().parent
    files = [path for folder in (here, here.parent / "core") for path in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
