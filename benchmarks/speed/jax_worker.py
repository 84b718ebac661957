"""unifloral's TD3+BC in the interpreter that has JAX, driven in turns from ours.

`Worker` starts this file there and asks it over its standard input for so many scan steps; it answers on its standard
output when they are done. Nothing but the standard library and, in the worker, JAX and its friends.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from benchmarks.speed.peers import NotThereError, load

__all__ = ["Worker"]

_ROOT = Path(__file__).resolve().parents[2]
_STUBS = ("d4rl", "gym", "tyro", "wandb")


class Worker:
    """The process with JAX in it. A context manager: it ends with the block."""

    def __init__(self, python: Path, file: Path, rows: int, obs_dim: int, action_dim: int) -> None:
        program = shutil.which(python)
        if program is None:
            raise NotThereError("an interpreter with JAX")
        sizes = [str(size) for size in (rows, obs_dim, action_dim)]
        self._process = subprocess.Popen(
            [str(Path(program).absolute()), "-m", "benchmarks.speed.jax_worker", str(file.resolve()), *sizes],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._answer()  # versions, devices, parameters of one seed
        if "needs" in self.about:
            self.close()
            raise NotThereError(self.about["needs"])

    def run(self, seeds: int, steps: int) -> None:
        """So many scan steps (each two critic updates and one actor update on one batch) of every seed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"seeds": seeds, "steps": steps}) + "\n")
        self._process.stdin.flush()
        self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the JAX worker must answer, got its end with exit code {self._process.wait()}")
        return json.loads(line)


def _serve(requests: TextIO, answers: TextIO, file: Path, sizes: tuple[int, int, int]) -> None:
    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    flags = os.environ.get("XLA_FLAGS", "")
    try:
        peer = load(file, _STUBS)
        os.environ["XLA_FLAGS"] = flags  # the peer sets one for GPUs, which not every version of XLA knows
        import jax
    except NotThereError as error:
        return answer({"needs": str(error).removeprefix("not there: needs ")})
    run, parameters = _trainer(peer, *sizes)
    answer({"jax": jax.__version__, "devices": [str(device) for device in jax.devices()], "parameters": parameters})
    for line in requests:
        request = json.loads(line)
        run(request["seeds"], request["steps"])
        answer({})


def _trainer(peer: Any, rows: int, obs_dim: int, action_dim: int) -> tuple[Callable[[int, int], None], int]:
    """(run `steps` scan steps of `seeds` seeds and wait for them, parameters of one seed's actor and critics)."""
    import jax
    import jax.numpy as jnp

    keys = iter(jax.random.split(jax.random.PRNGKey(0), 8))
    obs, next_obs = (jax.random.normal(next(keys), (rows, obs_dim)) for _ in range(2))
    action = jax.random.normal(next(keys), (rows, action_dim)).clip(-1, 1)
    data = peer.Transition(obs, action, jax.random.normal(next(keys), (rows,)), next_obs, jnp.zeros(rows))
    arguments = peer.Args()
    units = (obs.mean(0), obs.std(0))
    actor = peer.DeterministicTanhActor(action_dim, *units)
    critic = peer.DualQNetwork(*units)

    def start(key: Any) -> Any:
        key, of_actor, of_critic = jax.random.split(key, 3)
        kinds = [(of_actor, actor, [obs[0]])] * 2 + [(of_critic, critic, [obs[0], action[0]])] * 2
        states = [peer.create_train_state(arguments, rng, net, given) for rng, net, given in kinds]
        return key, peer.AgentTrainState(*states)

    def scan(state: Any, data: Any, steps: int) -> Any:
        step = peer.make_train_step(arguments, actor.apply, critic.apply, data)
        return jax.lax.scan(step, state, None, steps)[0]

    train = jax.jit(
        lambda states, data, steps: jax.vmap(lambda state: scan(state, data, steps))(states), static_argnums=2
    )
    alone = jax.jit(scan, static_argnums=2)
    states: dict[int, Any] = {}

    def run(seeds: int, steps: int) -> None:
        if seeds not in states:
            key = jax.random.PRNGKey(1)
            states[seeds] = start(key) if seeds == 1 else jax.vmap(start)(jax.random.split(key, seeds))
        states[seeds] = (alone if seeds == 1 else train)(states[seeds], data, steps)
        jax.block_until_ready(states[seeds])

    _, first = start(jax.random.PRNGKey(0))
    trained = (first.actor.params, first.dual_q.params)
    return run, sum(leaf.size for leaf in jax.tree_util.tree_leaves(trained))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="unifloral's algorithms/td3_bc.py")
    parser.add_argument("sizes", type=int, nargs=3, help="rows, dimensions of states, dimensions of actions")
    asked = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else prints must not end up between the answers
    _serve(sys.stdin, answers, asked.file, tuple(asked.sizes))


if __name__ == "__main__":
    _main()
