"""Diffusion-QL by its authors' `train_agent`, with the hyper-parameters that their `main.py` lists for the data set.

Its evaluation is replaced: it writes the policy and the target critics, with which the authors choose actions.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.parity.drivers import shims

_PROBES = 64


def train(job: dict[str, Any], record: shims.Recorder) -> dict[str, Any]:
    """The peer's run for the job's updates."""
    env = shims.install(Path(job["data"]), ("torch.utils.tensorboard",))
    sys.path.insert(0, job["checkout"])
    main = importlib.import_module("main")
    main.logger = _Silent()
    known = main.hyperparameters[f"{job['task']}-v2"]
    settings = {
        **{name: known[name] for name in ("lr", "eta", "max_q_backup", "reward_tune", "gn", "top_k")},
        "algo": "ql",
        "discount": 0.99,
        "tau": 0.005,
        "beta_schedule": "vp",
        "T": 5,
        "lr_decay": False,  # stepped once in 50 000 updates, so it changes nothing in any run of ours
        "early_stop": False,
        "save_best_model": False,
        "ms": "online",
        "batch_size": 256,
        "eval_episodes": 1,
        "eval_freq": 1,
        "num_steps_per_epoch": job["every"],
        "num_epochs": job["updates"] // job["every"],
        "env_name": f"{job['task']}-v2",
        "seed": job["seed"],
        **job.get("settings", {}),
    }
    steps = 0

    def snapshot(agent: Any, *given: Any, **named: Any) -> tuple[float, ...]:
        nonlocal steps
        record.stop()
        steps += job["every"]
        with torch.random.fork_rng(), torch.no_grad():
            record.arrays(f"policy-{steps}", **policy(agent, env.data["observations"]))
        record.resume()
        return 0.0, 0.0, 0.0, 0.0

    main.eval_policy = snapshot
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002
    sizes = env.observation_space.shape[0], env.action_space.shape[0], float(env.action_space.high[0])
    record.resume()
    main.train_agent(env, *sizes, "cpu", str(record.folder), argparse.Namespace(**settings))
    return {"settings": settings}


def policy(agent: Any, states: np.ndarray) -> dict[str, Any]:
    """The noise network, its time embedding, both target critics, and what the network says of some inputs."""
    probes = torch.from_numpy(states[:: max(1, len(states) // _PROBES)][:_PROBES])
    generator = torch.Generator().manual_seed(0)
    noised = torch.randn((len(probes), agent.action_dim), generator=generator)
    step = torch.randint(0, agent.actor.n_timesteps, (len(probes),), generator=generator)
    model = agent.actor.model
    noise = model(noised, step, probes)
    target = agent.critic_target
    return {
        "betas": agent.actor.betas.numpy(),
        "probe": probes.numpy(),
        "probe_x": noised.numpy(),
        "probe_step": step.numpy(),
        "probe_action": noise.numpy(),
        **_linear("time_", model.time_mlp),
        **_linear("", nn.ModuleList([model.mid_layer, model.final_layer])),
        **_linear("q1_", target.q1_model),
        **_linear("q2_", target.q2_model),
    }


def _linear(prefix: str, network: nn.Module) -> dict[str, np.ndarray]:
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    weights = {f"{prefix}weight{i}": layer.weight.numpy() for i, layer in enumerate(layers)}
    return weights | {f"{prefix}bias{i}": layer.bias.numpy() for i, layer in enumerate(layers)}


class _Silent:
    """Of the peer's logger: nothing is written."""

    def record_tabular(self, key: str, value: Any) -> None:
        print(f"{key}: {value}", flush=True)

    def dump_tabular(self) -> None:
        pass


if __name__ == "__main__":
    torch.set_num_threads(1)
    shims.main(train)
