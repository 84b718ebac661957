"""Errors by step on the linear system, where every expected number is a closed form."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.evaluation.rollouts import evaluate_rollouts
from benchmarks.spec import Settings
from core.data import Dataset, Trajectories
from core.random import Streams
from tasks.base import DataOptions, Task, load_task
from tasks.simulators.base import simulate
from tasks.sources.toy import LinearSystem

Measure = Callable[..., dict[str, np.ndarray]]


@dataclass(frozen=True)
class Swinging:
    """Actions of a hopper that differ from state to state."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return (20 * obs[..., -3:]).sin()


def grown(system: LinearSystem, matrix: np.ndarray, steps: int) -> list[np.ndarray]:
    """Covariances of a noise that enters at every step and is carried on by `matrix`."""
    covariance = np.zeros((4, 4))
    found = []
    for _ in range(steps):
        covariance = matrix @ covariance @ matrix.T + system.noise**2 * np.eye(4)
        found.append(covariance)
    return found


def typical(covariance: np.ndarray) -> tuple[float, float]:
    """(median, mean) of the root mean square of N(0, covariance)."""
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(4), covariance, 200_000)
    size = np.sqrt((draws**2).mean(1))
    return float(np.median(size)), float(size.mean())


def test_an_exact_model_has_no_error_but_closed_loop_noise(measure: Measure, toys: SimpleNamespace) -> None:
    found = measure(toys.Told())
    for name in ("policy/mean", "policy/median", "logged/mean", "logged/median"):
        assert found[f"compounding/{name}"].max() < 1e-5
    (a, b) = toys.system.matrices
    gain = toys.Gain().gain
    expected = [typical(covariance)[0] for covariance in grown(toys.system, a - b @ gain, toys.horizon)]
    assert np.allclose(found["compounding/policy/closed"], expected, rtol=0.1)
    assert (found["compounding/policy/alive"] == 1).all()
    assert (found["compounding/starts_excluded"] == 0).all()


def test_the_floor_of_logged_data_is_the_process_noise(measure: Measure, toys: SimpleNamespace) -> None:
    found = measure(toys.Told())
    expected = [typical(covariance)[0] for covariance in grown(toys.system, toys.system.matrices[0], toys.horizon)]
    assert expected[-1] > 2 * expected[0]
    assert np.allclose(found["compounding/logged/floor"], expected, rtol=0.12)
    assert np.array_equal(found["compounding/logged/floor"], found["compounding/policy/floor"])


def test_a_constant_bias_grows_as_the_system_carries_it(measure: Measure, toys: SimpleNamespace) -> None:
    push = np.array([0.01, 0.0, -0.02, 0.03])
    found = measure(toys.Told(tuple(push)))
    error = np.zeros(4)
    expected = []
    for _ in range(toys.horizon):
        error = toys.system.matrices[0] @ error + push
        expected.append(float(np.sqrt((error**2).mean())))
    for name in ("policy/mean", "policy/median", "logged/mean", "logged/median"):
        assert np.allclose(found[f"compounding/{name}"], expected, rtol=1e-3)


def test_errors_are_in_deviations_of_dimensions_that_move(
    data: Dataset, measure: Measure, toys: SimpleNamespace
) -> None:
    push = np.array([0.01, 0.0, -0.02, 0.03])
    scale = np.array([0.5, 0.0, 2.0, 0.1])
    scaled = replace(data, obs_std=torch.from_numpy(scale).float())
    found = measure(toys.Exact(tuple(push)), data=scaled)
    first = np.sqrt(((push / np.where(scale > 0, scale, 1))[scale > 0] ** 2).mean())
    assert np.allclose(found["compounding/policy/mean"][:, 0], first, rtol=1e-3)


def test_standing_still_is_the_distance_the_true_system_goes(
    data: Dataset, measure: Measure, toys: SimpleNamespace
) -> None:
    closed = toys.system.matrices[0] - toys.system.matrices[1] @ toys.Gain().gain
    recorded = data.heldout.obs[:, :-1][data.heldout.valid].double().numpy()
    moved = recorded @ closed.T - recorded
    assert np.abs(recorded @ toys.Gain().gain.T).max() < 1
    expected = float(np.median(np.sqrt((moved**2).mean(1))))
    assert np.allclose(measure(toys.Exact())["compounding/policy/still"][:, 0], expected, rtol=0.15)


def test_the_chaos_floor_of_a_linear_system_is_a_rounding(measure: Measure, toys: SimpleNamespace) -> None:
    chaos = measure(toys.Exact())["compounding/policy/chaos"]
    assert (chaos > 0).all()
    assert chaos.max() < 1e-6


def test_local_error_is_that_of_one_step_wherever_the_model_is(measure: Measure, toys: SimpleNamespace) -> None:
    push = (0.01, 0.0, -0.02, 0.03)
    found = measure(toys.Told(push))
    for name in ("policy", "logged"):
        assert np.allclose(found[f"compounding/{name}/local"], np.sqrt((np.array(push) ** 2).mean()), rtol=1e-3)


def test_known_noise_gives_its_closed_form_open_loop_and_locally(measure: Measure, toys: SimpleNamespace) -> None:
    sigma = 0.02

    @dataclass(frozen=True)
    class Noisy(toys.Told):
        def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
            generated = super().generate(policy, start, length, rng)
            noise = sigma * rng.fork("noise").normal(*generated.obs.shape[1:])
            noise[:, :, 0] = 0
            return replace(generated, obs=generated.obs + noise)

    found = measure(Noisy())
    a = toys.system.matrices[0]
    median, mean = typical(sigma**2 * np.eye(4))
    assert np.allclose(found["compounding/policy/median"], median, rtol=0.06)
    assert np.allclose(found["compounding/policy/mean"], mean, rtol=0.06)
    assert np.allclose(found["compounding/policy/local"][:, 0], median, rtol=0.06)  # the start is exact
    behind, _ = typical(sigma**2 * (np.eye(4) + a @ a.T))
    assert np.allclose(found["compounding/policy/local"][:, 1:], behind, rtol=0.06)


