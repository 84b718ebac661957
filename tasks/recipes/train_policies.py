"""Trains the behaviour policies of the local locomotion sets with stable-baselines3 (extra `policies`), and publishes.

    python -m tasks.recipes.train_policies all --out results/policies

Training is cut into segments of equal length. Each begins with new environments and random numbers of its own and
with all that was learned before, so that a run that was killed resumes at the last segment with the numbers it would
have had. After each the actor is kept: the checkpoints.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np
import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor

from core.checkpoint import Checkpoint
from core.errors import SpecError
from core.files import atomic, canonical_json, write_json
from core.progress import progress, say
from core.random import Streams
from tasks.recipes.locomotion import ENV_IDS, HORIZON
from tasks.recipes.policies import ExploringPolicy, policy_of
from tasks.simulators.base import simulate
from tasks.simulators.locomotion import simulator

__all__ = ["TRAININGS", "Training", "main", "publish", "train"]

_EPISODES = {"choice": 10, "card": 40}  # of every checkpoint; the best one is chosen by other episodes than the card's
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Training:
    """How the policies of one environment are trained; what is not here is stable-baselines3's default."""

    method: Literal["PPO", "SAC"]
    steps: int  # of the environment
    interval: int  # steps of a segment
    hidden: tuple[int, ...]
    activation: Literal["tanh", "relu"]
    normalise: bool = False  # observations and rewards, as VecNormalize does
    settings: dict[str, Any] = field(default_factory=dict)  # further arguments of the method
    seed: int = 0

    @property
    def network(self) -> dict[str, Any]:
        """What `ExploringPolicy` must know beside the tensors."""
        output = "tanh" if self.method == "SAC" else "identity"
        return {"limit": 10.0 if self.normalise else None, "hidden": self.activation, "output": output}


TRAININGS = {
    "hopper": Training("PPO", 409_600, 10_240, (64, 64), "tanh"),
    "halfcheetah": Training(
        "SAC", 120_000, 5_000, (128, 128), "relu", settings={"learning_rate": 1e-3, "learning_starts": 5_000}
    ),
    "walker2d": Training(
        "SAC", 200_000, 20_000, (128, 128), "relu", settings={"learning_rate": 1e-3, "learning_starts": 5_000}
    ),
}


