"""The fitted behaviour density against the true one of the linear system."""

import pytest
import torch

from core.data import Dataset
from core.random import Streams
from models.behaviour import BehaviourConfig
from models.cache import FitContext
from tasks.base import DataOptions, load_task


def test_the_fitted_density_is_nearly_the_true_one(toy: Dataset) -> None:
    """Of smoothed actions of unseen episodes, in nats; the truth is a Gaussian around a linear function."""
    config = BehaviourConfig(smoothing=0.2, hidden=(64, 64), max_updates=800)
    rng = Streams((0, 1))
    model = config.init(4, 2, rng.fork("init"))
    config.fit(model, toy, FitContext(rng.fork("fit")))
    truth = load_task("toy/linear", DataOptions(dataset_rows=1000)).behaviour
    assert truth is not None
    rows = toy.heldout.transitions()[0]
    obs = rows.obs.expand(2, *rows.obs.shape)
    action = rows.action + 0.2 * rng.fork("noise").normal(*rows.action.shape)
    with torch.no_grad():
        fitted, true = (x.smoothed_log_prob(obs, action, 0.2).mean(1) for x in (model, truth))
    assert (true - fitted).abs().max() < 0.08
    with torch.no_grad():
        moved = model.smoothed_log_prob(obs, action + 1, 0.2).mean(1)
    assert (fitted - moved > 2).all()


def test_it_integrates_to_one() -> None:
    model = BehaviourConfig(smoothing=0.3).init(2, 1, Streams((0,)))
    grid = torch.linspace(-30, 30, 6001)[None, :, None]
    density = model.log_prob(torch.randn(1, 1, 2).expand(1, 6001, 2), grid).exp()
    assert torch.trapezoid(density[0], grid[0, :, 0]).item() == pytest.approx(1, abs=1e-3)


def test_another_smoothing_is_refused() -> None:
    model = BehaviourConfig(smoothing=0.3).init(2, 1, Streams((0,)))
    with pytest.raises(ValueError, match=r"std must be the smoothing of the fit, 0\.3, got 0\.2"):
        model.smoothed_log_prob(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1), 0.2)
