"""What generators share."""

import torch

from core.random import Streams
from generators.base import start_states
from tasks.base import DataOptions, load_task


def test_rollouts_start_at_states_of_the_training_data() -> None:
    data, _ = load_task("toy/linear", DataOptions(dataset_rows=4000)).dataset()
    starts = start_states(data, 500, Streams((0, 1)))
    known = {tuple(row) for row in data.train.obs.tolist()}
    assert starts.shape == (2, 500, 4)
    assert {tuple(row) for row in starts.flatten(0, 1).tolist()} <= known
    assert abs(float((starts.mean((0, 1)) - data.obs_mean).abs().max())) < 0.1
    assert not torch.equal(starts[0], starts[1])
