"""Hopper, HalfCheetah and Walker2d as in gymnasium, -v4 and -v5: batched, and from any state.

-v4 is what D4RL's data compare with. -v5 has no alive bonus on the step that terminates, and its Walker2d has more
friction under the right foot.
"""

from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from core.errors import unknown
from core.random import Streams
from tasks.simulators.batched_mujoco import advance, load_model

__all__ = ["ENVIRONMENTS", "Locomotion", "simulator"]


@dataclass(frozen=True)
class Locomotion:
    """One environment; a state is (qpos, qvel); its first number, the distance travelled, is not observed.

    Actions are clipped to [-1, 1] before anything else, as D4RL does; gymnasium lets MuJoCo clip the torque but charges
    for the action as it came. `step` starts the constraint solver afresh, so that it is a function of state and action:
    bit for bit gymnasium's step after reset and set_state. Along an episode an environment carries the solver's warm
    start over, and so does `replay`; the two differ by about 1e-12 a step.

    Source: gymnasium/envs/mujoco/{hopper,half_cheetah,walker2d}_v{4,5}.py, default arguments.
    """

    env_id: str
    xml: str  # in gymnasium's folder of assets
    obs_dim: int  # len(qpos) + len(qvel) - 1
    action_dim: int
    frame_skip: int  # MuJoCo steps per environment step
    control_cost: float  # per unit of squared action
    reset_noise: float  # half-width of the uniform noise on qpos and qvel
    normal_velocity: bool = False  # reset noise on qvel is normal with that deviation instead
    alive_bonus: float = 0.0
    bonus_when_falling: bool = True  # -v5 does not pay it on the terminating step
    velocity_clip: float = inf  # of the observation only
    height: tuple[float, float] = (-inf, inf)  # z must lie strictly inside, or the episode ends
    angle: tuple[float, float] = (-inf, inf)  # the same for the torso's angle
    state_limit: float = inf  # and for |number| of everything but x and z

    has_termination_rule = True

    @property
    def physics(self) -> str:
        """What a result must name: trajectories change between MuJoCo versions."""
        return f"{self.env_id}, mujoco {mujoco.__version__}"

    def reset(self, rows: int, rng: Streams) -> Float64[Tensor, "S B X"]:
        """The default pose at rest, with the environment's noise."""
        pose = torch.from_numpy(self._model.qpos0.copy())
        position = pose + self.reset_noise * (2 * rng.uniform64(rows, self._model.nq).cpu() - 1)
        if self.normal_velocity:
            velocity = self.reset_noise * rng.normal(rows, self._model.nv).double().cpu()
        else:
            velocity = self.reset_noise * (2 * rng.uniform64(rows, self._model.nv).cpu() - 1)
        return torch.cat([position, velocity], -1)

    def observe(self, state: Float64[Tensor, "*N X"]) -> Float64[Tensor, "*N O"]:
        """Everything but x, velocities clipped."""
        position = state[..., 1 : self._model.nq]
        velocity = state[..., self._model.nq :]
        return torch.cat([position, velocity.clamp(-self.velocity_clip, self.velocity_clip)], -1)

    def restore(self, obs: Float[Tensor, "*N O"]) -> tuple[Float64[Tensor, "*N X"], Bool[Tensor, "*N"]]:
        """The state at x = 0, which no force depends on (but rounding does). Not exact where a velocity was clipped."""
        state = torch.nn.functional.pad(obs.double().cpu(), (1, 0))
        return state, state[..., self._model.nq :].abs().amax(-1) < self.velocity_clip

    def step(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], rng: Streams | None
    ) -> tuple[Float64[Tensor, "*N X"], Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """One environment step; there is no noise to draw from `rng`.

        Where MuJoCo cannot step a row (`tasks.simulators.batched_mujoco.advance`), the next state and the reward are
        NaN and the row is terminated; gymnasium would continue from the default pose.
        """
        control = action.double().cpu().clamp(-1, 1).unsqueeze(-2)
        after = advance(self._model, state, control, self.frame_skip).squeeze(-2)
        return after, *self.outcome(state, action, after)

    def outcome(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], after: Float64[Tensor, "*N X"]
    ) -> tuple[Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """Forward speed and the alive bonus, less the cost of control."""
        ended = self._fallen(after[..., 1:])
        forward = (after[..., 0] - state[..., 0]) / (self._model.opt.timestep * self.frame_skip)
        bonus = self.alive_bonus * (1.0 if self.bonus_when_falling else (~ended).double())
        effort = action.double().cpu().clamp(-1, 1).square().sum(-1)
        return forward + bonus - self.control_cost * effort, ended

    def replay(self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N L A"]) -> Float64[Tensor, "*N L+1 X"]:
        """All actions in one call, warm start carried along; NaN from where MuJoCo cannot step."""
        states = advance(self._model, state, action.double().cpu().clamp(-1, 1), self.frame_skip)
        return torch.cat([state.unsqueeze(-2), states], -2)

    def terminated(
        self, obs: Float[Tensor, "*N O"], action: Float[Tensor, "*N A"], next_obs: Float[Tensor, "*N O"]
    ) -> Bool[Tensor, "*N"]:
        """The rule of `step` on an observation; a number that is not finite ends the episode in every environment.

        Clipped velocities cannot reach Hopper's limit of 100, so that clause cannot be seen in an observation.
        """
        return self._fallen(next_obs)

    @property
    def _model(self) -> Any:
        return load_model(Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / self.xml)

    def _fallen(self, seen: Float[Tensor, "*N O"]) -> Bool[Tensor, "*N"]:
        """On (qpos without x, qvel). Strict comparisons are False for NaN and, at a limit of inf, for inf."""
        z = seen[..., 0]
        angle = seen[..., 1]
        standing = (self.height[0] < z) & (z < self.height[1]) & (self.angle[0] < angle) & (angle < self.angle[1])
        return ~(standing & (seen[..., 1:].abs().amax(-1) < self.state_limit))


_HOPPER = Locomotion(
    "Hopper-v4",
    "hopper.xml",
    obs_dim=11,
    action_dim=3,
    frame_skip=4,
    control_cost=1e-3,
    reset_noise=5e-3,
    alive_bonus=1.0,
    velocity_clip=10.0,
    height=(0.7, inf),
    angle=(-0.2, 0.2),
    state_limit=100.0,
)
_WALKER = Locomotion(
    "Walker2d-v4",
    "walker2d.xml",
    obs_dim=17,
    action_dim=6,
    frame_skip=4,
    control_cost=1e-3,
    reset_noise=5e-3,
    alive_bonus=1.0,
    velocity_clip=10.0,
    height=(0.8, 2.0),
    angle=(-1.0, 1.0),
)
_CHEETAH = Locomotion(
    "HalfCheetah-v4",
    "half_cheetah.xml",
    obs_dim=17,
    action_dim=6,
    frame_skip=5,
    control_cost=0.1,
    reset_noise=0.1,
    normal_velocity=True,
)
ENVIRONMENTS: dict[str, Locomotion] = {
    row.env_id: row
    for row in (
        _HOPPER,
        replace(_HOPPER, env_id="Hopper-v5", bonus_when_falling=False),
        _WALKER,
        replace(_WALKER, env_id="Walker2d-v5", xml="walker2d_v5.xml", bonus_when_falling=False),
        _CHEETAH,
        replace(_CHEETAH, env_id="HalfCheetah-v5"),
    )
}


def simulator(env_id: str) -> Locomotion:
    """The environment of exactly this name.

    Raises:
        SpecError: there is none.
    """
    if env_id not in ENVIRONMENTS:
        raise unknown("environment", env_id, ENVIRONMENTS)
    return ENVIRONMENTS[env_id]
