"""What tells generators apart: a colour for each theme, a marker and a dash; and scales for what has an order.

No two colours are nearer than 10 (CIEDE2000) to a reader of normal, protanopic or deuteranopic sight, and every one
has a contrast of 3:1 to its ground: tests/benchmarks/report/figures/test_palette.py.
"""

from collections.abc import Mapping
from itertools import cycle
from typing import Any, NamedTuple

import matplotlib as mpl
import seaborn as sns

__all__ = [
    "BASELINE",
    "COLOURS",
    "CONTROLS",
    "DARK",
    "DARK_SURFACE",
    "GRID",
    "INK",
    "LOOKS",
    "SURFACE",
    "Look",
    "plug_ins",
    "sequential",
]

# The page swaps these three for the colours of its theme.
INK = "#1f252d"
GRID = "#d9dee5"
SURFACE = "#fefefe"
DARK_SURFACE = "#191d23"  # of the page's dark theme


class Look(NamedTuple):
    """How a generator is drawn."""

    colour: str
    dark: str  # in its place where the reader's theme is dark
    marker: str
    dash: Any  # of lines


LOOKS: Mapping[str, Look] = {  # in the order of legends
    # controls: greys, crosses and a thin diamond
    "none": Look("#76767b", "#919292", "X", (0, (4, 2))),
    "duplicate": Look("#9e8d7d", "#8b7d67", "d", (0, (1.5, 1.5))),
    # methods: relatives have related hues
    "ensemble": Look("#0d93fd", "#2e95ff", "s", (0, (7, 1))),
    "mopo": Look("#1a75b2", "#1977b8", "D", (0, (3, 1))),
    "synther": Look("#5b7a4c", "#92b082", "o", (0, (2.5, 1, 1, 1))),
    "trajectory": Look("#8b2a6a", "#9b5e87", "^", (0, (9, 1.5))),
    "pgd": Look("#b87eaa", "#b685b8", "v", (0, (6, 1.5, 1, 1.5))),
    "gta": Look("#4734c5", "#b9b2fd", "<", (0, (6, 1, 1, 1, 1, 1))),
    "dawm": Look("#086951", "#83ceb4", ">", (0, (4, 1, 2, 1))),
    "ar_diffusion": Look("#7a6b00", "#d4c674", "p", (0, (9, 1, 3, 1))),
    "oneshot": Look("#c48308", "#c28f20", "h", (0, (5, 1, 1, 1, 1, 1, 1, 1))),
    "dydiff": Look("#821a00", "#b24b32", "*", "-"),
    "simulator": Look("#383c42", "#dde2e7", "P", (0, (2, 2))),
}
CONTROLS = ("none", "duplicate", "simulator")
BASELINE = LOOKS["none"].colour  # and of whatever else curves are compared with
COLOURS: Mapping[str, str] = {name: look.colour for name, look in LOOKS.items()}
_STEPS = 33
_SCALE = [  # of viridis, the part that can be seen on each ground
    [mpl.colors.to_hex(mpl.colormaps["viridis"](low + (high - low) * step / (_STEPS - 1))) for step in range(_STEPS)]
    for low, high in ((0.0, 0.58), (0.37, 1.0))
]
# By every colour that a figure can have, the one in its place where the reader's theme is dark.
DARK: Mapping[str, str] = {look.colour: look.dark for look in LOOKS.values()} | dict(zip(*_SCALE, strict=True))


def sequential(count: int) -> list[str]:
    """So many colours in an order that can be seen, from dark violet to green: for the values of a varied field."""
    return [_SCALE[0][round((_STEPS - 1) * place / max(1, count - 1))] for place in range(count)]


def plug_ins(count: int) -> list[Look]:
    """Looks of generators that have none of their own: colours that can be seen on both grounds, markers in turn."""
    colours = [mpl.colors.to_hex(colour) for colour in sns.husl_palette(count, l=0.55)]
    markers = cycle("8HPXd")
    return [Look(colour, colour, next(markers), (0, (3, 1, 1, 1, 1, 1))) for colour in colours]
