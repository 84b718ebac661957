"""OneShot: is diffusion needed? DyDiff's loop and network, trained by plain regression to the conditional mean.

A control of this suite, not a published method: one evaluation of the network per round instead of a whole sampler.
"""

from typing import Any, ClassVar

from core.config import configuration
from generators.dydiff import DyDiff
from models.diffusion.trajectory import TrajectoryRegressionConfig

__all__ = ["OneShot"]


@configuration
class OneShot(DyDiff):
    """Every field is DyDiff's; `sampler` is without effect."""

    model: TrajectoryRegressionConfig = TrajectoryRegressionConfig()

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        name: DyDiff.presets[name] for name in ("smoke", "small", "corrector")
    }
