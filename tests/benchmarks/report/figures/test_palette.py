"""Colours that readers of any sight tell apart, on both grounds: CIEDE2000, and dichromacy by Machado et al. 2009."""

from itertools import combinations, pairwise

import matplotlib as mpl
import numpy as np
import pytest

from benchmarks.report.figures.palette import DARK, DARK_SURFACE, LOOKS, SURFACE, plug_ins, sequential

SIGHT = {  # Machado, Oliveira, Fernandes 2009, severity 1.0: of linear RGB
    "normal": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
GROUNDS = {"light": SURFACE, "dark": DARK_SURFACE}


def linear(colour: str) -> np.ndarray:
    srgb = np.array(mpl.colors.to_rgb(colour))
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(colour: str, sight: str = "normal") -> np.ndarray:
    """CIELAB under D65 of what such a reader sees."""
    xyz = TO_XYZ @ (SIGHT[sight] @ linear(colour)).clip(0, 1) / TO_XYZ.sum(1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """CIEDE2000 (Sharma, Wu, Dalal 2005) between two colours in CIELAB."""
    mean_chroma = (np.hypot(*one[1:]) + np.hypot(*other[1:])) / 2
    stretch = 1 + 0.5 * (1 - np.sqrt(mean_chroma**7 / (mean_chroma**7 + 25**7)))
    (c1, h1), (c2, h2) = (
        (np.hypot(a * stretch, b), np.degrees(np.arctan2(b, a * stretch)) % 360) for _, a, b in (one, other)
    )
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    light, chroma = (one[0] + other[0]) / 2, (c1 + c2) / 2
    hue = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    cosines = [np.cos(np.radians(angle)) for angle in (hue - 30, 2 * hue, 3 * hue + 6, 4 * hue - 63)]
    weight = 1 + np.dot([-0.17, 0.24, 0.32, -0.20], cosines)
    blue = 60 * np.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(blue))
    by_light = (other[0] - one[0]) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    by_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    by_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    return float(np.sqrt(by_light**2 + by_chroma**2 + by_hue**2 + rotation * by_chroma * by_hue))


def contrast(colour: str, ground: str) -> float:
    """As WCAG 2.2 defines it."""
    luminance = sorted(TO_XYZ[1] @ linear(x) for x in (colour, ground))
    return float((luminance[1] + 0.05) / (luminance[0] + 0.05))


@pytest.mark.parametrize(
    ("one", "other", "known"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_distance_is_the_published_one(one: tuple[float, ...], other: tuple[float, ...], known: float) -> None:
    """Pairs 1, 4, 17, 7, 25 and 34 of Sharma et al.'s Table 1."""
    assert distance(np.array(one), np.array(other)) == pytest.approx(known, abs=1e-4)


def test_black_on_white_has_a_contrast_of_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", GROUNDS)
@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_generators_look_alike(theme: str, sight: str) -> None:
    """Of all pairs, neighbours in legends and relatives among them."""
    colours = {name: look.colour if theme == "light" else look.dark for name, look in LOOKS.items()}
    near = {
        pair: distance(*(lab(colours[name], sight) for name in pair))
        for pair in combinations(colours, 2)
        if distance(*(lab(colours[name], sight) for name in pair)) <= 10
    }
    assert near == {}


@pytest.mark.parametrize("theme", GROUNDS)
def test_every_colour_can_be_seen_on_its_ground(theme: str) -> None:
    shown = DARK.keys() if theme == "light" else DARK.values()
    assert min(contrast(colour, GROUNDS[theme]) for colour in shown) >= 3


def test_plug_ins_can_be_seen_on_both_grounds() -> None:
    colours = [look.colour for look in plug_ins(6)]
    assert min(contrast(colour, ground) for colour in colours for ground in GROUNDS.values()) >= 3
    assert len(set(colours)) == 6


def test_markers_and_dashes_are_a_generators_own() -> None:
    for mark in ("marker", "dash"):
        assert len({str(getattr(look, mark)) for look in LOOKS.values()}) == len(LOOKS)


@pytest.mark.parametrize("theme", GROUNDS)
@pytest.mark.parametrize("count", [2, 5, 9])
def test_a_scale_is_in_order(theme: str, count: int) -> None:
    """Lighter step by step, whatever the reader's sight; nine steps stay more than five apart, five more than ten."""
    colours = [colour if theme == "light" else DARK[colour] for colour in sequential(count)]
    for sight in ("normal", "protan", "deutan"):
        lightness = [lab(colour, sight)[0] for colour in colours]
        assert lightness == sorted(lightness)
    steps = [distance(lab(one), lab(other)) for one, other in pairwise(colours)]
    assert min(steps) > (5 if count > 5 else 10)


def test_a_scale_of_one_value_is_one_colour() -> None:
    assert len(sequential(1)) == 1
