"""Equal weights, equal batches, equal draws: do both sides' first updates do the same?

A peer's driver has written its weights before and after some updates, and the batches; here our algorithm begins with
these weights and is given these batches. What scores of few seeds cannot show, this does: each term of each loss, the
optimisers, the targets. States of the batches are normalised already, and rewards scaled, as the peer does it. Of
diffusion models it compares what network, loss and sampler make of the same rows, and, where the networks are the
same, a training. What both sides begin with by themselves is compared first: the law of the initial weights, and the
normalisation of states. Updates are computed in double precision.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import ks_2samp
from torch import Tensor, nn

from benchmarks.parity.drivers.lockstep import INTEGER, NORMAL, UNIFORM, by_row, spread, toy_denoiser
from core.checkpoint import Checkpoint
from core.data import Dataset, Transitions
from core.random import Streams
from core.registry import build_method
from models.cache import FitContext
from models.diffusion.edm import denoising_loss, training_sigma

__all__ = ["Constant", "Network", "compare"]


class Network(NamedTuple):
    """How far the weights of a network have moved, and how far both sides are apart afterwards.

    Of models: the size of what a part says, and how far both sides are apart.
    """

    name: str
    moved: float  # root mean square
    apart: float  # root mean square
    median: float  # of the absolute differences: a few weights, which Adam moves by a rounding's sign, do not show
    law: float | None = None  # p: both sides draw the initial weights from one law; None where that is not asked


class Constant(Streams):
    """Every number is the constant that the peers' drivers draw."""

    def fork(self, label: str) -> "Constant":
        return Constant(self.seeds)

    def normal(self, *shape: int) -> Tensor:
        return torch.full((len(self.seeds), *shape), NORMAL)

    def uniform(self, *shape: int) -> Tensor:
        return torch.full((len(self.seeds), *shape), UNIFORM)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.full((len(self.seeds), *shape), INTEGER % high)


class ByRow(Streams):
    """Normal numbers differ from row to row; uniform ones follow each other evenly."""

    def __init__(self, seeds: Iterable[int]) -> None:
        super().__init__(seeds)
        self.drawn = 0

    def fork(self, label: str) -> "ByRow":
        return ByRow(self.seeds)

    def normal(self, *shape: int) -> Tensor:
        return by_row(*shape).expand(len(self.seeds), *shape)

    def uniform64(self, *shape: int) -> Tensor:
        first, self.drawn = self.drawn, self.drawn + shape[0]
        return spread(first, shape[0]).expand(len(self.seeds), *shape)


def compare(method: str, settings: Mapping[str, Any], data: Dataset, file: Path) -> list[Network]:
    """Repeat the updates of the file with our algorithm; of models compare what network, loss and sampler say, too."""
    with np.load(file, allow_pickle=False) as content:
        theirs = {name: torch.from_numpy(np.asarray(content[name])) for name in content.files}
    if method in _MODELS:
        with torch.no_grad():
            return list(_MODELS[method](build_method("generators", method, dict(settings)), data, theirs))
    algorithm = build_method("algorithms", method, dict(settings))
    state = algorithm.init(data, Streams((0,)))
    begins = list(_normalised(state, theirs))
    for normaliser in _normalisers(state):
        normaliser.mean.zero_()
        normaliser.scale.fill_(1.0)
    laws = {name: _law(name, layers, theirs) for name, layers in _networks(method, state)}
    with _double_precision(*vars(state).values()):
        if "betas" in theirs:
            _set_schedule(state, theirs["betas"])
        networks = dict(_networks(method, state))
        for name, layers in networks.items():
            for key, ours in _tensors(name, layers):
                ours.copy_(theirs[f"start_{key}"])
        rng = Constant((0,))
        scale = getattr(state, "reward_scale", 1.0)
        columns = [theirs[name] for name in ("obs", "action", "reward", "next_obs", "terminated")]
        for obs, action, reward, next_obs, ended in zip(*columns, strict=True):
            row = [obs, action, reward.view(-1), next_obs, ended.view(-1)]
            obs, action, reward, next_obs, ended = (column[None].double() for column in row)
            algorithm.update(state, Transitions(obs, action, reward / scale, next_obs, ended.bool()), rng)
    return begins + [_network(name, layers, theirs)._replace(law=laws[name]) for name, layers in networks.items()]


