"""What the peers use of einops, where it is not installed: axes in another order, axes of one, a mean."""

from typing import Any

from torch import Tensor, nn

__all__ = ["EINOPS", "Rearrange", "rearrange", "reduce"]


def rearrange(x: Tensor, pattern: str) -> Tensor:
    """Only patterns of single axes, such as "b t c -> b c t" or "b t -> b t 1".

    Raises:
        ValueError: axes differ by more than their order and ones.
    """
    before, after = (side.split() for side in pattern.split("->"))
    names = [name for name in before if name != "1"]
    wanted = [name for name in after if name != "1"]
    if sorted(names) != sorted(wanted) or len(before) != x.ndim or "..." in names:
        raise ValueError(f"pattern must only reorder the {x.ndim} axes or have ones, got {pattern!r}")
    for place in reversed([place for place, name in enumerate(before) if name == "1"]):
        x = x.squeeze(place)
    x = x.permute([names.index(name) for name in wanted])
    for place in [place for place, name in enumerate(after) if name == "1"]:
        x = x.unsqueeze(place)
    return x


def reduce(x: Tensor, pattern: str, how: str) -> Tensor:
    """Only the mean over all axes but the first. Raises ValueError otherwise."""
    if (pattern, how) != ("b ... -> b", "mean"):
        raise ValueError(f"only 'b ... -> b' by mean is known here, got {pattern!r} by {how!r}")
    return x.flatten(1).mean(1)


class Rearrange(nn.Module):
    """`rearrange` as a layer."""

    def __init__(self, pattern: str) -> None:
        super().__init__()
        self.pattern = pattern

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(x, self.pattern)


EINOPS: dict[str, dict[str, Any]] = {
    "einops": {"rearrange": rearrange, "reduce": reduce},
    "einops.layers": {},
    "einops.layers.torch": {"Rearrange": Rearrange},
}
