"""MuJoCo in batches: every row from its own state, under its own controls, on as many cores as torch uses."""

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import mujoco
import numpy as np
import torch
from jaxtyping import Float64
from mujoco import rollout
from torch import Tensor

__all__ = ["advance", "load_model"]

_START = 1.0  # every row's clock at the start: MuJoCo's own reset puts it to 0
_BUFFER = 2**23  # numbers in one call's record of all substeps: 64 MiB
_lock = Lock()  # one batch at a time: it uses all cores


@cache
def load_model(xml: Path) -> Any:
    """The compiled model of an MJCF file; shared, so it must not be changed."""
    return mujoco.MjModel.from_xml_path(str(xml))


def advance(
    model: Any, state: Float64[Tensor, "*N X"], control: Float64[Tensor, "*N L U"], frame_skip: int
) -> Float64[Tensor, "*N L X"]:
    """The states (qpos, qvel) after each of L controls, every one held for `frame_skip` MuJoCo steps.

    Each row starts with a zero warm start of the constraint solver and carries it along its controls, so a row is a
    function of its own state and controls, bit for bit, whatever the other rows, the threads and earlier calls. Where
    MuJoCo cannot step (position, velocity or acceleration not finite or above 1e10, control not finite) it would set
    the default pose and `mujoco.rollout` would repeat that to the end of the row: here such a row is NaN from that step
    on, and the warning that MuJoCo would print and write into a log file is dropped.
    """
    size = model.nq + model.nv
    length = control.shape[-2]
    if mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS) != 1 + size:
        raise ValueError("the model must have no state besides time, qpos and qvel (no activations, no plugins)")
    begin = state.numpy().reshape(-1, size)
    held = control.numpy().reshape(len(begin), length, model.nu)
    states = np.empty((len(begin), length, size))
    rows = max(1, _BUFFER // (max(length, 1) * frame_skip * (1 + size)))
    for first in range(0, len(begin) if length else 0, rows):
        part = slice(first, first + rows)
        states[part] = _advance(model, begin[part], held[part], frame_skip)
    return torch.from_numpy(states).view(*control.shape[:-1], size)


def _advance(
    model: Any, state: Float64[np.ndarray, "N X"], control: Float64[np.ndarray, "N L U"], frame_skip: int
) -> Float64[np.ndarray, "N L X"]:
    begin = np.insert(state, 0, _START, axis=1)
    threads = [_data(model, thread) for thread in range(min(torch.get_num_threads(), len(state)))]
    with _lock:
        handler = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(lambda message: None)
        try:
            substeps, _ = rollout.rollout(model, threads, begin, np.repeat(control, frame_skip, axis=1))
        finally:
            mujoco.set_mju_user_warning(handler)
    frames = substeps[:, frame_skip - 1 :: frame_skip]
    clock = _START + model.opt.timestep * frame_skip * np.arange(1, 1 + control.shape[1])
    ran = (np.abs(frames[..., 0] - clock) < model.opt.timestep / 2) & np.isfinite(control).all(-1)
    return np.where(ran[..., None], frames[..., 1:], np.nan)


@cache
def _data(model: Any, thread: int) -> Any:
    """MuJoCo's working memory for one thread: slow to make; every row overwrites all of it."""
    return mujoco.MjData(model)
