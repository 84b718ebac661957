"""What a policy earns in the simulator."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from core.policy import Policy
from core.random import Streams
from metrics.score import episode_return, normalized_score
from tasks.base import Task
from tasks.simulators.base import simulate

__all__ = ["evaluate_policy"]

Values = Iterator[tuple[str, Float[Tensor, " S"]]]


def evaluate_policy(task: Task, policy: Policy, episodes: int, rng: Streams) -> Values:
    """Mean return of the greedy policy; the same start states at every evaluation of a seed."""
    start = task.scored_in.reset(episodes, rng.fork("reset"))
    episode = simulate(task.scored_in, policy, start, task.horizon, rng, greedy=True)
    returns = episode_return(episode.reward, episode.valid).mean(-1)
    yield "return", returns
    if task.score_range:
        yield "normalized_score", normalized_score(returns, task.score_range)
