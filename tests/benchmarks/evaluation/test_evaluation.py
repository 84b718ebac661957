"""Evaluation on the linear system, where every expected number is a closed form."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.evaluation.policy import evaluate_policy
from benchmarks.evaluation.rollouts import evaluate_rollouts
from benchmarks.spec import Settings
from benchmarks.store import Record
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.random import Streams
from generators.base import start_states
from tasks.base import DataOptions, Task, load_task
from tasks.recipes.policies import LinearPolicy
from tasks.simulators.base import simulate
from tasks.sources.toy import LinearSystem

SYSTEM = LinearSystem()
SEEDS = (0, 1)
HORIZON = 10
SETTINGS = Settings(fidelity_starts=1500, fidelity_horizon=HORIZON)


@dataclass(frozen=True)
class Gain:
    """a = -K s; by default so weak that nothing is clipped where the data is."""

    gain: np.ndarray = field(default_factory=lambda: SYSTEM.optimal_gain / 3)

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return -(obs.double() @ torch.from_numpy(self.gain).T).float()


@dataclass(frozen=True)
class Swinging:
    """Actions of a hopper that differ from state to state."""

    def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        return (20 * obs[..., -3:]).sin()


@dataclass(frozen=True)
class Exact:
    """The true system without its noise, plus a constant push per step; forgets everything after `life` steps."""

    push: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    life: int = 10**6

    def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
        return self._walk(start, length, lambda obs, step: policy.act(obs, rng).clamp(-1, 1))

    def _walk(self, start: torch.Tensor, length: int, act: Any) -> Trajectories:
        obs = [start]
        action = []
        reward = []
        for step in range(length):
            action.append(act(obs[-1], step))
            after, paid, _ = SYSTEM.step(obs[-1].double(), action[-1], None)
            obs.append((after + torch.tensor(self.push, dtype=torch.float64)).float())
            reward.append(paid.float())
        alive = (torch.arange(length) < self.life).expand(*start.shape[:2], length)
        generated = (torch.stack(x, 2) for x in (action, obs, reward))
        return Trajectories(*generated, torch.zeros_like(alive), alive)


@dataclass(frozen=True)
class Told(Exact):
    """The same under given actions."""

    def imagine(self, start: torch.Tensor, action: torch.Tensor, rng: Streams) -> Trajectories:
        return self._walk(start, action.shape[2], lambda obs, step: action[:, :, step])


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("toy/linear", DataOptions(dataset_rows=60_000))


@pytest.fixture(scope="module")
def data(task: Task) -> Dataset:
    """With a unit deviation, so that errors are in the system's own units."""
    return replace(task.dataset()[0], obs_std=torch.ones(4))


def curves(task: Task, data: Dataset, fitted: Any, settings: Settings = SETTINGS) -> dict[str, np.ndarray]:
    """Every curve as [S, L], and the single values as [S]."""
    values = dict(evaluate_rollouts(task, data, fitted, Gain(), settings, Streams(SEEDS)))
    names = {name.rpartition("/")[0] for name in values if name.rpartition("/")[2].isdigit()}
    steps = range(1, settings.fidelity_horizon + 1)
    found = {name: torch.stack([values[f"{name}/{step}"] for step in steps], -1).numpy() for name in names}
    return found | {name: value.numpy() for name, value in values.items() if not name.rpartition("/")[2].isdigit()}


def grown(matrix: np.ndarray) -> list[np.ndarray]:
    """Covariances of a noise that enters at every step and is carried on by `matrix`."""
    covariance = np.zeros((4, 4))
    found = []
    for _ in range(HORIZON):
        covariance = matrix @ covariance @ matrix.T + SYSTEM.noise**2 * np.eye(4)
        found.append(covariance)
    return found


def typical(covariance: np.ndarray) -> tuple[float, float]:
    """(median, mean) of the root mean square of N(0, covariance)."""
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(4), covariance, 200_000)
    size = np.sqrt((draws**2).mean(1))
    return float(np.median(size)), float(size.mean())


