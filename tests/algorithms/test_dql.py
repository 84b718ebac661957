"""Diffusion-QL against its equations."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from algorithms.dql import DQL, hashed_uniform
from core.data import Batch, Dataset
from core.policy import ImplicitPolicy
from core.random import Streams
from core.registry import build_method
from models.actors import reverse_chain, vp_betas
from models.nn import anneal, clip_per_seed

SEEDS = (0, 1)
PLAIN = DQL(hidden=(8, 8), max_norm=None, epsilon=1e-3, ema_start=0, ema_every=1, q_term="one-step")


def start(config: DQL, data: Dataset, hand: SimpleNamespace) -> Any:
    """A state in float64 whose targets differ from the networks they follow."""
    state = config.init(data, Streams(SEEDS))
    other = config.init(data, Streams(SEEDS, "other"))
    state.target_actor = other.target_actor
    state.target_critic = other.target_critic
    return hand.double(state)


def test_noise_schedule_is_the_closed_form() -> None:
    """The products of 1 - beta telescope: exp(-(low + high) / 2) of the signal's variance is left in the end."""
    for steps in (1, 5, 50):
        betas = vp_betas(steps, 0.1, 10.0).double()
        assert abs((1 - betas).prod().item() - math.exp(-5.05)) < 1e-5
        assert (betas > 0).all()
        assert (betas < 1).all()
    assert abs(vp_betas(5, 0.1, 10.0)[0].item() - (1 - math.exp(-0.02 - 9.9 / 50))) < 1e-6


@pytest.mark.parametrize(("steps", "std"), [(5, None), (300, 0.1)])
def test_chain_of_the_perfect_predictor_gives_the_gaussian_back(steps: int, std: float | None) -> None:
    """Data N(0.3, 0.1^2): the noise in x is expected to be sqrt(1-k) (x - sqrt(k) 0.3) / (0.01 k + 1 - k)."""
    betas = vp_betas(steps, 0.1, 10.0)
    kept = (1 - betas).cumprod(0)

    def predict(x: torch.Tensor, k: int) -> torch.Tensor:
        return (1 - kept[k]).sqrt() * (x - kept[k].sqrt() * 0.3) / (0.01 * kept[k] + 1 - kept[k])

    action = reverse_chain(predict, Streams((0, 1)).normal(steps, 4000, 2), betas)
    assert (action.mean(1) - 0.3).abs().max() < 0.02
    assert std is None or (action.std(1) - std).abs().max() < 0.01


def test_a_noised_action_is_reconstructed_from_its_noise(toy: Dataset, draw: Callable[..., Batch]) -> None:
    actor = PLAIN.init(toy, Streams(SEEDS)).actor
    rows = draw()
    rng = Streams(SEEDS)
    step = rng.integers(5, 5)
    noise = rng.normal(5, 2)
    noised = actor.noised(rows.action.float(), step, noise)
    assert torch.allclose(actor.reconstructed(noised, step, noise), rows.action.float(), atol=1e-5)
    assert (actor.reconstructed(noised, step, 9 * noise).abs() <= 1).all()


def noise_by_hand(actor: Any, seed: int, noised: Any, step: Any, obs: Any, hand: SimpleNamespace) -> tuple[Any, Any]:
    """(predicted noise, what its gradient needs) of one seed."""
    angle = step[:, None] * np.exp(-np.log(1e4) * np.arange(8) / 7)
    embed = hand.weights(actor.embed, seed)
    net = hand.weights(actor.net, seed)
    embedded, embed_trace = hand.forward(embed, np.concatenate([np.sin(angle), np.cos(angle)], 1), hand.mish)
    out, trace = hand.forward(net, np.concatenate([noised, embedded, obs], 1), hand.mish)
    return out, (embed, embed_trace, net, trace)


