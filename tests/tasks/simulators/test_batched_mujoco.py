"""Rows of a batch do not influence each other, whatever MuJoCo makes of them, in any number of threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mujoco
import pytest
import torch

from core.random import Streams
from tasks.simulators import batched_mujoco
from tasks.simulators.locomotion import ENVIRONMENTS, simulator

EVERY = pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))


@EVERY
def test_rows_do_not_depend_on_each_other(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: alone or in a batch, in any order, under any leading axes, cut into parts, and inputs untouched."""
    sim = simulator(env_id)
    rng = Streams((0, 1))
    state = sim.reset(6, rng)
    state = sim.replay(state, 2 * rng.uniform(6, 15, sim.action_dim) - 1)[..., -1, :]
    action = 2 * rng.uniform(6, 5, sim.action_dim) - 1
    kept = state.clone(), action.clone()
    whole = sim.replay(state, action)
    stepped = sim.step(state, action[..., 0, :], None)
    assert whole.shape == (2, 6, 6, sim.obs_dim + 1)
    assert torch.equal(whole[..., 0, :], state)
    assert torch.equal(whole[..., 1, :], stepped[0])
    assert torch.equal(whole.flip(1), sim.replay(state.flip(1), action.flip(1)))
    for seed, row in ((0, 0), (0, 5), (1, 3)):
        assert torch.equal(whole[seed, row], sim.replay(state[seed, row], action[seed, row]))
        alone = sim.step(state[seed, row], action[seed, row, 0], None)
        assert all(torch.equal(part[seed, row], one) for part, one in zip(stepped, alone, strict=True))
    monkeypatch.setattr(batched_mujoco, "_BUFFER", 1)
    assert torch.equal(whole, sim.replay(state, action))
    assert torch.equal(state, kept[0])
    assert torch.equal(action, kept[1])


def test_an_empty_batch_and_an_empty_string_of_actions() -> None:
    sim = simulator("Hopper-v4")
    state = sim.reset(3, Streams((0,)))
    after, reward, ended = sim.step(state[:, :0], torch.zeros(1, 0, 3), None)
    assert (after.shape, reward.shape, ended.shape) == ((1, 0, 12), (1, 0), (1, 0))
    assert torch.equal(sim.replay(state, torch.zeros(1, 3, 0, 3)), state.unsqueeze(-2))


@EVERY
def test_a_row_that_mujoco_cannot_step_is_nan_and_no_other(
    env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where MuJoCo would go on from the default pose, and write MUJOCO_LOG.TXT where it stands."""
    monkeypatch.chdir(tmp_path)
    sim = simulator(env_id)
    rng = Streams((0,))
    state = sim.reset(8, rng)[0]
    action = 2 * rng.uniform(8, 10, sim.action_dim)[0] - 1
    before = sim.replay(state, action)
    wild = state.clone()
    odd = action.clone()
    wild[1, -3:] = 1e9
    wild[3, 2] = torch.nan
    wild[4, 0] = torch.inf
    wild[6, -1] = -1e300
    odd[7, 4, 1] = torch.nan
    after = sim.replay(wild, odd)
    _, reward, ended = sim.step(wild, odd[:, 4], None)
    lost = [1, 3, 4, 6]
    assert after[lost, 1:].isnan().all()
    assert after[7, 5:].isnan().all()
    assert reward[[*lost, 7]].isnan().all()
    assert ended[[*lost, 7]].all()
    assert torch.equal(after[[0, 2, 5]], before[[0, 2, 5]])
    assert torch.equal(after[7, :5], before[7, :5])
    assert not ended[[0, 2, 5]].any()
    assert torch.equal(sim.replay(state, action), before)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert mujoco.get_mju_user_warning() is None


def test_threads_get_the_same_numbers() -> None:
    sim = simulator("Hopper-v4")
    rng = Streams((0,))
    state = sim.reset(20, rng)
    action = 2 * rng.uniform(20, 10, 3) - 1
    expected = sim.replay(state, action)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(states, expected) for states in pool.map(lambda _: sim.replay(state, action), range(8)))


def test_models_with_more_state_are_refused() -> None:
    xml = """<mujoco><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody>
             <actuator><general joint="j" dyntype="filter"/></actuator></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml)
    with pytest.raises(ValueError, match="no state besides"):
        batched_mujoco.advance(model, torch.zeros(1, 2).double(), torch.zeros(1, 1, 1).double(), 1)
