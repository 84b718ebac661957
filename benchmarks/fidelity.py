"""What a generator's rollouts are worth: asked of the true simulator, of the learning policy and of the data."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from benchmarks.evidence import Evidence, gather, replayed
from benchmarks.spec import Settings
from core.data import Dataset, Trajectories
from core.policy import Policy
from core.random import Streams
from generators.base import ActionConditioned, Fitted
from metrics.compounding import data_diameter, leakage, over_starts, standardized_error
from tasks.base import Simulator, Task

__all__ = ["evaluate_rollouts"]

Values = Iterator[tuple[str, Float[Tensor, " S"]]]


def evaluate_rollouts(
    task: Task, data: Dataset, fitted: Fitted, policy: Policy, settings: Settings, rng: Streams
) -> Values:
    """Everything that is measured of rollouts from held-out states, under the learning policy and under logged actions.

    Only starts whose simulator state is known exactly are used.
    """
    yield "compounding/starts_excluded", _excluded(data, rng)
    window = _windows(data, settings.fidelity_starts, settings.fidelity_horizon, rng.fork("starts"))
    if window is None:
        return
    (real, state), simulator = window, task.simulator
    asked = real.obs[:, :, 0]
    floor = _from_start(replayed(simulator, state, real.action), real, data)
    made = fitted.generate(policy, asked, settings.fidelity_horizon, rng.fork("generate"))
    seen = gather(simulator, state, asked, made, policy, rng)
    yield from _compounding("policy", seen, floor, simulator, data)
    if isinstance(fitted, ActionConditioned):
        imagined = fitted.imagine(asked, real.action, rng.fork("imagine"))
        masked = replace(imagined, valid=imagined.valid & real.valid)
        yield from _compounding("logged", gather(simulator, state, asked, masked, None, rng), floor, simulator, data)
        if (half := settings.fidelity_horizon // 2) > 0:
            other = torch.cat([real.action[:, :, :half], real.action.roll(1, 1)[:, :, half:]], 2)
            moved = fitted.imagine(asked, other, rng.fork("imagine"))
            yield "compounding/leakage", leakage(imagined.obs, moved.obs, data.obs_std, half)


def _compounding(
    actions: str, seen: Evidence, floor: Float[Tensor, "S L"], simulator: Simulator, data: Dataset
) -> Values:
    """Errors by step, in deviations of the data."""
    made, truth, scale = seen.made, seen.replayed.obs, data.obs_std
    cap = data_diameter(data.train.obs, scale)
    nudged = torch.nextafter(seen.state.float(), torch.full((), torch.inf)).double()  # one float32 ulp away

    def error(model: Tensor, other: Tensor) -> Tensor:
        return standardized_error(model[:, :, 1:], other[:, :, 1:], scale)

    def median(values: Tensor, valid: Tensor) -> Tensor:
        return over_starts(values, valid, cap).median

    open_loop = over_starts(error(made.obs, truth), made.valid, cap)
    inconsistency = standardized_error(made.obs[:, :, 1:], seen.stepped.next_obs, scale)
    curves = {name: getattr(open_loop, name) for name in ("median", "mean", "q10", "q90", "alive", "capped")} | {
        "local": median(inconsistency, seen.stepped_valid),
        "floor": floor,
        "chaos": median(error(replayed(simulator, nudged, made.action).obs, truth), made.valid),
        "still": median(error(truth[:, :, :1].expand_as(truth), truth), made.valid),
    }
    if seen.lived is not None:
        curves["closed"] = median(error(made.obs, seen.lived.obs), made.valid & seen.lived.valid)
        curves["lived"] = seen.lived.valid.double().mean(1)
    for quantity, curve in curves.items():
        for step, values in enumerate(curve.unbind(-1), 1):
            yield f"compounding/{actions}/{quantity}/{step}", values


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
    held, usable = data.heldout, data.heldout_exact.to(data.heldout.valid.device) & data.heldout.valid
    reach = _reach(held.valid)
    candidates = (usable & (reach >= length)).nonzero()
    if not len(candidates):
        candidates = usable.nonzero()
    if not len(candidates):
        return None
    episode, first = candidates[(rng.uniform64(rows) * len(candidates)).long()].unbind(-1)
    steps = first[..., None] + torch.arange(length + 1, device=first.device)
    inside, last = steps[..., :-1] < held.valid.shape[1], held.valid.shape[1]
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
