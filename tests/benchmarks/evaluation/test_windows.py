"""Which held-out states rollouts start from, and how long they are compared."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.spec import Settings
from core.data import Dataset

Measure = Callable[..., dict[str, np.ndarray]]


def test_short_windows_are_followed_to_their_end(measure: Measure, toys: SimpleNamespace) -> None:
    """They end by the clock, so nothing is known of the steps behind; starts are uniform over 50 rows."""
    settings = Settings(fidelity_starts=4000, fidelity_horizon=60)
    found = measure(toys.Told(), settings=settings)
    assert (found["compounding/logged/alive"][:, :51] == 1).all()
    assert np.isnan(found["compounding/logged/alive"][:, 51:]).all()
    assert np.isnan(found["compounding/logged/mean"][:, 50:]).all()
    assert np.isfinite(found["compounding/logged/mean"][:, :45]).all()
    assert (found["compounding/policy/alive"] == 1).all()  # a policy can go on where the log ends


def test_whole_windows_are_preferred(data: Dataset, measure: Measure, toys: SimpleNamespace) -> None:
    short = data.heldout.valid.clone()
    short[::2, 20:] = False
    mixed = replace(data, heldout=replace(data.heldout, valid=short))
    found = measure(toys.Told(), data=mixed, settings=Settings(fidelity_starts=500, fidelity_horizon=30))
    assert (found["compounding/logged/alive"] == 1).all()


def test_starts_without_a_known_state_are_counted_and_left_out(
    data: Dataset, measure: Measure, toys: SimpleNamespace
) -> None:
    exact = torch.zeros_like(data.heldout_exact)
    exact[:, 0] = True
    state = data.heldout_state.clone()
    state[~exact] = torch.nan
    found = measure(toys.Told(), data=replace(data, heldout_exact=exact, heldout_state=state))
    assert np.allclose(found["compounding/starts_excluded"], 49 / 50)
    assert found["compounding/policy/mean"].max() < 1e-5


def test_no_rows_without_an_exact_start(data: Dataset, measure: Measure, toys: SimpleNamespace) -> None:
    blind = replace(data, heldout_exact=torch.zeros_like(data.heldout_exact))
    found = measure(toys.Told(), data=blind)
    assert set(found) == {"compounding/starts_excluded"}
    assert (found["compounding/starts_excluded"] == 1).all()