def test_the_return_of_a_linear_policy_is_the_closed_form(task: Task) -> None:
    episodes = 3000
    policy = Gain(SYSTEM.optimal_gain)
    values = dict(evaluate_policy(task, policy, episodes, Streams(SEEDS)))
    start = SYSTEM.reset(episodes, Streams(SEEDS).fork("reset"))
    expected = SYSTEM.expected_return(SYSTEM.optimal_gain, 0.0)
    rng = Streams((9,))
    total = torch.zeros(1, episodes, dtype=torch.float64)
    state = start[:1]
    for _ in range(task.horizon):
        state, reward, _ = SYSTEM.step(state, policy.act(state, None), rng)
        total += reward
    error = float(total.std()) / episodes**0.5
    assert 0 < error < 0.05
    assert (abs(values["return"] - expected) < 4 * error).all()
    assert (values["normalized_score"] - 100).abs().max() < 1
    assert values["return"][0] != values["return"][1]


def test_start_states_are_the_same_at_every_evaluation_and_none_of_the_scores_without_a_range(task: Task) -> None:
    first, again = (dict(evaluate_policy(task, Gain(), 5, Streams(SEEDS, "evaluate"))) for _ in range(2))
    assert torch.equal(first["return"], again["return"])
    assert set(dict(evaluate_policy(replace(task, score_range=None), Gain(), 5, Streams(SEEDS)))) == {"return"}


def test_rollouts_start_at_states_of_the_training_data(data: Dataset) -> None:
    starts = start_states(data, 500, Streams(SEEDS))
    known = {tuple(row) for row in data.train.obs.tolist()}
    assert starts.shape == (2, 500, 4)
    assert {tuple(row) for row in starts.flatten(0, 1).tolist()} <= known
    assert abs(float((starts.mean((0, 1)) - data.obs_mean).abs().max())) < 0.05
    assert not torch.equal(starts[0], starts[1])


def test_an_exact_model_has_no_open_loop_error_and_closed_loop_only_noise(task: Task, data: Dataset) -> None:
    found = curves(task, data, Told())
    for name in ("policy/mean", "policy/median", "logged/mean", "logged/median"):
        assert found[f"compounding/{name}"].max() < 1e-5
    (a, b) = SYSTEM.matrices
    gain = Gain().gain
    expected = [typical(covariance)[0] for covariance in grown(a - b @ gain)]
    assert np.allclose(found["compounding/policy/closed"], expected, rtol=0.1)
    assert (found["compounding/policy/alive"] == 1).all()
    assert (found["compounding/starts_excluded"] == 0).all()


def test_the_floor_of_logged_data_is_the_process_noise(task: Task, data: Dataset) -> None:
    found = curves(task, data, Told())
    expected = [typical(covariance)[0] for covariance in grown(SYSTEM.matrices[0])]
    assert expected[-1] > 2 * expected[0]
    assert np.allclose(found["compounding/logged/floor"], expected, rtol=0.12)
    assert np.array_equal(found["compounding/logged/floor"], found["compounding/policy/floor"])


def test_a_constant_bias_grows_as_the_system_carries_it(task: Task, data: Dataset) -> None:
    push = np.array([0.01, 0.0, -0.02, 0.03])
    found = curves(task, data, Told(tuple(push)))
    error = np.zeros(4)
    expected = []
    for _ in range(HORIZON):
        error = SYSTEM.matrices[0] @ error + push
        expected.append(float(np.sqrt((error**2).mean())))
    for name in ("policy/mean", "policy/median", "logged/mean", "logged/median"):
        assert np.allclose(found[f"compounding/{name}"], expected, rtol=1e-3)


