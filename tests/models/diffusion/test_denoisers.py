"""Networks of diffusion models: sizes and costs of the papers, conditions, causality, independence of seeds."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, conv_transpose1d
from torch.utils.flop_counter import FlopCounterMode

from core.config import build_config
from core.random import Streams
from models.diffusion.denoisers import (
    NoiseFeatures,
    ResidualMLP,
    ResidualMLPConfig,
    TemporalUNet,
    UNetConfig,
    _Stretch,
    condition_channels,
)
from models.nn import Conv1d, LayerNorm, adam, descend

TINY = UNetConfig(dim=8, multipliers=(1, 2))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (3, 2), (1, 1)])
def test_convolution_is_torchs(kernel: int, stride: int) -> None:
    layer = Conv1d((2,), 3, 4, Streams((0, 1)), kernel=kernel, stride=stride)
    x = torch.randn(2, 6, 10, 3)
    for seed in range(2):
        weight = layer.linear.weight[seed].view(kernel, 3, 4).permute(2, 1, 0)
        bias = layer.linear.bias[seed, 0]
        expected = conv1d(x[seed].transpose(1, 2), weight, bias, stride, kernel // 2).transpose(1, 2)
        assert torch.allclose(layer(x)[seed], expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_causal_convolution_sees_no_later_row(stride: int) -> None:
    layer = Conv1d((1,), 3, 4, Streams((0,)), kernel=3, stride=stride, causal=True)
    x = torch.randn(1, 1, 8, 3)
    other = x.clone()
    other[:, :, 5:] += 1
    same = (layer(x) == layer(other)).all(-1)[0, 0]
    assert same.tolist() == [stride * row < 5 for row in range(8 // stride)]


@pytest.mark.parametrize("causal", [False, True])
def test_stretching_is_torchs_transposed_convolution(causal: bool) -> None:
    layer = _Stretch((2,), 3, Streams((0, 1)), causal=causal)
    x = torch.randn(2, 5, 7, 3)
    with torch.no_grad():
        layer.spread.bias.zero_()
    for seed in range(2):
        weight = layer.spread.weight[seed].view(3, 4, 3).permute(0, 2, 1)
        full = conv_transpose1d(x[seed].transpose(1, 2), weight, stride=2).transpose(1, 2)
        expected = full[:, :14] if causal else full[:, 1:15]
        assert torch.allclose(layer(x)[seed], expected, atol=1e-5)


def test_layer_norm_is_torchs_with_weights_per_copy() -> None:
    layer = LayerNorm((2,), 6, Streams((0, 1)))
    x = torch.randn(2, 5, 6)
    with torch.no_grad():
        layer.weight[1] = 2
        layer.bias[1] = 3
    plain = nn.functional.layer_norm(x, (6,))
    assert torch.allclose(layer(x)[0], plain[0])
    assert torch.allclose(layer(x)[1], 2 * plain[1] + 3)


def test_noise_features_are_fixed_and_resolve_the_levels() -> None:
    features = NoiseFeatures(8, Streams((0, 1)))
    levels = torch.linspace(-1.55, 1.1, 100).expand(2, -1)
    seen = features(levels)
    assert seen.shape == (2, 100, 17)
    assert torch.equal(seen[..., 0], levels)
    assert not list(features.parameters())
    assert not torch.equal(seen[0], seen[1])
    assert (seen.diff(dim=1).norm(dim=-1) > 0.02).all()


def test_sizes_are_those_of_the_papers() -> None:
    """methods.md: SynthER's network of width 1024 on Hopper rows has 6.48 M parameters, DyDiff's U-Net 3.21 GFLOP."""
    assert parameters(ResidualMLPConfig(width=1024).init(27, Streams((0,)))) == pytest.approx(6.48e6, rel=1e-3)
    paper = build_config(UNetConfig, UNetConfig.presets["paper"], "")
    assert paper.flops(14, 0, 100) == pytest.approx(3.21e9, rel=1e-2)  # the skip at full length adds 0.5 %
    assert 0.95e6 < parameters(UNetConfig().init(14, 0, Streams((0,)))) < 1.05e6  # the pilot's 1.03 M


@pytest.mark.slow
def test_the_papers_u_net_has_its_size() -> None:
    """58.75 M parameters (methods.md 5.1), although norm, activation and noise features differ."""
    paper = UNetConfig(dim=128, multipliers=(1, 4, 8))
    assert parameters(paper.init(14, 0, Streams((0,)))) == pytest.approx(58.75e6, rel=2e-3)


def test_flops_are_counted_by_hand() -> None:
    """dim 2, one level, kernel 3, 3 features, 1 condition, 5 rows: noise 3*8 + 8*2; two residual blocks of 4->2 and
    2->2 channels, twice 2->2 in the middle; last convolution (2+2)->2 and projection 2->3."""
    noise = 3 * 8 + 8 * 2
    first = 5 * (3 * 4 * 2 + 3 * 2 * 2 + 4 * 2) + 2 * 2
    other = 5 * (3 * 2 * 2 + 3 * 2 * 2) + 2 * 2
    last = 5 * (3 * 4 * 2 + 2 * 3)
    config = UNetConfig(dim=2, multipliers=(1,), kernel=3)
    assert config.flops(3, 1, 5) == 2 * (noise + first + 3 * other + last)
    tiny = ResidualMLPConfig(width=7, blocks=2, embedding=5, frequencies=3)
    assert tiny.flops(4) == 2 * (7 * 5 + 5 * 5 + 4 * 5 + 5 * 7 + 2 * 7 * 7 + 7 * 4)


@pytest.mark.parametrize("rows", [1, 7, 8])
@pytest.mark.parametrize("config", [TINY, UNetConfig(dim=4, multipliers=(1, 2, 3), causal=True)], ids=str)
def test_flops_are_those_that_torch_counts(config: UNetConfig, rows: int) -> None:
    net = config.init(3, 2, Streams((0, 1)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.randn(2, 5, rows, 3), torch.randn(2, 5), torch.randn(2, 5, rows, 2))
    assert counter.get_total_flops() == 10 * config.flops(3, 2, rows)
    tiny = ResidualMLPConfig(width=16, blocks=2)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tiny.init(4, Streams((0,)))(torch.randn(1, 5, 4), torch.randn(1, 5))
    assert counter.get_total_flops() == 5 * tiny.flops(4)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("conditions", [0, 4])
def test_any_number_of_rows(rows: int, conditions: int) -> None:
    net = UNetConfig(dim=4).init(3, conditions, Streams((0, 1)))
    made = net(torch.randn(2, 6, rows, 3), torch.randn(2, 6), torch.randn(2, 6, rows, conditions))
    assert made.shape == (2, 6, rows, 3)
    assert made.isfinite().all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("where", ["x", "condition"])
def test_causal_networks_do_not_know_the_future(causal: bool, where: str) -> None:
    net = UNetConfig(dim=8, multipliers=(1, 2, 4), causal=causal).init(3, 2, Streams((0,)))
    given = {"x": torch.randn(1, 2, 16, 3), "feature": torch.randn(1, 2), "condition": torch.randn(1, 2, 16, 2)}
    changed = {name: value.clone() for name, value in given.items()}
    changed[where][:, :, 9:] += 1
    with torch.no_grad():
        moved = (net(**given) - net(**changed)).abs().amax((0, 1, 3))
    assert moved[9:].min() > 0
    assert (moved[:9].max() == 0) == causal
    if causal:  # and rows that are cut off change nothing
        with torch.no_grad():
            short = net(**{name: value[:, :, :9] if value.ndim == 4 else value for name, value in given.items()})
            assert torch.allclose(short, net(**given)[:, :, :9], atol=1e-5)


def test_every_row_sees_every_condition_unless_causal() -> None:
    """32 rows, `small`: the last row of the conditions reaches the first row of the output."""
    net = UNetConfig().init(3, 1, Streams((0,)))
    condition = torch.zeros(1, 1, 32, 1, requires_grad=True)
    net(torch.randn(1, 1, 32, 3), torch.randn(1, 1), condition)[0, 0, 0].sum().backward()
    assert condition.grad is not None
    assert (condition.grad != 0).all()


def test_condition_channels_are_values_mask_first_row_and_ramp() -> None:
    known = torch.randn(2, 3, 4, 2)
    mask = torch.zeros(1, 1, 4, 2, dtype=torch.bool)
    mask[..., 0, 0] = mask[..., 1] = True
    shown, given, first, ramp = condition_channels(known, mask).split([2, 2, 2, 1], -1)
    assert torch.equal(shown[..., 1], known[..., 1])
    assert torch.equal(shown[..., 0, :], known[..., 0, :])
    assert (shown[..., 1:, 0] == 0).all()
    assert torch.equal(given.bool(), mask.expand_as(known))
    assert (first == known[..., :1, :]).all()
    assert torch.equal(ramp[0, 0, :, 0] * 32, torch.arange(4.0))
    hidden = torch.where(mask, known, torch.nan)
    assert torch.equal(condition_channels(hidden, mask), condition_channels(known, mask))


@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_seeds_together_are_seeds_alone(network: str) -> None:
    """Bit for bit after updates with clipped gradients: weights, noise frequencies and outputs."""

    def train(seeds: tuple[int, ...]) -> dict[str, torch.Tensor]:
        rng = Streams(seeds)
        net: ResidualMLP | TemporalUNet

        def error(net: torch.nn.Module, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            return (net(x, *rest) - x).square().flatten(1).mean(1)

        if network == "mlp":
            net = ResidualMLPConfig(width=24, blocks=2, embedding=16).init(3, rng.fork("init"))
            shape = (9, 3)
        else:
            net = TINY.init(3, 2, rng.fork("init"))
            shape = (9, 6, 3)
        optimizer = adam(net.parameters(), 1e-2)
        data = rng.fork("data")
        for _ in range(30):
            x = data.normal(*shape)
            level = data.normal(9)
            given = () if network == "mlp" else (data.normal(9, 6, 2),)
            descend(optimizer, error, net, x, level, *given, max_norm=0.5)
        return dict(net.state_dict()) | {"made": net(x, level, *given)}

    together = train((0, 1, 2))
    alone = train((1,))
    for name, value in alone.items():
        assert torch.equal(together[name][1:2], value), name
    assert not torch.equal(together["made"][0], together["made"][1])


@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_every_weight_learns(network: str) -> None:
    net = ResidualMLPConfig(width=8).init(3, Streams((0,))) if network == "mlp" else TINY.init(3, 2, Streams((0,)))
    given = (torch.randn(1, 5, 3),) if network == "mlp" else (torch.randn(1, 5, 6, 3),)
    condition = () if network == "mlp" else (torch.randn(1, 5, 6, 2),)
    net(*given, torch.randn(1, 5), *condition).square().sum().backward()
    assert all(parameter.grad is not None and (parameter.grad != 0).any() for parameter in net.parameters())


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(ValueError, match="kernel must be odd, got 4"):
        UNetConfig(kernel=4)
    with pytest.raises(ValueError, match="multipliers must have at least one level"):
        UNetConfig(multipliers=())
