"""Open-loop replay of 256 x 100 steps of Hopper, ours beside a loop over gymnasium: python -m benchmarks.speed.replay.

The loop puts one bare Hopper-v4 (no wrappers) into every start state and steps it; `set_state` leaves the solver's warm
start of the rollout before, so the loop resets MuJoCo's data first, which costs it nothing worth mentioning. Then both
must give the same states, bit for bit. gymnasium computes observations and rewards on its way; a loop cannot avoid it.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from jaxtyping import Float, Float64
from tabulate import tabulate
from torch import Tensor

from benchmarks.speed.command import threads
from benchmarks.speed.timing import Seconds, machine, timed
from benchmarks.speed.turns import Figure
from core.files import write_json
from core.random import Streams
from tasks.simulators.locomotion import simulator

ENVIRONMENT = "Hopper-v4"
ROWS = 256
STEPS = 100


def inputs(rows: int, steps: int) -> tuple[Float64[Tensor, "B X"], Float[Tensor, "B L A"]]:
    """Start states of the environment's own reset and uniform actions."""
    sim = simulator(ENVIRONMENT)
    rng = Streams((0,))
    return sim.reset(rows, rng)[0], 2 * rng.uniform(rows, steps, sim.action_dim)[0] - 1


def loop(env: Any, state: Float64[Tensor, "B X"], action: Float[Tensor, "B L A"]) -> Float64[Tensor, "B L+1 X"]:
    """The states that gymnasium reaches, one row and one step at a time."""
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


def compare(rows: int, steps: int, repeats: int) -> dict[str, Any]:
    """Median seconds of both, in turns, and the largest difference of a state.

    Raises:
        RuntimeError: the states differ, so the ratio would mean nothing.
    """
    gymnasium.logger.min_level = gymnasium.logger.ERROR  # -v4 is called out of date at every start
    env = gymnasium.make(ENVIRONMENT).unwrapped
    sim = simulator(ENVIRONMENT)
    (state, action) = inputs(rows, steps)
    sim.replay(state[:2], action[:2])  # warm up: compiles the model
    runs: dict[str, list[Seconds]] = {"ours": [], "gymnasium": []}
    for _ in range(repeats):
        found, seconds = timed(partial(sim.replay, state, action))
        runs["ours"].append(seconds)
        expected, seconds = timed(partial(loop, env, state, action))
        runs["gymnasium"].append(seconds)
        if not torch.equal(found, expected):
            raise RuntimeError(f"states must be equal, got a difference of {(found - expected).abs().max():.3g}")
    ours, theirs = (Seconds.median(seconds) for seconds in runs.values())
    return {
        "environment": ENVIRONMENT,
        "rollouts": rows,
        "steps": steps,
        "repeats": repeats,
        "ours": ours._asdict(),
        "gymnasium": theirs._asdict(),
        "ratio_wall": theirs.wall / ours.wall,
        "ratio_cpu": theirs.cpu / ours.cpu,
        "states": "equal bit for bit",
    }


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Lines of the table of figures."""
    return [Figure("Replay in the simulator, beside a gymnasium loop", ">= 3x", f"{found['ratio_wall']:.2f}x")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, help="of ours; default: torch's, all cores. gymnasium uses one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="json file to write")
    parser.add_argument("--quick", action="store_true", help="a few steps: does it run?")
    asked = parser.parse_args(arguments)
    rows, steps, repeats = (3, 4, 1) if asked.quick else (ROWS, STEPS, asked.repeats)
    with threads(asked.threads):
        result = compare(rows, steps, repeats)
        where = machine(torch.device("cpu"))
    print(
        f"{ENVIRONMENT}, {rows} rollouts x {steps} steps, median of {repeats}; states {result['states']}; "
        f"{where['processor']}, ours on {where['threads']} threads"
    )
    table = [[name, *result[name].values()] for name in ("ours", "gymnasium")]
    table.append(["ratio", result["ratio_wall"], result["ratio_cpu"]])
    print(tabulate(table, ["", "wall, s", "processor, s"], floatfmt=".3g"))
    if asked.out:
        write_json(asked.out, {"machine": where, **result})


if __name__ == "__main__":
    main()