def _set_schedule(state: Any, betas: Tensor) -> None:
    """The constants of a diffusion policy in double precision; they had been rounded to single precision."""
    for actor in (state.actor, state.target_actor):
        actor.betas.data, actor.kept.data = betas, (1 - betas).cumprod(0)


@contextmanager
def _double_precision(*parts: Any) -> Iterator[None]:
    """Numbers made meanwhile are of double precision, and from now on those of the parts are."""
    for part in parts:
        if isinstance(part, nn.Module):
            part.double()
        elif isinstance(part, Tensor) and part.is_floating_point():
            part.data = part.data.double()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _normalised(state: Any, theirs: Mapping[str, Tensor]) -> Iterator[Network]:
    """The mean and the deviation of states, if the peer has told its own."""
    if "mean" in theirs:
        normaliser = next(_normalisers(state))
        parts = (("mean", normaliser.mean), ("std", normaliser.scale))
        yield from (_part(f"states_{name}", theirs[name].float().view(-1), ours.view(-1)) for name, ours in parts)


def _network(name: str, layers: list[tuple[Tensor, Tensor]], theirs: Mapping[str, Tensor]) -> Network:
    moved = list[Tensor]()
    apart = list[Tensor]()
    for key, ours in _tensors(name, layers):
        start, end = (theirs[f"{when}_{key}"].double() for when in ("start", "end"))
        moved.append((end - start).flatten())
        apart.append((ours - end).flatten())
    return _measured(name, torch.cat(moved), torch.cat(apart))


def _law(name: str, layers: list[tuple[Tensor, Tensor]], theirs: Mapping[str, Tensor]) -> float:
    """The smallest p of Kolmogorov-Smirnov tests, one for each weight matrix and bias, after Bonferroni."""
    tested = [ks_2samp(ours.flatten(), theirs[f"start_{key}"].flatten()).pvalue for key, ours in _tensors(name, layers)]
    return min(1.0, len(tested) * float(min(tested)))


