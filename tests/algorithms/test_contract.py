"""What every algorithm promises; a new file in algorithms/ is tested at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.base import Algorithm, CriticState, State
from core import registry
from core.buffer import Buffer, Mixer
from core.checkpoint import Checkpoint
from core.data import Dataset, Transitions
from core.policy import Policy
from core.random import Streams
from core.registry import build_method
from tasks.base import DataOptions, load_task, task_names

SEEDS = (0, 1, 2)
UPDATES = 200


def variants() -> list[tuple[str, str | None]]:
    """Every algorithm with its defaults, and with its presets: one of those that set the same fields."""
    names = registry.available("algorithms")
    presets = {
        (name, *sorted(fields)): (name, preset)
        for name in names
        for preset, fields in registry.load("algorithms", name).presets.items()
    }
    return [*((name, None) for name in names), *presets.values()]


@pytest.fixture(scope="module", params=variants(), ids=lambda param: "-".join(filter(None, param)))
def variant(request: pytest.FixtureRequest) -> tuple[str, str | None]:
    found: tuple[str, str | None] = request.param
    return found


@pytest.fixture(scope="module")
def updates(variant: tuple[str, str | None]) -> int:
    """A preset only has other settings."""
    return UPDATES if variant[1] is None else UPDATES // 4


@pytest.fixture(scope="module")
def algorithm(variant: tuple[str, str | None]) -> Algorithm:
    """As it comes, but small."""
    name, preset = variant
    small = {"hidden": [32, 32], "batch_size": 64}
    known = registry.load("algorithms", name).__dataclass_fields__
    fields = {key: value for key, value in small.items() if key in known}
    return build_method("algorithms", name, fields if preset is None else {**fields, "preset": preset})


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_task("toy/linear", DataOptions(dataset_rows=3000)).dataset()[0]


def batches(algorithm: Algorithm, data: Dataset, seeds: tuple[int, ...]) -> Any:
    """Real rows of which some end, as a run would draw them."""
    buffer = Buffer(len(seeds), 1, 4, 2, "cpu")
    mixer = Mixer(data.train, buffer, 1.0, algorithm.batch_size)
    rng = Streams(seeds).fork("batches")
    while True:
        batch = mixer.batch(rng)
        yield Transitions(batch.obs, batch.action, batch.reward, batch.next_obs, batch.obs[..., 0] > 0.4)


def train(algorithm: Algorithm, data: Dataset, seeds: tuple[int, ...], updates: int) -> tuple[Any, list[Any]]:
    state = algorithm.init(data, Streams(seeds).fork("init"))
    rng = Streams(seeds)
    source = batches(algorithm, data, seeds)
    noise = rng.fork("update")
    return state, [algorithm.update(state, next(source), noise) for _ in range(updates)]


@pytest.fixture(scope="module")
def together(algorithm: Algorithm, data: Dataset, updates: int) -> tuple[Any, list[Any]]:
    return train(algorithm, data, SEEDS, updates)


def tensors(tree: Any, path: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in nested dictionaries and lists, by its path."""
    if isinstance(tree, torch.Tensor):
        return {path: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return {name: found for key, value in items for name, found in tensors(value, f"{path}/{key}").items()}


def test_presets_are_valid_and_named_like_our_data_sets() -> None:
    known = {name.partition("/")[2] for name in task_names()}
    for name in registry.available("algorithms"):
        for preset in registry.load("algorithms", name).presets:
            build_method("algorithms", name, {"preset": preset})
            assert "-" not in preset or preset in known, preset


def test_it_is_an_algorithm_with_a_policy(algorithm: Algorithm, data: Dataset) -> None:
    state = algorithm.init(data, Streams(SEEDS))
    assert isinstance(algorithm, Algorithm)
    assert isinstance(state, State)
    assert isinstance(state.policy, Policy)
    assert algorithm.batch_size >= 1


def test_losses_are_finite_one_per_seed_and_differ_between_seeds(together: tuple[Any, list[Any]]) -> None:
    _, losses = together
    for step in losses:
        assert step
        for name, value in step.items():
            assert value.shape == (3,), name
            assert value.isfinite().all(), name
            assert not value.requires_grad, name
    for name in {name for step in losses for name in step}:
        course = torch.stack([step[name] for step in losses if name in step], 1)  # at one update two may be equal
        assert len(course.unique(dim=0)) == 3, name


def test_actions_are_in_the_box_and_one_per_observation(together: tuple[Any, list[Any]], data: Dataset) -> None:
    policy = together[0].policy
    rng = Streams(SEEDS)
    obs = 100 * data.train.obs[:50].expand(3, -1, -1)
    for action in (policy.act(obs, None), policy.act(obs, rng)):
        assert action.shape == (3, 50, 2)
        assert (action.abs() <= 1).all()
        assert not action.requires_grad


def test_the_greedy_action_is_a_function_of_the_observation(together: tuple[Any, list[Any]], data: Dataset) -> None:
    policy = together[0].policy
    obs = data.train.obs[:64].expand(3, -1, -1)
    before = obs.clone()
    action = policy.act(obs, None)
    assert torch.equal(action, policy.act(obs, None))
    assert torch.equal(obs, before)
    assert torch.allclose(policy.act(obs.flip(1), None), action.flip(1), atol=1e-6)


def test_exploration_is_a_function_of_the_rng(together: tuple[Any, list[Any]], data: Dataset) -> None:
    policy = together[0].policy
    obs = data.train.obs[:64].expand(3, -1, -1)
    assert torch.equal(policy.act(obs, Streams(SEEDS, "a")), policy.act(obs, Streams(SEEDS, "a")))


def test_a_critic_says_what_an_action_is_worth_in_every_seed(together: tuple[Any, list[Any]], data: Dataset) -> None:
    state = together[0]
    (obs, action) = (x[:64].expand(3, -1, -1) for x in (data.train.obs, data.train.action))
    assert isinstance(state, CriticState) == hasattr(state, "critic")
    if hasattr(state, "critic"):
        value = state.action_value(obs, action)
        assert value.shape == (3, 64)
        assert value.isfinite().all()
        assert not value.requires_grad
        assert (value.std(1) > 0).all()
        assert len(value[:, 0].unique()) == 3
        assert not torch.equal(value, state.action_value(obs, -action))


def test_updates_move_every_seed(algorithm: Algorithm, data: Dataset, together: tuple[Any, list[Any]]) -> None:
    obs = data.train.obs[:64].expand(3, -1, -1)
    fresh = algorithm.init(data, Streams(SEEDS).fork("init"))
    moved = (together[0].policy.act(obs, None) - fresh.policy.act(obs, None)).abs().amax((1, 2))
    assert (moved > 1e-4).all()  # CQL: rate 3e-5, last layer 0.01


def test_a_seed_alone_is_the_same_bit_for_bit(
    algorithm: Algorithm, data: Dataset, together: tuple[Any, list[Any]], updates: int
) -> None:
    state, losses = train(algorithm, data, (1,), updates)
    mine = tensors(state.state_dict())
    all_seeds = tensors(together[0].state_dict())
    assert mine.keys() == all_seeds.keys()
    assert mine
    for name, value in mine.items():
        others = all_seeds[name]
        assert torch.equal(value, others[1:2] if others.ndim else others), name
    for one, three in zip(losses, together[1], strict=True):
        assert one.keys() == three.keys()
        assert all(torch.equal(one[name], three[name][1:2]) for name in one)


def test_a_seed_that_is_not_finite_touches_no_other(algorithm: Algorithm, data: Dataset) -> None:
    after = []
    for bad in (1.0, torch.nan):
        state = algorithm.init(data, Streams(SEEDS))
        source = batches(algorithm, data, SEEDS)
        noise = Streams(SEEDS, "n")
        for number in range(12):
            batch = next(source)
            factor = torch.tensor([1.0, 1.0, bad if number == 4 else 1.0])[:, None]
            algorithm.update(state, replace(batch, obs=batch.obs * factor[..., None]), noise)
        after.append((tensors(state.state_dict()), state.policy.act(data.train.obs[:8].expand(3, -1, -1), None)))
    (well, actions), (ill, others) = after
    for name, value in well.items():
        assert not value.ndim or torch.equal(value[:2], ill[name][:2]), name
    assert torch.equal(actions[:2], others[:2])
    assert any(not x.isfinite().all() for x in ill.values())


def test_the_same_seeds_give_the_same_numbers(algorithm: Algorithm, data: Dataset) -> None:
    once, again = (tensors(train(algorithm, data, SEEDS, 20)[0].state_dict()) for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in once.items())


def test_a_restored_state_continues_as_if_undisturbed(algorithm: Algorithm, data: Dataset, tmp_path: Path) -> None:
    """Twelve updates; and five, a file, a fresh state of another start, and the other seven."""
    whole, _ = train(algorithm, data, SEEDS, 12)
    source = batches(algorithm, data, SEEDS)
    noise = Streams(SEEDS).fork("update")
    state = None
    for number in range(12):
        if number == 0:
            state = algorithm.init(data, Streams(SEEDS).fork("init"))
        if number == 5:
            Checkpoint(tmp_path).save(5, state.state_dict())
            state = algorithm.init(data, Streams(SEEDS).fork("another"))
            state.load_state_dict((Checkpoint(tmp_path).load() or (0, {}))[1])
        algorithm.update(state, next(source), noise)
    once = tensors(whole.state_dict())
    again = tensors(state.state_dict())
    assert once.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in once.items())


