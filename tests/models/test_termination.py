"""Ends of episodes, learned from flags."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.data import Dataset
from core.random import Streams
from models.cache import FitContext, ModelCache
from models.termination import TerminationConfig, TerminationModel

QUICK = TerminationConfig(hidden=(32,), learning_rate=5e-3, max_updates=500, check_every=100)
SEEDS = (0, 1)


def flagged(toy: Dataset, flags: torch.Tensor) -> Dataset:
    return replace(toy, train=replace(toy.train, terminated=flags))


def fallen(data: Dataset) -> torch.Tensor:
    """A rule that is linear in the next state: about one row in 12."""
    return data.train.next_obs[:, 0] > 0.3


def fit(data: Dataset, config: TerminationConfig = QUICK) -> tuple[TerminationModel, dict[str, torch.Tensor]]:
    rng = Streams(SEEDS)
    model = config.init(4, 2, rng.fork("init"))
    return model, config.fit(model, data, FitContext(rng.fork("fit")))


def judged(model: TerminationModel, data: Dataset, rows: slice = slice(None)) -> torch.Tensor:
    steps = (data.train.obs[rows], data.train.action[rows], data.train.next_obs[rows])
    with torch.no_grad():
        found: torch.Tensor = model(*(x.expand(len(SEEDS), *x.shape) for x in steps))
    return found


def test_a_linear_rule_is_learned(toy: Dataset) -> None:
    data = flagged(toy, fallen(toy))
    model, facts = fit(data)
    base = fallen(toy).double().mean()
    assert 0.03 < base < 0.15
    assert torch.equal(facts["base_rate"], base.expand(2))
    assert (facts["accuracy"] > 0.97).all()
    assert (facts["recall"] > 0.8).all()
    assert (facts["precision"] > 0.8).all()
    held = toy.heldout.transitions()[0]  # no row of these has been seen
    true = held.next_obs[:, 0] > 0.3
    with torch.no_grad():
        found = model(*(x.expand(2, *x.shape) for x in (held.obs, held.action, held.next_obs)))
    assert true.any()
    assert ((found == true).double().mean(-1) > 0.97).all()


def test_as_many_rows_end_as_have_the_flag(toy: Dataset) -> None:
    """Flags that no step explains: at probability 1/2 none would be predicted."""
    flags = Streams((5,)).uniform(len(toy.train.obs))[0] < 0.02
    model, facts = fit(flagged(toy, flags))
    assert judged(model, toy).sum(-1).tolist() == [int(flags.sum())] * 2
    held = toy.heldout.transitions()[0]
    with torch.no_grad():
        fresh = model(*(x.expand(2, *x.shape) for x in (held.obs, held.action, held.next_obs)))
    assert (fresh.double().mean(-1) < 0.06).all()
    assert fresh.any()
    assert (facts["recall"] < 0.5).all()  # and the card says how much of it is luck


def test_the_shape_of_rollouts_is_kept(toy: Dataset) -> None:
    model, _ = fit(flagged(toy, fallen(toy)), replace(QUICK, max_updates=20, check_every=10))
    flat = judged(model, toy, slice(24))
    steps = (toy.train.obs[:24], toy.train.action[:24], toy.train.next_obs[:24])
    block = model(*(x.view(1, 4, 6, -1).expand(2, -1, -1, -1) for x in steps))
    assert torch.equal(block.flatten(1), flat)


@pytest.mark.parametrize("end", [False, True])
def test_rows_of_one_kind_need_no_fit(toy: Dataset, end: bool) -> None:
    data = flagged(toy, torch.full_like(toy.train.terminated, end))
    model, facts = fit(data, replace(QUICK, max_updates=10**9))
    assert (judged(model, data) == end).all()
    assert {name: values.tolist() for name, values in facts.items()} == {"base_rate": [float(end)] * 2}


def test_a_single_end_is_learned_from(toy: Dataset) -> None:
    flags = torch.zeros_like(toy.train.terminated)
    flags[7] = True
    model, _ = fit(flagged(toy, flags))
    assert judged(model, toy)[:, 7].all()
    assert judged(model, toy).sum(-1).tolist() == [1, 1]


def test_its_card_says_how_well_it_judges(toy: Dataset, tmp_path: Path) -> None:
    data = flagged(toy, fallen(toy))
    cache = ModelCache(Streams(SEEDS), tmp_path)
    cache.get(QUICK, data)
    cards = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(cards) == 2
    for card in cards:
        assert card["facts"].keys() == {"base_rate", "predicted_rate", "accuracy", "recall", "precision"}
        assert card["facts"]["accuracy"] > 0.97
        assert card["facts"] in [used["facts"] for used in cache.used.values()]
