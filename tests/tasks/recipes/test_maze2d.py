"""Planner, controller and stream of the maze2d recipe."""

import numpy as np
import pytest

from core.random import Streams
from tasks.recipes.maze2d import ACTION_NOISE, REACHED, collect, controller_returns, route, steer
from tasks.simulators.maze import GOALS, HORIZONS, MAPS, Maze, cell_of, free_cells


def test_route_is_shortest_and_connected() -> None:
    assert route("umaze", (1, 1), (3, 1)) == [(1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    assert route("umaze", (1, 1), (1, 1)) == []
    assert len(route("medium", (1, 1), (6, 6))) == 10
    cells = [tuple(cell) for cell in free_cells("large").tolist()]
    for start in cells:
        way = route("large", start, (7, 9))
        assert all(cell in cells for cell in way)
        steps = np.abs(np.diff([start, *way], axis=0)).sum(-1)
        assert (steps == 1).all()


def test_no_route_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"route from \(0, 0\) to \(1, 1\)"):
        route("umaze", (0, 0), (1, 1))


def test_steer_is_a_clipped_pd_controller() -> None:
    state = np.array([1.0, 2.0, 0.3, -0.2])
    assert np.allclose(steer(np.array([1.05, 2.01]), state), [0.2, 0.3])
    assert np.allclose(steer(np.array([9.0, -9.0]), state), [1, -1])


@pytest.mark.parametrize(("name", "rebuild"), [("umaze", 221), ("medium", 422), ("large", 548)])
def test_controller_earns_what_another_rebuild_measured(name: str, rebuild: float) -> None:
    """That rebuild used PointMaze's model; we get 220 +- 7, 423 +- 10 and 550 +- 14 with 60 episodes."""
    returns = controller_returns(Maze(name), 16, Streams((0,)))
    assert abs(returns.mean() - rebuild) < 4 * returns.std(ddof=1) / 16**0.5
    assert returns.min() > 0


@pytest.mark.parametrize("name", MAPS)
def test_the_stream_goes_from_goal_to_goal(name: str) -> None:
    rows, goals = collect(name, 1500, Streams((0,)))
    assert rows.next_obs is not None
    assert goals["goals_reached"] == rows.timeout.sum() >= 3
    assert goals["goals_given_up"] == 0
    free = free_cells(name)
    away = np.linalg.norm(rows.next_obs[rows.timeout, None, :2] - free, axis=-1)
    assert (away.min(1) < REACHED).all()
    here = away.argmin(1)
    assert (np.diff(here) != 0).all()  # a new goal is another cell
    assert np.diff(np.flatnonzero(rows.timeout)).max() <= HORIZONS[name]
    assert np.array_equal(rows.obs[1:], rows.next_obs[:-1])  # no reset, ever


def test_a_goal_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HORIZONS, "large", 30)
    rows, goals = collect("large", 600, Streams((0,)))
    assert goals["goals_given_up"] > 10
    assert sum(goals.values()) == rows.timeout.sum()
    assert np.diff(np.flatnonzero(rows.timeout)).max() == 30


def test_the_noise_is_in_the_executed_actions() -> None:
    """A clean PD controller is smooth in time; the noise of two steps that are not clipped is independent."""
    rows, _ = collect("large", 4000, Streams((0,)))
    inside = np.abs(rows.action).max(1) < 0.95
    pairs = inside[1:] & inside[:-1]
    jumps = np.diff(rows.action, axis=0)[pairs]
    assert np.abs(rows.action).max() == 1
    assert 0.3 < jumps.std() / 2**0.5 < ACTION_NOISE  # below it: we look only at pairs that were not clipped


def test_other_seeds_make_other_streams() -> None:
    first, _ = collect("umaze", 200, Streams((0,)))
    second, _ = collect("umaze", 200, Streams((1,)))
    assert not np.array_equal(first.action, second.action)


def test_goals_are_free_cells() -> None:
    assert {name: cell_of(*GOALS[name]) for name in MAPS} == {"umaze": (1, 1), "medium": (6, 6), "large": (7, 9)}
    assert all(list(cell_of(*GOALS[name])) in free_cells(name).tolist() for name in MAPS)
