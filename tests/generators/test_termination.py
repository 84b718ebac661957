"""Method sheet, test 8 (D7, B20): where real rollouts end, generated ones must be able to end.

Also where no termination rule is known: then their ends are learned.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.random import Streams
from core.registry import available, build_method, load
from generators.base import Generator, start_states
from models.cache import ModelCache
from models.termination import TerminationConfig
from tasks.base import DataOptions, Task, load_task
from tasks.rows import Rows

EDGE = 0.3
SEEDS = (0, 1)


@dataclass(frozen=True)
class Unruled:
    """The toy's simulator with an end that it does not tell: |x1| > EDGE."""

    system: Any

    has_termination_rule = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.system, name)

    def terminated(self, *step: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the rule is not known")

    def outcome(self, state: torch.Tensor, action: torch.Tensor, after: torch.Tensor) -> Any:
        return self.system.outcome(state, action, after)[0], fallen(after)

    def step(self, state: torch.Tensor, action: torch.Tensor, rng: Streams | None) -> Any:
        after, reward, _ = self.system.step(state, action, rng)
        return after, reward, fallen(after)


def fallen(next_obs: torch.Tensor) -> torch.Tensor:
    return next_obs[..., 0].abs() > EDGE


@pytest.fixture(scope="module")
def unruled() -> Task:
    plain = load_task("toy/linear", DataOptions(dataset_rows=3000))
    rows, digest = plain.rows()
    assert rows.next_obs is not None
    ended: Rows = replace(rows, terminal=fallen(torch.from_numpy(rows.next_obs)).numpy())
    return replace(plain, simulator=Unruled(plain.simulator), rows=lambda: (ended, digest))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generators share the classifier, as they share other models."""
    return tmp_path_factory.mktemp("models")


class Homing:
    """Like the policy behind the data: a classifier is right where there are data."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return -0.3 * obs[..., :2]


@pytest.mark.parametrize("name", available("generators"))
def test_every_generator_learns_the_ends_it_is_not_told(name: str, unruled: Task, folder: Path) -> None:
    preset = {"preset": "smoke"} if "smoke" in load("generators", name).presets else {}
    generator: Generator = build_method("generators", name, preset)
    data, card = unruled.dataset()
    assert card["termination"] == "learned from the terminals"
    rng = Streams(SEEDS)
    models = ModelCache(rng, folder)
    fitted = generator.fit(unruled, data, models, rng)
    learns = any(isinstance(value, TerminationConfig) for value in vars(generator).values())
    used = [used for used in models.used.values() if used["model"] == "models.termination.TerminationConfig"]
    assert len(used) == len(SEEDS) * learns
    made = fitted.generate(Homing(), start_states(data, 200, rng.fork("start")), generator.rollout_length, rng)
    if not generator.rollouts:
        return
    rows, valid = made.transitions()
    assert rows.terminated[valid].any()
    if not generator.models_termination:
        right = rows.terminated[valid] == fallen(rows.next_obs[valid])
        assert right.double().mean() > 0.85
        assert not made.valid.all()


class Restless:
    """Acts uniformly even where the greedy action is asked for, as DyDiff does."""

    def __init__(self) -> None:
        self.rng = Streams((0,), "restless")

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return 2 * self.rng.uniform(obs.shape[1], 3) - 1


@pytest.mark.parametrize("name", ["ensemble", "dydiff", "trajectory"])
@pytest.mark.slow
def test_generated_hoppers_of_a_random_policy_fall(name: str) -> None:
    """Real ones live 22 steps; of rollouts of 12 steps from the data's states more than a tenth must end."""
    task = load_task("local/hopper-random", DataOptions(dataset_rows=5000))
    data, _ = task.dataset()
    fields = {"preset": "smoke", "rollout_length": 12}
    if name != "ensemble":
        fields |= {"model": {"rows": 13, "learning_rate": 3e-3, "updates": 100}, "filter": {"mode": "none"}}
    rng = Streams((0,))
    generator = build_method("generators", name, fields)
    fitted = generator.fit(task, data, ModelCache(rng), rng)
    made = fitted.generate(Restless(), start_states(data, 200, rng.fork("start")), 12, rng)
    ended = (made.terminated & made.valid).any(-1).float().mean()
    assert ended > 0.1
    fell = made.obs[:, :, 1:][made.terminated & made.valid]
    assert ((fell[:, 0] < 0.7) | (fell[:, 1].abs() > 0.2)).all()  # what is stored shows why
    assert torch.equal(made.valid.sum(-1) < 12, (made.terminated & made.valid)[..., :-1].any(-1))
