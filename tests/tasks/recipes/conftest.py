"""Short episodes for the training of behaviour policies."""

import pytest


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of 50 steps: what the toy has, and enough for a robot that falls."""
    monkeypatch.setattr("tasks.recipes.ars.HORIZON", 50)
