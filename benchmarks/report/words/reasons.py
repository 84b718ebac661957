"""Why, and at what price: errors of the rollouts, signs of failure, seconds as multiples of generator none."""

from collections import Counter

import pandas as pd

from benchmarks.report.prices import price_multiples
from benchmarks.report.results import Results, error_at_end
from benchmarks.report.score_rows import ranked
from benchmarks.report.signatures import signs
from benchmarks.report.words.phrases import joined, listed, method_name, place_name, span

__all__ = ["price", "why"]

_MOST = 4  # tasks that are told one by one


def why(results: Results) -> str:
    """Whose rollouts are least wrong after as many steps, and which signs of failure show; empty where nothing is."""
    told = [_least_wrong(results), _signs(results)]
    said = " ".join(part for part in told if part)
    return f"**Why:** {said[0].lower()}{said[1:]}" if said else ""


def _least_wrong(results: Results) -> str:
    """Per task and algorithm, the method with the least open-loop error at the last step, or those that are level."""
    methods = [cell.cell_id for cell in results.cells if ranked(cell.generator)]
    errors = error_at_end(results)
    errors = errors[errors["cell_id"].isin(methods)]
    several = len({(cell.task, cell.algorithm) for cell in results.cells}) > 1
    told: dict[int, list[str]] = {}
    for (task, algorithm), own in errors[errors["horizon"] > 1].groupby(["task", "algorithm"], sort=False):
        steps = int(own["horizon"].max())
        own = own[own["horizon"] == steps]
        if own["cell_id"].nunique() > 1:
            place = f"on {place_name(results, str(task), str(algorithm))} " * several
            told.setdefault(steps, []).append(f"{place}{_best(results, own)}")
    single = errors.groupby("cell_id")["horizon"].transform("max") == 1
    names = list(dict.fromkeys(errors.loc[single, "generator"]))
    parts = []
    for steps, places in told.items():
        more = [f"and {len(places) - _MOST} more"] if len(places) > _MOST else []
        parts.append(f"Least open-loop error after {steps} steps: {'; '.join([*places[:_MOST], *more])}.")
    if parts and names:
        parts.append(f"Single transitions ({listed(names)}) have no such step.")
    return " ".join(parts)


def _best(results: Results, own: pd.DataFrame) -> str:
    """Its name and error, if all its seeds lie below those of the next; else who is level with it."""
    keys = own.groupby(["generator", "variant"])["value"].agg(["median", "min", "max"]).sort_values("median")
    first = keys.iloc[0]
    level = keys[keys["min"] <= first["max"]]
    names = [method_name(results, *key) for key in level.index]
    if len(level) == 1:
        return f"{names[0]} ({first['median']:.2g}, next {keys['median'].iloc[1]:.2g})"
    errors = span(level["median"].min(), level["median"].max(), ".2g")
    apart = [f"[{name}]" if ", " in name and not name.endswith("]") else name for name in names]
    return f"{listed(apart, 3)} are level ({errors})"


def _signs(results: Results) -> str:
    """Every signature that shows, with the methods in which it does, and in how many of their cells if not in all."""
    cells = [cell for cell in results.cells if ranked(cell.generator) and cell.done]
    total = Counter(cell.generator for cell in cells)
    found: dict[str, Counter[str]] = {}
    for cell in cells:
        for sign, _ in signs(results)[cell.cell_id]:
            found.setdefault(sign.name, Counter())[cell.generator] += 1
    told = []
    for sign_name, seen in found.items():
        names = [name if some == total[name] else f"{name} ({some} of {total[name]})" for name, some in seen.items()]
        told.append(f"{sign_name}: {listed(names)}")
    return f"Signs of failure: {'; '.join(told)}." if told else ""


def price(results: Results) -> str:
    """Seconds of a run of each method in runs of generator none, cheapest first; empty where nobody knows."""
    multiples = price_multiples(results)
    rows = [
        (cell.generator, float(multiples[cell.cell_id]))
        for cell in results.cells
        if ranked(cell.generator) and multiples.get(cell.cell_id, 0.0) > 0
    ]
    if not rows:
        return ""
    ranges = pd.DataFrame(rows, columns=["generator", "times"]).groupby("generator")["times"].agg(["min", "max"])
    ordered = ranges.sort_values(["max", "min"])
    told = [f"{name} {span(row['min'], row['max'], '.1f', '×')}" for name, row in ordered.iterrows()]
    shown = joined(told) if len(told) <= 12 else f"{', '.join(told[:3])}, ..., {', '.join(told[-3:])}"
    return f"**Price** of a run (updates, generation and fits) in runs of none: {shown}."
