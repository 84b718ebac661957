from dataclasses import replace

import pytest
import torch

from core.data import Dataset
from core.random import Streams
from models.cache import FitContext
from models.diffusion.windows import Windows
from models.dynamics import DynamicsConfig, EnsembleDynamics, _bootstrap, bounded_log_variance, gaussian_nll, rollout
from tasks.base import DataOptions, load_task

TINY = DynamicsConfig(members=3, elites=2, width=32, weight_decay=(0.0, 0.0, 0.0), max_updates=300, check_every=50)


def fitted(data: Dataset, config: DynamicsConfig = TINY, seeds: tuple[int, ...] = (0,)) -> EnsembleDynamics:
    rng = Streams(seeds)
    model = config.init(4, 2, rng.fork("init"))
    config.fit(model, data, FitContext(rng.fork("fit")))
    return model


def test_log_variance_is_bounded_and_passes_gradients() -> None:
    raw = torch.linspace(-100, 100, 41)[:, None]
    low = torch.full((1, 1), -10.0, requires_grad=True)
    high = torch.full((1, 1), 0.5, requires_grad=True)
    bounded = bounded_log_variance(raw, low, high)
    assert bounded.min() >= -10
    assert bounded.max() <= 0.5 + 1e-4  # the inner soft clamp overshoots by less than that
    bounded.sum().backward()
    assert low.grad is not None
    assert low.grad.item() > 1
    assert high.grad is not None
    assert high.grad.item() > 1


def test_nll_is_lowest_at_the_true_variance() -> None:
    y = torch.randn(20_000) * 2
    losses = [gaussian_nll(y, torch.zeros_like(y), torch.full_like(y, v).log()).mean().item() for v in (2.0, 4.0, 8.0)]
    assert losses[1] == min(losses)


def test_bounds_are_trained(toy: Dataset) -> None:
    model = fitted(toy)
    fresh = TINY.init(4, 2, Streams((0,)).fork("init"))
    assert (model.max_log_variance < fresh.max_log_variance).all()


def test_members_share_their_bounds(toy: Dataset) -> None:
    """As in PETS and MOPO. With bounds of their own members say too little of rows that they do not know: parity."""
    model = TINY.init(4, 2, Streams((0, 1)).fork("init"))
    assert model.max_log_variance.shape == model.min_log_variance.shape == (2, 1, 1, 5)
    assert torch.allclose(model.regularization(), torch.tensor(TINY.log_variance_weight * 5 * (0.5 + 10)))
    x, y = torch.randn(2, 3, 8, 6), torch.randn(2, 3, 8, 5)
    model.loss(x, y).sum().backward()
    whole = model.max_log_variance.grad.clone()  # type: ignore[union-attr]
    parts = []
    for member in range(3):
        model.zero_grad()
        mean, log_variance = model.standard(model.input(x))
        gaussian_nll(model.output(y), mean, log_variance).mean((-1, -2))[:, member].sum().backward()
        parts.append(model.max_log_variance.grad.clone())  # type: ignore[union-attr]
    assert torch.allclose(whole, sum(parts) + TINY.log_variance_weight, atol=1e-6)


def test_elites_have_the_lowest_error_of_the_kept_weights(toy: Dataset) -> None:
    """B2: errors are measured again on the weights that came back, on rows nobody has seen."""
    config = replace(TINY, members=5, elites=2)
    model = fitted(toy, config)
    held = toy.heldout.transitions()[0]
    mean, _ = model.predict(held.obs[None], held.action[None])
    truth = torch.cat([held.next_obs - held.obs, held.reward[:, None]], -1)
    errors = (((mean - truth) / model.output.scale[:, None]).square()).mean((-1, -2))[0]
    assert errors[model.elites[0]].mean() <= errors.mean()
    assert errors.max() < 0.5  # of variance 1 before learning


def test_members_see_only_their_own_bootstrap_sample() -> None:
    """B6: about 63.2 per cent of the rows, some of them many times, the same ones for ever."""
    rows = torch.arange(10_000).expand(2, -1)
    sample = _bootstrap(rows, 3, Streams((0, 1)))
    assert sample.shape == (2, 3, 10_000)
    shares = torch.tensor([[len(member.unique()) / 10_000 for member in seed] for seed in sample])
    assert ((shares - (1 - torch.e**-1)).abs() < 0.015).all()


@pytest.mark.slow
def test_learns_the_linear_system(toy: Dataset) -> None:
    """One-step error of the mean, in deviations of s' - s: noise of 0.01 is the floor."""
    model = fitted(toy, replace(TINY, max_updates=1500, patience=100))
    held = toy.heldout.transitions()[0]
    mean, std = model.predict(held.obs[None], held.action[None])
    truth = torch.cat([held.next_obs - held.obs, held.reward[:, None]], -1)
    error = (mean[:, :, :, :4] - truth[:, :4]).square().mean((0, 1, 2)).sqrt()
    assert ((error > 0.0095) & (error < 0.02)).all()
    assert ((std[..., :4].mean((0, 1, 2)) > 0.005) & (std[..., :4].mean((0, 1, 2)) < 0.03)).all()