def _tensors(name: str, layers: list[tuple[Tensor, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """(the peer's name, our weight [out, in] or bias [out]) of every layer."""
    for i, (weight, bias) in enumerate(layers):
        yield f"{name}_weight{i}", weight.T
        yield f"{name}_bias{i}", bias


def _measured(name: str, size: Tensor, apart: Tensor) -> Network:
    root, other = (float(x.double().square().mean().sqrt()) for x in (size, apart))
    return Network(name, root, other, float(apart.abs().median()))


def _normalisers(state: Any) -> Iterator[Any]:
    """All of the state: of the critics, and of every actor."""
    yield state.policy.normaliser if hasattr(state.policy, "normaliser") else state.actor.normaliser
    for name in ("normaliser", "actor", "target_actor"):
        if (part := getattr(state, name, None)) is not None:
            yield part if name == "normaliser" else part.normaliser


def _networks(method: str, state: Any) -> Iterator[tuple[str, list[tuple[Tensor, Tensor]]]]:
    """(name, (weight [in, out], bias [out]) of every layer), as views: what is copied into them is the state's."""
    yield "actor", _layers(getattr(state, "actor", None) or state.policy, "net")
    if method == "dql":
        yield "time", _layers(state.actor, "embed")
        yield "target_time", _layers(state.target_actor, "embed")
    if hasattr(state, "target_actor"):
        yield "target_actor", _layers(state.target_actor, "net")
    if hasattr(state, "value") and isinstance(state.value, nn.Module):
        yield "value", _layers(state, "value")
    for prefix in ("", "target_"):
        critic = getattr(state, f"{prefix}critic", None)
        if critic is not None:
            yield f"{prefix}critic1", _views(critic.linear, (0, 0))
            yield f"{prefix}critic2", _views(critic.linear, (0, 1))


def _layers(owner: Any, name: str) -> list[tuple[Tensor, Tensor]]:
    return _views(getattr(owner, name).linear, 0)


def _views(layers: Iterable[Any], copy: Any) -> list[tuple[Tensor, Tensor]]:
    return [(layer.weight.data[copy], layer.bias.data[copy].view(-1)) for layer in layers]


def _part(name: str, theirs: Tensor, ours: Tensor) -> Network:
    return _measured(name, theirs, ours - theirs)


def _transitions(config: Any, data: Dataset, theirs: Mapping[str, Tensor]) -> Iterator[Network]:
    """SynthER's network with the peer's weights, and a training. Its rows have the reward before the next state."""
    obs, action = data.train.obs.shape[-1], data.train.action.shape[-1]
    order = [*range(obs + action), *range(obs + action + 1, 2 * obs + action + 1), obs + action, 2 * obs + action + 1]
    fit = replace(config.model, updates=int(theirs["updates"]))
    model = fit.init(obs, action, Streams((0,)))
    net = model.net
    layers = {"mlp": [net.first, *net.blocks, net.last], "row": [net.embed_row], "time": net.embed_noise.linear}
    known = {name: _in_order(name, x, order, len(layers["mlp"]) - 1) for name, x in theirs.items()}
    laws = {name: _law(name, _views(linear, 0), known) for name, linear in layers.items()}
    with _double_precision(model):
        for name, linear in layers.items():
            for key, ours in _tensors(name, _views(linear, 0)):
                ours.copy_(known[f"start_{key}"])
        net.noise.frequency[0] = known["frequency"].view(net.noise.frequency[0].shape)
        yield from _parts_of_transitions(config, model, known)
        with torch.enable_grad():
            fit.fit(model, data, FitContext(ByRow((0,)), Checkpoint()))
        yield _part("mean", known["mean"], model.units.mean[0, 0])
        yield _part("std", known["std"], model.units.scale[0, 0])
        for name, linear in layers.items():
            yield _network(name, _views(linear, 0), known)._replace(law=laws[name])


def _in_order(name: str, x: Tensor, order: list[int], last: int) -> Tensor:
    """What the peer has by column, in the order of our columns."""
    if name.endswith("row_weight0") or name in ("rows", "denoised", "samples"):
        return x[:, order]
    return x[order] if name in ("mean", "std") or name.endswith((f"mlp_weight{last}", f"mlp_bias{last}")) else x


def _parts_of_transitions(config: Any, model: Any, theirs: Mapping[str, Tensor]) -> Iterator[Network]:
    model.units.set(theirs["mean"][None], theirs["std"][None])
    rng = ByRow((0,))
    rows = theirs["rows"][None]
    yield _part("denoiser", theirs["denoised"], model.denoise(rows, theirs["sigma"][None])[0])
    clean = model.units(rows)
    sigma = training_sigma(rows.shape[1], rng, config.model.noise_mean, config.model.noise_std)
    noisy = clean + sigma[..., None] * rng.normal(*clean.shape[1:])
    loss = denoising_loss(model.denoise(noisy, sigma), clean, sigma, config.model.sigma_data)
    yield _part("loss", theirs["loss"], loss.mean())
    drawn = config.sampler.sample(model.denoise, rng.normal(*clean.shape[1:]), rng)
    yield _part("sampler", (theirs["samples"] - theirs["mean"]) / theirs["std"], drawn[0])


def _sequences(config: Any, data: Dataset, theirs: Mapping[str, Tensor]) -> Iterator[Network]:
    """DyDiff's loss and sampler with a denoiser that is no network: ours is another, on purpose."""
    width = data.train.obs.shape[-1]
    rows = theirs["rows"][None]

    def impose(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :, 0, :width] = rows[:, :, 0, :width]
        x[..., width:] = rows[..., width:]
        return x

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return toy_denoiser(x, sigma[..., None, None])

    rng = Constant((0,))
    sigma = training_sigma(rows.shape[1], rng, config.model.noise_mean, config.model.noise_std)
    noisy = impose(rows + sigma[..., None, None] * rng.normal(*rows.shape[1:]))
    loss = denoising_loss(denoise(noisy, sigma), rows, sigma, config.model.sigma_data)
    yield _part("loss", theirs["loss"], loss.mean())
    yield _part("sampler", theirs["samples"], config.sampler.sample(denoise, theirs["latent"][None], rng, impose)[0])


_MODELS = {"synther": _transitions, "dydiff": _sequences}
