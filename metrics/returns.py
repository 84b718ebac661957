"""Return gap: what rollouts promise, against what the simulator pays for them and what the policy earns there."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core.data import Trajectories
from metrics.survival import censored_weights

__all__ = ["KeptAndDropped", "ReturnGap", "kept_and_dropped", "rank_correlation", "return_gap"]


@dataclass(frozen=True)
class ReturnGap:
    """Mean returns of the first h = 1..L steps and the parts of their difference, in units of reward; float64.

    NaN from the step on that generated rollouts were cut off before (`metrics.survival`): nobody knows what followed.

    `gap` = `reward` + `dynamics` + `termination` + `feedback` + `unsplit`, up to rounding.
    """

    generated: Float[Tensor, "S L"]  # what the generator says of its rollouts
    replayed: Float[Tensor, "S L"]  # what the simulator pays for the same actions, until either of the two ends
    on_policy: Float[Tensor, "S L"]  # what the policy earns in the simulator, from the same starts
    reward: Float[Tensor, "S L"]  # generated rewards, less what one true step from the same generated states pays
    dynamics: Float[Tensor, "S L"]  # the same actions paid at generated states, less at the states they lead to
    termination: Float[Tensor, "S L"]  # steps counted after the true end, less steps missed after a false one
    feedback: Float[Tensor, "S L"]  # actions replayed in open loop, less the policy that sees where it is
    unsplit: Float[Tensor, "S L"]  # reward and dynamics together, where no true step can start from the generated state
    used: Float[Tensor, " S"]  # share of the rollouts; of the others the simulator knows no reward
    gap_error: Float[Tensor, "S L"]  # standard error of `gap` over the rollouts, which draw noise of their own ...
    rest_error: Float[Tensor, "S L"]  # ... and of `gap` without `reward`

    @property
    def gap(self) -> Float[Tensor, "S L"]:
        """What the rollouts promise above what the policy earns."""
        return self.generated - self.on_policy


@dataclass(frozen=True)
class KeptAndDropped:
    """Mean returns on either side of a filter. NaN for a side without rollouts."""

    generated_kept: Float[Tensor, " S"]
    generated_dropped: Float[Tensor, " S"]
    true_kept: Float[Tensor, " S"]
    true_dropped: Float[Tensor, " S"]
    rank_correlation: Float[Tensor, " S"]  # Spearman's, between generated and true return, both sides together


def return_gap(
    generated: Trajectories,
    replayed: Trajectories,
    on_policy: Trajectories,
    one_step_reward: Float[Tensor, "S B L"],
    one_step_valid: Bool[Tensor, "S B L"],
    discount: float = 1.0,
) -> ReturnGap:
    """Split the difference between generated and on-policy return into parts that add up to it.

    Args:
        generated: rollouts of the generator; those without a valid step do not count, here and in the other arguments.
        replayed: the same starts and actions in the simulator, rewarded past any end, valid until its own first end.
        on_policy: the policy in the simulator from the same starts.
        one_step_reward: what one simulator step from every generated state under the generated action pays. The reward
            of locomotion depends on a coordinate that observations do not have, so it cannot be had otherwise.
        one_step_valid: where the generated state determines a state of the simulator.
        discount: gamma; 1 for plain returns.

    What a generator writes behind the end of its own rollout is never read. Where a rollout was cut off, without an
    end, the others stand for the rest of it on both sides. An end is false if the replay has none up
    to the same step; from there on `termination` is charged with what the policy earns.
    """
    imagined, paid, earned = (x.reward.double() for x in (generated, replayed, on_policy))
    counts = generated.valid[..., 0] & (
        (paid.isfinite() | ~generated.valid) & (earned.isfinite() | ~on_policy.valid)
    ).all(-1)
    alive = generated.valid
    known = one_step_valid & one_step_reward.isfinite()
    confirmed = alive & replayed.valid
    steps = alive.sum(-1, keepdim=True).clamp(max=alive.shape[-1] - 1)
    missed = on_policy.valid & ~alive & replayed.valid.gather(-1, steps)  # behind an end that the replay does not have

    weight = censored_weights(alive & counts[..., None], generated.terminated)
    decay = discount ** torch.arange(alive.shape[-1], dtype=torch.float64, device=alive.device)

    def total(value: Tensor, where: Tensor) -> Float[Tensor, "S L"]:
        """Mean over the rollouts that count, summed up to each step."""
        return (decay * (weight * value.where(where & counts[..., None], 0.0)).sum(1)).cumsum(-1)

    promised = imagined.where(alive, 0.0) - earned.where(on_policy.valid, 0.0)
    overpaid = (imagined - one_step_reward.double()).where(alive & known, 0.0)
    return ReturnGap(
        generated=total(imagined, alive),
        replayed=total(paid, confirmed),
        on_policy=total(earned, on_policy.valid),
        reward=total(overpaid, alive),
        dynamics=total(one_step_reward.double() - paid, alive & known),
        termination=total(paid, alive & ~replayed.valid) - total(earned, missed),
        feedback=total(paid, confirmed) - total(earned, on_policy.valid & ~missed),
        unsplit=total(imagined - paid, alive & ~known),
        used=counts.double().sum(1) / generated.valid[..., 0].sum(1),
        gap_error=_standard_error(promised, weight, counts, decay),
        rest_error=_standard_error(promised - overpaid, weight, counts, decay),
    )


def _standard_error(
    value: Float[Tensor, "S B L"], weight: Float[Tensor, "S B L"], counts: Bool[Tensor, "S B"], decay: Tensor
) -> Float[Tensor, "S L"]:
    """Of the discounted sum up to each step of weighted means over rollouts; NaN for a single one."""
    value = value.where(counts[..., None], 0.0)
    influence = (decay * weight * (value - (weight * value).sum(1, keepdim=True))).cumsum(-1)
    count = counts.double().sum(1, keepdim=True)
    return (influence.square().sum(1) * count / (count - 1).where(count > 1, torch.nan)).sqrt()


def kept_and_dropped(
    generated: Float[Tensor, "S B"], true: Float[Tensor, "S B"], kept: Bool[Tensor, "S B"], valid: Bool[Tensor, "S B"]
) -> KeptAndDropped:
    """What a filter is worth: generated and true return of the rollouts that it keeps and drops.

    Only `valid` rollouts with a finite true return count. A filter ranks by generated return, so what it keeps is
    always overrated (the winner's curse); it helps as far as the true returns of the two sides differ.
    """
    counts = valid & true.isfinite()

    def mean(value: Tensor, where: Tensor) -> Float[Tensor, " S"]:
        return value.double().where(where, 0.0).sum(1) / where.sum(1)

    on = counts & kept
    off = counts & ~kept
    ranks = rank_correlation(generated, true, counts)
    return KeptAndDropped(mean(generated, on), mean(generated, off), mean(true, on), mean(true, off), ranks)


def rank_correlation(
    x: Float[Tensor, "S B"], y: Float[Tensor, "S B"], valid: Bool[Tensor, "S B"]
) -> Float[Tensor, " S"]:
    """Spearman's: the correlation of the ranks, equal values sharing theirs. NaN below two rows or without spread."""
    count = valid.sum(1, keepdim=True)
    centred = [(_rank(v, valid) - (count + 1) / 2).where(valid, 0.0) for v in (x, y)]
    a, b = centred
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def _rank(value: Float[Tensor, "S B"], valid: Bool[Tensor, "S B"]) -> Float[Tensor, "S B"]:
    """1 for the smallest; what does not count is put last."""
    masked = value.double().where(valid, torch.inf)
    ordered = masked.sort(1).values
    below, up_to = (torch.searchsorted(ordered, masked, right=right) for right in (False, True))
    return (below + up_to + 1).double() / 2
