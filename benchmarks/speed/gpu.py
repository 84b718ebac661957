"""Every figure of a GPU in one call: python -m benchmarks.speed.gpu --budget 540 --out results/gpu/perf.json.

Ceilings of the device and correctness come first, then speed. The json is written after every figure, so that a call
that is killed loses nothing; a figure that no longer fits into the budget is left out, and says so. On a CPU everything
is tiny and only shows that the script runs.

On a lent machine that has PyTorch, numpy, scipy, h5py, jaxtyping, rich, safetensors, filelock, tabulate and pytest the
script needs these wheels more: pydantic, pydantic_core, annotated_types, typing_inspection, platformdirs; and for
rliable's own time rliable and arch below 8, with pandas below 3. No simulator is needed. Two lines and the call:
    pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_17_x86_64 -d .whl pydantic \
        pydantic_core annotated_types typing_inspection platformdirs
    pip install --no-index --no-deps --target /tmp/site .whl/*.whl     # there, with PYTHONPATH=/tmp/site
"""

import argparse
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

import torch
from tabulate import tabulate
from torch import Tensor

from algorithms.td3bc import TD3BC
from benchmarks.execution.provenance import provenance
from benchmarks.speed.harness import ACTION, OBS, hopper_sized, paced, training
from benchmarks.speed.libraries import intervals
from core.buffer import Buffer, Mixer
from core.config import build_config
from core.files import write_json
from core.random import Streams
from generators.dydiff import DyDiff
from models.compiled import compiling
from models.diffusion.edm import Precision, Sampler, tf32_products
from models.diffusion.trajectory import TrajectoryDiffusion, TrajectoryDiffusionConfig

__all__ = ["FIGURES", "FULL", "TINY", "Bench", "Sizes", "measure"]

UPDATE_FLOP = 403.8e6  # of one TD3+BC update of one seed: batch 256, 2 x 256 units, Hopper; counted layer by layer
_FAITHFUL = DyDiff.presets["faithful"]
ROUNDS: int = _FAITHFUL["iterations"]  # M: the sampler runs so often for one roll-out
RELEASED: Sampler = build_config(Sampler, _FAITHFUL["sampler"], "sampler")
FEW = Sampler()


@dataclass(frozen=True)
class Sizes:
    """Problem sizes."""

    product: int = 8192  # n of the n x n matrix products
    copied: int = 2**31  # bytes of the copy; as many are read as written
    rows: int = 1_000_000  # of the dataset
    hidden: int = 256
    updates: int = 500  # of one timing
    rollouts: int = 2048
    window: int = 100  # rows of the U-Net's trajectories
    dim: int = 128  # of the U-Net
    steps: int = 34  # of the released sampler: 67 evaluations
    resamples: int = 50_000
    seconds: float = 3.0  # after which a number is not measured once more


FULL = Sizes()
TINY = Sizes(64, 2**16, 1_000, 16, 2, rollouts=2, window=8, dim=4, steps=2, resamples=20, seconds=0.0)


