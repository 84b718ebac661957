"""Small temporal U-Net, ours beside the code that DyDiff released: python -m benchmarks.speed.unet --peers DIR.

Both of 32 channels x (1, 2, 4) on trajectories of 32 rows and 14 features, batches of 64. Ours has the condition
channels of the default trajectory model; the released network knows conditions as entries of x only. Forward is what a
sampler asks for once per evaluation. Training: noise levels, noise, preconditioning and loss of EDM, which are ours for
both, and Adam; ours also clips its gradients and makes its condition channels anew for every batch, as it always does.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.command import Peers, finish, options, threads
from benchmarks.speed.inputs import ACTION, OBS
from benchmarks.speed.peers import folder, load
from benchmarks.speed.turns import Figure, Turn, also_compiled, ratio_text, take_turns
from core.random import Streams
from models.compiled import call as evaluate
from models.diffusion.denoisers import UNetConfig, condition_channels
from models.diffusion.edm import denoising_loss, precondition, training_sigma
from models.diffusion.trajectory import TrajectoryDiffusionConfig
from models.nn import adam, descend

__all__ = ["compare", "figures", "main"]

PEER = "DyDiff"
FULL: dict[str, Any] = {"batch": 64, "steps": 10, "compiled": True}
QUICK: dict[str, Any] = {"batch": 2, "steps": 2, "compiled": False}

_MODEL = TrajectoryDiffusionConfig()
_FEATURES = OBS + ACTION
_CHANNELS = 3 * _FEATURES + 2  # known entries, their mask, first row, ramp, presence
_STUBS = ("torch_utils", "torch_utils.persistence")

Net = Callable[[Tensor, Tensor, Tensor], Tensor]  # of (x, noise feature, condition channels), seeds in front


def released(module: ModuleType, config: UNetConfig) -> nn.Module:
    """Its network, of our size."""
    net: nn.Module = module.TemporalUnet(
        _FEATURES, 0, horizon=_MODEL.rows, dim=config.dim, dim_mults=config.multipliers, kernel_size=config.kernel
    )
    return net


def forward(net: Net, batch: int, steps: int) -> Turn:
    """Evaluations without gradients."""
    rng = Streams((0,))
    x = rng.normal(batch, _MODEL.rows, _FEATURES)
    feature = rng.normal(batch)
    shown = _shown(rng, batch)

    @torch.no_grad()
    def call() -> None:
        for _ in range(steps):
            evaluate(net, x, feature, shown)

    return Turn(call, batch * steps)


def loss(net: Net, rng: Streams, x: Float[Tensor, "S B H D"], shown: Float[Tensor, "S B H C"]) -> Float[Tensor, " S"]:
    """EDM's, at fresh noise levels."""
    sigma = training_sigma(x.shape[1], rng, _MODEL.noise_mean, _MODEL.noise_std)
    noisy = x + sigma[..., None, None] * rng.normal(*x.shape[1:])
    denoised = precondition(lambda scaled, feature: net(scaled, feature, shown), noisy, sigma, _MODEL.sigma_data)
    return denoising_loss(denoised, x, sigma, _MODEL.sigma_data)


def our_training(net: nn.Module, batch: int, steps: int) -> Turn:
    """Steps as all our diffusion models make them."""
    rng = Streams((0,))
    optimizer = adam(net.parameters(), _MODEL.learning_rate)
    x = rng.normal(batch, _MODEL.rows, _FEATURES)

    def batch_loss(rng: Streams) -> Float[Tensor, " S"]:
        return loss(net, rng, x, _shown(rng, batch))

    def call() -> None:
        for _ in range(steps):
            descend(optimizer, batch_loss, rng, max_norm=_MODEL.max_norm)

    return Turn(call, batch * steps)


def their_training(net: nn.Module, batch: int, steps: int) -> Turn:
    """Steps of torch's Adam."""
    rng = Streams((0,))
    optimizer = torch.optim.Adam(net.parameters(), lr=_MODEL.learning_rate)
    x = rng.normal(batch, _MODEL.rows, _FEATURES)
    nothing = torch.zeros(1, batch, _MODEL.rows, 0)

    def call() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(_seeded(net), rng, x, nothing).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return Turn(call, batch * steps)


def compare(peers: Path | None, repeats: int, *, batch: int, steps: int, compiled: bool = False) -> dict[str, Any]:
    """Trajectories per second of both, in turns, and how large both networks are."""
    config = _MODEL.denoiser
    known = Peers(peers)
    module = known.get(PEER, lambda root: load(root / "training/TemporalUnet.py", _STUBS))
    own = config.init(_FEATURES, _CHANNELS, Streams((0,)))
    theirs = module and released(module, config)
    turns = {"forward": {"ours": forward(own, batch, steps)}, "training": {"ours": our_training(own, batch, steps)}}
    if compiled:
        turns = {name: also_compiled(turn) for name, turn in turns.items()}
    peer: dict[str, Turn | None] = dict.fromkeys(turns)
    if theirs:
        peer = {"forward": forward(_seeded(theirs), batch, steps), "training": their_training(theirs, batch, steps)}
    return {
        "rows": _MODEL.rows,
        "batch": batch,
        "sizes": {"ours": _size(own, own), PEER: _size(theirs, _seeded(theirs)) if theirs else None},
        "flops_of_ours_as_we_count_them": config.flops(_FEATURES, _CHANNELS, _MODEL.rows),
        **known.record(),
        "measured": {
            name: take_turns("trajectories/s", {PEER: peer[name], **turn}, [PEER], repeats)
            for name, turn in turns.items()
        },
    }


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Lines of the table of figures."""
    return [
        Figure(
            f"Small U-Net, {name}{own.removeprefix('ours')}, beside {PEER}'s code",
            ">= 2x",
            ratio_text(turns, own, PEER, found["not_there"]),
        )
        for name, turns in found["measured"].items()
        for own in turns["rates"]
        if own != PEER
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, write json."""
    asked = options(__doc__, repeats=15).parse_args(arguments)
    with threads(asked.threads):
        repeats, size = (1, QUICK) if asked.quick else (asked.repeats, FULL)
        found = compare(folder(asked.peers), repeats, **size)
        finish(f"U-Net, batches of {found['batch']} trajectories of {found['rows']} rows", found, asked.out)
        for name, numbers in found["sizes"].items():
            if numbers:
                print(f"{name}: {numbers['parameters']:,} parameters, {numbers['flops'] / 1e6:.1f} MFLOP a trajectory")


def _seeded(net: nn.Module) -> Net:
    """The released network, seen as one of ours with a single seed; it has no condition channels."""
    return lambda x, feature, shown: net(x[0], None, feature[0])[None]


def _shown(rng: Streams, batch: int) -> Float[Tensor, "S B H C"]:
    """Condition channels where the start and all actions are known: as many as the trajectory model has."""
    known = rng.normal(batch, _MODEL.rows, _FEATURES)
    mask = torch.zeros(1, 1, _MODEL.rows, _FEATURES).bool()
    mask[:, :, 0] = True
    mask[..., OBS:] = True
    return torch.cat([condition_channels(known, mask), torch.ones_like(known[..., :1])], -1)


def _size(net: nn.Module, evaluate: Net) -> dict[str, int]:
    """Parameters, and FLOP of a forward pass of one trajectory as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        forward(evaluate, 1, 1).call()
    return {"parameters": sum(part.numel() for part in net.parameters()), "flops": counter.get_total_flops()}


if __name__ == "__main__":
    main()
