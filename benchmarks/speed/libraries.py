"""Bootstrap intervals beside rliable, and replay in the simulator beside a loop over gymnasium.

Intervals of 5 algorithms x 12 tasks x 10 runs, 50,000 resamples. rliable has no GPU version and uses one CPU thread, so
ours gets one, too; nothing is extrapolated. Replay: 256 x 100 steps of Hopper, open loop. The loop puts one bare
Hopper-v4 into every start state and steps it; `set_state` leaves the solver's warm start of the rollout before, so it
resets MuJoCo's data first. Both must give the same states, bit for bit. gymnasium computes observations and rewards on
its way; a loop cannot avoid it.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from benchmarks.speed.harness import Figure, Options, Turn, judged, ratio_figures, take_turns, threads
from core.random import Streams
from metrics.intervals import stratified_bootstrap
from metrics.statistics import iqm

__all__ = ["figures", "intervals", "measure", "replay"]

_ENVIRONMENT = "Hopper-v4"


def measure(options: Options) -> dict[str, Any]:
    """Both comparisons."""
    with threads(1):
        found = intervals(torch.device("cpu"), 20 if options.quick else 50_000)
    rows, steps, rounds = (3, 4, 1) if options.quick else (256, 100, 5)
    return {"intervals": found, "measured": {"replay": replay(rows, steps, rounds)}, "not_there": {}}


def figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Lines of the table of figures."""
    ratio = found["intervals"]["ratio"]
    text, met = ("not there", "") if ratio is None else (f"{ratio:.0f}x", judged(ratio >= 60))
    yield Figure("Intervals of the interquartile mean, beside rliable", ">= 60x", text, met=met)
    title = "Replay in the simulator, beside a gymnasium loop"
    yield from ratio_figures(found, lambda part, own, peer: title, lambda line: 3)


def intervals(device: torch.device, resamples: int, repeats: int = 5) -> dict[str, Any]:
    """Median seconds of ours, seconds of rliable's one run if it can be imported, ratio, agreement of the intervals."""
    matrices = scores(device)

    def ours(seed: int) -> tuple[Tensor, float]:
        started = perf_counter()
        rng = torch.Generator(device).manual_seed(seed)
        found = torch.stack([torch.stack(stratified_bootstrap(x, iqm, resamples, rng)) for x in matrices]).cpu()
        return found, perf_counter() - started

    ours(0)  # warm up
    runs = [ours(seed) for seed in range(repeats)]
    seconds = median(spent for _, spent in runs)
    row: dict[str, Any] = {"resamples": resamples, "seconds": seconds, "rliable_seconds": None, "ratio": None}
    if find_spec("rliable") is None:
        return row
    try:
        _theirs(matrices, 2)  # import it, too
    except ImportError:  # it is there, but not with the versions that it needs
        return row
    started = perf_counter()
    theirs = _theirs(matrices, resamples)
    spent = perf_counter() - started
    width = (theirs[:, 1] - theirs[:, 0]).unsqueeze(1)
    apart = ((runs[0][0] - theirs).abs() / width).max().item()
    return row | {"rliable_seconds": spent, "ratio": spent / seconds, "largest_difference_in_widths": apart}


def scores(device: torch.device) -> list[Tensor]:
    """One matrix [runs, tasks] per algorithm, on the scale of normalized scores / 100."""
    rng = torch.Generator().manual_seed(0)
    level = torch.rand(5, 1, 12, generator=rng, dtype=torch.float64)
    noise = torch.randn(5, 10, 12, generator=rng, dtype=torch.float64)
    return list((level + 0.1 * noise).to(device))


def replay(rows: int, steps: int, rounds: int) -> dict[str, Any]:
    """Steps per second of both.

    Raises:
        RuntimeError: the states differ, so the ratio would mean nothing.
    """
    import gymnasium  # here: a lent GPU measures intervals without any simulator

    from tasks.simulators.locomotion import simulator

    gymnasium.logger.min_level = gymnasium.logger.ERROR  # -v4 is called out of date at every start
    env = gymnasium.make(_ENVIRONMENT).unwrapped
    sim = simulator(_ENVIRONMENT)
    rng = Streams((0,))
    state = sim.reset(rows, rng)[0]
    action = 2 * rng.uniform(rows, steps, sim.action_dim)[0] - 1
    found = sim.replay(state, action)
    expected = _loop(env, state, action)
    if not torch.equal(found, expected):
        raise RuntimeError(f"states must be equal, got a difference of {(found - expected).abs().max():.3g}")
    ours = Turn(partial(sim.replay, state, action), rows * steps)
    theirs = Turn(partial(_loop, env, state, action), rows * steps)
    return take_turns("steps/s", {"gymnasium": theirs, "ours": ours}, ["gymnasium"], rounds)


def _theirs(matrices: list[Tensor], resamples: int) -> Tensor:
    """The same from rliable, which draws from numpy's global generator whatever it is given."""
    from rliable import library, metrics  # not installed by default: extra `oracles`

    np.random.seed(0)  # noqa: NPY002
    given = {str(i): x.cpu().numpy() for i, x in enumerate(matrices)}
    _, found = library.get_interval_estimates(given, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=resamples)
    return torch.stack([torch.from_numpy(interval)[:, 0] for interval in found.values()])


def _loop(env: Any, state: Float64[Tensor, "B X"], action: Float[Tensor, "B L A"]) -> Float64[Tensor, "B L+1 X"]:
    """The states that gymnasium reaches, one row and one step at a time."""
    import mujoco

    begin = state.numpy()
    torque = action.double().numpy()
    states = []
    for row in range(len(begin)):
        mujoco.mj_resetData(env.model, env.data)
        env.set_state(begin[row, : env.model.nq], begin[row, env.model.nq :])
        states.append([begin[row]])
        for step in range(torque.shape[1]):
            env.step(torque[row, step])
            states[row].append(env.state_vector())
    return torch.from_numpy(np.array(states))
