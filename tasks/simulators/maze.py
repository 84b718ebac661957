"""D4RL's maze2d as a small MuJoCo model of our own: a force-driven ball between boxes, and one fixed goal.

Coordinates are D4RL's: x counts rows of the map, y counts columns. The centre of a free cell (i, j) is (i - 0.2,
j - 0.2), because D4RL's walls stand 0.2 beside the integers, while its goals and starts lie on them. Episodes never end
early, so a return is the number of steps spent near the goal.

Source: Fu et al. 2020 (arXiv:2004.07219); the physical constants are facts of its environment. The only way in which
we differ on purpose: the solver is never warm-started, so that a step is a function of state and action alone.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from core.errors import unknown
from core.random import Streams
from tasks.simulators.batched_mujoco import advance

__all__ = ["GOALS", "HORIZONS", "MAPS", "Maze", "advance_one", "cell_of", "free_cells", "load_maze", "model_xml"]

MAPS = {
    "umaze": ("#####", "#...#", "###.#", "#...#", "#####"),
    "medium": ("########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#", "########"),
    "large": (
        "############",
        "#....#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#...#",
        "############",
    ),
}
GOALS = {"umaze": (1.0, 1.0), "medium": (6.0, 6.0), "large": (7.0, 9.0)}
HORIZONS = {"umaze": 300, "medium": 600, "large": 800}  # steps of an evaluation episode

GOAL_RADIUS = 0.5
MAX_SPEED = 5.0  # per coordinate, enforced before a step and not after it
WALL_OFFSET = -0.2  # from a cell's integer coordinates to its centre
_START_BOX = 0.1
_START_SPEED = 0.1


@dataclass(frozen=True)
class Maze:
    """The simulator of one map; its state is (x, y, vx, vy), and so is its observation.

    A state that MuJoCo cannot step (NaN, or a position above 1e10) is followed by NaN.
    """

    name: str  # a key of MAPS
    dense: bool = False  # pay exp(-distance) instead of 1 within GOAL_RADIUS
    obs_dim: int = field(default=4, init=False)
    action_dim: int = field(default=2, init=False)

    has_termination_rule = True

    def __post_init__(self) -> None:
        if self.name not in MAPS:
            raise unknown("maze", self.name, MAPS)

    @property
    def physics(self) -> str:
        """The name is enough: the model has no options."""
        return f"maze2d-{self.name}, mujoco {mujoco.__version__}"

    def reset(self, rows: int, rng: Streams) -> Float64[Tensor, "S B X"]:
        """A uniformly random free cell (the goal's too) plus U(-0.1, 0.1), at a velocity of 0.1 N(0, I)."""
        cells = torch.from_numpy(free_cells(self.name)).double()
        cell = cells[rng.integers(len(cells), rows).cpu()]
        position = cell + _START_BOX * (2 * rng.uniform(rows, 2).double().cpu() - 1)
        return torch.cat([position, _START_SPEED * rng.normal(rows, 2).double().cpu()], -1)

    def observe(self, state: Float64[Tensor, "*N X"]) -> Float64[Tensor, "*N O"]:
        """The state itself."""
        return state

    def restore(self, obs: Float[Tensor, "*N O"]) -> tuple[Float64[Tensor, "*N X"], Bool[Tensor, "*N"]]:
        """The observation itself, always exact: velocities are recorded before they are clipped."""
        return obs.double().cpu(), torch.ones(obs.shape[:-1], dtype=torch.bool)

    def step(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], rng: Streams | None
    ) -> tuple[Float64[Tensor, "*N X"], Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """One step of 0.01 s; the reward is that of the next state, and there is no process noise."""
        slowed = torch.cat([state[..., :2], state[..., 2:].clamp(-MAX_SPEED, MAX_SPEED)], -1)
        control = action.double().cpu().clamp(-1, 1).unsqueeze(-2)
        after = advance(load_maze(self.name), slowed, control, frame_skip=1).squeeze(-2)
        return after, *self.outcome(state, action, after)

    def outcome(
        self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N A"], after: Float64[Tensor, "*N X"]
    ) -> tuple[Float64[Tensor, "*N"], Bool[Tensor, "*N"]]:
        """The reward of the next state; never terminated."""
        return self.reward(after), torch.zeros(after.shape[:-1], dtype=torch.bool)

    def replay(self, state: Float64[Tensor, "*N X"], action: Float[Tensor, "*N L A"]) -> Float64[Tensor, "*N L+1 X"]:
        """Step by step, since velocities are clipped in between."""
        states = [state]
        for step in range(action.shape[-2]):
            states.append(self.step(states[-1], action[..., step, :], None)[0])
        return torch.stack(states, -2)

    def terminated(
        self, obs: Float[Tensor, "*N O"], action: Float[Tensor, "*N A"], next_obs: Float[Tensor, "*N O"]
    ) -> Bool[Tensor, "*N"]:
        """Never."""
        return torch.zeros(obs.shape[:-1], dtype=torch.bool, device=obs.device)

    def reward(self, next_obs: Float[Tensor, "*N O"]) -> Float[Tensor, "*N"]:
        """The reward of a step to `next_obs`."""
        goal = torch.tensor(GOALS[self.name], dtype=next_obs.dtype, device=next_obs.device)
        distance: Tensor = torch.linalg.vector_norm(next_obs[..., :2] - goal, dim=-1)
        return (-distance).exp() if self.dense else (distance <= GOAL_RADIUS).to(distance.dtype)


def free_cells(name: str) -> Int[np.ndarray, "C 2"]:
    """(row, column) of every cell without a wall, in reading order."""
    return np.argwhere(np.array([list(row) for row in MAPS[name]]) == ".")


def cell_of(x: float, y: float) -> tuple[int, int]:
    """The cell in which a position lies; a free one for every position that the ball can reach."""
    return round(x - WALL_OFFSET), round(y - WALL_OFFSET)


@cache
def load_maze(name: str) -> Any:
    """The compiled model of a map; shared, so it must not be changed."""
    return mujoco.MjModel.from_xml_string(model_xml(name))


def model_xml(name: str) -> str:
    """A ball of radius 0.1 on two slides, and a unit box for every wall cell; without gravity, friction or ground."""
    walls = "\n".join(
        f'    <geom type="box" size=".5 .5 .2" pos="{i + WALL_OFFSET} {j + WALL_OFFSET} .2"/>'
        for i, row in enumerate(MAPS[name])
        for j, cell in enumerate(row)
        if cell == "#"
    )
    return f"""<mujoco>
  <option timestep=".01" integrator="Euler" iterations="20" gravity="0 0 0"/>
  <default>
    <geom condim="1" margin=".002" density="1000"/>
    <motor gear="100"/>
  </default>
  <worldbody>
{walls}
    <body>
      <joint name="x" type="slide" axis="1 0 0" damping="1"/>
      <joint name="y" type="slide" axis="0 1 0" damping="1"/>
      <geom type="sphere" size=".1"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="x"/>
    <motor joint="y"/>
  </actuator>
</mujoco>"""


def advance_one(
    scratch: Any, state: Float64[np.ndarray, "4"], action: Float[np.ndarray, "2"]
) -> Float64[np.ndarray, "4"]:
    """`Maze.step` for a single finite state, bit for bit, without the overhead of a batch.

    `scratch` is an `MjData` of `load_maze`; what it holds does not matter.
    """
    scratch.qpos[:] = state[:2]
    scratch.qvel[:] = np.clip(state[2:], -MAX_SPEED, MAX_SPEED)
    scratch.ctrl[:] = np.clip(action, -1, 1)
    scratch.qacc_warmstart[:] = 0
    mujoco.mj_step(scratch.model, scratch)
    return np.concatenate([scratch.qpos, scratch.qvel])