class Bench:
    """A device and what is measured on it; every figure is a method."""

    def __init__(self, device: torch.device, sizes: Sizes, budget: float) -> None:
        self.device = device
        self.sizes = sizes
        self._ends = time.monotonic() + budget
        self.ceilings = dict[str, float]()  # FLOP/s by precision
        self._references = dict[int, Tensor]()  # states in float32, by evaluations

    def left(self) -> float:
        """Seconds of the budget."""
        return self._ends - time.monotonic()

    def find_ceilings(self) -> dict[str, Any]:
        """TFLOP/s of large matrix products, GB/s of a copy within the device."""
        n = self.sizes.product
        found = dict[str, Any]()
        for precision in ("float32", "tf32", "bf16"):
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            one, other = torch.randn(2, n, n, device=self.device).to(dtype)
            with tf32_products() if precision == "tf32" else nullcontext():
                spent = paced(partial(torch.matmul, one, other), self.device, self.sizes.seconds / 3)
            self.ceilings[precision] = 2 * n**3 / spent
            found[f"{precision}_tflops"] = self.ceilings[precision] / 1e12
        source = torch.rand(self.sizes.copied // 4, device=self.device)
        target = torch.empty_like(source)
        spent = paced(lambda: target.copy_(source), self.device, self.sizes.seconds / 3)
        return found | {"copy_gb_per_second": 2 * source.nbytes / spent / 1e9}

    def updates_agree(self) -> dict[str, Any]:
        """The same ten updates here and on the CPU: relative distance of all weights, and of how far they moved."""
        cpu = torch.device("cpu")
        algorithm = replace(self.algorithm, target_noise=0.0)
        data = hopper_sized(1_000)
        rng = Streams((0, 1), "agree")
        mixer = Mixer(data.train, Buffer(2, 1, OBS, ACTION, cpu), 1.0, algorithm.batch_size)
        here, there = (algorithm.init(data.to(device), Streams((0, 1), "", device)) for device in (cpu, self.device))
        for part in ("actor", "critic", "target_actor", "target_critic"):  # not the optimisers: a GPU has its own
            getattr(there, part).load_state_dict(getattr(here, part).state_dict())
        before = _weights(here)
        for _ in range(10):
            batch = mixer.batch(rng)
            algorithm.update(here, batch, rng)
            algorithm.update(there, batch.map(lambda x: x.to(self.device)), rng)
        error = _weights(there) - _weights(here)
        moved = _weights(here) - before
        value = float(error.norm() / _weights(here).norm())
        return {
            "value": value,
            "unit": "relative error of the weights",
            "of_the_distance_moved": float(error.norm() / moved.norm()),
            **_judged(value, at_most=1e-4),
        }

    def one_seed(self) -> dict[str, Any]:
        """TD3+BC updates per second."""
        value = self.updates_per_second(1)
        return {"value": value, "unit": "updates/s", **self._share(value, 1), **_judged(value, at_least=5_000.0)}

    def eight_seeds(self) -> dict[str, Any]:
        """TD3+BC updates per second, of all seeds together."""
        value = 8 * self.updates_per_second(8)
        return {"value": value, "unit": "seed-updates/s", **self._share(value, 8), **_judged(value, at_least=40_000.0)}

    def ten_seeds(self) -> dict[str, Any]:
        """What ten seeds at once take in units of what one takes."""
        value = self.updates_per_second(1) / self.updates_per_second(10)
        return {"value": value, "unit": "times the time of one seed", **_judged(value, at_most=2.0)}

    def synchronisations(self) -> dict[str, Any]:
        """How often an update synchronises with the device."""
        if self.device.type != "cuda":
            return {"left_out": "a CPU has nothing to synchronise with"}
        step, *_ = training(self.algorithm, hopper_sized(10_000).to(self.device), 2, self.device)
        step(20)  # graphs are there
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                step(20)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits = [str(warning.message) for warning in caught if "synchron" in str(warning.message)]
        value = len(waits) / 20
        return {"value": value, "unit": "per update", "said": waits[:1], **_judged(value, at_most=0.0)}

    def rollout(self, sampler: Sampler, precision: str, limit: float | None) -> dict[str, Any]:
        """Seconds of one roll-out by DyDiff's released network, and the distance of its states to those in float32."""
        sampler = replace(sampler, steps=self.sizes.steps) if sampler is RELEASED else sampler
        self._draw(Sampler(steps=1), precision)  # warm up
        runs = list[float]()
        while not runs or (sum(runs) < 3 * self.sizes.seconds and len(runs) < 5):
            self._wait()
            started = time.perf_counter()
            obs = self._draw(sampler, precision)
            self._wait()
            runs.append(time.perf_counter() - started)
        reference = self._references.get(sampler.evaluations)
        if precision == "float32":
            self._references[sampler.evaluations] = obs
        value = median(runs)
        length = self.sizes.window - 1
        flop = self.released.cost(sampler, length, ROUNDS)["flops"] * length * self.sizes.rollouts
        ceiling = self.ceilings.get(precision.split()[0])
        return {
            "value": value,
            "unit": "s",
            "runs": runs,
            "evaluations": ROUNDS * sampler.evaluations,
            "tflop": flop / 1e12,
            "share_of_products": ceiling and flop / value / ceiling,
            "relative_error": None if reference is None else float((obs - reference).norm() / reference.norm()),
            **({} if limit is None else _judged(value, at_most=limit)),
        }

    def bootstrap(self) -> dict[str, Any]:
        """Intervals here, in units of rliable's time on this machine's CPU."""
        row = intervals(self.device, self.sizes.resamples)
        if row["ratio"] is None:
            return {"left_out": "rliable cannot be imported", **row}
        return {"value": row["ratio"], "unit": "times rliable's speed", **row, **_judged(row["ratio"], at_least=500.0)}

    @property
    def algorithm(self) -> TD3BC:
        """Under test."""
        return TD3BC(hidden=(self.sizes.hidden, self.sizes.hidden))

    def updates_per_second(self, seeds: int) -> float:
        """Of a program that trains so many seeds at once; each of its updates is one of every seed."""
        step, *_ = training(self.algorithm, hopper_sized(self.sizes.rows).to(self.device), seeds, self.device)
        return self.sizes.updates / paced(lambda: step(self.sizes.updates), self.device, self.sizes.seconds)

    @cached_property
    def released(self) -> TrajectoryDiffusion:
        """DyDiff's released network; it is not fitted, which changes no time."""
        preset = TrajectoryDiffusionConfig.presets["paper"]
        fields = preset | {"rows": self.sizes.window, "denoiser": preset["denoiser"] | {"dim": self.sizes.dim}}
        config: TrajectoryDiffusionConfig = build_config(TrajectoryDiffusionConfig, fields, "model")
        return config.init(OBS, ACTION, Streams((0,), "model", self.device)).eval().requires_grad_(False)

    def _draw(self, sampler: Sampler, precision: str) -> Tensor:
        rng = Streams((0,), "asked", self.device)
        start = rng.normal(self.sizes.rollouts, OBS)
        action = 2 * rng.uniform(self.sizes.rollouts, self.sizes.window - 1, ACTION) - 1
        sampler = replace(sampler, precision=cast(Precision, precision.removesuffix(" compiled")))
        with compiling(precision.endswith("compiled")):
            for round_ in range(ROUNDS):
                obs, _ = self.released.sample(start, action, action.shape[2], sampler, rng.fork(f"latent/{round_}"))
        return obs

    def _share(self, updates: float, seeds: int) -> dict[str, Any]:
        ceiling = self.ceilings.get("float32") if self.sizes.hidden == FULL.hidden else None
        return {"seeds": seeds, "share_of_products": ceiling and updates * UPDATE_FLOP / ceiling}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Figure(NamedTuple):
    """What to call, and the seconds it may take on a GPU."""

    call: Callable[[Bench], dict[str, Any]]
    needs: int


def _rollouts(name: str, sampler: Sampler, limit: float, needs: dict[str, int]) -> dict[str, Figure]:
    def figure(precision: str) -> Callable[[Bench], dict[str, Any]]:
        return lambda bench: bench.rollout(sampler, precision, None if precision == "float32" else limit)

    return {f"{name}, {precision}": Figure(figure(precision), seconds) for precision, seconds in needs.items()}


FIGURES = {
    "ceilings": Figure(Bench.find_ceilings, 15),
    "updates equal the CPU's": Figure(Bench.updates_agree, 10),
    "TD3+BC, 1 seed": Figure(Bench.one_seed, 15),
    "TD3+BC, 8 seeds": Figure(Bench.eight_seeds, 15),
    "TD3+BC, 10 seeds": Figure(Bench.ten_seeds, 25),
    "synchronisations": Figure(Bench.synchronisations, 10),
    **_rollouts("roll-out, few evaluations", FEW, 0.5, {"float32": 25, "tf32": 15, "bf16": 15}),
    **_rollouts("roll-out, as released", RELEASED, 2.5, {"float32": 60, "tf32": 30, "bf16": 20}),
    "intervals": Figure(Bench.bootstrap, 120),
    **_rollouts("roll-out, as released", RELEASED, 2.5, {"bf16 compiled": 120}),
}


def measure(device: torch.device, sizes: Sizes, budget: float, out: Path | None = None) -> dict[str, Any]:
    """By figure: its value, or why there is none. Written to `out` after each.

    A figure that fails does not cost the others.
    """
    bench = Bench(device, sizes, budget)
    scale = 1.0 if device.type == "cuda" else 0.0
    found: dict[str, Any] = {"machine": provenance(device), "budget_seconds": budget, "figures": {}}
    for name, (call, needs) in FIGURES.items():
        started = time.monotonic()
        if bench.left() <= needs * scale:
            row: dict[str, Any] = {"left_out": f"may take {needs * scale:.0f} s, {max(bench.left(), 0):.0f} s are left"}
        elif name.endswith("compiled") and device.type != "cuda":
            row = {"left_out": "takes minutes to compile on a CPU"}
        else:
            try:
                row = call(bench)
            except Exception:  # whatever breaks, the other figures of a lent machine are worth having
                row = {"failed": traceback.format_exc()}
        if sizes != FULL:
            row = {key: value for key, value in row.items() if key not in ("target", "met")}
        found["figures"][name] = row | {"took_seconds": round(time.monotonic() - started, 2)}
        print(f"{name}: {row.get('value', row.get('left_out', row.get('failed', 'measured')))}", flush=True)
        if out:
            write_json(out, found)
    return found


def _judged(value: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    target = f">= {at_least:,g}" if at_least is not None else f"<= {at_most:,g}"
    return {"target": target, "met": value >= at_least if at_least is not None else value <= (at_most or 0.0)}


def _weights(state: Any) -> Tensor:
    parameters = [*state.actor.parameters(), *state.critic.parameters()]
    return torch.cat([parameter.detach().flatten().cpu().double() for parameter in parameters])


def main() -> None:
    """Measure, write json, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--budget", type=float, default=540.0, help="seconds")
    parser.add_argument("--out", type=Path, help="json file, written after every figure")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    found = measure(
        torch.device(options.device), FULL if options.device == "cuda" else TINY, options.budget, options.out
    )
    rows = [
        [name, row.get("value"), row.get("unit"), row.get("target"), row.get("met"), row.get("share_of_products")]
        for name, row in found["figures"].items()
    ]
    print(f"{found['machine']['device']}, {found['machine']['cpu']}")
    print(tabulate(rows, ["figure", "value", "unit", "target", "met", "share of products"], floatfmt=".4g"))


if __name__ == "__main__":
    main()
