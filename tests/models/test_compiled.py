"""What torch.compile makes of our losses must be the same; in processes of their own, without enforced shapes."""

import subprocess
import sys

import pytest

_FIT = """
import sys
import torch
from torch._dynamo.utils import counters
from core.random import Streams
from models.cache import FitContext
from models.compiled import compiling
from models.diffusion.denoisers import ResidualMLPConfig, UNetConfig
from models.dynamics import DynamicsConfig
from models.diffusion.edm import Sampler
from models.diffusion.trajectory import TrajectoryDiffusionConfig
from models.diffusion.transition import TransitionDiffusionConfig
from tasks.base import DataOptions, load_task

net = UNetConfig(dim=8, multipliers=(1, 2), blocks=1)
ensemble = DynamicsConfig(members=2, elites=1, width=16, weight_decay=(0.1, 0.1), max_updates=6, check_every=3)
config = {
    "ensemble": ensemble,
    "trajectory": TrajectoryDiffusionConfig(rows=6, denoiser=net, updates=6, batch_size=8),
    "corrector": TrajectoryDiffusionConfig(rows=6, denoiser=net, updates=6, batch_size=8, corrects=ensemble),
    "transition": TransitionDiffusionConfig(denoiser=ResidualMLPConfig(width=16, blocks=1), updates=6, batch_size=8),
}[sys.argv[1]]
data, rng = load_task("toy/linear", DataOptions(dataset_rows=1000)).dataset()[0], Streams((0, 1))
needs = [need.init(4, 2, rng.fork("need")) for need in config.needs]
found = []
for on in (False, True):
    model = config.init(4, 2, rng.fork("init"))
    with compiling(on):
        config.fit(model, data, FitContext(rng.fork("fit")), *needs)
        state = [x for x in model.state_dict().values() if x.is_floating_point()]
        if sys.argv[1] == "trajectory":
            start, action = data.train.obs[:5].expand(2, -1, -1), torch.zeros(2, 5, 5, 2)
            state.append(model.sample(start, action, 5, Sampler(steps=3), rng.fork("sample"))[0].detach())
    found.append(state)
worst = max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-2)) for a, b in zip(*found, strict=True))
print(worst, sum(counters["graph_break"].values()), counters["stats"]["unique_graphs"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ensemble", "trajectory", "corrector", "transition"])
def test_compiled_fits_agree_to_rounding_without_a_break(kind: str) -> None:
    ran = subprocess.run([sys.executable, "-c", _FIT, kind], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    worst, breaks, graphs = ran.stdout.split()[-3:]
    assert float(worst) < 1e-3
    assert int(breaks) == 0
    assert int(graphs) >= 1
