"""What a generator's rollouts are worth: asked of the true simulator, of the learning policy and of the data."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from benchmarks.evaluation.counterparts import SimulatedCounterparts, gather, replayed
from benchmarks.spec import Settings
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import GaussianPolicy, ImplicitPolicy, Policy
from core.random import Streams
from generators.base import ActionConditioned, Fitted
from metrics.bound import steepness, wasserstein_bounds
from metrics.compounding import data_diameter, leakage, over_starts, standardized_error
from metrics.consistency import (
    SMOOTHING,
    action_distance,
    excess_cross_entropy,
    excess_energy,
    knn_kl,
    masked_mean_or_nan,
    nearest,
    smoothed_kl,
)
from metrics.distribution import energy_distance, halves, sliced_wasserstein
from metrics.returns import ReturnGap, kept_and_dropped, return_gap
from models.behaviour import BehaviourConfig
from models.cache import ModelCache
from tasks.base import Task
from tasks.simulators.base import Simulator, simulate

__all__ = ["Values", "evaluate_rollouts"]

Values = Iterator[tuple[str, Float[Tensor, " S"] | Float[Tensor, "S L"]]]  # curves have one column per step


_NUDGE = 1e-4  # added to every entry of the simulator's state, to see how fast two lives of a policy part
_JUDGED = 500  # rows of a seed that are compared with the data ...
_REFERENCE = 10_000  # ... by looking at no more of its rows than this
_SAMPLES = 64  # drawn from policies without a density in every state
_PAIRED = 256  # rollouts that distances between distributions look at: their cost is quadratic
Critic = Callable[[Tensor, Tensor], Tensor]  # (obs [S, B, O], action [S, B, A]) -> value [S, B]


def evaluate_rollouts(
    task: Task,
    data: Dataset,
    fitted: Fitted,
    policy: Policy,
    settings: Settings,
    rng: Streams,
    *,
    keep: Filter | None = None,
    critic: Critic | None = None,
) -> Values:
    """Everything that is measured of rollouts from held-out states, under the learning policy and under logged actions.

    Only starts whose simulator state is known exactly are used. `keep` is the filter whose choice is to be judged,
    `critic` what the algorithm believes of actions.
    """
    yield "compounding/starts_excluded", _excluded(data, rng)
    window = _windows(data, settings.fidelity_starts, settings.fidelity_horizon, rng.fork("starts"))
    if window is None:
        return
    (real, state) = window
    simulator = task.simulator
    asked = real.obs[:, :, 0]
    floor = _from_start(replayed(simulator, state, real.action), real, data)
    generated = fitted.generate(policy, asked, settings.fidelity_horizon, rng.fork("generate"))
    seen = gather(simulator, state, asked, generated, policy, rng)
    assert seen.on_policy is not None
    yield from _compounding("policy", seen, floor, simulator, data)
    gap = return_gap(seen.generated, seen.replayed, seen.on_policy, seen.one_step.reward, seen.one_step_valid)
    yield from _returns(seen, gap, keep, rng.fork("filter"))
    yield from _bounds(seen, gap, policy, simulator, data, rng)
    yield from _distances(seen, data, rng)
    yield from _consistency(seen, policy, rng.fork("consistency"))
    yield from _shift(seen, real, task, data, rng.fork("shift"))
    if critic is not None:
        yield "values/ratio", _value_ratio(critic, generated, real)
    if isinstance(fitted, ActionConditioned):
        imagined = fitted.imagine(asked, real.action, rng.fork("imagine"))
        masked = replace(imagined, valid=imagined.valid & real.valid)
        yield from _compounding("logged", gather(simulator, state, asked, masked, None, rng), floor, simulator, data)
        if (half := settings.fidelity_horizon // 2) > 0:
            other = torch.cat([real.action[:, :, :half], real.action.roll(1, 1)[:, :, half:]], 2)
            moved = fitted.imagine(asked, other, rng.fork("imagine"))
            yield "compounding/leakage", leakage(imagined.obs, moved.obs, data.obs_std, half)


def _compounding(
    actions: str, seen: SimulatedCounterparts, floor: Float[Tensor, "S L"], simulator: Simulator, data: Dataset
) -> Values:
    """Errors by step, in deviations of the data."""
    generated = seen.generated
    truth = seen.replayed.obs
    scale = data.obs_std
    cap = data_diameter(data.train.obs, scale)
    nudged = torch.nextafter(seen.state.float(), torch.full((), torch.inf)).double()  # one float32 ulp away
    chaotic = simulator.observe(simulator.replay(nudged, generated.action.cpu()))

    def error(model: Tensor, other: Tensor) -> Tensor:
        return standardized_error(model[:, :, 1:], other[:, :, 1:], scale)

    def median(values: Tensor, valid: Tensor) -> Tensor:
        return over_starts(values, valid, cap).median

    open_loop = over_starts(error(generated.obs, truth), generated.valid, cap)
    inconsistency = standardized_error(generated.obs[:, :, 1:], seen.one_step.next_obs, scale)
    curves = {name: getattr(open_loop, name) for name in ("median", "mean", "q10", "q90", "alive", "capped")} | {
        "local": median(inconsistency, seen.one_step_valid),
        "floor": floor,
        "chaos": median(error(chaotic.to(truth), truth), generated.valid),
        "still": median(error(truth[:, :, :1].expand_as(truth), truth), generated.valid),
    }
    if seen.on_policy is not None:
        curves["closed"] = median(error(generated.obs, seen.on_policy.obs), generated.valid & seen.on_policy.valid)
        curves["alive_on_policy"] = seen.on_policy.valid.double().mean(1)
    for quantity, curve in curves.items():
        yield f"compounding/{actions}/{quantity}", curve


def _returns(seen: SimulatedCounterparts, gap: ReturnGap, keep: Filter | None, rng: Streams) -> Values:
    """What rollouts promise, what they are worth, and whether the filter keeps the right ones."""
    for part in (
        "generated",
        "replayed",
        "on_policy",
        "gap",
        "reward",
        "dynamics",
        "termination",
        "feedback",
        "unsplit",
    ):
        yield f"returns/{part}", getattr(gap, part)
    yield "returns/used", gap.used
    if keep is not None and keep.mode != "none":
        valid = seen.generated.valid[..., 0]
        kept = keep.apply(seen.generated, rng).valid[..., 0]
        both = seen.generated.valid & seen.replayed.valid
        promised, paid = (
            x.where(on, 0.0).sum(-1)
            for x, on in ((seen.generated.reward, seen.generated.valid), (seen.replayed.reward, both))
        )
        sides = kept_and_dropped(promised, paid, kept, valid)
        yield from ((f"filter/{field.name}", getattr(sides, field.name)) for field in fields(sides))


def _bounds(
    seen: SimulatedCounterparts, gap: ReturnGap, policy: Policy, simulator: Simulator, data: Dataset, rng: Streams
) -> Values:
    """The gap that is not the reward model's, beside what theory makes of errors of one step and of whole paths."""
    assert seen.on_policy is not None
    generated = seen.generated
    on_policy = seen.on_policy
    scale = data.obs_std
    length = seen.generated.action.shape[2]
    cap = data_diameter(data.train.obs, scale)
    moved = simulate(simulator, policy, seen.state + _NUDGE, length, rng.fork("closed"), greedy=False)
    before = standardized_error(moved.obs[:, :, 0], on_policy.obs[:, :, 0], scale).double().mean(1)

    def apart(one: Tensor, other: Tensor, valid: Tensor) -> Float[Tensor, "S L"]:
        return over_starts(standardized_error(one, other, scale), valid, cap).mean

    after = apart(moved.obs[:, :, 1:], on_policy.obs[:, :, 1:], moved.valid & on_policy.valid)[:, -1]
    amplification = (after / before) ** (1 / length)
    both = seen.replayed.valid & on_policy.valid
    distance = standardized_error(seen.replayed.obs[:, :, :-1], on_policy.obs[:, :, :-1], scale)
    slope = steepness(seen.replayed.reward - on_policy.reward, distance, both)
    paid = data.train.reward.double()
    bounds = wasserstein_bounds(
        gap.gap - gap.reward,
        apart(generated.obs[:, :, 1:], seen.one_step.next_obs, seen.one_step_valid),
        apart(generated.obs[:, :, 1:], on_policy.obs[:, :, 1:], generated.valid & on_policy.valid),
        amplification,
        slope,
        1.0,
        float(paid.max().clamp(min=0) - paid.min().clamp(max=0)) / 2,
    )
    for name in ("gap", "autoregressive", "non_autoregressive", "trivial"):
        yield f"bound/{name}", getattr(bounds, name)
    yield "bound/amplification", amplification
    yield "bound/steepness", slope


