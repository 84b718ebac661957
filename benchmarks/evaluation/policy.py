"""Where synthetic rollouts start, and what a policy earns in the simulator."""

from collections.abc import Iterator

from jaxtyping import Float, Int
from torch import Tensor

from core.data import Dataset
from core.policy import Policy
from core.random import Streams
from metrics.score import episode_return, normalized_score
from tasks.base import Task
from tasks.simulators.base import simulate

__all__ = ["evaluate_policy", "start_states"]

Values = Iterator[tuple[str, Float[Tensor, " S"]]]


def start_states(
    data: Dataset, rows: int, rng: Streams, among: Int[Tensor, " N"] | None = None
) -> Float[Tensor, "S B O"]:
    """States of the training data, drawn uniformly for every seed: where synthetic rollouts begin.

    A generator that does not go everywhere says which training rows to draw from.
    """
    if among is None:
        return data.train.obs[(rng.uniform64(rows) * len(data.train.obs)).long()]
    return data.train.obs[among[(rng.uniform64(rows) * len(among)).long()]]


def evaluate_policy(task: Task, policy: Policy, episodes: int, rng: Streams) -> Values:
    """Mean return of the greedy policy; the same start states at every evaluation of a seed."""
    start = task.simulator.reset(episodes, rng.fork("reset"))
    episode = simulate(task.simulator, policy, start, task.horizon, rng, greedy=True)
    returns = episode_return(episode.reward, episode.valid).mean(-1)
    yield "return", returns
    if task.score_range:
        yield "normalized_score", normalized_score(returns, task.score_range)
