"""GTA: real sub-trajectories, noised part of the way and denoised under a higher return than their own.

Source: Lee et al. 2024 (arXiv:2405.16907) and its released code (Jaewoopudding/GTA@31837e4). We differ on purpose:
ends of episodes by the rule that every generator has, not copied from the source window; terminal states pay nothing
more, not -100; actions are clipped to [-1, 1]; a generated step counts only while its source window is in its episode;
and every evaluation is told the return, where theirs are told it three times in four, for the dropout of the condition
stays on while they sample (src/diffusion/denoiser_network/mixer.py).
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from core.config import ClosedUnit, configuration
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from generators.base import Box, Fitted, Generator, RolloutCompleter, extended, per_seed, termination_rule
from generators.dydiff import DyDiff
from models.cache import ModelCache
from models.diffusion.edm import Sampler
from models.diffusion.returns import Drawn, Recorded, RecordedWindows, ReturnDiffusion, ReturnDiffusionConfig
from models.termination import TerminationConfig
from tasks.base import Task

__all__ = ["GTA", "amplified"]


@configuration
class GTA(Generator):
    """States, actions and rewards of a window are redrawn together; the policy and the given starts are not used.

    Rollouts begin in first states of their own, and steps beyond a window are not valid. Of the sampler's steps the
    last share `noise` is taken, from the noise level at which it begins; 0: real rows come back. We sample with 9
    evaluations of a second-order solver instead of 191 (127 of them give the same numbers).

    Preset `released` has the settings of configs/gta.yaml, with this suite's network of 15.8 million weights in place
    of its MLP-mixer (18.7 million on Hopper), and a learning rate that is held and falls once; there it falls from 3e-4
    to 0 in every 100 000 updates (src/diffusion/elucidated_diffusion.py). The paper chooses noise, amplification and
    horizon by task, but its tables could not be read: hence no preset `paper`. The scripts of commit 4040c5e
    (src/scripts) try noise 0.05 to 1, amplification 1.05 to 1.5 and guidance 0.1 to 10: most often 0.5, 1.1 to 1.3, and
    2, where configs/gta.yaml has 1.
    """

    rollouts: PositiveInt = 10_000  # windows of every call
    rollout_length: PositiveInt = 31  # L
    refresh_every: PositiveInt | None = None  # other windows under the same model, if anything
    noise: ClosedUnit = 0.5  # mu
    amplification: NonNegativeFloat = 1.3  # alpha; 1: each window's own return
    guidance: NonNegativeFloat = 1.0  # w; 0: no return is asked for, 1: the conditional model
    box: Box = "obs_and_next"  # the training data's range, to which states are clipped
    sampler: Sampler = Sampler(steps=18)
    filter: Filter = Filter()
    model: ReturnDiffusionConfig = ReturnDiffusionConfig()
    termination: TerminationConfig = TerminationConfig()  # where the environment's rule is not known

    keeps_start = False  # obs[:, :, 0] are its own

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {  # seconds on a CPU, for tests
            **{
                name: DyDiff.presets["smoke"][name] for name in ("rollouts", "rollout_length", "sampler", "termination")
            },
            "model": {
                "rows": 8,
                "denoiser": {"dim": 8, "multipliers": [1, 2]},
                "updates": 60,
                "batch_size": 32,
                "learning_rate": 3e-3,
            },
        },
        "small": {  # a minute on a CPU
            "rollouts": 1000,
            "rollout_length": 15,
            "sampler": {"steps": 9},
            "model": {
                "rows": 16,
                "denoiser": {"dim": 32, "multipliers": [1, 2], "blocks": 1},
                "updates": 600,
                "learning_rate": 3e-3,
            },
            "termination": DyDiff.presets["small"]["termination"],
        },
        "released": {
            "rollouts": 161_291,  # 5 million steps
            "box": "none",
            "sampler": {"method": "heun", "steps": 128, "churn": 80.0},
            "model": {
                "denoiser": {"dim": 64, "multipliers": [1, 2, 4, 8]},
                "updates": 1_000_000,
                "batch_size": 256,
                "learning_rate": 3e-4,
                "beta2": 0.99,
                "average_every": 10,
            },
        },
    }

    def __post_init__(self) -> None:
        if self.sampler.steps_of(self.noise) == 1 < self.sampler.steps:
            rule = f"noise must be 0 or more than one of the sampler's {self.sampler.steps} steps"
            raise ValueError(f"{rule}, got {self.noise}")
        self.model.check_guidance(self.guidance)
        if self.guidance == 0 and self.amplification != 1:
            raise ValueError(
                f"amplification must be 1 with guidance 0: no return is asked for, got {self.amplification}"
            )

    def fit(self, task: Task, data: Dataset, models: ModelCache, rng: Streams) -> "_Fitted":
        """One diffusion model per seed; it does not know how far windows will be noised, nor which returns be asked."""
        ended = termination_rule(task, data, models, self.termination)
        complete = RolloutCompleter.of(ended, data, None, self.box, keeps_start=False)
        recorded = RecordedWindows(data, self.model.rows, self.model.discount)
        return _Fitted(self, models.get(self.model, data), recorded, complete)


@dataclass(frozen=True)
class _Fitted(Fitted):
    config: GTA
    model: ReturnDiffusion
    recorded: RecordedWindows
    complete: RolloutCompleter

    def generate(self, policy: Policy, start: Float[Tensor, "S B O"], length: int, rng: Streams) -> Trajectories:
        """As many windows as start states were given, of which nothing else is used."""
        config = self.config
        real = self.recorded.draw(start.shape[1], rng.fork("windows"))
        own = min(length, config.model.rows - 1)
        obs, action, reward = self._redrawn(real, rng)
        made = self.complete(action[:, :, :own], obs[:, :, : own + 1], reward[:, :, :own])
        inside = real.window.in_episode[:, :, :own]
        made = replace(made, valid=made.valid & inside, terminated=made.terminated & inside)
        cost = {name: value / own for name, value in self._cost().items()}
        return replace(extended(made, length), info=made.info | per_seed(made, **cost))

    def _redrawn(self, real: Recorded, rng: Streams) -> tuple[Tensor, Tensor, Tensor]:
        """States, actions and rewards of these windows, redrawn."""
        config = self.config
        window = real.window
        drawn = Drawn(window.obs, window.action, real.reward)
        if config.noise:
            asked = amplified(real.returns, config.amplification)
            drawn = self.model.redraw(real, asked, config.guidance, config.sampler.tail(config.noise), rng)
        assert drawn.action is not None
        return drawn.obs, drawn.action, drawn.reward

    def _cost(self) -> dict[str, float]:
        config = self.config
        if not config.noise:
            return {"evaluations": 0.0, "flops": 0.0}
        return self.model.cost(config.sampler.tail(config.noise), config.guidance)


def amplified(returns: Float[Tensor, "*B"], amplification: float) -> Float[Tensor, "*B"]:
    """R + (alpha - 1) |R|: alpha R of a positive return, (2 - alpha) R of a negative one, as in the released code."""
    return returns + (amplification - 1) * returns.abs()
