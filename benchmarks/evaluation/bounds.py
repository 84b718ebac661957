"""The gap that is not the reward model's, beside what theory makes of errors of one step and of whole paths."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from benchmarks.evaluation.counterparts import SimulatedCounterparts
from core.data import Dataset, Trajectories
from core.policy import Policy
from core.random import Streams
from metrics.bound import steepness, wasserstein_bounds
from metrics.compounding import data_diameter, over_starts, standardized_error
from metrics.returns import ReturnGap
from tasks.simulators.base import Simulator, simulate

__all__ = ["bound_values"]

Values = Iterator[tuple[str, Float[Tensor, " S"] | Float[Tensor, "S L"]]]

_NUDGE = 1e-4  # added to every entry of the simulator's state, to see how fast two rollouts of a policy diverge
_RESOLVED = 1e-5  # deviations; what float32 does to states and actions is not much smaller


def bound_values(
    pairs: SimulatedCounterparts,
    on_policy: Trajectories,
    gap: ReturnGap,
    policy: Policy,
    simulator: Simulator,
    data: Dataset,
    rng: Streams,
) -> Values:
    """Bounds and their constants; both rollouts of a constant have the same random numbers."""
    generated = pairs.generated
    scale = data.obs_std
    length = generated.action.shape[2]
    cap = data_diameter(data.train.obs, scale)
    nudged = simulate(simulator, policy, pairs.state + _NUDGE, length, rng.fork("closed"), greedy=False)

    def apart(one: Tensor, other: Tensor, valid: Tensor) -> Float[Tensor, "S L"]:
        return over_starts(standardized_error(one, other, scale), valid, cap).mean

    both = nudged.valid & on_policy.valid
    before = apart(nudged.obs[:, :, :1], on_policy.obs[:, :, :1], both[:, :, :1])[:, 0]
    after = apart(nudged.obs[:, :, 1:], on_policy.obs[:, :, 1:], both)[:, -1]
    amplification = (after / before) ** (1 / length)
    local = standardized_error(nudged.obs[:, :, :-1], on_policy.obs[:, :, :-1], scale)
    reached = _paid_where_led(pairs, on_policy, policy, simulator, data, rng.fork("slope"))
    near = (nudged.reward.double() - on_policy.reward.double(), local.double(), both & (local > _RESOLVED))
    slope = steepness(*(torch.cat(part, 1) for part in zip(near, reached, strict=True)))
    paid = data.train.reward.double()
    bounds = wasserstein_bounds(
        gap.gap - gap.reward,
        apart(generated.obs[:, :, 1:], pairs.one_step.next_obs, pairs.one_step_valid),
        apart(generated.obs[:, :, 1:], on_policy.obs[:, :, 1:], generated.valid & on_policy.valid),
        amplification,
        slope,
        1.0,
        float(paid.max().clamp(min=0) - paid.min().clamp(max=0)) / 2,
    )
    for name in ("gap", "autoregressive", "non_autoregressive", "trivial"):
        yield f"bound/{name}", getattr(bounds, name)
    yield "bound/gap_error", gap.rest_error
    yield "bound/amplification", amplification
    yield "bound/steepness", slope


def _paid_where_led(
    pairs: SimulatedCounterparts,
    on_policy: Trajectories,
    policy: Policy,
    simulator: Simulator,
    data: Dataset,
    rng: Streams,
) -> tuple[Float64[Tensor, "S B L"], Float64[Tensor, "S B L"], Bool[Tensor, "S B L"]]:
    """(difference of rewards, distance, which count) of a step of the policy in two true states of the same step.

    One is where the generated actions lead, the other where those of the policy do. The policy draws the same random
    numbers in both: independent ones would differ in the reward of their noise at no distance at all.
    """
    device = on_policy.obs.device
    seen = []
    paid = []
    for rollouts in (pairs.generated, on_policy):
        state = simulator.replay(pairs.state, rollouts.action.cpu())[:, :, :-1]
        obs = simulator.observe(state).float().to(device)
        action = policy.act(obs.flatten(1, 2), rng).clamp(-1, 1).view_as(rollouts.action)
        rng = rng.only(rng.seeds)  # from the start again
        seen.append(obs)
        paid.append(simulator.step(state, action.cpu(), None)[1].to(device))
    distance = standardized_error(seen[0], seen[1], data.obs_std).double()
    counts = pairs.generated.valid & pairs.replayed.valid & on_policy.valid & (distance > _RESOLVED)
    return paid[0] - paid[1], distance, counts
