"""What every generator promises, for all files in generators/; for a plug-in by `--generator module:Class`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core import registry
from core.data import Dataset, Trajectories
from core.policy import Policy
from core.random import Streams
from core.registry import build_method
from generators.base import ActionConditioned, Fitted, Generator, start_states
from models.cache import ModelCache
from tasks.base import DataOptions, Task, load_task

SEEDS = (0, 1, 2)
ROWS = 24


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fitted" in metafunc.fixturenames:
        plug_in = metafunc.config.getoption("--generator")
        names = [plug_in] if plug_in else registry.available("generators")
        metafunc.parametrize("fitted", names, indirect=True, scope="module")


@dataclass(frozen=True)
class Falling:
    """The toy's simulator with an end: |x1| > 0.3, which some rollouts reach and some start beyond."""

    system: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.system, name)

    def terminated(self, obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
        return next_obs[..., 0].abs() > 0.3

    def outcome(
        self, state: torch.Tensor, action: torch.Tensor, after: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.system.outcome(state, action, after)[0], self.terminated(state, action, after)

    def step(
        self, state: torch.Tensor, action: torch.Tensor, rng: Streams | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        after, reward, _ = self.system.step(state, action, rng)
        return after, reward, self.terminated(state, action, after)


@dataclass(frozen=True)
class Pushing:
    """Explores with its rng; greedy without."""

    scale: float = 0.5

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        mean = -obs[..., :2]
        noise = 0.0 if rng is None else self.scale * rng.normal(*mean.shape[1:])
        return (mean + noise).clamp(-1, 1)


class Outwards:
    """Drives the second cart out of the data, the first one away from the end; with rng or without."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return torch.stack([-obs[..., 0] - obs[..., 2], 0.8 + 0.2 * (9 * obs[..., 1]).sin()], -1).clamp(-1, 1)


@dataclass(frozen=True)
class Case:
    """A generator with what it learned of three seeds together, and of one of them alone."""

    generator: Generator
    fitted: Fitted
    alone: Fitted
    data: Dataset

    @property
    def rollouts(self) -> int:
        return self.generator.starts(self.data)

    def starts(self, rng: Streams, rows: int = ROWS) -> torch.Tensor:
        return start_states(self.data, rows, rng)

    def generate(self, policy: Policy | None = None, label: str = "generate") -> Trajectories:
        rng = Streams(SEEDS)
        policy = policy or Pushing()
        return self.fitted.generate(policy, self.starts(rng), self.generator.rollout_length, rng.fork(label))


@pytest.fixture(scope="module")
def task() -> Task:
    plain = load_task("toy/linear", DataOptions(dataset_rows=3000))
    return replace(plain, simulator=Falling(plain.simulator))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, ...], Path]:
    """One cache for the seeds together, one for the seed alone: generators share models, the two fits share none."""
    return {seeds: tmp_path_factory.mktemp("models") for seeds in (SEEDS, (1,))}


@pytest.fixture(scope="module")
def fitted(request: pytest.FixtureRequest, task: Task, folders: dict[tuple[int, ...], Path]) -> Case:
    kind = registry.load("generators", request.param)
    preset = {"preset": "smoke"} if "smoke" in kind.presets else {}
    generator = build_method("generators", request.param, preset)
    (data, _) = task.dataset()

    def fit(seeds: tuple[int, ...]) -> Fitted:
        rng = Streams(seeds)
        models = ModelCache(rng.fork("models"), folders[seeds])
        return generator.fit(task, data, models, rng.fork("fit"))

    return Case(generator, fit(SEEDS), fit((1,)), data)


def models_termination(case: Case) -> bool:
    """The toy's data has no end at all, so there is nothing to learn from it."""
    return case.generator.models_termination


def assert_same(left: Trajectories, right: Trajectories) -> None:
    for name, value in (vars(left) | left.info).items():
        if name != "info":
            assert torch.equal(value, (vars(right) | right.info)[name]), name


def test_it_is_a_generator_and_learns_what_can_generate(fitted: Case) -> None:
    assert isinstance(fitted.generator, Generator)
    assert isinstance(fitted.fitted, Fitted)
    length = fitted.generator.rollout_length
    refresh = fitted.generator.refresh_every
    assert fitted.rollouts >= 0
    assert length >= 1
    assert refresh is None or refresh >= 1


def test_shapes_types_and_start_states(fitted: Case) -> None:
    made = fitted.generate()
    start = fitted.starts(Streams(SEEDS))
    rows = ROWS if fitted.rollouts else 0
    length = fitted.generator.rollout_length
    assert made.obs.shape == (3, rows, length + 1, 4)
    assert made.action.shape == (3, rows, length, 2)
    assert made.reward.shape == made.terminated.shape == made.valid.shape == (3, rows, length)
    assert made.terminated.dtype == made.valid.dtype == torch.bool
    assert made.obs.dtype == made.reward.dtype
    if fitted.generator.keeps_start:
        assert torch.equal(made.obs[:, :, 0], start[:, :rows])
    else:
        assert (made.obs[:, :, 0] != start).any(-1).all()


def test_everything_is_finite_and_actions_are_in_the_box(fitted: Case) -> None:
    made = fitted.generate()
    assert all(bool(x.isfinite().all()) for x in (made.obs, made.action, made.reward))
    assert (made.action.abs() <= 1).all()
    assert not any(x.requires_grad for name, x in vars(made).items() if name != "info")


def test_no_valid_step_after_an_invalid_or_a_terminated_one(fitted: Case) -> None:
    made = fitted.generate()
    before = made.valid[..., :-1] & ~made.terminated[..., :-1]
    after = made.valid[..., 1:]
    assert not (after & ~before).any()
    if fitted.rollouts:
        assert made.valid.any()
        if not models_termination(fitted):
            assert (made.terminated & made.valid).any()
            assert not made.valid.all()


def test_termination_follows_the_tasks_rule(fitted: Case, task: Task) -> None:
    rows, valid = fitted.generate().transitions()
    rule = task.simulator.terminated(rows.obs, rows.action, rows.next_obs)
    if not models_termination(fitted):
        assert torch.equal(rows.terminated[valid], rule[valid])


def test_actions_are_the_policys_in_the_stored_states(fitted: Case) -> None:
    """To the bit, over several blocks of a sequence model, also where states are clipped to the data's box."""
    rng = Streams(SEEDS)
    made = fitted.fitted.generate(Outwards(), fitted.starts(rng), 16, rng.fork("generate"))
    rows, valid = made.transitions()
    same = (rows.action == Outwards().act(rows.obs, None)).all(-1)
    if fitted.generator.on_policy:
        assert same[valid].all()
        assert "clipped" not in made.info or (made.info["clipped"] > 0).any()
    elif fitted.rollouts:
        assert not same[valid].all()


def test_numbers_are_a_function_of_the_rng(fitted: Case) -> None:
    first = fitted.generate()
    assert_same(first, fitted.generate())
    if fitted.rollouts:
        assert not torch.equal(first.obs, fitted.generate(label="again").obs)


def test_seeds_differ(fitted: Case) -> None:
    rng = Streams(SEEDS)
    same = fitted.starts(Streams((0,))).expand(3, -1, -1)
    made = fitted.fitted.generate(Pushing(0.0), same, fitted.generator.rollout_length, rng.fork("generate"))
    if fitted.rollouts:
        assert not torch.equal(made.obs[0], made.obs[1])
        assert not torch.equal(made.obs[1], made.obs[2])


def test_a_seed_alone_gives_what_it_gives_among_others(fitted: Case) -> None:
    rng = Streams((1,))
    together = fitted.generate()
    length = fitted.generator.rollout_length
    alone = fitted.alone.generate(Pushing(), fitted.starts(rng), length, rng.fork("generate"))
    assert_same(alone, together.map(lambda x: x[1:2]))


def test_nothing_it_is_given_is_changed(fitted: Case, task: Task) -> None:
    class Watched(Pushing):
        """Keeps what it was asked and what it answered, with copies."""

        def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
            action = super().act(obs, rng)
            seen.extend([(obs, obs.clone()), (action, action.clone())])
            return action

    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    rng = Streams(SEEDS)
    start = fitted.starts(rng)
    before = start.clone()
    (fresh, _) = task.dataset()
    fitted.fitted.generate(Watched(), start, fitted.generator.rollout_length, rng.fork("generate"))
    assert torch.equal(start, before)
    assert all(torch.equal(value, copy) for value, copy in seen)
    for name, value in vars(fitted.data.train).items():  # neither now, nor when it was fitted
        assert torch.equal(value, getattr(fresh.train, name)), name


@pytest.mark.parametrize("length", [1, 3])
def test_the_length_asked_for_is_the_length_made(fitted: Case, length: int) -> None:
    rng = Streams(SEEDS)
    made = fitted.fitted.generate(Pushing(), fitted.starts(rng), length, rng.fork("generate"))
    assert made.action.shape[2] == length
    assert made.obs.shape[2] == length + 1


def test_imagination_uses_the_given_actions(fitted: Case) -> None:
    if not isinstance(fitted.fitted, ActionConditioned):
        return
    rng = Streams(SEEDS)
    start = 0.1 * fitted.starts(rng)
    action = 2 * rng.fork("actions").uniform(ROWS, 4, 2) - 1
    given = action.clone()
    made = fitted.fitted.imagine(start, action, rng.fork("imagine"))
    assert torch.equal(made.action, given)
    assert torch.equal(action, given)
    assert torch.equal(made.obs[:, :, 0], start)
    assert made.obs.shape == (3, ROWS, 5, 4)
    assert_same(made, fitted.fitted.imagine(start, action, rng.fork("imagine")))
    other = action.clone()
    other[:, :, 2] = -other[:, :, 2]
    moved = fitted.fitted.imagine(start, other, rng.fork("imagine"))
    if fitted.generator.causal:
        assert torch.equal(moved.obs[:, :, :3], made.obs[:, :, :3])  # the past does not know the future
    assert not torch.equal(moved.obs[:, :, 3], made.obs[:, :, 3])
    alone = fitted.alone.imagine(start[1:2], action[1:2], Streams((1,)).fork("imagine"))
    assert_same(alone, made.map(lambda x: x[1:2]))
