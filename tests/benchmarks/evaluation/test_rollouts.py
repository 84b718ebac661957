"""Returns, filter and values of generated rollouts, and the seeds they belong to."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.evaluation.policy import evaluate_policy
from benchmarks.spec import Settings
from core.filter import Filter
from core.random import Streams
from tasks.base import Task

Measure = Callable[..., dict[str, np.ndarray]]


def test_a_seed_alone_gets_the_same_values(measure: Measure, toys: SimpleNamespace) -> None:
    settings = Settings(fidelity_starts=20, fidelity_horizon=5)
    together, alone = (measure(toys.Told((0.01,) * 4), settings=settings, seeds=seeds) for seeds in ((0, 1, 2), (1,)))
    assert together.keys() == alone.keys()
    assert not [name for name in alone if not np.array_equal(together[name][1:2], alone[name], equal_nan=True)]


def test_a_seed_alone_gets_the_same_return(task: Task, toys: SimpleNamespace) -> None:
    together, alone = (dict(evaluate_policy(task, toys.Gain(), 3, Streams(seeds))) for seeds in ((0, 1, 2), (1,)))
    assert torch.equal(together["return"][1:2], alone["return"])


def test_an_exact_generator_promises_what_the_policy_earns(measure: Measure, toys: SimpleNamespace) -> None:
    found = measure(toys.Told())
    for part in ("reward", "dynamics", "termination", "unsplit"):
        assert np.abs(found[f"returns/{part}"]).max() < 1e-4, part
    assert np.abs(found["returns/gap"]).max() < 0.05
    assert (found["returns/used"] == 1).all()
    assert (found["distance/wasserstein"] < found["distance/wasserstein_floor"]).all()  # the same starts on both sides
    assert (found["bound/autoregressive"] < 1e-3).all()
    assert (found["bound/amplification"] < 1.05).all()
    assert "values/ratio" not in found
    assert not any(name.startswith("filter") for name in found)


def test_every_fault_shows_where_it_belongs(measure: Measure, toys: SimpleNamespace) -> None:
    biased = measure(toys.Told((0.05,) * 4))
    short = measure(toys.Told(life=4))
    assert np.abs(biased["returns/dynamics"][:, -1]).min() > 0.05
    assert np.abs(biased["returns/termination"]).max() < 1e-6
    assert (biased["bound/gap"] <= biased["bound/autoregressive"]).all()
    assert (biased["distance/wasserstein"][:, -1] > 2 * biased["distance/wasserstein_floor"][:, -1]).all()
    assert np.abs(short["returns/dynamics"]).max() < 1e-4
    assert (short["returns/termination"][:, -1] < -1).all()
    for found in (biased, short):
        parts = sum(found[f"returns/{part}"] for part in ("reward", "dynamics", "termination", "feedback", "unsplit"))
        assert np.allclose(parts, found["returns/gap"], atol=1e-6)


def test_filter_and_critic_are_measured_where_there_are_any(measure: Measure, toys: SimpleNamespace) -> None:
    settings = Settings(fidelity_starts=200, fidelity_horizon=5)
    keep = Filter(mode="hardmax", share=0.5)

    def values(scale: float) -> dict[str, np.ndarray]:
        def critic(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
            return 1 + scale * (action + obs @ torch.from_numpy(toys.Gain().gain).T.float()).abs().sum(-1)

        return measure(toys.Told(), settings=settings, critic=critic, keep=keep)

    found = values(0.0)
    assert np.allclose(found["values/ratio"], 1)
    assert (values(1.0)["values/ratio"] < 1).all()  # the policy's own actions are on its line, recorded ones are not
    assert (found["filter/rank_correlation"] > 0.99).all()
    assert (found["filter/true_kept"] > found["filter/true_dropped"] + 0.1).all()
