"""DAWM: states and rewards drawn together under a return-to-go, after a state and its action; then the other actions.

Source: Li et al. 2025 (DAWM, arXiv:2509.19538), Ding et al. 2024 (DWM, arXiv:2402.03570), which it extends. We differ
on purpose: the first action is the learning policy's, not the data's; ends of episodes by the rule that every generator
has; this suite's network, noise levels and sampler.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from core.config import configuration
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Box, Fitted, Generator, RolloutCompleter, per_seed, termination_rule
from generators.dydiff import DyDiff
from models.cache import ModelCache
from models.diffusion.denoisers import UNetConfig
from models.diffusion.edm import Sampler
from models.diffusion.returns import ReturnDiffusion, WorldDiffusionConfig, returns_to_go
from models.diffusion.windows import Windows
from models.inverse import InverseDynamics, InverseDynamicsConfig
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = ["DAWM"]

_SHARED = ("rollouts", "rollout_length", "refresh_every", "sampler", "termination")  # with DyDiff's presets
_DWM: dict[str, Any] = {"sampler": {"steps": 3}, "inverse": None}
_PAPER = {
    "target": 1.25,
    "sampler": {"steps": 3},
    "model": {
        "denoiser": UNetConfig.presets["paper"],
        "updates": 2_000_000,
        "learning_rate": 1e-4,
        "average_every": 10,
    },
}


@configuration
class DAWM(Generator):
    """Block by block: the policy acts once, states and rewards are drawn, inverse dynamics infers the other actions.

    Without `inverse` only the step whose action is given is kept, and the policy acts again: DWM as a model of single
    steps, on policy (preset `dwm`). DWM's own use of the later states and rewards, targets of several steps for a
    critic, makes no transitions, and is left out.

    Presets `paper` and `dwm_paper` have the constants of DWM, of which we found no code: sequences of 8, discount 0.99,
    null condition 0.25, batch 64, Adam at 1e-4, 2 million updates, average 0.995 after every 10th, 3 evaluations (Ding
    2026, the first author's thesis, whose chapter 6 is DWM, arXiv:2607.17560: section 6.6.1). DWM asks for more than
    its data ever reached: the middle one of the three returns that it tries on a task (Table 6.7) is 1.09 to 1.43 times
    the data's largest (Figure 6.6), 1.25 in the mean of 9 tasks; our default target, 0.8, is DWM's number but not its
    unit. Width and guidance scale we did not find: 128, (1, 4, 8) and 1.2 are those of the code that DWM builds on
    (anuragajay/decision-diffuser@01ce528: code/config/locomotion_config.py). Ours are EDM's noise levels in place of 5
    steps of a cosine schedule, the fall of the learning rate and the limit on the gradient.

    What DAWM sets itself we do not know: no code was found, and of the paper only abstract and introduction could be
    read. So `paper` takes DWM's model, and for inverse dynamics the two layers of 1024 with which DWM's authors ran
    Decision Diffuser (section 6.8.2, with dropout, for 2 million updates).
    """

    rollouts: PositiveInt = 2_000  # B, start states of every refresh
    rollout_length: PositiveInt = 7  # L
    refresh_every: PositiveInt | None = 1000
    target: NonNegativeFloat = 0.8  # return-to-go that is asked for: share of the range of the data's
    guidance: NonNegativeFloat = 1.2  # w; 0: no return is asked for, 1: the conditional model
    box: Box = "obs_and_next"  # the training data's range, to which states are clipped
    sampler: Sampler = Sampler()
    filter: Filter = Filter()
    model: WorldDiffusionConfig = WorldDiffusionConfig()
    inverse: InverseDynamicsConfig | None = InverseDynamicsConfig()  # None: the policy acts in every state
    termination: TerminationConfig = TerminationConfig()  # where the environment's rule is not known

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            **{name: DyDiff.presets["smoke"][name] for name in _SHARED},
            "model": {"denoiser": {"dim": 8, "multipliers": [1, 2]}, "updates": 60, "batch_size": 32},
            "inverse": {"hidden": [64], "max_updates": 200, "check_every": 100},
        },
        "small": {
            **{name: DyDiff.presets["small"][name] for name in _SHARED},
            "rollout_length": 7,
            "model": {
                "denoiser": {"dim": 32, "multipliers": [1, 2], "blocks": 1},
                "updates": 600,
                "learning_rate": 3e-3,
            },
            "inverse": {"hidden": [64, 64], "max_updates": 1000, "check_every": 250},
        },
        "dwm": _DWM,
        "paper": {**_PAPER, "inverse": {"hidden": [1024, 1024]}},
        "dwm_paper": {**_PAPER, **_DWM},
    }

    @property
    def on_policy(self) -> bool:
        """Where the policy acts in every state."""
        return self.inverse is None

    def __post_init__(self) -> None:
        self.model.check_guidance(self.guidance)

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> Fitted:
        """One diffusion model and one inverse dynamics model per seed; neither knows which return will be asked for."""
        ended = termination_rule(task, data, models, self.termination)
        complete = RolloutCompleter.of(ended, data, None, self.box)
        ends = Windows(data, self.model.rows).end
        low, high = returns_to_go(data.train.reward, ends, self.model.discount).aminmax()
        asked = low + self.target * (high - low)
        model = models.get(self.model, data)
        if self.inverse is None:
            return _StepByStep(self, model, complete, asked)
        return _Blocks(self, model, complete, asked, models.get(self.inverse, data))


@dataclass(frozen=True)
class _Model:
    config: DAWM
    model: ReturnDiffusion
    complete: RolloutCompleter
    asked: Float[Tensor, ""]  # return-to-go

    def drawn(
        self, start: Tensor, act: Callable[[Tensor, int], Tensor], length: int, kept: int, rng: Streams
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions of `act`, one for each `kept` steps, and all unclipped states and rewards."""
        config = self.config
        obs = [start.unsqueeze(2)]
        action = list[Tensor]()
        reward = list[Tensor]()
        returns = self.asked.expand(start.shape[:2])
        for first in range(0, length, kept):
            state = self.complete.clip(obs[-1][:, :, -1]) if first else start
            action.append(act(state, first))
            here = rng.fork(f"block/{first}")
            block = self.model.sample(state, action[-1], returns, config.guidance, config.sampler, here)
            steps = min(kept, length - first)
            obs.append(block.obs[:, :, 1 : steps + 1])
            reward.append(block.reward[:, :, :steps])
        return torch.stack(action, 2), torch.cat(obs, 2), torch.cat(reward, 2)

    def priced(self, made: Trajectories, blocks: int, flops: int | None = None) -> Trajectories:
        """`info` with a transition's share of the blocks, and the evaluation of so many FLOP that completed it."""
        cost = self.model.cost(self.config.sampler, self.config.guidance)
        share = blocks / made.reward.shape[2]
        more = {"evaluations": 0.0, "flops": 0.0} if flops is None else {"evaluations": 1.0, "flops": flops}
        each = {name: share * value + more[name] for name, value in cost.items()}
        return replace(made, info=made.info | per_seed(made, **each))


@dataclass(frozen=True)
class _Blocks(_Model, Fitted):
    inverse: InverseDynamics

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """The policy explores as it does in training, at the beginning of every block."""
        explore = rng.fork("policy")
        block = self.model.block
        given, obs, reward = self.drawn(start, lambda state, _: _explored(policy, state, explore), length, block, rng)
        stored = self.complete.clipped(obs).unbind(2)
        action = torch.stack([self.inverse(now, after) for now, after in pairwise(stored)], 2)
        action = action.clamp(-1, 1)
        action[:, :, ::block] = given
        flops = self.inverse.config.flops(obs.shape[-1], action.shape[-1])
        return self.priced(self.complete(action, obs, reward), given.shape[2], flops)


@dataclass(frozen=True)
class _StepByStep(_Model, ActionConditioned):
    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """The policy explores as it does in training, in every state."""
        explore = rng.fork("policy")
        drawn = self.drawn(start, lambda state, _: _explored(policy, state, explore), length, 1, rng)
        return self.priced(self.complete(*drawn), length)

    def imagine(self, start: Float[Tensor, "S B O"], action: Float[Tensor, "S B L A"], rng: Streams) -> Trajectories:
        length = action.shape[2]
        drawn = self.drawn(start, lambda _, step: action[:, :, step], length, 1, rng)
        return self.priced(self.complete(*drawn), length)


def _explored(policy: Policy, obs: Float[Tensor, "S B O"], rng: Streams) -> Float[Tensor, "S B A"]:
    return policy.act(obs, rng).clamp(-1, 1)
