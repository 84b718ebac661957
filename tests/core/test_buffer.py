from collections import Counter

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
    assert batch.behaviour_rows == 256
    if real:
        assert Mixer(rows(100), buffer, share, 256, "real_only").batch(Streams((0, 1))).behaviour_rows == real
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


@pytest.mark.parametrize("seed", [0, 1])
def test_behaviour_rows_of_a_seed_do_not_depend_on_the_others(seed: int) -> None:
    """The first seed has synthetic rows, the second has none: each as if it were alone."""
    valid = torch.tensor([[True] * 3, [False] * 3])
    together = Buffer(2, 10, 2, 1, "cpu")
    together.add(rows(2, 3, start=1000), valid)
    alone = Buffer(1, 10, 2, 1, "cpu")
    alone.add(rows(1, 3, start=1000), valid[seed : seed + 1])
    both = Mixer(rows(100), together, 0.5, 8, "real_only").batch(Streams((0, 1)))
    one = Mixer(rows(100), alone, 0.5, 8, "real_only").batch(Streams((seed,)))
    assert both.behaviour == one.behaviour == slice(4)
    assert torch.equal(both.reward[seed], one.reward[0])


def test_every_row_is_real_while_there_is_no_synthetic_one() -> None:
    for regularise in ("all", "real_only"):
        batch = Mixer(rows(100), Buffer(2, 10, 2, 1, "cpu"), 0.5, 64, regularise).batch(Streams((0, 1)))
        assert batch.behaviour == slice(64)
        assert (batch.reward < 1000).all()


def test_no_empty_slot_is_ever_drawn() -> None:  # method sheet, test 9 (B22)
    buffer = Buffer(1, 1000, 2, 1, "cpu")
    buffer.add(rows(1, 3, start=1000), torch.ones(1, 3, dtype=torch.bool))
    mixer = Mixer(rows(10), buffer, 0.0, 512)
    assert set(mixer.batch(Streams((0,))).reward[0].tolist()) == {1000, 1001, 1002}


def drawable(buffer: Buffer) -> list[set[float]]:
    """Rewards of the rows of each seed that can be drawn, found by drawing often."""
    draw = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1].expand(len(buffer.rows), -1)
    return [set(unpack(seed, 2, 1).reward.tolist()) for seed in buffer.gather(draw)]


def kept(counts: list[list[int]], seed: int, newest: int | None, capacity: int) -> set[float]:
    """Rewards of what one seed can draw after calls that gave so many valid rows to each seed, counted by hand."""
    calls = [list(range(100 * number, 100 * number + call[seed])) for number, call in enumerate(counts)]
    chosen = [row for call in calls[-newest if newest else None :] for row in call]
    return {float(row) for row in chosen[-capacity:]}


COUNTS = [[3, 1], [2, 5], [5, 0], [1, 4], [4, 4], [0, 2], [5, 5], [2, 0], [0, 0], [3, 3]]  # of 2 seeds, call by call


def fill(buffer: Buffer, counts: list[list[int]], first: int = 0) -> None:
    """Of five rows each seed gets its number of valid ones; the reward says which call a row came from."""
    for number, call in enumerate(counts, first):
        buffer.add(rows(2, 5, start=100 * number), torch.arange(5) < torch.tensor(call)[:, None])


@pytest.mark.parametrize("capacity", [4, 10, 100])  # less than a refresh, around the end of the ring, no end
@pytest.mark.parametrize("newest", [1, 2, 3, 20, None])
def test_rows_of_the_newest_refreshes_are_drawn_and_no_other(newest: int | None, capacity: int) -> None:
    buffer = Buffer(2, capacity, 2, 1, "cpu", newest)
    for number in range(len(COUNTS)):
        fill(buffer, COUNTS[number : number + 1], number)
        for seed, found in enumerate(drawable(buffer)):
            expected = kept(COUNTS[: number + 1], seed, newest, capacity)
            assert buffer.filled()[seed] == len(expected)
            assert not expected or found == expected


def test_every_drawable_row_is_drawn_equally_often() -> None:
    buffer = Buffer(1, 10, 2, 1, "cpu", 2)
    for start in (0, 100, 200):
        buffer.add(rows(1, 4, start=start), torch.ones(1, 4, dtype=torch.bool))
    draw = (torch.arange(800, dtype=torch.float64) / 800)[None]
    counts = Counter(unpack(buffer.gather(draw), 2, 1).reward[0].tolist())
    assert counts == dict.fromkeys([100, 101, 102, 103, 200, 201, 202, 203], 100)


@pytest.mark.parametrize("newest", [1, 3, None])
def test_a_restored_buffer_goes_on_as_if_never_saved(newest: int | None) -> None:
    saved = Buffer(2, 7, 2, 1, "cpu", newest)
    whole = Buffer(2, 7, 2, 1, "cpu", newest)
    fill(whole, COUNTS)
    for cut in range(len(COUNTS)):
        fill(saved, COUNTS[cut : cut + 1], cut)
        again = Buffer(2, 7, 2, 1, "cpu", newest)
        again.load_state_dict({name: x.clone() for name, x in saved.state_dict().items()})
        draw = Streams((0, 1)).uniform64(50)
        assert torch.equal(again.gather(draw), saved.gather(draw))
        fill(again, COUNTS[cut + 1 :], cut + 1)
        assert torch.equal(again.gather(draw), whole.gather(draw))
        assert torch.equal(again.filled(), whole.filled())


def test_a_refresh_without_a_valid_row_leaves_real_ones() -> None:
    """Rows that are too old are not drawn in their place; the other seed has its own, and a later refresh heals."""
    buffer = Buffer(2, 20, 2, 1, "cpu", 1)
    mixer = Mixer(rows(100), buffer, 0.5, 64)
    share = []
    for valid in ([True, True], [False, True], [True, True]):
        buffer.add(rows(2, 3, start=1000), torch.tensor(valid)[:, None].expand(2, 3))
        mixer.refresh()
        share.append(((mixer.batch(Streams((0, 1))).reward >= 1000).sum(-1)).tolist())
    assert share == [[32, 32], [0, 32], [32, 32]]


def test_adding_and_drawing_keep_the_tensors_of_the_buffer() -> None:
    """A CUDA graph reads the tensors that were there when it was recorded."""
    buffer = Buffer(2, 7, 2, 1, "cpu", 2)
    before = [x.data_ptr() for x in vars(buffer).values()]
    fill(buffer, COUNTS)
    buffer.load_state_dict({name: x.clone() for name, x in buffer.state_dict().items()})
    assert [x.data_ptr() for x in vars(buffer).values()] == before


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
