"""A cell of the matrix: its specification determines all its numbers, and the hash of it is its name."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, NonNegativeInt, PositiveInt, model_validator

from core.buffer import Regularise
from core.config import STRICT, ClosedUnit, OpenUnit, adapter, build_config
from core.errors import unknown
from core.files import canonical_json
from core.registry import build_method
from tasks.base import DataOptions, Rewards
from tasks.split import View

__all__ = ["COUPLINGS", "Compile", "Method", "RunSpec", "Settings", "cell_id", "coupling", "restore"]

Compile = Literal["never", "auto", "always"]

# How synthetic rows meet the algorithm: what a suite's `coupling` sets, unless the suite sets it itself.
COUPLINGS: dict[str, dict[str, Any]] = {
    # None of them: rollouts of the policy as it is now, and nothing imitates them. The default keeps old rollouts, too.
    "fresh": {"real_fraction": 0.5, "regularise": "real_only", "rollouts_from": 0, "buffer_refreshes": 1},
    # DyDiff's released code: 153 of 256 rows are real; 2 million rows are kept, which are 16.5 refreshes. At its size
    # `buffer_rows` must be raised to hold as many.
    "dydiff": {"real_fraction": 0.6, "regularise": "all", "rollouts_from": 0, "buffer_refreshes": 16},
    # MOPO in OfflineRL-Kit: a ring of 5 refreshes. Its SAC has no behaviour term.
    "mopo": {"real_fraction": 0.05, "regularise": "all", "rollouts_from": 0, "buffer_refreshes": 5},
    # COMBO in OfflineRL-Kit: the same ring; CQL's critic is pushed up on real rows only.
    "combo": {"real_fraction": 0.5, "regularise": "real_only", "rollouts_from": 0, "buffer_refreshes": 5},
    # SynthER's released code: the agent's buffer holds its synthetic rows, all of them, and no real row.
    "synther": {"real_fraction": 0.0, "regularise": "all", "rollouts_from": 0, "buffer_refreshes": None},
}


class Settings(BaseModel, **STRICT, frozen=True):
    """Everything a cell shares with the others of its suite, whatever its methods."""

    updates: PositiveInt = 20_000  # gradient steps, the same for every generator
    real_fraction: ClosedUnit = 0.5  # alpha: share of every batch that is real data
    regularise: Regularise = "real_only"  # rows of a batch whose actions are imitated: all, or real ones only
    rollouts_from: NonNegativeInt = 0  # updates on real data alone before the first rollouts
    buffer_refreshes: PositiveInt | None = None  # batches draw from so many newest; None: all that `buffer_rows` holds
    evaluate_every: PositiveInt = 1000  # updates between evaluations
    episodes: PositiveInt = 10  # of every evaluation, per seed
    fidelity_starts: PositiveInt = 256  # held-out states from which rollouts are judged
    fidelity_horizon: PositiveInt = 50  # steps of those rollouts
    buffer_rows: PositiveInt = 500_000  # newest synthetic rows kept, per seed; more for a generator that copies all
    shared_models: bool = False  # one pretrained model for all seeds: cheap, hides variance
    dataset_rows: PositiveInt = 100_000  # size of generated data sets (local/, toy/)
    train_rows: PositiveInt | None = None  # keep whole training episodes up to so many rows, of any set; None: all
    heldout: OpenUnit = 0.1  # share of the episodes that no training sees
    view: View = "episodes"  # how rows become transitions: tasks/split.py
    rewards: Rewards = "file"  # of the data: as recorded, or those that the simulator pays for each row's step
    skip_broken_episodes: bool = False  # leave out episodes of a file that break a rule; else the file is refused
    imports: tuple[str, ...] = ()  # the user's own modules with environments of data sets (also: --import)
    compile: Compile = "never"  # torch.compile on a CPU; "auto": where it pays. Seeds then agree to rounding only

    @model_validator(mode="after")
    def _generate_in_time(self) -> "Settings":
        if self.rollouts_from >= self.updates:
            rule = f"must be below updates = {self.updates}, or nothing is generated"
            raise ValueError(f"rollouts_from {rule}, got {self.rollouts_from}")
        return self

    def data_options(self, data_dir: Path | None) -> DataOptions:
        """The part that concerns data."""
        return DataOptions(
            data_dir=data_dir,
            dataset_rows=self.dataset_rows,
            heldout=self.heldout,
            view=self.view,
            train_rows=self.train_rows,
            rewards=self.rewards,
            skip_broken_episodes=self.skip_broken_episodes,
            imports=self.imports,
        )


def coupling(choice: Any) -> dict[str, Any]:
    """The settings of a coupling, given its name or a table of such settings.

    Raises:
        SpecError: there is no coupling of this name, or no such setting in a coupling.
    """
    if isinstance(choice, dict):
        for key in choice:
            if key not in COUPLINGS["fresh"]:
                raise unknown("coupling key", key, COUPLINGS["fresh"])
        return choice
    if not isinstance(choice, str) or choice not in COUPLINGS:
        raise unknown("coupling", str(choice), COUPLINGS)
    return COUPLINGS[choice]


@dataclass(frozen=True)
class Method:
    """A generator or an algorithm: its name in the suite and all its fields."""

    name: str
    config: Any

    def describe(self) -> dict[str, Any]:
        """As JSON: the name and every field, defaults written out."""
        fields: dict[str, Any] = adapter(type(self.config)).dump_python(self.config, mode="json")
        return {"name": self.name, **fields}


@dataclass(frozen=True)
class RunSpec:
    """One cell of the matrix."""

    task: str
    generator: Method
    algorithm: Method
    settings: Settings
    seeds: tuple[int, ...]
    variant: str = "default"  # its name in tables; says what a suite varies

    def describe(self) -> dict[str, Any]:
        """Everything that determines the cell's numbers, seeds apart, as JSON."""
        return {
            "task": self.task,
            "generator": self.generator.describe(),
            "algorithm": self.algorithm.describe(),
            "settings": self.settings.model_dump(mode="json"),
        }

    @property
    def label(self) -> str:
        """Task, generator and algorithm: how messages call the cell."""
        return f"{self.task} {self.generator.name} {self.algorithm.name}"

    def refresh_due(self, step: int) -> bool:
        """Whether new rollouts are generated before this update: after `rollouts_from`, then every `refresh_every`."""
        every = self.generator.config.refresh_every
        since = step - 1 - self.settings.rollouts_from
        if self.generator.config.rollouts == 0 or since < 0:
            return False
        return since == 0 or (every is not None and since % every == 0)

    @property
    def refreshes(self) -> int:
        """How many updates are `refresh_due`."""
        every = self.generator.config.refresh_every
        if self.generator.config.rollouts == 0:
            return 0
        return 1 if every is None else -(-(self.settings.updates - self.settings.rollouts_from) // every)

    def evaluation_due(self, step: int) -> bool:
        """Whether the policy is evaluated after this update: every `evaluate_every` and after the last."""
        return step % self.settings.evaluate_every == 0 or step == self.settings.updates

    @property
    def cell_id(self) -> str:
        """`cell_id` of `describe()`."""
        return cell_id(self.describe())


def cell_id(described: Mapping[str, Any]) -> str:
    """The folder's name of what `RunSpec.describe` returned: readable words, then a hash of all of it."""
    digest = hashlib.sha256(canonical_json(described).encode()).hexdigest()[:12]
    words = (described["task"], described["generator"]["name"], described["algorithm"]["name"])
    return "--".join("".join(c if c.isalnum() or c in "-_." else "-" for c in word) for word in (*words, digest))


def restore(described: Mapping[str, Any], seeds: Iterable[int], variant: str) -> RunSpec:
    """The cell that `RunSpec.describe` described.

    Raises:
        SpecError: a method or a field does not exist in this version.
    """
    methods = {}
    for folder, kind in (("generators", "generator"), ("algorithms", "algorithm")):
        name, fields = described[kind]["name"], {k: v for k, v in described[kind].items() if k != "name"}
        methods[kind] = Method(name, build_method(folder, name, fields))
    settings = build_config(Settings, described["settings"], "")
    return RunSpec(described["task"], methods["generator"], methods["algorithm"], settings, tuple(seeds), variant)