def train(name: str, training: Training, folder: Path) -> dict[str, Any]:
    """All segments, from the last one that was saved in `folder`; returns the state after the last.

    The state holds `actors` (tensors by name, checkpoints first), `returns` of the greedy actions by checkpoint,
    `seconds` of processor time, and `learned`, all that the next segment needs of the model.
    """
    identity = canonical_json({"training": asdict(training), **_versions()})
    checkpoint = Checkpoint(folder / "state", identity)
    done, state = checkpoint.load() or (0, None)
    with progress(name, training.steps) as advance, _one_thread():
        advance(done * training.interval)
        for segment in range(done, training.steps // training.interval):
            clock = time.process_time()
            state = _segment(name, training, segment, state)
            state["seconds"] += time.process_time() - clock
            checkpoint.save(segment + 1, state)
            advance(training.interval)
            say(f"{name}: {(segment + 1) * training.interval} steps, return {state['returns'][-1]:.0f}")
    if state is None:
        raise SpecError(f"steps must be at least interval = {training.interval}, got {training.steps}")
    return state


def publish(name: str, training: Training, state: dict[str, Any], folder: Path) -> None:
    """Write `<name>.safetensors` and its card: all checkpoints up to the best."""
    count = int(np.argmax(state["returns"])) + 1
    tensors = {key: value[:count].contiguous() for key, value in state["actors"].items()}
    policy = policy_of(tensors, training.network)
    entries: list[dict[str, Any]] = [{"steps": index * training.interval} for index in range(count)]
    returns, lengths = _judge(name, policy, _EPISODES["card"], f"{name}/card/greedy")
    for index, entry in enumerate(entries):
        entry["greedy"] = _summary(returns[index])
        entry["length"] = _summary(lengths[index].double())
    with atomic(folder / f"{name}.safetensors") as part:
        save_file(tensors | {"steps": torch.arange(count) * training.interval}, part)
    card = {
        "name": name,
        "training": asdict(training),
        "network": training.network,
        "horizon": HORIZON,
        "evaluation_episodes": _EPISODES["card"],
        "physics": simulator(ENV_IDS[name]).physics,
        "versions": _versions(),
        "processor_hours": round(state["seconds"] / 3600, 3),
        "checkpoints": entries,
    }
    write_json(folder / f"{name}.json", card)


def main(
    which: tyro.conf.Positional[Literal["hopper", "halfcheetah", "walker2d", "all"]],
    out: Path,
) -> None:
    """Train, or resume training, and publish in `out` the checkpoints up to the best one."""
    for name in TRAININGS if which == "all" else [which]:
        publish(name, TRAININGS[name], train(name, TRAININGS[name], out / name), out)


def _segment(name: str, training: Training, segment: int, state: dict[str, Any] | None) -> dict[str, Any]:
    """The state after one more segment."""
    model = _model(name, training, segment)
    if state is None:
        state = {"actors": {}, "returns": [], "seconds": 0.0}
        _keep(name, training, state, model)  # the untrained policy
    else:
        _restore(model, training, state["learned"])
    model.learn(training.interval, reset_num_timesteps=True)
    state["learned"] = _learned(model, training)
    _keep(name, training, state, model)
    return state


def _model(name: str, training: Training, segment: int) -> Any:
    """A new model of stable-baselines3 in a new environment, with the random numbers of this segment."""
    try:
        import stable_baselines3
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
    except ImportError as error:
        raise SpecError("training policies needs stable-baselines3: pip install -e .[policies]") from error
    seed = 1000 * training.seed + segment
    envs = DummyVecEnv([lambda: gymnasium.make(ENV_IDS[name])])
    if training.normalise:
        envs = VecNormalize(envs)
    activation = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[training.activation]
    arguments = {
        "policy_kwargs": {"net_arch": list(training.hidden), "activation_fn": activation},
        "seed": seed,
        "device": "cpu",
        **training.settings,
    }
    if training.method == "SAC":
        arguments["buffer_size"] = training.steps
        if segment:
            arguments["learning_starts"] = 0
    return getattr(stable_baselines3, training.method)("MlpPolicy", envs, **arguments)


def _learned(model: Any, training: Training) -> dict[str, Any]:
    """All that the next segment needs of a model."""
    learned: dict[str, Any] = {"parameters": model.get_parameters()}
    if training.method == "SAC":
        buffer = model.replay_buffer
        learned["temperature"] = model.log_ent_coef
        learned["replay"] = {key: torch.from_numpy(getattr(buffer, key)[: buffer.pos]) for key in _REPLAY}
    if training.normalise:
        for key in ("obs_rms", "ret_rms"):
            moments = getattr(model.env, key)
            parts = (np.asarray(x, np.float64) for x in (moments.mean, moments.var, moments.count))
            learned[key] = [torch.from_numpy(x.copy()) for x in parts]
    return learned


def _restore(model: Any, training: Training, learned: dict[str, Any]) -> None:
    model.set_parameters(learned["parameters"])
    if training.method == "SAC":
        model.log_ent_coef.data.copy_(learned["temperature"])
        buffer = model.replay_buffer
        for key, rows in learned["replay"].items():
            getattr(buffer, key)[: len(rows)] = rows.numpy()
            buffer.pos = len(rows)
    if training.normalise:
        for key in ("obs_rms", "ret_rms"):
            moments = getattr(model.env, key)
            moments.mean, moments.var, moments.count = (x.numpy().copy() for x in learned[key])


def _keep(name: str, training: Training, state: dict[str, Any], model: Any) -> None:
    """Append the actor as it is now, in the precision in which it will be shipped, and its return."""
    actor = _actor(model, training)
    known = state["actors"]
    state["actors"] = {key: torch.cat([known[key], x[None]]) if known else x[None] for key, x in actor.items()}
    policy = policy_of({key: x[None] for key, x in actor.items()}, training.network)
    label = f"{name}/choice/{len(state['returns'])}"
    returns, _ = _judge(name, policy, _EPISODES["choice"], label)
    state["returns"].append(float(returns.mean()))


def _actor(model: Any, training: Training) -> dict[str, Tensor]:
    policy = model.policy
    hidden, last = (
        (policy.actor.latent_pi, policy.actor.mu)
        if training.method == "SAC"
        else (policy.mlp_extractor.policy_net, policy.action_net)
    )
    layers = [part for part in hidden if isinstance(part, torch.nn.Linear)] + [last]
    tensors = {}
    for index, layer in enumerate(layers):
        tensors[f"{index}.weight"] = layer.weight.detach().half()
        tensors[f"{index}.bias"] = layer.bias.detach().half()
    width = layers[0].in_features
    mean, std = np.zeros(width), np.ones(width)
    if training.normalise:
        mean, std = model.env.obs_rms.mean, np.sqrt(model.env.obs_rms.var + model.env.epsilon)
    return tensors | {"mean": torch.from_numpy(mean).float(), "std": torch.from_numpy(std).float()}


def _judge(name: str, policy: ExploringPolicy, episodes: int, label: str) -> tuple[Tensor, Tensor]:
    """Returns and lengths of complete episodes of greedy actions, [P, episodes]."""
    world = simulator(ENV_IDS[name])
    rng = Streams(range(len(policy.mean)), label)
    steps = simulate(world, policy, world.reset(episodes, rng.fork("start")), HORIZON, rng, greedy=True)
    return steps.reward.double().sum(-1), steps.valid.sum(-1)


def _summary(values: Tensor) -> dict[str, float]:
    return {"mean": round(values.mean().item(), 3), "std": round(values.std().item(), 3)}


def _versions() -> dict[str, str]:
    return {"mujoco": mujoco.__version__, "gymnasium": gymnasium.__version__, "torch": str(torch.__version__)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks of this size gain nothing from more, and numbers must not depend on the machine's number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    tyro.cli(main)