@pytest.mark.parametrize("cloned", [3, 5])
def test_an_update_is_that_of_an_independent_computation(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace, cloned: int
) -> None:
    """One whole update with the one-step Q-term; the gradients and the weights, in float64 by hand."""
    config = replace(PLAIN, eta=0.7)
    rows = draw(behaviour_rows=cloned)
    state = start(config, toy, hand)
    before = start(config, toy, hand)
    losses = config.update(state, rows, Streams(SEEDS))
    rng = Streams(SEEDS)
    latent = rng.normal(5, 5, 2).double()
    step = rng.integers(5, 5)
    noise = rng.normal(5, 2).double().numpy()
    coin = rng.integers(2)
    kept_all = state.actor.kept.numpy()
    next_action = before.target_actor.chain(rows.next_obs, latent).detach().numpy()
    for seed in range(2):
        obs = hand.normal(toy, rows.obs[seed])
        next_obs = hand.normal(toy, rows.next_obs[seed])
        logged = rows.action[seed].numpy()
        ends = rows.terminated[seed].numpy()
        following = np.concatenate([next_obs, next_action[seed]], 1)
        q_next = [hand.forward(hand.weights(before.target_critic, (seed, i)), following, hand.mish)[0] for i in (0, 1)]
        target = rows.reward[seed].numpy() + 0.99 * np.where(ends, 0, np.minimum(*q_next)[:, 0])
        critics = []
        for i in (0, 1):
            critic = hand.weights(before.critic, (seed, i))
            q, trace = hand.forward(critic, np.concatenate([obs, logged], 1), hand.mish)
            hand.adam(3e-4).step(critic, hand.backward(critic, trace, 2 * (q - target[:, None]) / 5, hand.mish)[0])
            critics.append(critic)
            for one, other in zip(hand.weights(state.critic, (seed, i)), critic, strict=True):
                assert np.abs(one - other).max() < 1e-6
        kept = kept_all[step[seed].numpy()][:, None].astype(float)
        noised = np.sqrt(kept) * logged + np.sqrt(1 - kept) * noise[seed]
        predicted, parts = noise_by_hand(before.actor, seed, noised, step[seed].numpy(), obs, hand)
        raw = (noised - np.sqrt(1 - kept) * predicted) / np.sqrt(kept)
        action = np.clip(raw, -1, 1)
        values = [hand.forward(critic, np.concatenate([obs, action], 1), hand.mish) for critic in critics]
        i = int(coin[seed])
        scale = 1 / np.abs(values[1 - i][0]).mean()
        assert abs(losses["pull"][seed].item() + values[i][0].mean() * scale) < 1e-6
        clone = ((predicted - noise[seed])[:cloned] ** 2).mean()
        assert abs(losses["denoising"][seed].item() - clone) < 1e-6
        upstream = hand.backward(critics[i], values[i][1], np.full((5, 1), -0.7 * scale / 5), hand.mish)[1][:, 4:]
        upstream = upstream * (np.abs(raw) < 1) * -np.sqrt(1 - kept) / np.sqrt(kept)
        upstream[:cloned] += 2 * (predicted - noise[seed])[:cloned] / (2 * cloned)
        embed, embed_trace, net, trace = parts
        of_net, of_input = hand.backward(net, trace, upstream, hand.mish)
        of_embed = hand.backward(embed, embed_trace, of_input[:, 2:18], hand.mish)[0]
        for module, gradients, parameters in ((state.actor.net, of_net, net), (state.actor.embed, of_embed, embed)):
            found = [x.grad[seed].numpy() for layer in module.linear for x in (layer.weight, layer.bias)]
            assert all(np.abs(one - other).max() < 1e-6 for one, other in zip(found, gradients, strict=True))
            hand.adam(3e-4).step(parameters, gradients)
            for one, other in zip(hand.weights(module, seed), parameters, strict=True):
                assert np.abs(one - other).max() < 1e-6


def test_terminated_rows_do_not_bootstrap(toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace) -> None:
    rows = draw()
    for config in (PLAIN, replace(PLAIN, backup_samples=4)):
        target = config.target(start(config, toy, hand), rows, Streams(SEEDS))
        assert torch.equal(target[rows.terminated], rows.reward[rows.terminated])
        assert (target != rows.reward)[~rows.terminated].all()


def test_max_backup_is_each_critics_best_then_the_least(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace
) -> None:
    config = replace(PLAIN, backup_samples=4)
    rows = draw()
    state = start(config, toy, hand)
    action = state.target_actor.sample(rows.next_obs, 4, Streams(SEEDS))
    best = torch.stack([state.value(state.target_critic, rows.next_obs, action[:, j : j + 1]) for j in range(4)])
    expected = rows.reward + 0.99 * best.amax(0).amin(1)[:, 0] * ~rows.terminated
    assert torch.allclose(config.target(state, rows, Streams(SEEDS)), expected)


