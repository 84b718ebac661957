"""DyDiff: roll out the policy in an ensemble, redraw the states by diffusion under its actions, relabel, repeat.

Source: Zhao et al. 2024 (arXiv:2405.19189) and its released code, which does more than the paper says: the redrawn
states are averaged with the previous ones (`relax`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from core.config import ClosedUnit, configuration
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Box, Generator, RolloutCompleter, per_seed, termination_rule
from generators.ensemble import Ensemble
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.trajectory import TrajectoryDiffusion, TrajectoryDiffusionConfig
from models.dynamics import DynamicsConfig, EnsembleDynamics
from models.reward import RewardConfig
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = ["DyDiff"]

Act = Callable[[Float[Tensor, "S B O"], int], Float[Tensor, "S B A"]]


@configuration
class DyDiff(Generator):
    """M rounds of: states redrawn under the actions, averaged with the last ones, actions replaced by the policy's.

    The defaults repair what the released code gets wrong and are sized for two CPU cores; preset `faithful` has its
    settings where it does differently by a field. Not reproduced: actions clipped to the data's box, not [-1, 1]; a
    learning rate that rises linearly, without clipped gradients (here constant, then a cosine; norm 1); an average of
    the weights by half-life; a 100th reward in the score; patience in epochs; numbers in place of absent rows.
    """

    rollouts: PositiveInt = 2_000  # B, start states of every refresh
    rollout_length: PositiveInt = 31  # L
    refresh_every: PositiveInt | None = 1000
    iterations: NonNegativeInt = 1  # M; 0: the ensemble's roll-out
    relax: ClosedUnit = 0.5  # weight of the previous states in the average; 0: as the paper says, not its code
    warm: bool = False  # states are redrawn from the last ones with noise of sampler.sigma_max, not from noise alone
    box: Box = "obs_and_next"  # the training data's range, to which states are clipped
    test: Literal["before_clip", "after_clip"] = "before_clip"  # what the rule of termination sees
    sampler: Sampler = Sampler()
    filter: Filter = Filter(mode="softmax")
    model: TrajectoryDiffusionConfig = TrajectoryDiffusionConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    reward: RewardConfig = RewardConfig()
    termination: TerminationConfig = TerminationConfig()  # where the environment's rule is not known

    on_policy = True

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {  # seconds on a CPU, for tests
            "rollouts": 200,
            "rollout_length": 7,
            "refresh_every": 200,
            "sampler": {"steps": 5},
            "model": {"rows": 8, "denoiser": {"dim": 8, "multipliers": [1, 2]}, "updates": 60, "batch_size": 32},
            "dynamics": Ensemble.presets["smoke"]["dynamics"],
            "reward": {"hidden": [64], "learning_rate": 1e-3, "max_updates": 200, "check_every": 100},
            "termination": Ensemble.presets["smoke"]["termination"],
        },
        "small": {  # a minute on a CPU
            "rollouts": 300,
            "rollout_length": 15,
            "refresh_every": 500,
            "sampler": {"steps": 5},
            "model": {
                "rows": 16,
                "denoiser": {"dim": 32, "multipliers": [1, 2], "blocks": 1},
                "updates": 500,
                "learning_rate": 3e-3,
            },
            "dynamics": Ensemble.presets["small"]["dynamics"],
            "reward": {"hidden": [64, 64], "learning_rate": 1e-3, "max_updates": 1000, "check_every": 250},
            "termination": Ensemble.presets["small"]["termination"],
        },
        "corrector": {"model": {"corrects": {}}},  # the model sees the ensemble's roll-out and corrects it
        "faithful": {  # the released code, as far as the docstring says
            "rollouts": 2048,
            "rollout_length": 99,
            "refresh_every": 500,
            "iterations": 2,
            "box": "obs",
            "test": "after_clip",
            "sampler": {
                "method": "heun",
                "steps": 34,
                "churn": 60.0,
                "churn_range": [0.36995, 52.242],
                "churn_noise": 1.002,
                "recondition_after_churn": False,
            },
            "filter": {"mode": "softmax_floor", "discount": 1.0, "masked": False},
            "model": TrajectoryDiffusionConfig.presets["paper"],
            # both end after more than 7 epochs without an improvement; max_updates is 128 epochs of a million rows
            "dynamics": {"learning_rate": 1e-4, "validation_rows": 5000, "patience": 8, "max_updates": 500_000},
            "reward": {"inputs": "sa", "learning_rate": 1e-4, "max_updates": 500_000},
        },
    }

    def __post_init__(self) -> None:
        if self.relax == 1:
            raise ValueError("relax must be below 1, or nothing is ever redrawn, got 1.0")
        if self.model.given != "start_and_actions":
            raise ValueError(f"model.given must be 'start_and_actions', got {self.model.given!r}")
        if self.model.corrects not in (None, self.dynamics):
            raise ValueError(
                f"model.corrects must equal dynamics, whose roll-outs it corrects, got {self.model.corrects}"
            )
        if self.model.objective == "regression" and (self.warm or self.sampler != Sampler()):
            values = f"{self.sampler} and {self.warm}"
            raise ValueError(
                f"sampler and warm must be left alone with a regression, which draws nothing, got {values}"
            )

    @property
    def causal(self) -> bool:
        """Whether imagined states depend on past actions only; a symmetric network sees later ones as well."""
        return self.iterations == 0 or self.model.denoiser.causal

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        """One ensemble, one sequence model and one reward model per seed; none depends on the rounds."""
        ended = termination_rule(task, data, models, self.termination)
        complete = RolloutCompleter.of(
            ended, data, models.get(self.reward, data), self.box, test_clipped=self.test == "after_clip"
        )
        ensemble = models.get(self.dynamics, data)
        model = models.get(self.model, data) if self.iterations else None
        return _Fitted(self, ensemble, model, complete)


@dataclass(frozen=True)
class _Fitted(ActionConditioned):
    config: DyDiff
    ensemble: EnsembleDynamics
    model: TrajectoryDiffusion | None  # None without iterations
    complete: RolloutCompleter

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """Block by block, each from the last state of the one before; one block unless `length` asks for more.

        The policy acts to the end of every block, and what is not asked for is cut off: the model has seen whole ones.
        """
        obs = [start.unsqueeze(2)]
        action = list[Tensor]()
        infos = list[dict[str, Tensor]]()
        block = length if self.model is None else self.model.block
        for first in range(0, length, block):
            here = rng.fork(f"block/{first}") if first else rng
            begins = self.complete.clip(obs[-1][:, :, -1]) if first else start
            kept = min(block, length - first)
            actions, states, info = self._solve(policy, begins, block, kept, here)
            obs.append(states[:, :, 1 : kept + 1])
            action.append(actions[:, :, :kept])
            infos.append(info)
        made = self.complete(torch.cat(action, 2), torch.cat(obs, 2))
        means = {name: torch.stack([info[name] for info in infos]).mean(0) for name in infos[0]}
        return replace(made, info=made.info | means | self._cost(made, len(infos) * block))

    def imagine(self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"], rng: Streams) -> Trajectories:
        """What the sequence model draws under given actions; without iterations, the ensemble."""
        begin = None
        if self.config.warm and self.model is not None:
            begin = self._roll_out(start, lambda state, step: action[:, :, step], action.shape[2], rng)[1]
        return self.complete(action, self._states(start, action, rng, begin))

    def _solve(
        self, policy: Policy, start: Float[Tensor, "S B O"], length: int, kept: int, rng: Streams
    ) -> tuple[Float[Tensor, "S B L A"], Float[Tensor, "S B L+1 O"], dict[str, Tensor]]:
        """Actions and unclipped states of one block, and how far the `kept` actions still moved in each round."""
        config = self.config
        moved = list[Tensor]()
        action, obs = self._roll_out(start, lambda state, step: _greedy(policy, state), length, rng)
        for round_ in range(1, config.iterations + 1):
            drawn = self._states(start, action, rng.fork(f"latent/{round_}"), obs if config.warm else None)
            obs = torch.lerp(drawn, obs, config.relax)
            obs[:, :, 0] = start
            before = action
            stored = self.complete.clipped(obs)
            action = torch.stack([_greedy(policy, state) for state in stored[:, :, :-1].unbind(2)], 2)
            moved.append(_distance(action[:, :, :kept], before[:, :, :kept]))
        info = {"residual": torch.stack(moved, 1), "lag": moved[-1]} if moved else {}  # residual: by round
        return action, obs, info

    def _roll_out(self, start: Tensor, act: Act, length: int, rng: Streams) -> tuple[Tensor, Tensor]:
        """Actions and unclipped states of the ensemble, past any termination; each step is from the clipped state."""
        noise = rng.fork("model")
        elites = self.ensemble.pick()
        obs = [start]
        action = list[Tensor]()
        for step in range(length):
            state = self.complete.clip(obs[-1]) if step else start
            action.append(act(state, step))
            obs.append(self.ensemble.draw(state, action[-1], noise, sample=False, elites=elites)[0])
        return torch.stack(action, 2), torch.stack(obs, 2)

    def _states(
        self,
        start: Float[Tensor, "S B O"],
        action: Float[Tensor, "S B L A"],
        rng: Streams,
        begin: Float[Tensor, "S B L+1 O"] | None = None,
    ) -> Float[Tensor, "S B L+1 O"]:
        """Unclipped states under these actions, by the sequence model."""
        if self.model is None:
            return self._roll_out(start, lambda state, step: action[:, :, step], action.shape[2], rng)[1]
        length = action.shape[2]
        sampler = self.config.sampler
        clip = self.complete.clip
        return self.model.sample(start, action, length, sampler, rng, begin=begin, ensemble=self.ensemble, clip=clip)[0]

    def _cost(self, made: Trajectories, steps: int) -> dict[str, Float[Tensor, " S"]]:
        """Per transition: the ensemble's `steps`, those that are cut off included, and the sequence model's share."""
        config = self.config
        length = made.action.shape[2]
        flops = config.dynamics.flops(made.obs.shape[-1], made.action.shape[-1])
        cost = {"evaluations": steps / length, "flops": steps / length * flops}
        if self.model:
            redrawn = self.model.cost(config.sampler, length, config.iterations)
            cost = {name: value + redrawn[name] for name, value in cost.items()}
        return per_seed(made, **cost)


def _greedy(policy: Policy, obs: Float[Tensor, "S B O"]) -> Float[Tensor, "S B A"]:
    return policy.act(obs, None).clamp(-1, 1)


def _distance(action: Float[Tensor, "S B L A"], before: Float[Tensor, "S B L A"]) -> Float[Tensor, " S"]:
    """Root mean square over everything but the seeds."""
    return (action - before).square().flatten(1).mean(1).sqrt()