class HostWaits(TorchDispatchMode):
    """Notes what would wait for a GPU: values that come to the host or from there, shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and isinstance(args[1], list | tuple) and any(map(is_mask, args[1]))
        if masks or name in {"_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh"}:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


def test_no_update_waits_for_the_device(algorithm: Algorithm, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does drawing its batch, half of it synthetic. A GPU's fused Adam does not wait, a CPU's other one does."""
    monkeypatch.setattr(torch.optim.Adam, "step", lambda optimizer: None)
    state = algorithm.init(data, Streams(SEEDS))
    noise = Streams(SEEDS, "update")
    rng = Streams(SEEDS, "batches")
    buffer = Buffer(len(SEEDS), 100, 4, 2, "cpu", refreshes=1)
    buffer.add(data.train.map(lambda x: x[:100].expand(3, *x[:100].shape)), torch.ones(3, 100, dtype=torch.bool))
    mixer = Mixer(data.train, buffer, 0.5, algorithm.batch_size)
    for number in range(6):  # every second one has more to do
        with HostWaits() as waits:
            algorithm.update(state, mixer.batch(rng), noise)
        assert waits.found == [], number
    with HostWaits() as waits:
        bool((data.train.reward[data.train.reward > 0] > 0).any())
    assert waits.found == ["index", "_local_scalar_dense"]


def test_a_batch_is_not_changed(algorithm: Algorithm, data: Dataset) -> None:
    state = algorithm.init(data, Streams(SEEDS))
    rng = Streams(SEEDS, "update")
    batch = next(batches(algorithm, data, SEEDS))
    before = batch.map(torch.clone)
    for _ in range(3):
        algorithm.update(state, batch, rng)
    assert all(torch.equal(value, getattr(before, name)) for name, value in vars(batch).items())


def test_a_batch_of_one_row_will_do(algorithm: Algorithm, data: Dataset) -> None:
    state = algorithm.init(data, Streams(SEEDS))
    batch = next(batches(algorithm, data, SEEDS)).map(lambda x: x[:, :1])
    for _ in range(2):
        losses = algorithm.update(state, batch, Streams(SEEDS, "update"))
    assert all(value.isfinite().all() for value in losses.values())
