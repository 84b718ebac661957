"""Names written where a reader looks: at the ends of curves and beside points, without covering each other."""

from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from benchmarks.report.figures.palette import INK, SURFACE

__all__ = ["fitting", "label_end", "label_point", "set_apart", "spread"]

_SIZE = 7  # points
_GAP = 9.0  # points between a curve's end and its name
_AROUND = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]  # a point, the best first
_RINGS = (6.0, 12.0, 20.0)  # points between a point and its name


class _End(Annotation):
    """At the right edge of a panel."""


class _Point(Annotation):
    """Beside a point."""


def fitting(names: Iterable[str], longest: int) -> bool:
    """Whether a panel has room for these names, the longest of so many characters; else a legend must tell."""
    names = list(names)
    return len(names) <= 13 and max(map(len, names), default=0) <= longest


def label_end(ax: Axes, name: str, value: float, colour: str) -> None:
    """Right of the panel, of a curve that has this value there."""
    label = _End(name, (1, value), (_GAP, 0), ("axes fraction", "data"), "offset points", _line(colour, (0.0, 0.5)))
    label.set(fontsize=_SIZE, color=INK, va="center", annotation_clip=False)
    ax.add_artist(label).set_clip_on(False)


def label_point(ax: Axes, name: str, x: float, y: float, colour: str) -> None:
    """Beside the point."""
    label = _Point(name, (x, y), (_RINGS[0], 0), "data", "offset points", _line(colour, (0.5, 0.5)))
    label.set(fontsize=_SIZE, color=INK, va="center", ha="center", in_layout=False, zorder=5)
    label.set_bbox({"facecolor": SURFACE, "linewidth": 0, "alpha": 0.7, "pad": 0.3})
    ax.add_artist(label).set_clip_on(False)


def set_apart(figure: Figure) -> None:
    """Move labels apart; called once the panels have their sizes."""
    for ax in figure.axes:
        _stack(ax, [artist for artist in ax.texts if isinstance(artist, _End)])
        _scatter(ax, [artist for artist in ax.texts if isinstance(artist, _Point)])


def spread(at: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places in the order of `at`, `apart` or more from each other, moved as little as that takes (least squares).

    Not below `low`, and not above `high` where there is room.
    """
    order = sorted(range(len(at)), key=lambda i: (at[i], i))
    blocks: list[tuple[float, int]] = []  # of places that touch: where they would like to begin, summed; how many
    for rank, i in enumerate(order):
        total, members = at[i] - apart * rank, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / members:
            before = blocks.pop()
            total, members = total + before[0], members + before[1]
        blocks.append((total, members))
    begins = [total / members for total, members in blocks for _ in range(members)]
    found = [0.0] * len(at)
    for rank, i in enumerate(order):
        found[i] = max(low, min(begins[rank], high - apart * (len(at) - 1))) + apart * rank
    return found


def _line(colour: str, relpos: tuple[float, float]) -> dict[str, Any]:
    """From a name to what it names."""
    return {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0, "relpos": relpos}


def _stack(ax: Axes, labels: list[_End]) -> None:
    """One above the other, in the order of the curves' ends."""
    at = [float(ax.transData.transform((1, label.xy[1]))[1]) for label in labels]
    apart = 1.05 * max((Text.get_window_extent(label).height for label in labels), default=0)
    for label, before, after in zip(labels, at, spread(at, apart, ax.bbox.y0, ax.bbox.y1), strict=True):
        label.xyann = (_GAP, (after - before) / _pixels(ax))


def _scatter(ax: Axes, labels: list[_Point]) -> None:
    """Each where it covers least: of the labels before it, of the points, and of the lines through these."""
    points = [ax.transData.transform(label.xy) for label in labels]
    pixels = _pixels(ax)
    size = 4 * pixels
    taken = [Bbox.from_extents(x - size, y - size, x + size, y + size) for x, y in points]
    lines = [Bbox(ends) for path in _paths(ax) for ends in pairwise(path)]
    for label, (x, y) in zip(labels, points, strict=True):
        extent = Text.get_window_extent(label)
        offers = []
        for place, (ring, (right, up)) in enumerate(product(_RINGS, _AROUND)):
            away = right * (ring + extent.width / 2 / pixels), up * (ring + extent.height / 2 / pixels)
            corner = x + away[0] * pixels - extent.width / 2, y + away[1] * pixels - extent.height / 2
            box = Bbox.from_bounds(*corner, *extent.size)
            outside = extent.width * extent.height - _shared(box, ax.bbox)
            covered = sum(_shared(box, other) for other in taken)
            crossed = sum(_crossed(box, line) for line in lines)
            offers.append((3 * covered + crossed + 5 * outside + ring**2 / 2, place, away, box))
        _, place, label.xyann, box = min(offers, key=lambda offer: offer[:2])
        if label.arrow_patch and place < len(_AROUND):  # so near that no line need tell whose it is
            label.arrow_patch.set_visible(False)
        taken.append(box)


def _paths(ax: Axes) -> list[Any]:
    """The curves and bars of a panel in pixels."""
    bars = [bar for drawn in ax.collections if isinstance(drawn, LineCollection) for bar in drawn.get_segments()]
    curves = [line.get_transform().transform(line.get_xydata()) for line in ax.lines]
    return curves + [ax.transData.transform(bar) for bar in bars]


def _pixels(ax: Axes) -> float:
    """A point in pixels."""
    figure = ax.get_figure(root=True)
    return figure.dpi / 72 if figure else 1.0


def _shared(one: Bbox, other: Any) -> float:
    """Area of both."""
    both = Bbox.intersection(one, other)
    return both.width * both.height if both else 0.0


def _crossed(box: Bbox, line: Bbox) -> float:
    """As an area: the length of a thin line in the box."""
    both = Bbox.intersection(box, line)
    return 3 * max(both.width, both.height) if both else 0.0
