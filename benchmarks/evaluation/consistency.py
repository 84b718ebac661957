"""Are generated actions those of the learning policy in the generated states?"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.data import Trajectories
from core.policy import GaussianPolicy, ImplicitPolicy, Policy
from core.random import Streams
from metrics.consistency import action_distance, excess_cross_entropy, excess_energy, smoothed_kl

__all__ = ["COMPARED_ROWS", "few_rows", "policy_consistency"]

COMPARED_ROWS = 500  # of a seed, where a row is expensive
_SAMPLES = 64  # drawn in every state from policies without a density


def policy_consistency(
    generated: Trajectories, policy: Policy, rng: Streams
) -> Iterator[tuple[str, Float[Tensor, " S"]]]:
    """Distance of the actions to the policy's, in the way that suits its kind.

    Policies that can only be sampled are asked in a few rows: a greedy action of Diffusion-QL is chosen of 50.
    """
    rows, valid = generated.transitions()
    if isinstance(policy, ImplicitPolicy):
        few = few_rows(valid.shape[1], valid.device)
        rows, valid = rows.map(lambda x: x[:, few]), valid[:, few]
    greedy = policy.act(rows.obs, None)
    yield "consistency/distance", action_distance(rows.action, greedy, valid)
    match policy:
        case GaussianPolicy():
            latent = policy.latent(rows.obs, rows.action)
            yield "consistency/kl", excess_cross_entropy(*latent, policy.latent_limit, valid)
        case ImplicitPolicy():
            yield "consistency/energy", excess_energy(rows.action, policy.sample(rows.obs, _SAMPLES, rng), valid)
        case _:
            yield "consistency/kl", smoothed_kl(rows.action, greedy, valid)


def few_rows(rows: int, device: torch.device) -> Int[Tensor, " few"]:
    """At most 500 of so many rows, evenly spread: a stride that divides the steps would meet one step only."""
    return torch.linspace(0, rows - 1, min(COMPARED_ROWS, rows), device=device).long()
