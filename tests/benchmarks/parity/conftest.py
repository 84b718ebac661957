"""A peer of our own: a checkout with CORL's layout and nothing of its code."""

from pathlib import Path

import pytest

ALGORITHM = """
from dataclasses import dataclass
from typing import Optional

import d4rl
import gym
import numpy as np
import pyrallis
import torch
import wandb


@dataclass
class TrainConfig:
    device: str = "cuda"
    env: str = "none"
    seed: int = 0
    eval_freq: int = 5
    n_episodes: int = 1
    max_timesteps: int = 1_000_000
    buffer_size: int = 7
    checkpoints_path: Optional[str] = None
    load_model: str = ""
    rate: float = 0.0
    normalize: bool = False


def network(inputs, outputs):
    sizes = [inputs, 256, 256, outputs]
    layers = [torch.nn.Linear(*pair) for pair in zip(sizes[:-1], sizes[1:])]
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])


class Actor(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.net = network(inputs, outputs)

    def act(self, state, device="cpu"):
        with torch.no_grad():
            return np.tanh(self.net(torch.as_tensor(state, dtype=torch.float32)).numpy())


class TD3_BC:
    def __init__(self, actor, critic_1, critic_2):
        self.actor = self.actor_target = actor
        self.critic_1 = self.critic_1_target = critic_1
        self.critic_2 = self.critic_2_target = critic_2

    def train(self, batch):
        return {}  # nothing is learned


def wrap_env(env, state_mean, state_std):
    raise AssertionError("replaced")


def eval_actor(env, actor, device, n_episodes, seed):
    raise AssertionError("replaced")


@pyrallis.wrap()
def train(config):
    env = gym.make(config.env)
    data = d4rl.qlearning_dataset(env)
    torch.manual_seed(config.seed)
    assert config.rate == 3e-4 and config.device == "cpu" and config.load_model == ""
    mean, std = data["observations"].mean(0), data["observations"].std(0) + 1e-3
    env = wrap_env(env, state_mean=mean, state_std=std)
    actor = Actor(env.observation_space.shape[0], env.action_space.shape[0])
    critics = [network(data["observations"].shape[1] + data["actions"].shape[1], 1) for _ in range(2)]
    trainer = TD3_BC(actor=actor, critic_1=critics[0], critic_2=critics[1])
    columns = ("observations", "actions", "rewards", "next_observations", "terminals")
    batch = [torch.as_tensor(data[name][:8]).float() for name in columns]
    for step in range(config.max_timesteps):
        trainer.train(batch)
        wandb.log({"step": step})
        if (step + 1) % config.eval_freq == 0:
            scores = eval_actor(env, actor, device=config.device, n_episodes=config.n_episodes, seed=config.seed)
            env.get_normalized_score(scores.mean())
"""
CONFIG = "rate: 3e-4\ndevice: cuda\nload_model: ''\nnormalize: true\nmax_traj_len: 1000\ncheckpoints_path: null\n"


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    """A folder of checkouts with one in it."""
    files = {
        "algorithms/offline/td3_bc.py": ALGORITHM,
        "configs/offline/td3_bc/hopper/medium_v2.yaml": CONFIG,
    }
    for name, text in files.items():
        file = tmp_path / "peers/CORL" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path / "peers"
