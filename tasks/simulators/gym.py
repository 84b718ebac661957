"""Any other gymnasium environment with a Box of actions, for Minari datasets: it runs, but its state cannot be set."""

import hashlib
from collections.abc import Mapping
from itertools import count
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, flatdim, flatten
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from core.errors import DataError, SpecError
from core.random import Streams
from core.registry import module_digests

__all__ = ["FARAMA", "GymSimulator"]

FARAMA = ("gymnasium", "gymnasium_robotics")  # packages whose version says which code an environment is


class GymSimulator:
    """Running copies of an environment as a `Simulator`; a state is the (episode, step) of one of them.

    So a state can be stepped once and in order, and `reset` ends all earlier episodes: their copies are used again and
    their observations dropped. Time limits are the task's and switched off. Not for threads.

    Raises:
        SpecError: the actions are no bounded Box.
    """

    has_termination_rule = False

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        env = self._open()
        box = env.action_space
        if not isinstance(box, Box) or not box.is_bounded():
            raise SpecError(f"the action space of {spec.id} must be a bounded Box, got {box}")
        self.obs_dim = flatdim(env.observation_space)
        self.action_dim = flatdim(box)
        simulated = isinstance(getattr(env.unwrapped, "model", None), mujoco.MjModel)
        version = f"mujoco {mujoco.__version__}" if simulated else f"gymnasium {gymnasium.__version__}"
        self.action_space = box
        self.physics = ", ".join([_named(spec), version, *_own_code(spec)])
        self._idle = [env]
        self._live: dict[int, gymnasium.Env] = {}
        self._seen: dict[int, list[np.ndarray]] = {}  # observations of every live episode, from its reset on
        self._names = count()

    def reset(self, rows: int, rng: Streams) -> Float64[Tensor, "S B X"]:
        """New episodes, seeded from `rng`; every earlier one ends."""
        self._idle += self._live.values()
        self._live = {}
        self._seen = {}
        seeds = rng.integers(2**31, rows).cpu()
        episodes = [self._begin(int(seed)) for seed in seeds.flatten()]
        return torch.tensor([[name, 0.0] for name in episodes], dtype=torch.float64).view(*seeds.shape, 2)

    def observe(self, state: Float64[Tensor, "*N X"]) -> Float64[Tensor, "*N O"]:
        """The copy's observation at that step.

        Raises:
            DataError: that episode is over, or the state came from `restore`.
        """
        rows = np.array([self._episode(name)[step] for name, step in self._pairs(state)])
        return torch.from_numpy(rows).view(*state.shape[:-1], self.obs_dim)

    def restore(self, obs: Float[Tensor, "*N O"]) -> tuple[Float64[Tensor, "*N X"], Bool[Tensor, "*N"]]:
        """Nothing that could be stepped (-1, -1), and never exact."""
        rows = obs.shape[:-1]
        return torch.full((*rows, 2), -1.0, dtype=torch.float64), torch.zeros(rows, dtype=torch.bool)

    def step(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], rng: Streams | None
    ) -> tuple[Float64[Tensor, "*N X"], Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """One step of every row's copy; noise comes from the copy's own seed, not from `rng`.

        Raises:
            DataError: a copy is not, or no longer, in that state.
        """
        results = [self._step(*pair, row) for pair, row in zip(self._pairs(state), self._native(action), strict=True)]
        reward = torch.tensor([reward for reward, _ in results], dtype=torch.float64)
        ended = torch.tensor([ended for _, ended in results], dtype=torch.bool)
        after = state + torch.tensor([0.0, 1.0], dtype=torch.float64)
        return after, reward.view(state.shape[:-1]), ended.view(state.shape[:-1])

    def outcome(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], after: Float64[Tensor, "*N X"]
    ) -> tuple[Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """Impossible. Raises: DataError."""
        raise DataError(f"the reward of a step of {self.spec.id} is known only when the step is made")

    def replay(self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N L A"]) -> Float64[Tensor, "*N L+1 X"]:
        """Impossible. Raises: DataError."""
        raise DataError(f"the state of {self.spec.id} cannot be set, so nothing can be replayed in it")

    def terminated(
        self, obs: Float[Tensor, "*N O"], action: Float[Tensor, "*N A"], next_obs: Float[Tensor, "*N O"]
    ) -> Bool[Tensor, "*N"]:
        """Impossible. Raises: DataError."""
        raise DataError(f"no termination rule is known for {self.spec.id}: it is learned from the flags of the data")

    def _open(self) -> gymnasium.Env:
        return gymnasium.make(self.spec, max_episode_steps=-1, disable_env_checker=True)

    def _begin(self, seed: int) -> int:
        name = next(self._names)
        env = self._idle.pop() if self._idle else self._open()
        obs, _ = env.reset(seed=seed)
        self._live[name] = env
        self._seen[name] = [self._flat(env, obs)]
        return name

    def _step(self, name: int, step: int, action: np.ndarray) -> tuple[float, bool]:
        seen = self._episode(name)
        if step != len(seen) - 1:
            raise DataError(f"the state of {self.spec.id} cannot be set: asked for step {step}, at {len(seen) - 1}")
        obs, reward, terminated, _, _ = self._live[name].step(action)
        seen.append(self._flat(self._live[name], obs))
        return float(reward), bool(terminated)

    def _episode(self, name: int) -> list[np.ndarray]:
        if name not in self._seen:
            raise DataError(f"the state of {self.spec.id} cannot be set: {name} is no episode since the last reset")
        return self._seen[name]

    def _native(self, action: Float[Tensor, "*N A"]) -> np.ndarray:
        box = self.action_space
        share = (action.detach().double().cpu().clamp(-1, 1).reshape(-1, *box.shape).numpy() + 1) / 2
        return np.asarray(box.low + share * (box.high - box.low), dtype=box.dtype)

    @staticmethod
    def _pairs(state: Tensor) -> list[tuple[int, int]]:
        return [(int(name), int(step)) for name, step in state.reshape(-1, 2).tolist()]

    @staticmethod
    def _flat(env: gymnasium.Env, obs: object) -> np.ndarray:
        return np.asarray(flatten(env.observation_space, obs), dtype=np.float64)


def _named(spec: EnvSpec) -> str:
    """The environment with the arguments and wrappers that make it another one than its name says."""
    wrappers = "".join(f" + {wrapper.name}{_arguments(wrapper.kwargs)}" for wrapper in spec.additional_wrappers)
    return f"{spec.id}{_arguments(spec.kwargs)}{wrappers}"


def _arguments(kwargs: Mapping[str, Any] | None) -> str:
    texts = {name: repr(value) for name, value in sorted((kwargs or {}).items())}
    short = {name: text if len(text) <= 40 else f"#{_short_hash(text)}" for name, text in texts.items()}
    return f"({', '.join(f'{name}={text}' for name, text in short.items())})" if short else ""


def _own_code(spec: EnvSpec) -> list[str]:
    """The module of an environment that is no package's of Farama, with a hash: it has no version that tells."""
    root = str(spec.entry_point).partition(":")[0].partition(".")[0]
    if not isinstance(spec.entry_point, str) or root in FARAMA:
        return []
    return [f"{root} #{module_digests([root])[root][:8]}"]


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
