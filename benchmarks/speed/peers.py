"""unifloral's TD3+BC in the interpreter that has JAX.

`Worker` starts this file there, and asks it over its standard input for so many scan steps. So there is nothing but the
standard library here and, in the worker, JAX.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from benchmarks.peers import NotThereError, load

__all__ = ["Worker"]

_ROOT = Path(__file__).resolve().parents[2]
_STUBS = ("d4rl", "gym", "tyro", "wandb")  # of unifloral


class Worker:
    """The process with JAX in it. A context manager: it ends with the block."""

    def __init__(self, python: Path | None, file: Path, rows: int, obs_dim: int, action_dim: int) -> None:
        program = python and shutil.which(python)
        if program is None:
            raise NotThereError("--jax, an interpreter with JAX")
        sizes = [str(size) for size in (rows, obs_dim, action_dim)]
        self._process = subprocess.Popen(
            [str(Path(program).absolute()), "-m", "benchmarks.speed.peers", str(file.resolve()), *sizes],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._answer()  # versions, devices, parameters of one seed
        if "needs" in self.about:
            self.__exit__()
            raise NotThereError(self.about["needs"])

    def run(self, seeds: int, steps: int) -> None:
        """So many scan steps (each two critic updates and one actor update on one batch) of every seed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([seeds, steps]) + "\n")
        self._process.stdin.flush()
        self._answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the JAX worker must answer, got its end with exit code {self._process.wait()}")
        return json.loads(line)


def _serve(requests: TextIO, answers: TextIO, file: Path, sizes: list[int]) -> None:
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
        run(*json.loads(line))
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

    alone = jax.jit(scan, static_argnums=2)
    together = jax.jit(
        lambda states, data, steps: jax.vmap(lambda state: scan(state, data, steps))(states), static_argnums=2
    )
    states: dict[int, Any] = {}

    def run(seeds: int, steps: int) -> None:
        if seeds not in states:
            key = jax.random.PRNGKey(1)
            states[seeds] = start(key) if seeds == 1 else jax.vmap(start)(jax.random.split(key, seeds))
        states[seeds] = (alone if seeds == 1 else together)(states[seeds], data, steps)
        jax.block_until_ready(states[seeds])

    _, first = start(jax.random.PRNGKey(0))
    trained = (first.actor.params, first.dual_q.params)
    return run, sum(leaf.size for leaf in jax.tree_util.tree_leaves(trained))


if __name__ == "__main__":
    stdout, sys.stdout = sys.stdout, sys.stderr  # whatever else prints must not end up between the answers
    _serve(sys.stdin, stdout, Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])
