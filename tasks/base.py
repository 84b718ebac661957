"""A task is a dataset with the simulator that could have made it; `load_task("source/dataset")` finds both.

A source is a module in `tasks/sources` with `names() -> list[str]` and `load(dataset, options) -> Task`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from core.data import Dataset, Trajectories
from core.errors import SpecError, unknown
from core.policy import Policy
from core.random import Streams
from tasks.layout import Rows, View, build

__all__ = [
    "SOURCES",
    "Behaviour",
    "DataOptions",
    "Simulator",
    "Task",
    "episode_length",
    "load_task",
    "require_task",
    "rollout",
    "task_names",
]

SOURCES = tuple(sorted(path.stem for path in (Path(__file__).parent / "sources").glob("[!_]*.py")))


@runtime_checkable
class Simulator(Protocol):
    """The true dynamics, batched over any leading axes `*N`. States are float64 on the CPU, whatever they contain.

    Stateless: everything that matters is in the state tensor, so any state can be stepped at any time.
    """

    @property
    def obs_dim(self) -> int:
        """O."""

    @property
    def action_dim(self) -> int:
        """A."""

    @property
    def physics(self) -> str:
        """What a result must name to be comparable: "Hopper-v4, mujoco 3.4.0"."""

    def reset(self, rows: int, rng: Streams) -> Float64[Tensor, "S B X"]:
        """Fresh start states, `rows` for every seed."""

    def observe(self, state: Float64[Tensor, "*N X"]) -> Float64[Tensor, "*N O"]:
        """What the agent sees of a state."""

    def restore(self, obs: Float[Tensor, "*N O"]) -> tuple[Float64[Tensor, "*N X"], Bool[Tensor, "*N"]]:
        """A state that looks like `obs`, and whether it is the only one (False: part of the state was clipped away)."""

    def step(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], rng: Streams | None
    ) -> tuple[Float64[Tensor, "*N X"], Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """(next state, reward, terminated); actions are clipped to [-1, 1] first. `rng` None: without process noise."""

    def outcome(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], after: Float64[Tensor, "*N X"]
    ) -> tuple[Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """(reward, terminated) of a step that led to `after`; without simulating it."""

    def replay(self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N L A"]) -> Float64[Tensor, "*N L+1 X"]:
        """Open loop: the states that a string of actions leads through, past any termination; no process noise."""

    def terminated(
        self, obs: Float[Tensor, "*N O"], action: Float[Tensor, "*N A"], next_obs: Float[Tensor, "*N O"]
    ) -> Bool[Tensor, "*N"]:
        """The environment's own rule, on observations (any device): what models that roll out are allowed to know."""


@runtime_checkable
class Behaviour(Protocol):
    """The policy behind a dataset, as far as metrics want to know it."""

    def smoothed_log_prob(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"], std: float
    ) -> Float[Tensor, "S B"]:
        """Log-density of its action plus noise of deviation `std` in every dimension."""


@dataclass(frozen=True)
class DataOptions:
    """How a dataset is found, made and read; a part of every run's specification (except the folder)."""

    data_dir: Path | None = None  # looked into first for files of d4rl/
    size: int = 100_000  # rows of a local/ or toy/ set
    heldout: float = 0.1  # share of the episodes kept back from all training
    view: View = "episodes"  # how rows become transitions: `tasks.layout`

    def __post_init__(self) -> None:
        """Raises: SpecError."""
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise SpecError(f"data_dir must be a folder, got {str(self.data_dir)!r}")
        if self.size < 1:
            raise SpecError(f"size must be at least 1 row, got {self.size}")


@dataclass(frozen=True)
class Task:
    """Data, simulator and the returns that count as 0 and 100."""

    name: str
    simulator: Simulator
    horizon: int  # steps of an evaluation episode
    score_range: tuple[float, float] | None  # None: nobody has declared reference returns
    rows: Callable[[], tuple[Rows, str]]  # makes, downloads or reads; returns the rows and their sha256
    options: DataOptions
    behaviour: Behaviour | None = None  # the policy that made the rows, where it is one and known

    def dataset(self) -> tuple[Dataset, dict[str, Any]]:
        """Training rows, held-out episodes, and the statistics of the split.

        Raises:
            DataError: the file cannot be had or is not what it should be.
        """
        rows, digest = self.rows()
        return build(rows, self.simulator, digest, heldout=self.options.heldout, view=self.options.view)


def task_names() -> list[str]:
    """Every `source/dataset` known on this machine without a network."""
    return [f"{source}/{name}" for source in SOURCES for name in _module(source).names()]


def require_task(name: str) -> None:
    """Check a name without touching data or network; of a source that may have more than is here, only the source.

    Raises:
        SpecError: no such source or dataset.
    """
    source, _, dataset = name.partition("/")
    if source not in SOURCES or not dataset:
        raise unknown("task", name, task_names())
    module = _module(source)
    if not getattr(module, "REMOTE", False) and dataset not in module.names():
        raise unknown(f"{source} dataset", dataset, module.names())


def episode_length(name: str, options: DataOptions) -> int | None:
    """The most steps of an episode of a task; None where only data that may have to be fetched can tell.

    Raises:
        SpecError: no such source or dataset.
    """
    require_task(name)
    return None if getattr(_module(name.partition("/")[0]), "REMOTE", False) else load_task(name, options).horizon


def load_task(name: str, options: DataOptions) -> Task:
    """The task called `source/dataset`.

    Raises:
        SpecError: no such source or dataset.
    """
    require_task(name)
    source, _, dataset = name.partition("/")
    task: Task = _module(source).load(dataset, options)
    return task


def rollout(
    simulator: Simulator, policy: Policy, start: Float64[Tensor, "S B X"], length: int, rng: Streams, *, greedy: bool
) -> Trajectories:
    """The policy in the true simulator, all seeds and episodes abreast, for `length` steps.

    Steps after an episode's end repeat its last state and are not `valid`. Policies see float32 on their own device.
    """
    act_rng = None if greedy else rng.fork("policy")
    noise = rng.fork("dynamics")
    state = start
    alive = torch.ones(start.shape[:-1], dtype=torch.bool)
    obs = [simulator.observe(state).float()]
    action = list[Tensor]()
    reward = list[Tensor]()
    ended = list[Tensor]()
    valid = list[Tensor]()
    for _ in range(length):
        if alive.any() or not action:
            action.append(policy.act(obs[-1].to(rng.device), act_rng).clamp(-1, 1).cpu())
            state, paid, end = _step_alive(simulator, state, action[-1], alive, noise)
            alive_after = alive & ~end
        reward.append(paid.float().where(alive, torch.zeros(())))
        ended.append(end & alive)
        valid.append(alive)
        obs.append(simulator.observe(state).float())
        alive = alive_after
    action += action[-1:] * (length - len(action))
    steps = Trajectories(*(torch.stack(x, 2) for x in (action, obs, reward, ended, valid)))
    return steps.map(lambda x: x.to(rng.device))


def _step_alive(
    simulator: Simulator, state: Tensor, action: Tensor, alive: Tensor, noise: Streams
) -> tuple[Tensor, Tensor, Tensor]:
    if alive.all():
        return simulator.step(state, action, noise)
    after = state.clone()
    reward = torch.zeros(alive.shape, dtype=torch.float64)
    ended = torch.zeros_like(alive)
    after[alive], reward[alive], ended[alive] = simulator.step(state[alive], action[alive], None)
    return after, reward, ended


def _module(source: str) -> Any:
    return import_module(f"tasks.sources.{source}")
