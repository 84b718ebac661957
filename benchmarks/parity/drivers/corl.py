"""CORL's BC, TD3+BC, IQL and CQL, by its own `train` with its own configuration files.

Its evaluation is replaced: it writes the policy instead, and ends the training after the job's updates. Schedules are
those of the published number of updates, so what is compared is how the published run begins.
"""

import typing
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.parity.drivers import shims
from benchmarks.parity.drivers.lockstep import Lockstep, constant_draws, double_precision, linear
from benchmarks.peers import load

FILES = {"bc": "any_percent_bc", "td3bc": "td3_bc", "iql": "iql", "cql": "cql"}
TRAINERS = {"bc": "BC", "td3bc": "TD3_BC", "iql": "ImplicitQLearning", "cql": "ContinuousCQL"}
NETWORKS = {  # of a trainer, by our names
    "bc": {"actor": "actor"},
    "td3bc": {
        **{"actor": "actor", "critic1": "critic_1", "critic2": "critic_2"},
        **{"target_actor": "actor_target", "target_critic1": "critic_1_target", "target_critic2": "critic_2_target"},
    },
    "iql": {
        **{"actor": "actor", "critic1": "qf.q1", "critic2": "qf.q2", "value": "vf"},
        **{"target_critic1": "q_target.q1", "target_critic2": "q_target.q2"},
    },
    "cql": {
        **{"actor": "actor", "critic1": "critic_1", "critic2": "critic_2"},
        **{"target_critic1": "target_critic_1", "target_critic2": "target_critic_2"},
    },
}
CONFIGS = {"bc": "bc", "td3bc": "td3_bc", "iql": "iql", "cql": "cql"}
_PROBES = 64  # states whose actions are written, too: whoever reads the weights can check that he reads them rightly


def train(job: dict[str, Any], record: shims.Recorder) -> dict[str, Any]:
    """The peer's run, until the job's updates are done."""
    checkout = Path(job["checkout"])
    env = shims.install(Path(job["data"]))
    module: Any = load(checkout / "algorithms" / "offline" / f"{FILES[job['method']]}.py")
    name, _, level = job["task"].partition("-")
    file = checkout / "configs" / "offline" / CONFIGS[job["method"]] / name / f"{level.replace('-', '_')}_v2.yaml"
    settings, ignored = configured(file.read_text(encoding="utf-8"), module.TrainConfig)
    own = {"device": "cpu", "seed": job["seed"], "eval_freq": job["every"], "buffer_size": len(env.data["rewards"])}
    config = module.TrainConfig(**settings | own | job.get("settings", {}))
    scaled: dict[str, Any] = {}

    def wrapped(env: Any, state_mean: Any, state_std: Any, **given: Any) -> Any:
        scaled.update(mean=np.asarray(state_mean), std=np.asarray(state_std))
        return env

    steps = 0

    def snapshot(env: Any, actor: nn.Module, **given: Any) -> np.ndarray:
        nonlocal steps
        if job.get("lockstep"):  # weights are of double precision, and it ends by itself
            return np.zeros(1)
        record.stop()
        steps += job["every"]
        actor.eval()
        record.arrays(f"policy-{steps}", **policy(actor, env.data["observations"], **scaled))
        actor.train()
        record.resume()
        if steps >= job["updates"]:
            raise shims.Finished
        return np.zeros(1)

    if job.get("lockstep"):
        name = TRAINERS[job["method"]]
        setattr(module, name, locked(getattr(module, name), job, record, scaled))
    module.wrap_env = wrapped
    module.eval_actor = snapshot
    record.resume()
    try:
        module.train(config)
    except shims.Finished:
        return {"settings": asdict(config), "ignored": ignored}
    raise RuntimeError(f"training must continue to update {job['updates']}, but it ended at {steps}")


def locked(trainer: Any, job: dict[str, Any], record: shims.Recorder, scaled: dict[str, Any]) -> type:
    """The peer's trainer, whose first updates are recorded, with mean and std of states; then the training ends."""

    class Locked(trainer):  # type: ignore[misc]
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            parts = {name: attrgetter(path)(self) for name, path in NETWORKS[job["method"]].items()}
            double_precision(vars(self).values())
            constant_draws()
            self.lockstep = Lockstep(record, job["lockstep"], lambda: parts)

        def train(self, batch: list[torch.Tensor]) -> dict[str, float]:
            losses = super().train(self.lockstep.batch(*batch))
            if len(self.lockstep.batches) == job["lockstep"]:
                self.lockstep.finish(**scaled)
            return losses

    return Locked


def configured(text: str, kind: type) -> tuple[dict[str, Any], list[str]]:
    """(values of a flat YAML file by the types of the configuration's fields, keys that it has no field for)."""
    types = typing.get_type_hints(kind)
    lines = [line.partition(":") for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = {key.strip(): value.strip() for key, _, value in lines}
    known = {key: _value(value, types[key]) for key, value in found.items() if key in types}
    return known, sorted(found.keys() - types.keys())


def policy(actor: Any, states: np.ndarray, mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """A network of linear layers and ReLU; its first outputs behind tanh are the greedy action."""
    probes = states[:: max(1, len(states) // _PROBES)][:_PROBES]
    actions = [actor.act((probe - mean) / std, "cpu") for probe in probes]
    return {"mean": mean, "std": std, "probe": probes, "probe_action": np.stack(actions), **linear("", actor)}


def _value(text: str, kind: Any) -> Any:
    kinds = [part for part in (typing.get_args(kind) or (kind,)) if part is not type(None)]
    if text in ("null", "~", ""):
        return None
    text = text.strip("'\"")
    if bool in kinds:
        return {"true": True, "false": False}[text.lower()]
    for number in (int, float):
        if number in kinds:
            return number(float(text.replace(".inf", "inf")))
    return text


if __name__ == "__main__":
    torch.set_num_threads(1)
    shims.main(train)
