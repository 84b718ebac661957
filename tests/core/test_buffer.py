import pytest
import torch

from core.buffer import Buffer, Mixer, pack, unpack
from core.data import Trajectories, Transitions
from core.random import Streams


def rows(*shape: int, start: int = 0) -> Transitions:
    """Rows that can be told apart: reward counts up from `start`."""
    count = torch.arange(start, start + shape[-1], dtype=torch.float32).expand(shape)
    return Transitions(
        count[..., None].expand(*shape, 2),
        count[..., None] * 0.01,
        count,
        count[..., None].expand(*shape, 2) + 1,
        count % 2 == 0,
    )


def test_pack_and_unpack_are_inverse() -> None:
    x = rows(3, 5)
    for before, after in zip(vars(x).values(), vars(unpack(pack(x), 2, 1)).values(), strict=True):
        assert torch.equal(before, after)


def test_ring_keeps_the_newest_valid_rows_of_each_seed() -> None:
    buffer = Buffer(2, 4, 2, 1, "cpu")
    valid = torch.tensor([[True] * 3, [True, False, True]])
    buffer.add(rows(2, 3), valid)
    assert buffer.filled().tolist() == [3, 2]
    buffer.add(rows(2, 3, start=10), torch.ones(2, 3, dtype=torch.bool))
    assert buffer.filled().tolist() == [4, 4]
    held = [set(unpack(seed, 2, 1).reward.tolist()) for seed in buffer.rows]
    assert held == [{2, 10, 11, 12}, {2, 10, 11, 12}]


def test_ring_takes_the_last_rows_of_more_than_it_can_hold() -> None:
    buffer = Buffer(1, 4, 2, 1, "cpu")
    buffer.add(rows(1, 11), torch.ones(1, 11, dtype=torch.bool))
    assert sorted(unpack(buffer.rows[0], 2, 1).reward.tolist()) == [7, 8, 9, 10]


@pytest.mark.parametrize(("share", "real"), [(0.0, 0), (0.05, 13), (0.6, 154), (1.0, 256)])
def test_fractions_are_exact_and_real_rows_come_first(share: float, real: int) -> None:
    buffer = Buffer(2, 50, 2, 1, "cpu")
    buffer.add(rows(2, 50, start=1000), torch.ones(2, 50, dtype=torch.bool))
    mixer = Mixer(rows(100), buffer, share, 256)
    batch = mixer.batch(Streams((0, 1)))
    assert batch.real == real
    assert ((batch.reward < 1000).sum(-1) == real).all()
    assert (batch.reward[:, :real] < 1000).all()


def test_a_seed_without_synthetic_rows_gets_real_ones() -> None:
    buffer = Buffer(2, 10, 2, 1, "cpu")
    alone = Buffer(1, 10, 2, 1, "cpu")
    buffer.add(rows(2, 3, start=1000), torch.tensor([[True] * 3, [False] * 3]))
    alone.add(rows(1, 3, start=1000), torch.ones(1, 3, dtype=torch.bool))
    batch = Mixer(rows(100), buffer, 0.5, 64).batch(Streams((0, 1)))
    assert (batch.reward[1] < 1000).all()
    assert torch.equal(batch.reward[0], Mixer(rows(100), alone, 0.5, 64).batch(Streams((0,))).reward[0])
    assert batch.real == 32


def test_every_row_is_real_while_there_is_no_synthetic_one() -> None:
    batch = Mixer(rows(100), Buffer(2, 10, 2, 1, "cpu"), 0.5, 64).batch(Streams((0, 1)))
    assert batch.real == 64
    assert (batch.reward < 1000).all()


def test_no_empty_slot_is_ever_drawn() -> None:  # method sheet, test 9 (B22)
    buffer = Buffer(1, 1000, 2, 1, "cpu")
    buffer.add(rows(1, 3, start=1000), torch.ones(1, 3, dtype=torch.bool))
    mixer = Mixer(rows(10), buffer, 0.0, 512)
    assert set(mixer.batch(Streams((0,))).reward[0].tolist()) == {1000, 1001, 1002}


def test_trajectories_become_rows_rollout_by_rollout() -> None:
    obs = torch.arange(2 * 3 * 4 * 1).view(2, 3, 4, 1).float()
    steps = torch.arange(2 * 3 * 3).view(2, 3, 3)
    made = Trajectories(steps[..., None].float(), obs, steps.float(), steps % 3 == 2, steps % 3 < 2)
    flat, valid = made.transitions()
    assert flat.obs[0, :, 0].tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert torch.equal(flat.next_obs, flat.obs + 1)
    assert valid[1].tolist() == [True, True, False] * 3
    assert flat.terminated[1].tolist() == [False, False, True] * 3


def test_a_reward_with_an_axis_too_many_is_refused() -> None:  # method sheet, test 10 (B16): [B, 1] would broadcast
    x = rows(5)
    with pytest.raises(Exception, match="reward"):
        Transitions(x.obs, x.action, x.reward[:, None], x.next_obs, x.terminated)