def test_errors_are_in_deviations_of_the_data_and_still_dimensions_do_not_count(task: Task, data: Dataset) -> None:
    push = np.array([0.01, 0.0, -0.02, 0.03])
    scale = np.array([0.5, 0.0, 2.0, 0.1])
    scaled = replace(data, obs_std=torch.from_numpy(scale).float())
    found = curves(task, scaled, Exact(tuple(push)))
    first = np.sqrt(((push / np.where(scale > 0, scale, 1))[scale > 0] ** 2).mean())
    assert np.allclose(found["compounding/policy/mean"][:, 0], first, rtol=1e-3)


def test_standing_still_is_the_distance_the_true_system_goes(task: Task, data: Dataset) -> None:
    closed = SYSTEM.matrices[0] - SYSTEM.matrices[1] @ Gain().gain
    recorded = data.heldout.obs[:, :-1][data.heldout.valid].double().numpy()
    moved = recorded @ closed.T - recorded
    assert np.abs(recorded @ Gain().gain.T).max() < 1
    expected = float(np.median(np.sqrt((moved**2).mean(1))))
    assert np.allclose(curves(task, data, Exact())["compounding/policy/still"][:, 0], expected, rtol=0.15)


def test_the_chaos_floor_of_a_linear_system_is_a_rounding(task: Task, data: Dataset) -> None:
    chaos = curves(task, data, Exact())["compounding/policy/chaos"]
    assert (chaos > 0).all()
    assert chaos.max() < 1e-6


def test_local_inconsistency_is_the_error_of_one_step_wherever_the_model_has_gone(task: Task, data: Dataset) -> None:
    push = (0.01, 0.0, -0.02, 0.03)
    found = curves(task, data, Told(push))
    for name in ("policy", "logged"):
        assert np.allclose(found[f"compounding/{name}/local"], np.sqrt((np.array(push) ** 2).mean()), rtol=1e-3)


def test_known_noise_gives_its_closed_form_open_loop_and_locally(task: Task, data: Dataset) -> None:
    sigma = 0.02

    @dataclass(frozen=True)
    class Noisy(Told):
        def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
            generated = super().generate(policy, start, length, rng)
            noise = sigma * rng.fork("noise").normal(*generated.obs.shape[1:])
            noise[:, :, 0] = 0
            return replace(generated, obs=generated.obs + noise)

    found = curves(task, data, Noisy())
    a = SYSTEM.matrices[0]
    median, mean = typical(sigma**2 * np.eye(4))
    assert np.allclose(found["compounding/policy/median"], median, rtol=0.06)
    assert np.allclose(found["compounding/policy/mean"], mean, rtol=0.06)
    assert np.allclose(found["compounding/policy/local"][:, 0], median, rtol=0.06)  # the start is exact
    behind, _ = typical(sigma**2 * (np.eye(4) + a @ a.T))
    assert np.allclose(found["compounding/policy/local"][:, 1:], behind, rtol=0.06)


def test_the_simulator_itself_is_at_the_floor_and_shuffled_actions_are_last() -> None:
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
        return np.array([values[f"compounding/policy/median/{step}"].item() for step in range(1, 9)])

    exact, shuffled, still = (error(fitted) for fitted in (Itself(), Itself(shuffled=True), Still()))
    assert exact.max() < 1e-3
    assert exact[0] < 1e-5
    assert (shuffled > 100 * exact).all()
    assert (still > 100 * exact).all()
    assert shuffled[-1] > 0.1


def test_errors_beyond_the_data_are_cut_to_its_diameter(task: Task, data: Dataset) -> None:
    found = curves(task, data, Told((1000.0,) * 4))
    span = (data.train.obs.amax(0) - data.train.obs.amin(0)).square().mean().sqrt().item()
    assert np.allclose(found["compounding/policy/mean"], span)
    assert (found["compounding/policy/capped"] == 1).all()
    assert (curves(task, data, Told())["compounding/policy/capped"] == 0).all()


