"""Data of Hopper's shape that nobody has lived: speed does not depend on what the numbers are."""

import torch

from core.data import Dataset, Trajectories, Transitions

__all__ = ["ACTION", "OBS", "hopper_sized"]

OBS = 11
ACTION = 3
_EPISODE = 1000  # rows


def hopper_sized(rows: int) -> Dataset:
    """Normal states and rewards, actions cut to the box, episodes of 1000 rows that never terminate."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    obs = normal(rows, OBS)
    action = normal(rows, ACTION).clamp(-1, 1)
    train = Transitions(obs, action, normal(rows), normal(rows, OBS), torch.zeros(rows, dtype=torch.bool))
    alive = torch.ones(1, 2, dtype=torch.bool)
    heldout = Trajectories(normal(1, 2, ACTION).clamp(-1, 1), normal(1, 3, OBS), normal(1, 2), ~alive, alive)
    return Dataset(
        train,
        (torch.arange(rows) // _EPISODE).int(),
        heldout,
        heldout_state=normal(1, 3, 2).double(),
        heldout_exact=torch.ones(1, 3, dtype=torch.bool),
        obs_mean=obs.mean(0),
        obs_std=obs.std(0),
        sha256="",
    )
