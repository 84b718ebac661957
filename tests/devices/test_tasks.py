"""What generators and metrics ask of a task, on the emulated GPU."""

from typing import Any

import pytest
import torch

from core.random import Streams
from tasks.base import SOURCES, DataOptions, load_source, load_task

NAMES = [  # of sets whose policies and simulators we ship
    f"{source}/{name}" for source in SOURCES if load_source(source).sized for name in load_source(source).names()
]


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_on_the_device_of_the_rows(gpu: Any, name: str) -> None:
    """The rule of termination, and the density of the behaviour policy where it is known."""
    task = load_task(name, DataOptions())
    rng = Streams((0,))
    obs, after = (rng.normal(7, task.simulator.obs_dim) for _ in range(2))
    action = 2 * rng.uniform(7, task.simulator.action_dim) - 1
    questions = [lambda *rows: task.simulator.terminated(rows[0], rows[1], rows[2])]
    if task.behaviour is not None:
        questions.append(lambda *rows: task.behaviour.smoothed_log_prob(rows[0], rows[1], 0.1))
    for question in questions:
        answer = question(*(rows.to("cuda") for rows in (obs, action, after)))
        assert answer.is_cuda
        assert torch.equal(answer.cpu(), question(obs, action, after))