def test_a_model_that_looks_ahead_leaks(task: Task, data: Dataset) -> None:
    @dataclass(frozen=True)
    class Clairvoyant(Told):
        def imagine(self, start: torch.Tensor, action: torch.Tensor, rng: Streams) -> Trajectories:
            generated = super().imagine(start, action, rng)
            return replace(generated, obs=generated.obs + action.mean((2, 3))[:, :, None, None])

    assert (curves(task, data, Told())["compounding/leakage"] == 0).all()
    assert (curves(task, data, Clairvoyant())["compounding/leakage"] > 0.01).all()


def test_only_generators_that_can_be_told_actions_are_judged_under_logged_ones(task: Task, data: Dataset) -> None:
    assert not any("logged" in name for name in curves(task, data, Exact()))
    assert any("logged" in name for name in curves(task, data, Told()))


def test_what_a_generator_masks_is_neither_alive_nor_judged(task: Task, data: Dataset) -> None:
    found = curves(task, data, Told(life=4))
    for name in ("policy", "logged"):
        assert (found[f"compounding/{name}/alive"] == ([1] * 4 + [0] * 6)).all()
        for quantity in ("mean", "median"):
            assert (np.isnan(found[f"compounding/{name}/{quantity}"]) == ([False] * 4 + [True] * 6)).all()


def test_windows_shorter_than_the_horizon_are_masked(task: Task, data: Dataset) -> None:
    settings = Settings(fidelity_starts=4000, fidelity_horizon=60)
    found = curves(task, data, Told(), settings)
    left = np.array([max(50 - step + 1, 0) / 50 for step in range(1, 61)])  # starts are uniform over 50 rows
    assert np.allclose(found["compounding/logged/alive"], left, atol=0.04)
    assert (found["compounding/logged/alive"][:, 50:] == 0).all()
    assert np.isnan(found["compounding/logged/mean"][:, 50:]).all()
    assert np.isfinite(found["compounding/logged/mean"][:, :45]).all()
    assert (found["compounding/policy/alive"] == 1).all()  # a policy can go on where the log ends


def test_whole_windows_are_preferred(task: Task, data: Dataset) -> None:
    short = data.heldout.valid.clone()
    short[::2, 20:] = False
    mixed = replace(data, heldout=replace(data.heldout, valid=short))
    found = curves(task, mixed, Told(), Settings(fidelity_starts=500, fidelity_horizon=30))
    assert (found["compounding/logged/alive"] == 1).all()


def test_starts_whose_state_is_not_known_are_counted_and_left_alone(task: Task, data: Dataset) -> None:
    exact = torch.zeros_like(data.heldout_exact)
    exact[:, 0] = True
    state = data.heldout_state.clone()
    state[~exact] = torch.nan
    found = curves(task, replace(data, heldout_exact=exact, heldout_state=state), Told())
    assert np.allclose(found["compounding/starts_excluded"], 49 / 50)
    assert found["compounding/policy/mean"].max() < 1e-5


def test_no_rows_without_an_exact_start(task: Task, data: Dataset) -> None:
    blind = replace(data, heldout_exact=torch.zeros_like(data.heldout_exact))
    found = curves(task, blind, Told())
    assert set(found) == {"compounding/starts_excluded"}
    assert (found["compounding/starts_excluded"] == 1).all()


def test_an_episode_that_the_simulator_gives_up_leaves_its_seed_without_a_return(task: Task) -> None:
    """As MuJoCo does: NaN and terminated. The other seed is as it would be without it."""

    @dataclass(frozen=True)
    class Unstable:
        system: LinearSystem

        def __getattr__(self, name: str) -> Any:
            return getattr(self.system, name)

        def step(self, state: torch.Tensor, action: torch.Tensor, rng: Streams | None) -> Any:
            after, reward, ended = self.system.step(state, action, rng)
            lost = (torch.arange(2)[:, None] == 1) & (torch.arange(3) == 2)
            return after.where(~lost[..., None], torch.nan), reward.where(~lost, torch.nan), ended | lost

    sick = replace(task, simulator=Unstable(SYSTEM), horizon=1)
    one, two = dict(evaluate_policy(sick, Gain(), 3, Streams(SEEDS)))["return"]
    healthy = dict(evaluate_policy(replace(task, horizon=1), Gain(), 3, Streams(SEEDS)))["return"]
    assert one == healthy[0]
    assert two.isnan()
    assert Record(1, 5, "return", float(two)).line() == '{"seed": 1, "step": 5, "metric": "return", "value": null}'


