"""The environment that a dataset declares: whose code it is, and a simulator of it."""

from collections.abc import Iterable

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box

from core.errors import DataError, SpecError, in_one_line
from core.registry import environment_modules
from tasks.simulators.base import Simulator
from tasks.simulators.gym import FARAMA, GymSimulator
from tasks.simulators.locomotion import ENVIRONMENTS

__all__ = ["alike", "ours", "require_known_code", "simulator"]


def simulator(spec: EnvSpec, action_space: Box, where: str) -> Simulator:
    """The environment of `spec`, whose code is known; one of ours where it is a plain environment of gymnasium's.

    `action_space` is that of the data.

    Raises:
        SpecError: its actions are no bounded Box.
        DataError: it cannot be made, or takes other actions than the data hold.
    """
    if ours(spec):
        return ENVIRONMENTS[spec.id]
    try:
        found = GymSimulator(spec)
    except SpecError:
        raise
    except Exception as error:  # an environment can fail in any way
        raise DataError(f"{where}: its environment {spec.id} cannot be made: {in_one_line(error)}") from error
    own = found.action_space
    if own.shape != action_space.shape or not np.allclose([own.low, own.high], [action_space.low, action_space.high]):
        raise DataError(f"{where}: actions must be those of its environment {spec.id}, {own}, got {action_space}")
    return found


def ours(spec: EnvSpec) -> bool:
    """Whether it is a plain environment of gymnasium's for which we have a batched simulator."""
    registered = gymnasium.registry.get(spec.id)
    plain = registered is not None and str(spec.entry_point) == str(registered.entry_point)
    return plain and spec.id in ENVIRONMENTS and not spec.kwargs and not spec.additional_wrappers


def alike(one: EnvSpec, other: EnvSpec) -> bool:
    """Whether both make the same environment, time limits apart."""
    return all(
        getattr(one, name) == getattr(other, name) for name in ("id", "entry_point", "kwargs", "additional_wrappers")
    )


def require_known_code(spec: EnvSpec, imports: Iterable[str], where: str) -> None:
    """A dataset names the functions that make its environment and its wrappers: whose code may be run.

    The Farama packages', what is registered here under the environment's name, and that of modules which the user has
    named: `imports`, or the entry points of installed packages.

    Raises:
        DataError: it names any other code.
    """
    registered = gymnasium.registry.get(spec.id)
    known = {str(registered.entry_point)} if registered else set()
    named = {str(spec.entry_point), *(wrapper.entry_point for wrapper in spec.additional_wrappers)}
    trusted = (*FARAMA, *imports, *environment_modules())
    if foreign := sorted(point for point in named - known if not _within(point.partition(":")[0], trusted)):
        module = foreign[0].partition(":")[0]
        rule = f"{spec.id} is made by code that nobody has named here: {', '.join(foreign)}"
        way = f"if it is yours, name its module: --import {module}, or imports = [{module!r}] in a suite"
        raise DataError(f"{where}: {rule}; {way}")


def _within(module: str, names: Iterable[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)
