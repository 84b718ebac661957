import torch

from core.data import Trajectories


def test_rollouts_are_cut_where_they_stop_being_finite() -> None:
    """One is fine, one has a bad reward, one a bad last state, one was over before; and each of a seed without any."""
    shape = (2, 4, 3)
    obs = torch.ones(2, 4, 4, 5)
    action = torch.ones(*shape, 2)
    reward = torch.ones(shape)
    valid = torch.ones(shape, dtype=torch.bool)
    reward[0, 1, 1] = torch.nan
    obs[0, 2, 3, 4] = torch.inf
    obs[0, 3, 2, 0] = torch.nan
    valid[0, 3, 1:] = False
    valid[1] = False
    rollouts = Trajectories(
        action=action,
        obs=obs,
        reward=reward,
        terminated=~valid & False,
        valid=valid,
        info={"lag": torch.zeros(2)},
    )
    cut = rollouts.finite()
    assert cut.valid[0].int().tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]]
    assert not cut.valid[1].any()
    assert torch.allclose(cut.info["not_finite"], torch.tensor([1 - 7 / 10, 0.0]))
    assert cut.info.keys() == {"lag", "not_finite"}
    assert cut.obs is obs