def test_a_seed_alone_gets_the_same_values(task: Task, data: Dataset) -> None:
    def values(seeds: tuple[int, ...]) -> dict[str, torch.Tensor]:
        settings = Settings(fidelity_starts=20, fidelity_horizon=5)
        fidelity = evaluate_rollouts(task, data, Told((0.01,) * 4), Gain(), settings, Streams(seeds))
        return dict(fidelity) | dict(evaluate_policy(task, Gain(), 3, Streams(seeds)))

    together = values((0, 1, 2))
    alone = values((1,))
    assert together.keys() == alone.keys()
    assert all(torch.equal(together[name][1:2], alone[name]) for name in alone)


def test_an_exact_generator_promises_what_the_policy_lives(task: Task, data: Dataset) -> None:
    found = curves(task, data, Told())
    for part in ("reward", "dynamics", "termination", "unsplit"):
        assert np.abs(found[f"returns/{part}"]).max() < 1e-4, part
    assert np.abs(found["returns/gap"]).max() < 0.05
    assert (found["returns/used"] == 1).all()
    assert (found["distance/wasserstein"] < found["distance/wasserstein_floor"]).all()  # the same starts on both sides
    assert (found["bound/autoregressive"] < 1e-3).all()
    assert (found["bound/amplification"] < 1.05).all()
    assert "values/ratio" not in found
    assert not any(name.startswith("filter") for name in found)


def test_every_fault_shows_where_it_belongs(task: Task, data: Dataset) -> None:
    biased = curves(task, data, Told((0.05,) * 4))
    short = curves(task, data, Told(life=4))
    assert np.abs(biased["returns/dynamics"][:, -1]).min() > 0.05
    assert np.abs(biased["returns/termination"]).max() < 1e-6
    assert (biased["bound/gap"] <= biased["bound/autoregressive"]).all()
    assert (biased["distance/wasserstein"][:, -1] > 2 * biased["distance/wasserstein_floor"][:, -1]).all()
    assert np.abs(short["returns/dynamics"]).max() < 1e-4
    assert (short["returns/termination"][:, -1] < -1).all()
    for found in (biased, short):
        parts = sum(found[f"returns/{part}"] for part in ("reward", "dynamics", "termination", "feedback", "unsplit"))
        assert np.allclose(parts, found["returns/gap"], atol=1e-6)