def test_the_simulator_is_at_the_floor_shuffled_actions_are_last(task: Task, data: Dataset) -> None:
    """On a simulator with contacts, where nothing has a closed form."""
    task = load_task("local/hopper-random", DataOptions(dataset_rows=3000))
    data, _ = task.dataset()
    settings = Settings(fidelity_starts=40, fidelity_horizon=8)

    @dataclass(frozen=True)
    class Itself:
        shuffled: bool = False

        def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
            state, exact = task.simulator.restore(start)
            assert exact.all()
            generated = simulate(task.simulator, policy, state, length, rng, greedy=True)
            return replace(generated, action=generated.action.roll(1, 1)) if self.shuffled else generated

    @dataclass(frozen=True)
    class Still:
        def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
            generated = simulate(task.simulator, policy, task.simulator.restore(start)[0], length, rng, greedy=True)
            return replace(generated, obs=start[:, :, None].expand_as(generated.obs))

    def error(fitted: Any) -> np.ndarray:
        values = dict(evaluate_rollouts(task, data, fitted, Swinging(), settings, Streams((0,))))
        return values["compounding/policy/median"][0].numpy()

    exact, shuffled, still = (error(fitted) for fitted in (Itself(), Itself(shuffled=True), Still()))
    assert exact.max() < 1e-3
    assert exact[0] < 1e-5
    assert (shuffled > 100 * exact).all()
    assert (still > 100 * exact).all()
    assert shuffled[-1] > 0.1


def test_errors_beyond_the_data_are_cut_to_its_diameter(data: Dataset, measure: Measure, toys: SimpleNamespace) -> None:
    found = measure(toys.Told((1000.0,) * 4))
    span = (data.train.obs.amax(0) - data.train.obs.amin(0)).square().mean().sqrt().item()
    assert np.allclose(found["compounding/policy/mean"], span)
    assert (found["compounding/policy/capped"] == 1).all()
    assert (measure(toys.Told())["compounding/policy/capped"] == 0).all()


def test_a_model_that_looks_ahead_leaks(measure: Measure, toys: SimpleNamespace) -> None:
    @dataclass(frozen=True)
    class Clairvoyant(toys.Told):
        def imagine(self, start: torch.Tensor, action: torch.Tensor, rng: Streams) -> Trajectories:
            generated = super().imagine(start, action, rng)
            return replace(generated, obs=generated.obs + action.mean((2, 3))[:, :, None, None])

    assert (measure(toys.Told())["compounding/leakage"] == 0).all()
    assert (measure(Clairvoyant())["compounding/leakage"] > 0.01).all()


def test_only_generators_that_take_actions_have_logged_errors(measure: Measure, toys: SimpleNamespace) -> None:
    assert not any("logged" in name for name in measure(toys.Exact()))
    assert any("logged" in name for name in measure(toys.Told()))


def test_what_has_ended_is_neither_alive_nor_counted(measure: Measure, toys: SimpleNamespace) -> None:
    found = measure(toys.Told(life=4))
    for name in ("policy", "logged"):
        assert (found[f"compounding/{name}/alive"] == ([1] * 4 + [0] * 6)).all()
        for quantity in ("mean", "median"):
            assert (np.isnan(found[f"compounding/{name}/{quantity}"]) == ([False] * 4 + [True] * 6)).all()


def test_what_was_cut_off_has_not_ended(measure: Measure, toys: SimpleNamespace) -> None:
    """Whether it would have ended in its fifth step or later, nobody knows."""
    found = measure(toys.Told(reach=4))
    for name in ("policy", "logged"):
        assert (found[f"compounding/{name}/alive"][:, :5] == 1).all()
        assert np.isnan(found[f"compounding/{name}/alive"][:, 5:]).all()
        assert (np.isnan(found[f"compounding/{name}/mean"]) == ([False] * 4 + [True] * 6)).all()


def test_starts_that_nobody_knows_are_in_no_share(
    task: Task, data: Dataset, measure: Measure, toys: SimpleNamespace
) -> None:
    """Of a generator with starts of its own, every other one of which determines no state of the simulator."""

    class Blind(LinearSystem):
        def restore(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            state, _ = super().restore(obs)
            return state, torch.arange(obs.shape[1]).view(1, -1, *[1] * (obs.ndim - 3)).expand(obs.shape[:-1]) % 2 == 0

    @dataclass(frozen=True)
    class Elsewhere(toys.Exact):
        far: float = 0.0

        def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
            lost = torch.arange(start.shape[1])[:, None] % 2 == 1
            return super().generate(policy, start + 1e-3 + self.far * lost, length, rng)

    settings = Settings(fidelity_starts=40, fidelity_horizon=5)
    blind = replace(task, simulator=Blind())
    near, far = (measure(Elsewhere(far=x), task=blind, settings=settings) for x in (0.0, 3.0))
    assert (near["compounding/policy/alive"] == 1).all()
    assert (near["compounding/policy/alive_on_policy"] == 1).all()
    read = ("compounding/", "returns/", "distance/", "bound/")
    moved = [x for x in near if x.startswith(read) and not np.array_equal(near[x], far[x], equal_nan=True)]
    assert moved == []
