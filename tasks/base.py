"""A task is a dataset with the simulator that could have made it; `load_task("source/dataset")` finds both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from core.data import Dataset
from core.errors import SpecError, unknown
from core.registry import import_modules
from tasks.replay import contradictions, relabelled, replay
from tasks.rows import Rows
from tasks.simulators.base import Simulator
from tasks.split import View, build

__all__ = [
    "SKIPPING",
    "SOURCES",
    "Behaviour",
    "DataOptions",
    "Rewards",
    "Source",
    "Task",
    "episode_length",
    "fetch",
    "find_source",
    "load_source",
    "load_task",
    "task_names",
    "termination_known",
]

Rewards = Literal["file", "simulator"]
_CHECKED = 100  # rows that every reading of a set steps in the simulator

SKIPPING = "skip_broken_episodes leaves them out (--set skip_broken_episodes=true; of `data`: --skip-broken-episodes)"
SOURCES = tuple(sorted(path.stem for path in (Path(__file__).parent / "sources").glob("[!_]*.py")))


@runtime_checkable
class Behaviour(Protocol):
    """The policy behind a dataset: the density that metrics of policy consistency need."""

    def smoothed_log_prob(
        self, obs: Float[Tensor, "S B O"], action: Float[Tensor, "S B A"], std: float
    ) -> Float[Tensor, "S B"]:
        """Log-density of its action plus noise of deviation `std` in every dimension."""


@dataclass(frozen=True)
class DataOptions:
    """How a dataset is found, made and read; part of every run's specification, except for the folder."""

    data_dir: Path | None = None  # looked into first for files of d4rl/
    dataset_rows: int = 100_000  # size of sets that are made here (local/, toy/)
    heldout: float = 0.1  # share of the episodes kept back from all training
    view: View = "episodes"  # how rows become transitions: `tasks.split`
    train_rows: int | None = None  # keep whole training episodes up to so many rows; None: all
    rewards: Rewards = "file"  # as recorded, or those that the simulator pays for each row's step
    skip_broken_episodes: bool = False  # leave out episodes of a file that break a rule; else the file is refused
    imports: tuple[str, ...] = ()  # the user's own modules with environments: imported before a task is loaded

    def __post_init__(self) -> None:
        """Raises: SpecError."""
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise SpecError(f"data_dir must be a folder, got {str(self.data_dir)!r}")
        if self.dataset_rows < 1:
            raise SpecError(f"dataset_rows must be at least 1, got {self.dataset_rows}")
        if self.train_rows is not None and self.train_rows < 1:
            raise SpecError(f"train_rows must be at least 1, got {self.train_rows}")


@dataclass(frozen=True)
class Task:
    """Data, simulator and the returns that count as 0 and 100."""

    name: str
    simulator: Simulator  # where the rows were collected: it replays them, and knows their ends
    horizon: int  # steps of an evaluation episode
    score_range: tuple[float, float] | None  # None: no reference returns are known
    rows: Callable[[], tuple[Rows, str]]  # makes, downloads or reads; returns the rows and their sha256
    options: DataOptions
    behaviour: Behaviour | None = None  # the policy that made the rows, where it is one and known
    conventions: tuple[str, ...] = ()  # known ways in which the file differs from what the simulator would record
    evaluator: Simulator | None = None  # where policies are scored, if that is another environment
    collected_horizon: int | None = None  # most rows of an episode of the data, if not `horizon`
    notes: Mapping[str, Any] = field(default_factory=dict)  # what the card says beside the split

    @property
    def scored_in(self) -> Simulator:
        """Where policies are evaluated: start states, returns, ends."""
        return self.evaluator or self.simulator

    @property
    def physics(self) -> str:
        """What the numbers rest on: where rows are replayed and, if elsewhere, where policies are scored."""
        scored = f"; scored in {self.evaluator.physics}" if self.evaluator else ""
        return f"{self.simulator.physics}{scored}"

    def dataset(self) -> tuple[Dataset, dict[str, Any]]:
        """Training rows, held-out episodes, and a card: statistics of the split, and what speaks against the data.

        A hundred rows are stepped in the simulator; what contradicts it stands in the card, a sentence each.

        Raises:
            SpecError: an option is out of range for this data.
            DataError: the file cannot be obtained or is not valid.
        """
        rows, digest = self.rows()
        chosen = self.options
        changed = 0
        if chosen.rewards == "simulator":
            rows, changed = relabelled(rows, self.simulator)
        found = contradictions(rows, self.simulator, replay(rows, self.simulator, _CHECKED))
        data, card = build(
            rows, self.simulator, digest, heldout=chosen.heldout, view=chosen.view, train_rows=chosen.train_rows
        )
        return data, card | {
            "rewards": chosen.rewards,
            "relabelled_rows": changed,
            "conventions": list(self.conventions),
            "contradictions": found,
            **self.notes,
        }


