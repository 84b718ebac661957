"""Training resumes exactly, and published policies have the returns of their card in gymnasium, too."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from core.errors import SpecError
from tasks.recipes import train_policies
from tasks.recipes.locomotion import ENV_IDS
from tasks.recipes.policies import ExploringPolicy, load_policies
from tasks.recipes.train_policies import TRAININGS, Training, publish, train

TINY = {  # three segments
    "SAC": replace(TRAININGS["halfcheetah"], steps=600, interval=200, settings={"learning_starts": 100}),
    "PPO": Training("PPO", 3 * 256, 256, (8, 8), "tanh", normalise=True, settings={"n_steps": 128}),
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged by episodes of 20 steps."""
    monkeypatch.setattr(train_policies, "HORIZON", 20)


@pytest.mark.slow
@pytest.mark.parametrize("method", list(TINY))
@pytest.mark.usefixtures("short")
def test_a_resumed_run_is_the_uninterrupted_run(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed inside its second segment, then again inside the third."""
    pytest.importorskip("stable_baselines3")
    training = TINY[method]
    whole = train("hopper", training, tmp_path / "whole")
    for _ in range(2):
        calls = []

        def killed(*arguments: Any, calls: list[int] = calls, segment: Any = train_policies._segment) -> Any:
            calls.append(arguments[2])
            if len(calls) == 2:
                raise KeyboardInterrupt
            return segment(*arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(train_policies, "_segment", killed)
            train("hopper", training, tmp_path / "parts")
    resumed = train("hopper", training, tmp_path / "parts")
    assert resumed["returns"] == whole["returns"]
    assert len(whole["returns"]) == 4
    for key, value in whole["actors"].items():
        assert torch.equal(value, resumed["actors"][key]), key
        assert not torch.equal(value[0], value[-1]) or (key in ("mean", "std") and not training.normalise), key


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_published_file_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3")
    state = train("hopper", TINY["PPO"], tmp_path / "run")
    publish("hopper", TINY["PPO"], state, tmp_path)
    monkeypatch.setattr("tasks.recipes.policies.FOLDER", tmp_path)
    shipped = load_policies("hopper")
    count = int(np.argmax(state["returns"])) + 1
    assert shipped.steps.tolist() == [256 * index for index in range(count)]
    assert torch.equal(shipped.policy.layers[0][0], state["actors"]["0.weight"][:count].double())
    assert shipped.policy.limit == 10.0
    assert len(shipped.card["checkpoints"]) == count


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(SpecError, match=r"pip install -e \.\[policies\]"):
        train("hopper", TINY["PPO"], tmp_path)


def test_fewer_steps_than_a_segment_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="steps must be at least interval = 256, got 255"):
        train("hopper", replace(TINY["PPO"], steps=255), tmp_path)


def gymnasium_returns(env_id: str, policy: ExploringPolicy, count: int) -> np.ndarray:
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


OTHERS = [(name, place) for name in ENV_IDS for place in (0, 5, -1) if (name, place) != ("hopper", -1)]


@pytest.mark.parametrize(
    ("name", "place"), [("hopper", -1), *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)]
)
def test_a_checkpoint_earns_the_same_in_gymnasium(name: str, place: int) -> None:
    """Worst, middling and best, within four standard errors of the card and a thousandth."""
    shipped = load_policies(name)
    which = int(shipped.returns.argsort()[place])
    theirs = gymnasium_returns(ENV_IDS[name], shipped.policy.pick([which]), 6)
    card = shipped.card["checkpoints"][which]["greedy"]
    error = np.sqrt(card["std"] ** 2 / shipped.card["evaluation_episodes"] + theirs.var(ddof=1) / len(theirs))
    assert abs(card["mean"] - theirs.mean()) <= 4 * error + 1e-3 * abs(card["mean"])