def _distances(seen: SimulatedCounterparts, data: Dataset, rng: Streams) -> Values:
    """Generated states against those the policy lives through, as distributions; and two halves of the latter."""
    assert seen.on_policy is not None
    generated, on_policy = ((x.obs[:, :_PAIRED, 1:], x.valid[:, :_PAIRED]) for x in (seen.generated, seen.on_policy))
    left, right, on_left, on_right = halves(*on_policy)
    pairs = {"": (generated[0], on_policy[0], generated[1], on_policy[1]), "_floor": (left, right, on_left, on_right)}
    for suffix, pair in pairs.items():
        for name, curve in (
            ("energy", energy_distance(*pair, data.obs_std)),
            ("wasserstein", sliced_wasserstein(*pair, data.obs_std, rng.fork("axes"))),
        ):
            yield f"distance/{name}{suffix}", curve


def _consistency(seen: SimulatedCounterparts, policy: Policy, rng: Streams) -> Values:
    """Are the generated actions those of the learning policy in the generated states?"""
    rows, valid = seen.generated.transitions()
    own = policy.act(rows.obs, None)
    yield "consistency/distance", action_distance(rows.action, own, valid)
    match policy:
        case GaussianPolicy():
            yield "consistency/kl", excess_cross_entropy(policy.noise_of(rows.obs, rows.action), valid)
        case ImplicitPolicy():
            few = slice(None, None, -(-valid.shape[1] // _JUDGED))
            samples = policy.sample(rows.obs[:, few], _SAMPLES, rng)
            yield "consistency/energy", excess_energy(rows.action[:, few], samples, valid[:, few])
        case _:
            yield "consistency/kl", smoothed_kl(rows.action, own, valid)


def _shift(seen: SimulatedCounterparts, real: Trajectories, task: Task, data: Dataset, rng: Streams) -> Values:
    """How far from the data are generated rows, those the policy lives through, and unseen rows of the data itself?"""
    assert seen.on_policy is not None
    device = data.train.obs.device
    noise = rng.normal(_JUDGED, data.train.action.shape[-1])
    judge = task.behaviour
    if judge is None:
        models = ModelCache(Streams((0,), "behaviour", device))  # one judge for all seeds
        judge = models.get(BehaviourConfig(SMOOTHING), data)  # a BehaviourModel
    every = -(-len(data.train.obs) // _REFERENCE)
    known = _features(data.train.obs[::every], data.train.action[::every], data)
    unseen = None
    for name, rollouts in (("heldout", real), ("generated", seen.generated), ("on_policy", seen.on_policy)):
        rows, valid = rollouts.transitions()
        few = torch.linspace(0, valid.shape[1] - 1, min(_JUDGED, valid.shape[1]), device=device).long()
        obs = rows.obs[:, few]
        action = rows.action[:, few]
        valid = valid[:, few]
        features = _features(obs, action, data)
        near = nearest(features, known)[..., 0].where(valid, torch.nan)
        yield f"behaviour/nearest/{name}", near.nanmedian(1).values
        yield f"behaviour/knn_kl/{name}", knn_kl(features, known, valid)
        blurred = action + SMOOTHING * noise[:, : len(few)]
        density = judge.smoothed_log_prob(obs.flatten(0, 1)[None], blurred.flatten(0, 1)[None], SMOOTHING)
        surprise = masked_mean_or_nan(-density.view(valid.shape), valid)
        if unseen is None:
            unseen = surprise
        else:
            yield f"behaviour/excess/{name}", surprise - unseen


def _features(obs: Tensor, action: Tensor, data: Dataset) -> Tensor:
    """States and actions in deviations of the data; what never moves is left out."""
    moving = data.obs_std > 0
    scale = data.train.action.std(0)
    return torch.cat([obs[..., moving] / data.obs_std[moving], action[..., scale > 0] / scale[scale > 0]], -1)


def _value_ratio(critic: Critic, generated: Trajectories, real: Trajectories) -> Float[Tensor, " S"]:
    """Mean size of the values that the critic gives to generated actions, in units of that of recorded ones."""

    def size(rows: Trajectories) -> Float[Tensor, " S"]:
        value = critic(rows.obs[:, :, :-1].flatten(1, 2), rows.action.flatten(1, 2)).abs().double()
        return value.where(rows.valid.flatten(1), torch.nan).nanmean(1)

    return size(generated) / size(real)


def _from_start(model: Trajectories, real: Trajectories, data: Dataset) -> Float[Tensor, "S L"]:
    error = standardized_error(model.obs[:, :, 1:], real.obs[:, :, 1:], data.obs_std)
    return over_starts(error, real.valid).median


def _excluded(data: Dataset, rng: Streams) -> Float[Tensor, " S"]:
    recorded = data.heldout.valid.cpu()
    return 1 - data.heldout_exact[recorded].double().mean().expand(len(rng.seeds))


def _windows(
    data: Dataset, rows: int, length: int, rng: Streams
) -> tuple[Trajectories, Float64[Tensor, "S B X"]] | None:
    """Held-out windows with the simulator's state at their start; of full length where the episodes allow it."""
    held = data.heldout
    usable = data.heldout_exact.to(data.heldout.valid.device) & data.heldout.valid
    reach = _reach(held.valid)
    candidates = (usable & (reach >= length)).nonzero()
    if not len(candidates):
        candidates = usable.nonzero()
    if not len(candidates):
        return None
    episode, first = candidates[(rng.uniform64(rows) * len(candidates)).long()].unbind(-1)
    steps = first[..., None] + torch.arange(length + 1, device=first.device)
    inside = steps[..., :-1] < held.valid.shape[1]
    last = held.valid.shape[1]
    at = episode[..., None], steps[..., :-1].clamp(max=last - 1)
    window = Trajectories(
        held.action[at],
        held.obs[episode[..., None], steps.clamp(max=last)],
        held.reward[at],
        held.terminated[at],
        held.valid[at] & inside,
    )
    return window, data.heldout_state[episode.cpu(), first.cpu()]


def _reach(valid: Bool[Tensor, "B L"]) -> Tensor:
    """How many recorded steps follow, this one included."""
    return valid.flip(-1).cumsum(-1).flip(-1)
