"""Small temporal U-Net, ours beside the code that DyDiff released.

Both of 32 channels x (1, 2, 4) on trajectories of 32 rows and 14 features, batches of 64. Ours has the condition
channels of the default trajectory model; the released network knows conditions as entries of x only. Forward is what a
sampler asks for once per evaluation. Training: noise levels, noise, preconditioning and loss of EDM, which are ours for
both, and Adam; ours also clips its gradients and makes its condition channels anew for every batch, as it always does.
"""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import Peers, load
from benchmarks.speed.harness import ACTION, OBS, Figure, Options, Turn, also_compiled, ratio_figures, take_turns
from core.random import Streams
from models.compiled import call as evaluate
from models.diffusion.denoisers import UNetConfig, condition_channels
from models.diffusion.edm import denoising_loss, precondition, training_sigma
from models.diffusion.trajectory import TrajectoryDiffusionConfig
from models.nn import adam, descend

__all__ = ["figures", "measure"]

PEER = "DyDiff"
MODEL = TrajectoryDiffusionConfig()
_FEATURES = OBS + ACTION
_CHANNELS = 3 * _FEATURES + 2  # known entries, their mask, first row, ramp, presence

Net = Callable[[Tensor, Tensor, Tensor], Tensor]  # of (x, noise feature, condition channels), seeds in front


def measure(options: Options) -> dict[str, Any]:
    """Trajectories per second of both, and how large both networks are."""
    batch, steps, rounds = (2, 2, 1) if options.quick else (64, 10, 15)
    config = MODEL.denoiser
    known = Peers(options.peers)
    stubs = ("torch_utils", "torch_utils.persistence")
    module = known.get(PEER, lambda root: load(root / "training/TemporalUnet.py", stubs))
    net = config.init(_FEATURES, _CHANNELS, Streams((0,)))
    sizes = {"ours": _size(net, net)}
    own = {"forward": {"ours": _forward(net, batch, steps)}, "training": {"ours": _our_training(net, batch, steps)}}
    turns: dict[str, dict[str, Turn]] = dict(own) if options.quick else {k: also_compiled(v) for k, v in own.items()}
    if module:
        theirs = _released(module, config)
        sizes[PEER] = _size(theirs, _seeded(theirs))
        turns["forward"] = {PEER: _forward(_seeded(theirs), batch, steps), **turns["forward"]}
        turns["training"] = {PEER: _their_training(theirs, batch, steps), **turns["training"]}
    measured = {part: take_turns("trajectories/s", turn, [PEER], rounds) for part, turn in turns.items()}
    counted = config.flops(_FEATURES, _CHANNELS, MODEL.rows)
    return {"batch": batch, "sizes": sizes, "our_count_of_flops": counted, **known.record(), "measured": measured}


def figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Lines of the table of figures."""
    title = "Small U-Net, {}, beside {}'s code"
    yield from ratio_figures(found, lambda part, own, peer: title.format(part, peer), lambda line: 2)


def _released(module: ModuleType, config: UNetConfig) -> nn.Module:
    """Its network, of our size."""
    net: nn.Module = module.TemporalUnet(
        _FEATURES, 0, horizon=MODEL.rows, dim=config.dim, dim_mults=config.multipliers, kernel_size=config.kernel
    )
    return net


def _forward(net: Net, batch: int, steps: int) -> Turn:
    """Evaluations without gradients."""
    rng = Streams((0,))
    x = rng.normal(batch, MODEL.rows, _FEATURES)
    feature = rng.normal(batch)
    shown = _shown(rng, batch)

    @torch.no_grad()
    def call() -> None:
        for _ in range(steps):
            evaluate(net, x, feature, shown)

    return Turn(call, batch * steps)


def _loss(net: Net, rng: Streams, x: Float[Tensor, "S B H D"], shown: Float[Tensor, "S B H C"]) -> Float[Tensor, " S"]:
    """EDM's, at fresh noise levels."""
    sigma = training_sigma(x.shape[1], rng, MODEL.noise_mean, MODEL.noise_std)
    noisy = x + sigma[..., None, None] * rng.normal(*x.shape[1:])
    denoised = precondition(lambda scaled, feature: net(scaled, feature, shown), noisy, sigma, MODEL.sigma_data)
    return denoising_loss(denoised, x, sigma, MODEL.sigma_data)


def _our_training(net: nn.Module, batch: int, steps: int) -> Turn:
    """Steps as all our diffusion models make them."""
    rng = Streams((0,))
    optimizer = adam(net.parameters(), MODEL.learning_rate)
    x = rng.normal(batch, MODEL.rows, _FEATURES)

    def batch_loss(rng: Streams) -> Float[Tensor, " S"]:
        return _loss(net, rng, x, _shown(rng, batch))

    def call() -> None:
        for _ in range(steps):
            descend(optimizer, batch_loss, rng, max_norm=MODEL.max_norm)

    return Turn(call, batch * steps)


def _their_training(net: nn.Module, batch: int, steps: int) -> Turn:
    """Steps of torch's Adam."""
    rng = Streams((0,))
    optimizer = torch.optim.Adam(net.parameters(), lr=MODEL.learning_rate)
    x = rng.normal(batch, MODEL.rows, _FEATURES)
    nothing = torch.zeros(1, batch, MODEL.rows, 0)

    def call() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            _loss(_seeded(net), rng, x, nothing).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return Turn(call, batch * steps)


def _seeded(net: nn.Module) -> Net:
    """The released network, seen as one of ours with a single seed; it has no condition channels."""
    return lambda x, feature, shown: net(x[0], None, feature[0])[None]


def _shown(rng: Streams, batch: int) -> Float[Tensor, "S B H C"]:
    """Condition channels where the start and all actions are known: as many as the trajectory model has."""
    known = rng.normal(batch, MODEL.rows, _FEATURES)
    mask = torch.zeros(1, 1, MODEL.rows, _FEATURES).bool()
    mask[:, :, 0] = True
    mask[..., OBS:] = True
    return torch.cat([condition_channels(known, mask), torch.ones_like(known[..., :1])], -1)


def _size(net: nn.Module, evaluate: Net) -> dict[str, int]:
    """Parameters, and FLOP of a forward pass of one trajectory as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        _forward(evaluate, 1, 1).call()
    return {"parameters": sum(part.numel() for part in net.parameters()), "flops": counter.get_total_flops()}
