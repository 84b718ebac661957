"""Diffusion-QL by its authors' `train_agent`, with the hyper-parameters that their `main.py` lists for the data set.

Its evaluation is replaced: it writes the policy and the target critics, with which the authors choose actions.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.parity.drivers import shims
from benchmarks.parity.drivers.lockstep import Lockstep, constant_draws, double_precision, linear

_PROBES = 64


def train(job: dict[str, Any], record: shims.Recorder) -> dict[str, Any]:
    """The peer's run for the job's updates."""
    env = shims.install(Path(job["data"]), ("torch.utils.tensorboard",))
    sys.path.insert(0, job["checkout"])
    main: Any = importlib.import_module("main")
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
    if job.get("lockstep"):
        double_precision()
        importlib.import_module("agents.helpers").vp_beta_schedule.__defaults__ = (torch.float64,)
        agents = importlib.import_module("agents.ql_diffusion")
        agents.Diffusion_QL.train = locked(agents.Diffusion_QL.train, job["lockstep"], record)
    record.resume()
    with suppress(shims.Finished):
        main.train_agent(env, *sizes, "cpu", str(record.folder), argparse.Namespace(**settings))
    return {"settings": settings}


def locked(original: Callable[..., Any], updates: int, record: shims.Recorder) -> Callable[..., Any]:
    """The agent's `train`, whose first updates are recorded; then the training ends."""

    def train(agent: Any, sampler: Any, iterations: int, batch_size: int, **given: Any) -> None:
        lockstep = Lockstep(record, updates, lambda: _networks(agent))

        def sample(size: int) -> tuple[torch.Tensor, ...]:
            index = generator.integers(sampler.size, size=size)
            names = ("state", "action", "reward", "next_state", "not_done")
            state, action, reward, next_state, not_done = (getattr(sampler, name)[index] for name in names)
            obs, action, reward, next_obs, ended = lockstep.batch(state, action, reward, next_state, 1 - not_done)
            return obs, action, next_obs, reward, 1 - ended

        generator = np.random.default_rng(0)
        constant_draws()
        original(agent, SimpleNamespace(sample=sample), updates, batch_size)
        lockstep.finish(betas=agent.actor.betas.numpy())

    return train


def _networks(agent: Any) -> dict[str, nn.Module]:
    """By our names."""
    found: dict[str, nn.Module] = {}
    for prefix, diffusion, critic in (
        ("", agent.actor, agent.critic),
        ("target_", agent.ema_model, agent.critic_target),
    ):
        found[f"{prefix}actor"] = nn.ModuleList([diffusion.model.mid_layer, diffusion.model.final_layer])
        found[f"{prefix}time"] = diffusion.model.time_mlp
        found[f"{prefix}critic1"], found[f"{prefix}critic2"] = critic.q1_model, critic.q2_model
    return found


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
        **linear("time_", model.time_mlp),
        **linear("", nn.ModuleList([model.mid_layer, model.final_layer])),
        **linear("q1_", target.q1_model),
        **linear("q2_", target.q2_model),
    }


class _Silent:
    """Of the peer's logger: nothing is written."""

    def record_tabular(self, key: str, value: Any) -> None:
        print(f"{key}: {value}", flush=True)

    def dump_tabular(self) -> None:
        pass


if __name__ == "__main__":
    torch.set_num_threads(1)
    shims.main(train)