def test_the_chains_q_term_differentiates_through_all_steps(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace
) -> None:
    """Against central differences, in float64; without noise loss the policy only climbs."""
    state = start(replace(PLAIN, q_term="chain"), toy, hand)
    rows = draw()
    rng = Streams(SEEDS)
    noise = rng.normal(5, 5, 2).double()

    def value() -> torch.Tensor:
        action = state.actor.chain(rows.obs, noise)
        return state.value(state.critic, rows.obs, action[:, None])[:, 0, 0].mean(-1)

    weight = state.actor.net.linear[-1].weight
    (gradient,) = torch.autograd.grad(value().sum(), weight)
    for at in ((0, 3, 1), (1, 7, 0)):
        with torch.no_grad():
            ends = []
            for step in (1e-6, -2e-6):
                weight[at] += step
                ends.append(value().sum().item())
            weight[at] += 1e-6
        assert abs((ends[0] - ends[1]) / 2e-6 - gradient[at].item()) < 1e-6 * max(1, abs(gradient[at].item()))


def test_clip_per_seed_touches_only_the_seed_that_is_too_long() -> None:
    gradients = [torch.ones(2, 3, 4), torch.ones(2, 1, 4)]
    for gradient in gradients:
        gradient[1] *= 10
    before = [gradient.clone() for gradient in gradients]
    norm = clip_per_seed(gradients, 8.0)
    assert torch.allclose(norm, torch.tensor([4.0, 40.0]))
    for gradient, old in zip(gradients, before, strict=True):
        assert torch.equal(gradient[0], old[0])
        assert torch.allclose(gradient[1], old[1] / 5)
    single = [torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Parameter(torch.zeros(1, 4))]
    for parameter, old in zip(single, before, strict=True):
        parameter.grad = old[1].clone()
    torch.nn.utils.clip_grad_norm_(single, 8.0)
    assert all(torch.equal(p.grad, g[1]) for p, g in zip(single, gradients, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["together", "each"])
def test_critics_are_clipped_together_or_each_on_its_own(
    toy: Dataset, draw: Callable[..., Batch], hand: SimpleNamespace, how: Any
) -> None:
    """The authors shorten one gradient of both critics, DyDiff's code that of each (torch's rule adds 1e-6)."""
    config = replace(PLAIN, clip_critics=how, max_norm=3.0)
    whole = start(replace(config, max_norm=None), toy, hand)
    with torch.no_grad():
        whole.critic.linear[-1].weight[:, 1] *= 30  # the second critic's gradient is much longer
    clipped = start(config, toy, hand)
    clipped.critic.load_state_dict(whole.critic.state_dict())
    for state in (whole, clipped):
        state.config.update(state, draw(), Streams(SEEDS))
    pairs = [(a.grad, b.grad) for a, b in zip(whole.critic.parameters(), clipped.critic.parameters(), strict=True)]
    squares = sum(a.square().flatten(2).sum(-1) for a, _ in pairs)  # [S, 2]
    norm = (squares.sum(1, keepdim=True).expand(2, 2) if how == "together" else squares).sqrt()
    assert norm.min() < 3 < norm.max() or how == "together"
    factor = (3 / (norm + 1e-6)).clamp(max=1)
    for a, b in pairs:
        assert torch.allclose(b, a * factor[..., None, None], rtol=1e-9, atol=0)


def test_anneal_is_half_a_cosine() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    for done, expected in ((0, 2.0), (5, 1.0), (10, 0.0), (20, 0.0)):
        anneal(optimizer, 2.0, done, 10)
        assert abs(optimizer.param_groups[0]["lr"] - expected) < 1e-12
    anneal(optimizer, 2.0, 3, None)
    assert optimizer.param_groups[0]["lr"] < 1e-12


def test_the_averaged_policy_starts_when_told(toy: Dataset, draw: Callable[..., Batch]) -> None:
    config = replace(PLAIN, ema_start=4, ema_every=3)
    state = config.init(toy, Streams(SEEDS))
    rng = Streams(SEEDS)
    moved = []
    for number in range(10):
        before = state.target_actor.net.linear[0].weight.clone()
        config.update(state, draw(number).map(lambda x: x.float() if x.is_floating_point() else x), rng)
        if not torch.equal(before, state.target_actor.net.linear[0].weight):
            moved.append(number)
    assert moved == [6, 9]


def test_selection_rules(toy: Dataset, hand: SimpleNamespace) -> None:
    state = start(PLAIN, toy, hand)
    obs = toy.train.obs[:300].expand(2, -1, -1)

    def q(config: DQL) -> torch.Tensor:
        chosen = replace(config, hidden=(8, 8))
        state.config = chosen
        return state.value(state.target_critic, obs, state.policy.act(obs, None)[:, None]).amin(1)[:, 0]

    best, few = (q(replace(PLAIN, select="q-max", candidates=n)) for n in (50, 2))
    assert (best >= q(replace(PLAIN, select="sample"))).float().mean() > 0.9
    assert best.mean() > few.mean()
    last = state.target_critic.linear[-1]

    def soft(scale: float) -> torch.Tensor:
        for part in (last.weight, last.bias):
            part.mul_(scale)
        found = q(replace(PLAIN, select="q-softmax")) / scale
        for part in (last.weight, last.bias):
            part.div_(scale)
        return found

    cold, hot = (soft(scale) for scale in (2.0**30, 2.0**-30))
    assert torch.equal(cold, best)
    assert isinstance(state.policy, ImplicitPolicy)
    plain = state.value(state.target_critic, obs, state.policy.sample(obs, 8, Streams(SEEDS))).amin(1)
    assert abs(hot.mean() - plain.mean()) < 0.3 * plain.std()
    assert hot.mean() < best.mean()


def test_greedy_noise_is_a_uniform_hash_of_the_observation(toy: Dataset) -> None:
    key = Streams(SEEDS).integers(2**62, 4)
    obs = toy.train.obs[:500].float().expand(2, -1, -1)
    uniform = hashed_uniform(obs, key, 40)
    assert kstest(uniform.flatten().numpy(), "uniform").pvalue > 1e-3
    assert len(uniform.flatten().unique()) > 0.9999 * uniform.numel()
    around = [uniform[:, :, :-1] - 0.5, uniform[:, :-1] - 0.5, uniform[:1] - 0.5]
    after = [uniform[:, :, 1:] - 0.5, uniform[:, 1:] - 0.5, uniform[1:] - 0.5]
    assert all(abs((x * y).mean()) < 0.002 for x, y in zip(around, after, strict=True))  # 1/12 if they were the same
    assert torch.equal(hashed_uniform(obs.flip(1), key, 40), uniform.flip(1))
    nudged = obs.clone()
    nudged[..., 2] = torch.nextafter(nudged[..., 2], torch.tensor(torch.inf))
    assert abs(((hashed_uniform(nudged, key, 40) - 0.5) * (uniform - 0.5)).mean()) < 0.002
    zeros = torch.zeros(2, 1, 4)
    assert torch.equal(hashed_uniform(zeros, key, 9), hashed_uniform(-zeros, key, 9))


def test_presets_are_the_two_codes() -> None:
    ours, theirs = (build_method("algorithms", "dql", fields) for fields in ({}, {"preset": "dydiff"}))
    assert (ours.steps, ours.beta_range, ours.ema_start, ours.ema_every, ours.candidates) == (
        5,
        (0.1, 10.0),
        1000,
        5,
        50,
    )
    assert (ours.q_term, ours.critic_hidden, ours.critic_activation, ours.epsilon) == ("chain", None, "mish", None)
    assert (theirs.q_term, theirs.critic_hidden, theirs.critic_activation) == ("one-step", (256, 256), "relu")
    assert (theirs.critic_weights, theirs.epsilon, theirs.max_norm) == ("normal", 1e-6, 5.0)
    assert (ours.clip_critics, theirs.clip_critics) == ("together", "each")


@pytest.mark.slow
def test_it_beats_the_behaviour_policy(score: Callable[..., torch.Tensor]) -> None:
    """86.8 is the behaviour policy, 98.4 its mean action, 100 the optimum."""
    assert (score("dql", 2000, batch_size=64) > 90).all()


@pytest.mark.parametrize(
    "fields", [{"eta": -1.0}, {"steps": 0}, {"select": "best"}, {"max_norm": 0.0}, {"beta_range": (9.0, 0.1)}]
)
def test_bad_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        DQL(**fields)
