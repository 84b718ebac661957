from typing import Literal

import pytest
import torch

from core.data import Dataset
from core.random import Streams
from models.cache import FitContext
from models.reward import RewardConfig


@pytest.mark.parametrize("inputs", ["sa", "sas"])
def test_learns_the_quadratic_reward(toy: Dataset, inputs: Literal["sa", "sas"]) -> None:
    config = RewardConfig(inputs=inputs, hidden=(64, 64), max_updates=600, check_every=100)
    rng = Streams((0, 1))
    model = config.init(4, 2, rng.fork("init"))
    config.fit(model, toy, FitContext(rng.fork("fit")))
    held = toy.heldout.transitions()[0]
    rows = [x.expand(2, *x.shape) for x in (held.obs, held.action, held.next_obs)]
    error = (model(*rows) - held.reward).square().mean(-1) / held.reward.var()
    assert (error < 0.05).all()


def test_the_next_state_is_seen_only_where_it_should(toy: Dataset) -> None:
    rows = toy.train.obs[None, :9], toy.train.action[None, :9]
    for inputs, same in (("sa", True), ("sas", False)):
        model = RewardConfig(inputs=inputs).init(4, 2, Streams((0,)))  # type: ignore[arg-type]
        assert torch.equal(model(*rows, toy.train.obs[None, :9]), model(*rows, toy.train.obs[None, 9:18])) is same
