"""Training resumes exactly, and published policies have the returns of their card in gymnasium, too."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from core.errors import SpecError
from core.random import Streams
from tasks.recipes.ars import EPISODES, State, evaluate
from tasks.recipes.policies import LinearPolicy, load_policies
from tasks.recipes.train_policies import METHODS, load, publish, spread, train
from tasks.simulators.base import Simulator
from tasks.simulators.locomotion import simulator

TINY = replace(METHODS["hopper"], directions=3, kept=2, grid=100)
TINY_WORLD: Simulator = simulator("Hopper-v4")


def same(a: State, b: State) -> bool:
    """Bit for bit, but for the time it took."""
    names = {field.name for field in fields(State)} - {"seconds"}
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("short")
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path) -> None:
    """Also after a kill that came long after the last save, in the middle of a line of the log."""
    world = TINY_WORLD
    whole = tmp_path / "whole"
    parts = tmp_path / "parts"
    straight = train(TINY, world, 1500, whole)
    train(TINY, world, 500, parts)
    shutil.copy(parts / "state.safetensors", tmp_path / "early")
    train(TINY, world, 1000, parts)
    shutil.copy(tmp_path / "early", parts / "state.safetensors")
    with (parts / "log.jsonl").open("a") as log:
        log.write('{"iteration": 99')
    resumed = train(TINY, world, 1500, parts)
    assert same(resumed, straight)
    assert same(load(parts / "state.safetensors", TINY), straight)
    assert lines(whole) == lines(parts)
    assert [line["iteration"] for line in lines(whole)] == list(range(1, 1 + int(straight.iteration)))
    assert len(straight.kept_steps) > 3


@pytest.mark.usefixtures("short")
def test_a_state_of_other_hyper_parameters_is_refused(tmp_path: Path) -> None:
    train(TINY, TINY_WORLD, 100, tmp_path)
    with pytest.raises(SpecError, match=r"same hyper-parameters .*\"step\":0\.05.*got .*\"step\":0\.02"):
        train(replace(TINY, step=0.05), TINY_WORLD, 100, tmp_path)


def test_spread_keeps_the_first_the_best_and_the_far_apart() -> None:
    returns = torch.tensor([0.0, 1.0, 50.0, 2.0, 52.0, 100.0, 99.0, 25.0], dtype=torch.float64)
    assert spread(returns, 3) == [0, 2, 5]
    assert spread(returns, 5) == [0, 2, 3, 4, 5]
    assert spread(returns, 10) == [0, 1, 2, 3, 4, 5]
    assert spread(torch.zeros(1, dtype=torch.float64), 10) == [0]


@pytest.mark.usefixtures("short")
def test_published_file_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = train(replace(TINY, grid=20), TINY_WORLD, 1500, tmp_path / "run")
    publish("hopper", replace(TINY, grid=20), TINY_WORLD, state, tmp_path)
    monkeypatch.setattr("tasks.recipes.policies.FOLDER", tmp_path)
    shipped = load_policies("hopper")
    which = [int((state.kept_steps == step).nonzero()) for step in shipped.steps]
    assert torch.equal(shipped.policy.weight, state.kept_weight[which])
    assert torch.equal(shipped.policy.std, state.kept_std[which])
    assert len(shipped.card["checkpoints"]) == len(which) <= 10
    assert shipped.card["training_curve"][-1]["return"]["mean"] == pytest.approx(
        state.kept_returns[-1].mean().item(), abs=1e-3
    )
    assert (shipped.card["trained_steps"], shipped.card["iterations"]) == (int(state.steps), int(state.iteration))


def gymnasium_returns(env_id: str, policy: LinearPolicy, count: int) -> np.ndarray:
    """Raw returns of greedy episodes, one environment at a time."""
    env = gymnasium.make(env_id)
    returns = []
    for episode in range(count):
        obs, _ = env.reset(seed=episode)
        total = 0.0
        over = False
        while not over:
            action = policy.act(torch.from_numpy(obs).float()[None, None], None)[0, 0].double().numpy()
            obs, reward, terminated, truncated, _ = env.step(action)
            total = total + float(reward)
            over = terminated or truncated
        returns.append(total)
    return np.array(returns)


OTHERS = [(name, place) for name in METHODS for place in (0, 5, -1) if (name, place) != ("hopper", -1)]


@pytest.mark.parametrize(
    ("name", "place"), [("hopper", -1), *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)]
)
def test_a_checkpoint_earns_the_same_in_gymnasium(name: str, place: int) -> None:
    """Worst, middling and best: one environment at a time in gymnasium, all episodes in one batch here.

    Within four standard errors, which are 0 for a policy that does nothing and never falls.
    """
    shipped = load_policies(name)
    env_id = METHODS[name].env_id
    entries = shipped.card["checkpoints"]
    which = int(np.argsort([entry["return"]["mean"] for entry in entries])[place])
    policy = shipped.policy.pick([which])
    returns, lengths = evaluate(simulator(env_id), policy, Streams((3,), "test"))
    assert ((lengths >= 1) & (lengths <= 1000)).all()
    theirs = gymnasium_returns(env_id, policy, 6)
    card = entries[which]["return"]
    mine = returns[0].numpy()
    for mean, std in ((mine.mean(), mine.std(ddof=1)), (card["mean"], card["std"])):
        error = np.sqrt(std**2 / EPISODES + theirs.var(ddof=1) / len(theirs))
        assert abs(mean - theirs.mean()) <= 4 * error
