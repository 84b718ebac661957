"""Contestants that do the same work take turns, round after round, so that all of them see the same machine."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from tabulate import tabulate

from models.compiled import compiling

__all__ = ["Figure", "Turn", "also_compiled", "ratio_text", "take_turns", "turns_table"]


@dataclass(frozen=True)
class Turn:
    """What one contestant does when it is its turn."""

    call: Callable[[], object]
    work: int  # how many units of work the call does


class Figure(NamedTuple):
    """A line of the table of figures."""

    figure: str
    asked: str
    measured: str


def also_compiled(turns: Mapping[str, Turn]) -> dict[str, Turn]:
    """Turns of ours, and each of them once more with its losses compiled, under its name and ", compiled"."""
    both = dict(turns)
    for name, turn in turns.items():
        both[f"{name}, compiled"] = Turn(partial(_compiled, turn.call), turn.work)
    return both


def take_turns(unit: str, turns: Mapping[str, Turn | None], peers: Sequence[str], repeats: int) -> dict[str, Any]:
    """Rates of all, in units of work per second of wall time, and how many times those of each peer they are.

    Everybody has one turn to warm up, compile and fill caches. A ratio is the median over the rounds of the ratios
    within a round. None stands for who is not there.
    """
    present = {name: turn for name, turn in turns.items() if turn is not None}
    for turn in present.values():
        turn.call()
    rates: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(repeats):
        for name, turn in present.items():
            started = time.perf_counter()
            turn.call()
            rates[name].append(turn.work / (time.perf_counter() - started))

    def ratio(name: str, peer: str) -> float | None:
        if name not in rates or peer not in rates:
            return None
        return median(own / their for own, their in zip(rates[name], rates[peer], strict=True))

    def summary(values: list[float]) -> dict[str, float]:
        return {"median": median(values), "lowest": min(values), "highest": max(values)}

    return {
        "unit": unit,
        "rounds": repeats,
        "rates": {name: summary(rates[name]) if name in rates else None for name in turns},
        "ratios": {name: {peer: ratio(name, peer) for peer in peers if peer != name} for name in turns},
    }


def turns_table(found: Mapping[str, Any], not_there: Mapping[str, str]) -> str:
    """What `take_turns` found, as text; `not_there` says why somebody is not there."""
    compared = {peer for ratios in found["ratios"].values() for peer in ratios}
    peers = [name for name in found["rates"] if name in compared]
    rows = []
    for name, rates in found["rates"].items():
        ratios = [found["ratios"][name].get(peer) for peer in peers]
        numbers = [rates[key] for key in ("median", "lowest", "highest")] if rates else [not_there[name], None, None]
        cells = [f"{value:.4g}" if isinstance(value, float) else value for value in [*numbers, *ratios]]
        rows.append([name, *cells])
    heads = ["", found["unit"], "lowest", "highest", *(f"x {peer}" for peer in peers)]
    return tabulate(rows, heads, disable_numparse=True, colalign=["left", *["right"] * (len(heads) - 1)])


def ratio_text(found: Mapping[str, Any], name: str, peer: str, not_there: Mapping[str, str]) -> str:
    """One ratio of what `take_turns` found, for a reader."""
    if name not in found["rates"]:
        return "not measured"
    ratio = found["ratios"][name][peer]
    return not_there[peer] if ratio is None else f"{ratio:.2f}x"


def _compiled(call: Callable[[], object]) -> None:
    with compiling():
        call()