def test_filter_and_critic_are_judged_where_there_are_any(task: Task, data: Dataset) -> None:
    settings = Settings(fidelity_starts=200, fidelity_horizon=5)
    shared = {"keep": Filter(mode="hardmax", share=0.5)}

    def values(scale: float) -> dict[str, torch.Tensor]:
        def critic(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
            return 1 + scale * (action + obs @ torch.from_numpy(Gain().gain).T.float()).abs().sum(-1)

        return dict(evaluate_rollouts(task, data, Told(), Gain(), settings, Streams(SEEDS), critic=critic, **shared))

    found = values(0.0)
    assert torch.allclose(found["values/ratio"], torch.ones(2, dtype=torch.float64))
    assert (values(1.0)["values/ratio"] < 1).all()  # the policy's own actions are on its line, recorded ones are not
    assert (found["filter/rank_correlation"] > 0.99).all()
    assert (found["filter/true_kept"] > found["filter/true_dropped"] + 0.1).all()


def test_a_shifted_action_costs_what_the_formulas_say(task: Task, data: Dataset) -> None:
    """The toy's behaviour policy is known, so the surprise about a shift by delta is delta^2 / (2 (std^2 + .2^2))."""
    known = task.behaviour
    shift = 0.1
    assert isinstance(known, LinearPolicy)

    @dataclass(frozen=True)
    class Behaviour:
        def act(self, obs: torch.Tensor, rng: Streams | None) -> torch.Tensor:
            return known.centre(obs) if rng is None else known.act(obs, rng)

    @dataclass(frozen=True)
    class Shifted(Told):
        def generate(self, policy: Any, start: torch.Tensor, length: int, rng: Streams) -> Trajectories:
            generated = super().generate(policy, start, length, rng)
            return replace(
                generated,
                action=known.act(generated.obs[:, :, :-1].flatten(1, 2), rng).view_as(generated.action) + shift,
            )

    settings = Settings(fidelity_starts=2000, fidelity_horizon=HORIZON)
    found = dict(evaluate_rollouts(task, data, Shifted(), Behaviour(), settings, Streams(SEEDS)))
    noise = known.sigma**2
    assert found["consistency/kl"].tolist() == pytest.approx([2 * (shift**2 + noise) / (2 * 0.2**2)] * 2, rel=0.03)
    excess = 2 * shift**2 / (2 * (noise + 0.2**2))
    assert found["behaviour/excess/made"].tolist() == pytest.approx([excess] * 2, abs=0.15)
    assert found["behaviour/excess/lived"].tolist() == pytest.approx([0, 0], abs=0.15)
    for name in ("made", "lived"):
        assert (found[f"behaviour/nearest/{name}"] / found["behaviour/nearest/heldout"]).sub(1).abs().max() < 0.3
    assert "consistency/energy" not in found


def test_every_kind_of_policy_is_compared_in_its_own_way(task: Task, data: Dataset) -> None:
    @dataclass(frozen=True)
    class Gaussian(Gain):
        def noise_of(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
            return (action - self.act(obs, None)) / 0.5

    @dataclass(frozen=True)
    class Implicit(Gain):
        def sample(self, obs: torch.Tensor, count: int, rng: Streams) -> torch.Tensor:
            return self.act(obs, None)[:, None] + 0.5 * rng.normal(count, *obs.shape[1:-1], 2)

    settings = Settings(fidelity_starts=50, fidelity_horizon=5)
    greedy = [
        dict(evaluate_rollouts(task, data, Told(), policy, settings, Streams(SEEDS)))
        for policy in (Gain(), Gaussian(), Implicit())
    ]
    for found in greedy:  # the generator takes the mean
        assert found["consistency/distance"].abs().max() < 1e-6
    assert greedy[0]["consistency/kl"].abs().max() < 1e-6
    assert greedy[1]["consistency/kl"].tolist() == pytest.approx([-1, -1], abs=1e-6)
    middle = 2 * 0.5 * ((math.pi / 2) ** 0.5 - math.pi**0.5)  # E|x|, E|x - x'| of two-dimensional normals
    assert greedy[2]["consistency/energy"].tolist() == pytest.approx([middle] * 2, abs=0.02)
    assert "consistency/kl" not in greedy[2]


def test_where_the_behaviour_is_not_known_a_fitted_density_says_nearly_the_same(task: Task, data: Dataset) -> None:
    settings = Settings(fidelity_starts=200, fidelity_horizon=5)
    blind = replace(task, behaviour=None)
    known, fitted = (
        dict(evaluate_rollouts(which, data, Told(), Gain(), settings, Streams(SEEDS))) for which in (task, blind)
    )
    for rows in ("made", "lived"):
        assert (known[f"behaviour/excess/{rows}"] - fitted[f"behaviour/excess/{rows}"]).abs().max() < 0.1