def test_every_row_is_drawn_from_one_elite(toy: Dataset) -> None:
    """With the noise taken away, each row must equal the mean of one elite, and all elites must be used equally."""
    model = fitted(toy)
    with torch.no_grad():
        model.max_log_variance.fill_(-60)
        model.min_log_variance.fill_(-61)
        for layer in (model.net.linear[-1],):
            layer.bias[..., 5:] = -100
    obs = toy.train.obs[None, :101]
    action = toy.train.action[None, :101]
    next_obs, reward = model.draw(obs, action, Streams((0,)))
    means = model.predict(obs, action)[0][0, model.elites[0]]
    drawn = torch.cat([next_obs - obs, reward[..., None]], -1)[0]
    which = (means - drawn).abs().amax(-1).argmin(0)
    assert (means - drawn).abs().amax(-1).amin(0).max() < 1e-5
    assert sorted(which.bincount().tolist()) == [50, 51]


@pytest.mark.parametrize("batch", [1, 4, 7, 9])
def test_every_row_has_every_elite_equally_often(batch: int) -> None:
    """Members that predict their own number; 4000 seeds of one model are as many independent draws."""
    config = replace(TINY, members=4, elites=3, width=4, weight_decay=(0.0, 0.0))
    seeds = tuple(range(4000))
    model = config.init(1, 1, Streams(seeds))
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.zero_()
        model.net.linear[-1].bias[..., 0, 0] = torch.arange(4.0)
    zero = torch.zeros(len(seeds), batch, 1)
    which = model.draw(zero, zero, Streams(seeds, "draw"), sample=False)[0][..., 0].round().long()
    shares = torch.nn.functional.one_hot(which, 3).double().mean(0)  # [batch, elite]
    assert (shares - 1 / 3).abs().max() < 0.035  # five standard errors
    assert (torch.nn.functional.one_hot(which, 3).sum(1) <= -(-batch // 3)).all()


def test_without_sampling_a_row_is_its_elites_mean(toy: Dataset) -> None:
    model = fitted(toy)
    obs = toy.train.obs[None, :101]
    action = toy.train.action[None, :101]
    mean, std = model.predict(obs, action)
    expected = obs + mean[0, model.elites[0], :, :4]
    still = model.draw(obs, action, Streams((0,)), sample=False)[0]
    distance = (expected - still).abs().amax(-1)
    assert distance.amin(0).max() < 1e-5
    assert sorted(distance.argmin(0).bincount().tolist()) == [50, 51]
    drawn = model.draw(obs, action, Streams((0,)))[0]
    own = std[0, model.elites[0]].gather(0, distance.argmin(0).view(1, -1, 1).expand(-1, -1, 5))[..., :4]
    assert ((drawn - still) / own).std().item() == pytest.approx(1, abs=0.15)


def test_the_mean_is_that_of_the_elites_and_of_a_seed_alone(toy: Dataset) -> None:
    together = fitted(toy, seeds=(0, 1))
    alone = fitted(toy, seeds=(1,))
    obs = toy.train.obs[:70]
    action = toy.train.action[:70]
    next_obs, reward = together.mean(obs.expand(2, -1, -1), action.expand(2, -1, -1))
    single = alone.mean(obs[None], action[None])
    assert torch.equal(next_obs[1], single[0][0])
    assert torch.equal(reward[1], single[1][0])
    mean = alone.predict(obs[None], action[None])[0][0, alone.elites[0]].mean(0)
    assert torch.allclose(single[0][0], obs + mean[:, :4], atol=1e-6)
    assert torch.allclose(single[1][0], mean[:, 4], atol=1e-6)


def test_flops_by_hand() -> None:
    assert TINY.flops(4, 2) == 2 * (6 * 32 + 32 * 32 + 32 * 10)


UNROLLED = replace(TINY, max_updates=200, unroll=8, unroll_updates=200, unroll_batch=128, unroll_learning_rate=2e-3)


def test_the_unrolled_loss_of_one_step_is_the_plain_one(toy: Dataset) -> None:
    model = fitted(toy)
    rows = toy.train.map(lambda x: x[:60].expand(1, 3, *x[:60].shape))
    path = torch.stack([rows.obs, rows.next_obs], -2)
    error = model.unrolled(rows.action[..., None, :], path, rows.reward[..., None], torch.ones(1, 3, 60, 1).bool())
    y = torch.cat([rows.next_obs - rows.obs, rows.reward[..., None]], -1)
    plain = model.loss(torch.cat([rows.obs, rows.action], -1), y)
    assert torch.allclose(error.sum(-1) + model.regularization(), plain, atol=1e-4)


def test_each_member_is_scored_along_its_own_path(toy: Dataset) -> None:
    model = fitted(toy)
    window = Windows(toy, 5).at(torch.arange(30, 60)[None], Streams((0,)))
    row = (torch.arange(30, 60)[:, None] + torch.arange(4)).clamp(max=len(toy.episode) - 1)
    reward = toy.train.reward[row][None]
    assert 0 < window.in_episode.float().mean() < 1
    four = [x[:, None].expand(-1, 3, *x.shape[1:]) for x in (window.action, window.obs, reward, window.in_episode)]
    error = model.unrolled(*four)
    state = four[1][:, :, :, 0]
    expected = torch.zeros(1, 3, 30)
    for step in range(4):
        said = [model.predict(state[:, member], window.action[:, :, step]) for member in range(3)]
        mean, std = (torch.stack([x[i][:, member] for member, x in enumerate(said)], 1) for i in (0, 1))
        truth = torch.cat([window.obs[:, None, :, step + 1] - state, four[2][..., step, None]], -1)
        unit = model.output.scale[:, None]
        distance = (truth - mean).square() / unit.square()
        score = (distance if step else distance / (std / unit).square() + 2 * (std / unit).log()).mean(-1)
        expected += score * window.in_episode[:, None, :, step]
        state = state + mean[..., :4]
    assert torch.allclose(error, expected.mean(-1) / 4, rtol=1e-3, atol=1e-3)
    later = [x.clone() for x in four]
    later[1][:, :, :, 1:][~four[3]] = 9.0  # what follows the end is never looked at
    later[2][~four[3]] = 9.0
    assert torch.equal(model.unrolled(*later), error)


@pytest.mark.slow
def test_tuning_lowers_the_error_after_many_steps(toy: Dataset) -> None:
    task = load_task("toy/linear", DataOptions(dataset_rows=4000))
    action = toy.heldout.action[None, :, :8]
    start = toy.heldout.obs[None, :, 0]
    truth = task.simulator.observe(task.simulator.replay(toy.heldout_state[:, 0], action[0])).float()
    errors = []
    for config in (replace(UNROLLED, unroll=1, max_updates=400, patience=100), UNROLLED):
        model = fitted(toy, config)
        state = start
        for step in range(8):
            state, _ = model.mean(state, action[:, :, step])
        errors.append((state - truth[None, :, 8]).square().mean().sqrt().item())
    assert errors[1] < 0.85 * errors[0]


def test_seeds_are_tuned_as_if_they_were_alone(toy: Dataset) -> None:
    config = replace(UNROLLED, max_updates=20, unroll_updates=20)
    together = fitted(toy, config, (0, 1, 2)).state_dict()
    alone = fitted(toy, config, (1,)).state_dict()
    assert all(torch.equal(value[1:2], alone[name]) for name, value in together.items())
    plain = fitted(toy, replace(config, unroll=1), (1,)).state_dict()
    assert not torch.equal(plain["net.layers.0.weight"], alone["net.layers.0.weight"])


def test_draws_do_not_change_what_other_seeds_draw(toy: Dataset) -> None:
    model = fitted(toy, seeds=(0, 1))
    alone = fitted(toy, seeds=(1,))
    obs = toy.train.obs[:64]
    action = toy.train.action[:64]
    together = model.draw(obs.expand(2, -1, -1), action.expand(2, -1, -1), Streams((0, 1)))
    single = alone.draw(obs[None], action[None], Streams((1,)))
    assert torch.equal(together[0][1], single[0][0])
    assert torch.equal(together[1][1], single[1][0])


def test_a_rollout_stops_where_the_rule_says(toy: Dataset) -> None:
    model = fitted(toy)
    start = toy.train.obs[None, :50]
    noise = Streams((0,))
    still = torch.zeros(1, 50, 2)
    made = rollout(
        lambda obs, action: model.draw(obs, action, noise),
        lambda obs, step: still,
        start,
        6,
        lambda obs, action, next_obs: next_obs[..., 0] > obs[..., 0],
    )
    ended = made.terminated[0]
    assert torch.equal(made.obs[:, :, 0], start)
    assert ended.any(-1).float().mean() > 0.2
    assert (ended.sum(-1) <= 1).all()
    for valid, end, path in zip(made.valid[0], ended, made.obs[0], strict=True):
        last = int(end.int().argmax()) if end.any() else 5
        assert valid.tolist() == [step <= last for step in range(6)]
        assert (path[last + 1 :] == path[last + 1]).all()


def test_elites_picked_once_give_the_same_numbers(toy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(toy)
    obs = toy.train.obs[None, :33]
    action = toy.train.action[None, :33]
    elites = model.pick()
    anew = [*model.mean(obs, action), *model.draw(obs, action, Streams((0,)))]
    monkeypatch.setattr(EnsembleDynamics, "pick", lambda self: pytest.fail("picked again"))
    once = [*model.mean(obs, action, elites), *model.draw(obs, action, Streams((0,)), elites=elites)]
    assert all(torch.equal(one, other) for one, other in zip(anew, once, strict=True))
