"""Metrics of generated rollouts: beside the true simulator, the learning policy and the data."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from benchmarks.evaluation.bounds import bound_values
from benchmarks.evaluation.consistency import COMPARED_ROWS, few_rows, policy_consistency
from benchmarks.evaluation.counterparts import SimulatedCounterparts, gather
from benchmarks.spec import Settings
from core.data import Dataset, Trajectories
from core.filter import Filter
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Fitted
from metrics.compounding import data_diameter, leakage, over_starts, standardized_error
from metrics.consistency import SMOOTHING, knn_kl, masked_mean_or_nan, nearest
from metrics.distribution import energy_distance, halves, sliced_wasserstein
from metrics.returns import ReturnGap, kept_and_dropped, return_gap
from metrics.survival import survival
from models.behaviour import BehaviourConfig
from models.cache import ModelCache
from tasks.base import Task
from tasks.simulators.base import Simulator, replayed

__all__ = ["Values", "evaluate_rollouts", "windows"]

Values = Iterator[tuple[str, Float[Tensor, " S"] | Float[Tensor, "S L"]]]  # curves have one column per step

_REFERENCE_ROWS = 10_000  # of the data, at most, that they are compared with
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

    Only start states whose simulator state is known exactly are used. `keep` is the generator's filter, `critic` gives
    the algorithm's values of actions.
    """
    yield "compounding/starts_excluded", _excluded(data, rng)
    window = windows(data, settings.fidelity_starts, settings.fidelity_horizon, rng.fork("starts"))
    if window is None:
        return
    real, state = window
    simulator = task.simulator
    start = real.obs[:, :, 0]
    floor = _floor(replayed(simulator, state, real.action), real, data)
    generated = fitted.generate(policy, start, settings.fidelity_horizon, rng.fork("generate")).finite()
    pairs = gather(simulator, state, start, generated, policy, rng)
    assert pairs.on_policy is not None
    yield from _compounding("policy", pairs, floor, simulator, data)
    gap = return_gap(pairs.generated, pairs.replayed, pairs.on_policy, pairs.one_step.reward, pairs.one_step_valid)
    yield from _returns(gap)
    if keep is not None and keep.mode != "none":
        yield from _filtered(pairs, keep, rng.fork("filter"))
    yield from bound_values(pairs, pairs.on_policy, gap, policy, simulator, data, rng)
    yield from _distances(pairs.generated, pairs.on_policy, data, rng)
    yield from policy_consistency(pairs.generated, policy, rng.fork("consistency"))
    rows = {"heldout": real, "generated": pairs.generated, "on_policy": pairs.on_policy}
    yield from _distance_to_data(rows, task, data, rng.fork("shift"))
    if critic is not None:
        yield "values/ratio", _value_ratio(critic, generated, real)
    if isinstance(fitted, ActionConditioned):
        imagined = fitted.imagine(start, real.action, rng.fork("imagine"))
        masked = replace(imagined, valid=imagined.valid & real.valid).finite()
        pairs = gather(simulator, state, start, masked, None, rng)
        yield from _compounding("logged", pairs, floor, simulator, data)
        if (half := settings.fidelity_horizon // 2) > 0:
            other = torch.cat([real.action[:, :, :half], real.action.roll(1, 1)[:, :, half:]], 2)
            changed = fitted.imagine(start, other, rng.fork("imagine"))
            yield "compounding/leakage", leakage(imagined.obs, changed.obs, data.obs_std, half)


def _compounding(
    actions: str, pairs: SimulatedCounterparts, floor: Float[Tensor, "S L"], simulator: Simulator, data: Dataset
) -> Values:
    """Errors by step, in deviations of the data."""
    generated = pairs.generated
    truth = pairs.replayed.obs
    scale = data.obs_std
    cap = data_diameter(data.train.obs, scale)
    nudged = torch.nextafter(pairs.state.float(), torch.full((), torch.inf)).double()  # one float32 step away
    chaotic = simulator.observe(simulator.replay(nudged, generated.action.cpu())).to(truth)

    def error(one: Tensor, other: Tensor) -> Tensor:
        return standardized_error(one[:, :, 1:], other[:, :, 1:], scale)

    def median(values: Tensor, valid: Tensor) -> Tensor:
        return over_starts(values, valid, cap).median

    open_loop = over_starts(error(generated.obs, truth), generated.valid, cap)
    one_step = standardized_error(generated.obs[:, :, 1:], pairs.one_step.next_obs, scale)
    curves = {name: getattr(open_loop, name) for name in ("median", "mean", "q10", "q90", "capped")} | {
        "alive": survival(generated.valid, generated.terminated),
        "local": median(one_step, pairs.one_step_valid),
        "floor": floor,
        "chaos": median(error(chaotic, truth), generated.valid),
        "still": median(error(truth[:, :, :1].expand_as(truth), truth), generated.valid),
    }
    if pairs.on_policy is not None:
        closed = generated.valid & pairs.on_policy.valid
        curves["closed"] = median(error(generated.obs, pairs.on_policy.obs), closed)
        curves["alive_on_policy"] = survival(pairs.on_policy.valid, pairs.on_policy.terminated)
    if pairs.on_policy is not None and pairs.again is not None:
        both = pairs.again.valid & pairs.on_policy.valid
        curves["closed_floor"] = median(error(pairs.again.obs, pairs.on_policy.obs), both)
    yield f"compounding/{actions}/not_finite", generated.info["not_finite"]
    for quantity, curve in curves.items():
        yield f"compounding/{actions}/{quantity}", curve


def _returns(gap: ReturnGap) -> Values:
    """What rollouts promise, what they are worth, and the parts of the difference."""
    parts = ("reward", "dynamics", "termination", "feedback", "unsplit")
    for name in ("generated", "replayed", "on_policy", "gap", "gap_error", *parts, "used"):
        yield f"returns/{name}", getattr(gap, name)


def _filtered(pairs: SimulatedCounterparts, keep: Filter, rng: Streams) -> Values:
    """Whether the filter keeps the right rollouts."""
    generated = pairs.generated
    valid = generated.valid[..., 0]
    kept = keep.apply(generated, rng).valid[..., 0]
    promised = generated.reward.where(generated.valid, 0.0).sum(-1)
    paid = pairs.replayed.reward.where(generated.valid & pairs.replayed.valid, 0.0).sum(-1)
    sides = kept_and_dropped(promised, paid, kept, valid)
    yield from ((f"filter/{field.name}", getattr(sides, field.name)) for field in fields(sides))


def _distances(generated: Trajectories, on_policy: Trajectories, data: Dataset, rng: Streams) -> Values:
    """Generated states against on-policy ones, as distributions; the floor: two halves of the latter."""
    obs, valid = generated.obs[:, :_PAIRED, 1:], generated.valid[:, :_PAIRED]
    true_obs, true_valid = on_policy.obs[:, :_PAIRED, 1:], on_policy.valid[:, :_PAIRED]
    for suffix, pair in (("", (obs, true_obs, valid, true_valid)), ("_floor", halves(true_obs, true_valid))):
        yield f"distance/energy{suffix}", energy_distance(*pair, data.obs_std)
        yield f"distance/wasserstein{suffix}", sliced_wasserstein(*pair, data.obs_std, rng.fork("axes"))


def _distance_to_data(rollouts: dict[str, Trajectories], task: Task, data: Dataset, rng: Streams) -> Values:
    """How far the rows of each kind of rollouts are from the training data; `heldout` comes first."""
    device = data.train.obs.device
    noise = rng.normal(COMPARED_ROWS, data.train.action.shape[-1])
    behaviour = task.behaviour
    if behaviour is None:
        models = ModelCache(Streams((0,), "behaviour", device))  # one density for all seeds
        behaviour = models.get(BehaviourConfig(SMOOTHING), data)  # a BehaviourModel
    every = -(-len(data.train.obs) // _REFERENCE_ROWS)
    known = _features(data.train.obs[::every], data.train.action[::every], data)
    surprise = dict[str, Tensor]()
    for name, kind in rollouts.items():
        rows, valid = kind.transitions()
        few = few_rows(valid.shape[1], device)
        obs = rows.obs[:, few]
        action = rows.action[:, few]
        valid = valid[:, few]
        features = _features(obs, action, data)
        near = nearest(features, known)[..., 0].where(valid, torch.nan)
        yield f"behaviour/nearest/{name}", near.nanmedian(1).values
        yield f"behaviour/knn_kl/{name}", knn_kl(features, known, valid)
        smoothed = action + SMOOTHING * noise[:, : len(few)]
        density = behaviour.smoothed_log_prob(obs.flatten(0, 1)[None], smoothed.flatten(0, 1)[None], SMOOTHING)
        surprise[name] = masked_mean_or_nan(-density.view(valid.shape), valid)
        if name != "heldout":
            yield f"behaviour/excess/{name}", surprise[name] - surprise["heldout"]


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


def _floor(replay: Trajectories, real: Trajectories, data: Dataset) -> Float[Tensor, "S L"]:
    error = standardized_error(replay.obs[:, :, 1:], real.obs[:, :, 1:], data.obs_std)
    return over_starts(error, real.valid).median


def _excluded(data: Dataset, rng: Streams) -> Float[Tensor, " S"]:
    recorded = data.heldout.valid.cpu()
    return 1 - data.heldout_exact[recorded].double().mean().expand(len(rng.seeds))


def windows(
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
