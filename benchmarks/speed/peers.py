"""Other people's code, run from checkouts that are given by path: none of it is in this repository.

`Worker` runs unifloral's TD3+BC in the interpreter that has JAX: it starts this file there, and asks it over its
standard input for so many scan steps. So there is nothing but the standard library here and, in the worker, JAX.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

__all__ = ["NotThereError", "Peers", "Worker", "load"]

_ROOT = Path(__file__).resolve().parents[2]
_STUBS = ("d4rl", "gym", "tyro", "wandb")  # of unifloral


class NotThereError(Exception):
    """Something that a comparison needs is not on this machine; the text can stand in a table."""

    def __init__(self, needs: str = "") -> None:
        super().__init__(f"not there: needs {needs}" if needs else "not there")


class Peers:
    """Loads peers from sub-folders of one folder, and remembers their commits and who was not there."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.commits: dict[str, str | None] = {}
        self.not_there: dict[str, str] = {}

    def get(self, name: str, load: Callable[[Path], Any], turns: Sequence[str] = ()) -> Any:
        """What `load` makes of the peer's checkout, or None; `turns` are its names where not its own."""
        try:
            if self.folder is None or not (self.folder / name).is_dir():
                raise NotThereError
            found = load(self.folder / name)
        except NotThereError as error:
            self.commits[name] = None
            self.not_there |= dict.fromkeys(turns or [name], str(error))
            return None
        command = ["git", "-C", str(self.folder / name), "rev-parse", "HEAD"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        self.commits[name] = said.stdout.strip() or None
        return found

    def record(self) -> dict[str, Any]:
        """For the json file."""
        return {"peers": self.commits, "not_there": self.not_there}


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


def load(file: Path, stubs: Iterable[str] = (), submodules: Iterable[str] = ()) -> ModuleType:
    """The module in a file, executed; of a package (its `__init__.py`) the named submodules are imported as well.

    Modules named in `stubs` are replaced while it is loaded: what is imported from them can be called, subclassed and
    used as a decorator, and does nothing. Afterwards `sys.modules` knows neither the stubs nor what was loaded.

    Raises:
        NotThereError: the file does not exist, or imports something that is neither installed nor a stub.
    """
    if not file.is_file():
        raise NotThereError(file.name)
    package = file.name == "__init__.py"
    name = file.parent.name if package else file.stem
    spec = spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)] if package else None)
    if spec is None or spec.loader is None:
        raise ValueError(f"file must be Python source, got {file}")
    module = module_from_spec(spec)
    stubs = list(stubs)
    with _restored([name, *stubs]):
        sys.modules.update({stub: _Stub(stub) for stub in stubs} | {name: module})
        try:
            spec.loader.exec_module(module)
            for submodule in submodules:
                import_module(f"{name}.{submodule}")
        except ModuleNotFoundError as error:
            raise NotThereError(error.name or str(error)) from error
    return module


@contextmanager
def _restored(names: list[str]) -> Iterator[None]:
    """Take these modules and all below them out of `sys.modules`, and put them back at the end."""
    below = tuple(f"{name}." for name in names)

    def concerned() -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name in names or name.startswith(below)}

    before = concerned()
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in concerned():
            del sys.modules[name]
        sys.modules.update(before)


class _Nothing(type):
    """A class that is its own attribute and its own result, except that as a decorator it changes nothing."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *given: Any, **named: Any) -> Any:
        return given[0] if given and callable(given[0]) else cls


class _Anything(metaclass=_Nothing):
    pass


class _Stub(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything


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
