import pytest
import torch

from core.random import Streams


def test_a_seed_draws_the_same_numbers_whoever_is_beside_it() -> None:
    together = Streams((0, 1, 2))
    alone = Streams((1,))
    for draw in (lambda rng: rng.normal(3, 4), lambda rng: rng.uniform(5), lambda rng: rng.integers(7, 6)):
        assert torch.equal(draw(together)[1], draw(alone)[0])


def test_a_fork_does_not_depend_on_what_was_drawn_before() -> None:
    fresh = Streams((3,))
    used = Streams((3,))
    used.normal(100)
    assert torch.equal(fresh.fork("a").normal(5), used.fork("a").normal(5))


@pytest.mark.parametrize(("left", "right"), [("a", "b"), ("a/b", "a/c"), ("1", "11")])
def test_labels_and_seeds_give_different_numbers(left: str, right: str) -> None:
    rng = Streams((0, 1))
    assert not torch.equal(rng.fork(left).normal(8), rng.fork(right).normal(8))
    assert not torch.equal(*rng.fork(left).normal(8))


def test_the_path_of_labels_matters_not_the_number_of_forks() -> None:
    rng = Streams((0,))
    assert torch.equal(rng.fork("a").fork("b").normal(4), rng.fork("a/b").normal(4))


def test_only_gives_what_that_seed_draws_alone() -> None:
    rng = Streams((0, 1)).fork("x")
    rng.normal(3)
    assert torch.equal(rng.only((1,)).normal(3)[0], Streams((1,)).fork("x").normal(3)[0])


def test_ranges_and_moments() -> None:
    rng = Streams((0,))
    uniform = rng.uniform(100_000)
    integers = rng.integers(3, 10_000)
    normal = rng.normal(100_000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.005
    assert integers.unique().tolist() == [0, 1, 2]
    assert abs(normal.mean()) < 0.015
    assert abs(normal.std() - 1) < 0.01
