"""toy/linear: a linear-Gaussian system whose optimum, returns and dynamics are known in closed form.

Two independent carts on lines, pushed by forces:  s' = A s + B a + w,  w ~ N(0, noise^2 I),  s = (x1, x2, v1, v2),
with reward  r = 1 - s'Qs - a'Ra  of the state before the step. Starts are N(0, start^2 I); an episode has
50 steps and never terminates. The behaviour policy is a third of the optimal linear gain plus Gaussian noise.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from scipy.linalg import solve_discrete_are
from torch import Tensor

from core.errors import unknown
from core.random import Streams
from tasks.base import DataOptions, Source, Task
from tasks.recipes.linear import LinearPolicy
from tasks.rows import Rows

__all__ = ["SOURCE", "LinearSystem", "load", "names"]

HORIZON = 50
BEHAVIOUR_GAIN = 1 / 3  # share of the optimal gain
BEHAVIOUR_STD = 0.3
_RECIPE_SEED = 0


@dataclass(frozen=True)
class LinearSystem:
    """The toy's simulator; its optimal policy and expected returns are closed forms."""

    noise: float = 0.01
    start: float = 0.3
    obs_dim: int = 4
    action_dim: int = 2
    physics: str = "linear system, version 1"

    has_termination_rule = True

    @cached_property
    def matrices(self) -> tuple[Float64[np.ndarray, "X X"], Float64[np.ndarray, "X A"]]:
        """(A, B)."""
        eye = np.eye(2)
        return np.block([[eye, 0.1 * eye], [0 * eye, 0.95 * eye]]), np.vstack([0 * eye, 0.2 * eye])

    @cached_property
    def costs(self) -> tuple[Float64[np.ndarray, "X X"], Float64[np.ndarray, "A A"]]:
        """(Q, R)."""
        return np.diag([1.0, 1.0, 0.1, 0.1]), np.eye(2)

    @cached_property
    def optimal_gain(self) -> Float64[np.ndarray, "A X"]:
        """K of the best stationary policy a = -K s: discrete algebraic Riccati equation."""
        (a, b) = self.matrices
        (q, r) = self.costs
        p = solve_discrete_are(a, b, q, r)
        return np.asarray(np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a))

    def expected_return(self, gain: Float64[np.ndarray, "A X"], action_std: float, steps: int = HORIZON) -> float:
        """Mean undiscounted return of a = -K s + N(0, action_std^2): the covariance of s, propagated."""
        (a, b) = self.matrices
        (q, r) = self.costs
        closed = a - b @ gain
        exploration = action_std**2 * np.eye(self.action_dim)
        covariance = self.start**2 * np.eye(self.obs_dim)
        total = 0.0
        for _ in range(steps):
            total += 1 - np.trace(q @ covariance) - np.trace(r @ (gain @ covariance @ gain.T + exploration))
            covariance = closed @ covariance @ closed.T + b @ exploration @ b.T + self.noise**2 * np.eye(self.obs_dim)
        return float(total)

    def reset(self, rows: int, rng: Streams) -> Float64[Tensor, "S B X"]:
        """N(0, start^2 I)."""
        return self.start * rng.normal(rows, self.obs_dim).double().cpu()

    def observe(self, state: Float64[Tensor, "*N X"]) -> Float64[Tensor, "*N O"]:
        """The state itself."""
        return state

    def restore(self, obs: Float[Tensor, "*N O"]) -> tuple[Float64[Tensor, "*N X"], Bool[Tensor, "*N"]]:
        """The observation itself."""
        return obs.double().cpu(), torch.ones(obs.shape[:-1], dtype=torch.bool)

    def step(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], rng: Streams | None
    ) -> tuple[Float64[Tensor, "*N X"], Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """One step of the equation above."""
        a, b = (torch.from_numpy(matrix) for matrix in self.matrices)
        after = state @ a.T + action.double().clamp(-1, 1) @ b.T
        if rng is not None:
            after = after + self.noise * rng.normal(*after.shape[1:]).double().cpu()
        return after, *self.outcome(state, action, after)

    def outcome(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], after: Float64[Tensor, "*N X"]
    ) -> tuple[Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """Quadratic costs of state and action; never terminated."""
        q, r = (torch.from_numpy(matrix) for matrix in self.costs)
        action = action.double().clamp(-1, 1)
        reward = 1 - (state @ q * state).sum(-1) - (action @ r * action).sum(-1)
        return reward, torch.zeros(reward.shape, dtype=torch.bool)

    def replay(self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N L A"]) -> Float64[Tensor, "*N L+1 X"]:
        """The mean path: process noise is not repeatable, so it is this task's replay floor."""
        states = [state]
        for step in range(action.shape[-2]):
            states.append(self.step(states[-1], action[..., step, :], None)[0])
        return torch.stack(states, -2)

    def terminated(
        self, obs: Float[Tensor, "*N O"], action: Float[Tensor, "*N A"], next_obs: Float[Tensor, "*N O"]
    ) -> Bool[Tensor, "*N"]:
        """Never."""
        return torch.zeros(obs.shape[:-1], dtype=torch.bool, device=obs.device)


SYSTEMS = {
    "linear": LinearSystem(),
}


def names() -> list[str]:
    """Datasets of this source."""
    return list(SYSTEMS)


def load(dataset: str, options: DataOptions) -> Task:
    """The task `toy/<dataset>`; its score is 0 for uniformly random actions and 100 for the optimal linear policy."""
    if dataset not in names():
        raise unknown("toy dataset", dataset, names())
    system = SYSTEMS[dataset]
    random = system.expected_return(np.zeros((2, 4)), 3**-0.5)  # a uniform action on [-1, 1] has variance 1/3
    optimal = system.expected_return(system.optimal_gain, 0.0)
    return Task(
        f"toy/{dataset}",
        system,
        HORIZON,
        (random, optimal),
        lambda: _rows(system, dataset, options.dataset_rows),
        options,
        LinearPolicy(
            torch.from_numpy(-BEHAVIOUR_GAIN * system.optimal_gain).float()[None],
            torch.zeros(1, 4),
            torch.ones(1, 4),
            BEHAVIOUR_STD,
        ),
    )


def _rows(system: LinearSystem, dataset: str, size: int) -> tuple[Rows, str]:
    episodes = -(-size // HORIZON)
    rng = Streams((_RECIPE_SEED,), f"toy/{dataset}")
    gain = torch.from_numpy(BEHAVIOUR_GAIN * system.optimal_gain)
    states = [system.reset(episodes, rng)]
    actions = []
    rewards = []
    for _ in range(HORIZON):
        actions.append((BEHAVIOUR_STD * rng.normal(episodes, 2).double() - states[-1] @ gain.T).clamp(-1, 1))
        state, reward, _ = system.step(states[-1], actions[-1], rng)
        states.append(state)
        rewards.append(reward)
    path = torch.stack(states, 2)[0]

    def flat(x: Tensor) -> np.ndarray:
        return x.flatten(0, 1)[:size].float().numpy()

    timeout = np.arange(1, size + 1) % HORIZON == 0
    rows = Rows(
        obs=flat(path[:, :-1]),
        action=flat(torch.stack(actions, 2)[0]),
        reward=flat(torch.stack(rewards, 2)[0][..., None])[:, 0],
        terminal=np.zeros(size, bool),
        timeout=timeout,
        next_obs=flat(path[:, 1:]),
    )
    return rows, hashlib.sha256(b"".join(x.tobytes() for x in (rows.obs, rows.action, rows.reward))).hexdigest()


SOURCE = Source(names, load, sized=True)
