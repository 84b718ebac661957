"""local/: D4RL-style sets made on this machine by fixed recipes; made once, kept in the cache, never downloaded.

Beside every file lies its card, a JSON file with its recipe, its checksum, and the real returns of the policies behind
it. Scores are on D4RL's scale, the data are not D4RL's: do not put them into one table without a note.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch
from filelock import FileLock

from core.errors import DataError, unknown
from core.files import cache_dir, sha256, write_json
from core.progress import say, waiting
from core.random import Streams
from tasks import hdf5
from tasks.base import Behaviour, DataOptions, Source, Task
from tasks.recipes import locomotion
from tasks.recipes.maze2d import collect, controller_returns, random_returns
from tasks.rows import Rows
from tasks.simulators.base import Simulator
from tasks.simulators.locomotion import simulator
from tasks.simulators.maze import HORIZONS, MAPS, Maze
from tasks.sources.d4rl import reference

__all__ = ["RECIPES", "RECIPE_SEED", "SOURCE", "Recipe", "card", "find", "intact", "load", "location", "make", "names"]

RECIPE_SEED = 0
_EPISODES = {"random policy": 200, "waypoint controller": 20}  # behind the returns on a maze2d card


@dataclass(frozen=True)
class Recipe:
    """How one set is made. Any change that moves a number is a new `version`."""

    text: str
    version: int
    simulator: Simulator
    horizon: int
    scored_as: str  # the D4RL dataset whose reference returns count as 0 and 100
    collect: Callable[[int, Streams], tuple[Rows, dict[str, Any]]]  # rows, and what the card should say of them
    behaviour: Callable[[], Behaviour | None] = lambda: None  # the policy that acts, where it is one


def _maze2d(name: str) -> Recipe:
    def collect_and_judge(size: int, rng: Streams) -> tuple[Rows, dict[str, Any]]:
        rows, goals = collect(name, size, rng)
        returns = {
            "random policy": random_returns(Maze(name), _EPISODES["random policy"], rng.fork("random policy")),
            "waypoint controller": controller_returns(Maze(name), _EPISODES["waypoint controller"], rng.fork("judge")),
        }
        return rows, {**goals, "returns": {policy: _summary(values) for policy, values in returns.items()}}

    text = (
        "One stream without resets: a planner leads to one random cell after the other along a shortest route, and a "
        "PD controller (gains 10 and 1) follows it with N(0, 0.5^2) action noise. timeouts mark the rows that reach a "
        "navigation goal. rewards are for the fixed goal of the task and are paid on the next state, as by the "
        "environment (D4RL's own files use the current state). No observation is stale when a goal is reached (in "
        "D4RL's released generator one is)."
    )
    return Recipe(text, 1, Maze(name), HORIZONS[name], f"maze2d-{name}-v1", collect_and_judge)


_LOCOMOTION: dict[locomotion.Level, str] = {
    "random": "Uniformly random actions.",
    "medium": "The shipped checkpoint whose greedy return is nearest to a third of the best one's, {exploring}.",
    "medium-replay": (
        "The shipped checkpoints up to the medium one, {exploring}, one after the other; each has the share of rows "
        "that its share of the training steps is, half of the steps to either neighbour."
    ),
    "expert": "The shipped checkpoint with the highest greedy return, {expert}.",
    "medium-expert": "Half of the rows as in medium, {exploring}; then half as in expert, {expert}.",
}


def _locomotion(env: str, level: locomotion.Level) -> Recipe:
    def collect_level(size: int, rng: Streams) -> tuple[Rows, dict[str, Any]]:
        return locomotion.collect(env, level, size, rng)

    acting = _LOCOMOTION[level].format(
        exploring=_described(*locomotion.EXPLORATION[env]), expert=_described(*locomotion.EXPERT_EXPLORATION)
    )
    text = (
        f"{acting} Episodes of at most {locomotion.HORIZON} steps, in the order in which "
        "they started; the last one is cut without a flag, and where another policy follows the cut is marked as a "
        "timeout. infos/action_log_probs is the density of the action; a bound of the box has an atom."
    )
    world = simulator(locomotion.ENV_IDS[env])
    behaviour = partial(locomotion.behaviour, env, level)
    return Recipe(text, 2, world, locomotion.HORIZON, f"{env}-{level}-v2", collect_level, behaviour)


def _described(deviation: float, uniform: float) -> str:
    noise = f"with N(0, {deviation}^2) action noise clipped to [-1, 1]"
    return f"{noise} and {uniform:.0%} uniformly random actions" if uniform else noise


RECIPES = {f"maze2d-{name}": _maze2d(name) for name in MAPS} | {  # a new set is a new entry here
    f"{env}-{level}": _locomotion(env, level) for env in locomotion.ENV_IDS for level in locomotion.LEVELS
}


def names() -> list[str]:
    """Datasets of this source."""
    return list(RECIPES)


def load(dataset: str, options: DataOptions) -> Task:
    """The task `local/<dataset>`; its rows are made when they are first needed."""
    recipe = _recipe(dataset)
    scale = reference(recipe.scored_as)

    def rows() -> tuple[Rows, str]:
        path = make(dataset, options)
        return hdf5.read(path), str(card(path)["sha256"])

    score_range = scale.ref_min, scale.ref_max
    behaviour = recipe.behaviour()
    return Task(f"local/{dataset}", recipe.simulator, recipe.horizon, score_range, rows, options, behaviour)


def location(dataset: str, options: DataOptions) -> Path:
    """Where the file is, or would be; its name contains everything that its content depends on."""
    version = f"v{_recipe(dataset).version}-{options.dataset_rows}-seed{RECIPE_SEED}-mujoco{mujoco.__version__}"
    return cache_dir("datasets") / f"{dataset}-{version}.hdf5"


def find(dataset: str, options: DataOptions) -> Path | None:
    """The file, if it has been made here."""
    path = location(dataset, options)
    return path if path.exists() else None


def make(dataset: str, options: DataOptions) -> Path:
    """The file, made unless it is there; of two processes that need it, one makes it and the other waits.

    A file that does not match its card is renamed to `.bad`, and made again.
    """
    path = location(dataset, options)
    with waiting(FileLock(path.with_name(f"{path.name}.lock"))):
        if path.exists() and not intact(path):
            bad = path.with_name(f"{path.name}.bad")
            path.replace(bad)
            say(f"{path} is not what its card says; put aside as {bad.name} and made again")
        if not path.exists():
            _make(dataset, options.dataset_rows, path)
    return path


def card(path: Path) -> dict[str, Any]:
    """The content of a file's card.

    Raises:
        DataError: the card is missing or unreadable.
    """
    beside = path.with_suffix(".json")
    try:
        content: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{beside} must be the card of {path.name}, got {error}") from error
    return content


def intact(path: Path) -> bool:
    """Whether the file has a card and the checksum on it."""
    try:
        return sha256(path) == card(path).get("sha256")
    except (DataError, FileNotFoundError):
        return False


def _recipe(dataset: str) -> Recipe:
    if dataset not in RECIPES:
        raise unknown("local dataset", dataset, RECIPES)
    return RECIPES[dataset]


def _make(dataset: str, size: int, path: Path) -> None:
    recipe = _recipe(dataset)
    rows, statistics = recipe.collect(size, Streams((RECIPE_SEED,), f"local/{dataset}"))
    hdf5.write(path, rows)
    content = {
        "name": f"local/{dataset}",
        "recipe": recipe.text,
        "recipe_version": recipe.version,
        "seed": RECIPE_SEED,
        "size": size,
        "physics": recipe.simulator.physics,
        "versions": {"mujoco": mujoco.__version__, "numpy": np.__version__, "torch": str(torch.__version__)},
        "horizon": recipe.horizon,
        "scored_as": recipe.scored_as,
        "mean_reward": float(rows.reward.mean(dtype=np.float64)),
        **statistics,
        "sha256": sha256(path),
    }
    write_json(path.with_suffix(".json"), content)


def _summary(returns: np.ndarray) -> dict[str, float]:
    error = returns.std(ddof=1) / len(returns) ** 0.5
    return {"mean": float(returns.mean()), "standard_error": float(error), "episodes": len(returns)}


SOURCE = Source(names, load, find, card=card, sized=True)