@dataclass(frozen=True)
class Source:
    """What a module of `tasks/sources` offers as `SOURCE`; the module's name is the first half of its tasks' names."""

    names: Callable[[], list[str]]  # datasets known on this machine without a network
    load: Callable[[str, DataOptions], Task]  # by dataset; SpecError for a name that cannot be one
    find: Callable[[str, DataOptions], Path | None] | None = None  # where a dataset lies, if here; None: only in memory
    fetch: Callable[[str, DataOptions], Any] | None = None  # brings a dataset here; DataError; None: `load` makes it
    origin: Literal["make", "fetch"] = "make"  # the `run_bench.py data` command that brings a dataset here
    remote: bool = False  # there may be more datasets than `names` tells, and only their data tell the horizon
    card: Callable[[Path], dict[str, Any]] | None = None  # of files made here: the `sha256` and `size` they must have
    sized: bool = False  # whether `DataOptions.dataset_rows` says how many rows a set is made with


def load_source(name: str) -> Source:
    """What `tasks/sources/<name>.py` offers."""
    source: Source = import_module(f"tasks.sources.{name}").SOURCE
    return source


def task_names() -> list[str]:
    """Every `source/dataset` known on this machine without a network."""
    return [f"{source}/{name}" for source in SOURCES for name in load_source(source).names()]


def find_source(name: str, options: DataOptions) -> tuple[Source, str]:
    """The source and the dataset that a task's name means, without touching data or network.

    Modules that `options` names are imported.

    Raises:
        SpecError: no such source, no such dataset in a source that is not remote, a size for a set that has its own, or
            a module that cannot be imported.
    """
    import_modules(options.imports)
    source_name, _, dataset = name.partition("/")
    if source_name not in SOURCES or not dataset:
        raise unknown("task", name, task_names())
    source = load_source(source_name)
    if not source.remote and dataset not in source.names():
        raise unknown(f"{source_name} dataset", dataset, source.names())
    if not source.sized and options.dataset_rows != DataOptions.dataset_rows:
        rule = f"must be left at {DataOptions.dataset_rows} for {name}, which has the rows of its file (see train_rows)"
        raise SpecError(f"dataset_rows {rule}, got {options.dataset_rows}")
    return source, dataset


def fetch(name: str, options: DataOptions) -> None:
    """Bring a task's dataset to this machine, if it has to be fetched and is not here.

    Raises:
        SpecError: as `find_source`.
        DataError: it cannot be had.
    """
    source, dataset = find_source(name, options)
    if source.fetch and source.find and source.find(dataset, options) is None:
        source.fetch(dataset, options)


def episode_length(name: str, options: DataOptions) -> int | None:
    """The most steps of an episode of a task; None where only data that may have to be fetched can tell.

    Raises:
        SpecError: no such source or dataset, or a size for a set that has its own.
    """
    source, dataset = find_source(name, options)
    return None if source.remote else source.load(dataset, options).horizon


def termination_known(name: str, options: DataOptions) -> bool | None:
    """Whether a task's simulator has a termination rule; None where only data that are not here can tell.

    Raises:
        SpecError: no such source or dataset, or a size for a set that has its own.
        DataError: the data are here, but damaged.
    """
    source, dataset = find_source(name, options)
    if source.remote and source.find and source.find(dataset, options) is None:
        return None
    return load_task(name, options).simulator.has_termination_rule


def load_task(name: str, options: DataOptions) -> Task:
    """The task called `source/dataset`.

    Raises:
        SpecError: no such source or dataset, or a size for a set that has its own.
    """
    source, dataset = find_source(name, options)
    return source.load(dataset, options)
