"""The texts of `run_bench.py data`: a list that says where sets lie, and reports as JSON."""

import json
from pathlib import Path

import pytest

from core.errors import SpecError
from tasks.base import DataOptions
from tasks.listing import describe, obtain


def test_the_list_says_where_a_set_lies(hopper_set: Path, hopper_options: DataOptions) -> None:
    places = dict(line.split(maxsplit=1) for line in describe(hopper_options).splitlines()[2:])
    assert places["local/hopper-random"] == str(hopper_set)
    assert places["local/hopper-medium"] == "not here yet"
    assert places["toy/linear"] == "made in memory"


def test_making_shows_the_card() -> None:
    card = json.loads(obtain("toy/linear", DataOptions(dataset_rows=500), "make"))
    assert card["task"] == "toy/linear"
    assert card["rows"] == 500
    assert card["physics"] == "linear system, version 1"


@pytest.mark.parametrize(
    ("name", "action", "sources"),
    [("d4rl/hopper-medium-v2", "make", "local/ or toy/"), ("toy/linear", "fetch", "d4rl/ or minari/")],
)
def test_a_set_comes_into_being_in_one_way(name: str, action: str, sources: str) -> None:
    with pytest.raises(SpecError, match=f"data {action} must be given a task of {sources}, got '{name}'"):
        obtain(name, DataOptions(), action)
