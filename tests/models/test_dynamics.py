from dataclasses import replace

import torch

from core.data import Dataset
from core.random import Streams
from models.dynamics import DynamicsConfig, EnsembleDynamics, _bootstrap, bounded_log_variance, gaussian_nll, rollout

TINY = DynamicsConfig(members=3, elites=2, width=32, weight_decay=(0.0, 0.0, 0.0), max_updates=300, check_every=50)


def fitted(data: Dataset, config: DynamicsConfig = TINY, seeds: tuple[int, ...] = (0,)) -> EnsembleDynamics:
    rng = Streams(seeds)
    model = config.init(4, 2, rng.fork("init"))
    config.fit(model, data, rng.fork("fit"))
    return model


def test_log_variance_stays_inside_its_bounds_and_passes_gradients() -> None:
    raw = torch.linspace(-100, 100, 41)[:, None]
    low, high = torch.full((1, 1), -10.0, requires_grad=True), torch.full((1, 1), 0.5, requires_grad=True)
    bounded = bounded_log_variance(raw, low, high)
    assert bounded.min() >= -10
    assert bounded.max() <= 0.5 + 1e-4  # the inner soft clamp overshoots by less than that
    bounded.sum().backward()
    assert low.grad is not None and low.grad.item() > 1  # B5: bounds outside the optimiser never move
    assert high.grad is not None and high.grad.item() > 1


def test_nll_is_lowest_at_the_true_variance() -> None:
    y = torch.randn(20_000) * 2
    losses = [gaussian_nll(y, torch.zeros_like(y), torch.full_like(y, v).log()).mean().item() for v in (2.0, 4.0, 8.0)]
    assert losses[1] == min(losses)


def test_bounds_are_trained(toy: Dataset) -> None:
    model, fresh = fitted(toy), TINY.init(4, 2, Streams((0,)).fork("init"))
    assert (model.max_log_variance < fresh.max_log_variance).all()


def test_elites_are_the_members_with_the_lowest_error_of_the_weights_that_were_kept(toy: Dataset) -> None:
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
    obs, action = toy.train.obs[None, :101], toy.train.action[None, :101]
    next_obs, reward = model.draw(obs, action, Streams((0,)))
    means = model.predict(obs, action)[0][0, model.elites[0]]
    drawn = torch.cat([next_obs - obs, reward[..., None]], -1)[0]
    which = (means - drawn).abs().amax(-1).argmin(0)
    assert (means - drawn).abs().amax(-1).amin(0).max() < 1e-5
    assert sorted(which.bincount().tolist()) == [50, 51]


def test_draws_do_not_change_what_other_seeds_draw(toy: Dataset) -> None:
    model = fitted(toy, seeds=(0, 1))
    alone = fitted(toy, seeds=(1,))
    obs, action = toy.train.obs[:64], toy.train.action[:64]
    together = model.draw(obs.expand(2, -1, -1), action.expand(2, -1, -1), Streams((0, 1)))
    single = alone.draw(obs[None], action[None], Streams((1,)))
    assert torch.equal(together[0][1], single[0][0])
    assert torch.equal(together[1][1], single[1][0])


def test_a_rollout_stops_where_the_rule_says(toy: Dataset) -> None:
    model, start = fitted(toy), toy.train.obs[None, :50]
    noise, still = Streams((0,)), torch.zeros(1, 50, 2)
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
