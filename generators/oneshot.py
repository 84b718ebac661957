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
    """Every field is DyDiff's; `sampler` and `warm` have nothing to act on and must be left alone."""

    model: TrajectoryRegressionConfig = TrajectoryRegressionConfig()

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        name: {field: value for field, value in DyDiff.presets[name].items() if field != "sampler"}
        for name in ("smoke", "small", "corrector")
    }
