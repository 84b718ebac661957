"""Method sheet, test 8 (D7, B20): where real rollouts end, generated ones must be able to end."""

import pytest
import torch

from core.random import Streams
from core.registry import build_method
from generators.base import start_states
from models.cache import ModelCache
from tasks.base import DataOptions, load_task


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
