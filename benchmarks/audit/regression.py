"""Has something got worse? A suite, run afresh, against a kept baseline: quality by equivalence tests, memory, speed.

Seeds are the suite's, so runs are compared pair by pair: on equal machines and versions every difference is
zero, elsewhere it is rounding that training has made larger. A quantity passes when the 90 % interval of its mean
difference (two one-sided tests at 5 %) lies within its margin; when it does not, either something changed or there
are too few seeds to tell, and the table says which. Speed is read from a file of pytest-benchmark (`make bench-ci`), as
ratios to the reference workload that was timed beside every hot path.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scipy.stats import t as student
from tabulate import tabulate

from benchmarks.execution import matrix
from benchmarks.execution.provenance import provenance
from benchmarks.report.results import CellView, Results, collect, error_at_end
from benchmarks.report.scores import finals
from benchmarks.spec import RunSpec
from benchmarks.store import ResultStore
from core.errors import DataError, SpecError
from core.files import write_json

__all__ = ["BASELINES", "Verdict", "compare", "hot_paths", "load", "snapshot", "table", "update"]

BASELINES = Path(__file__).parents[1] / "baselines"
SLOWER, LARGER = 1.3, 1.3  # ratios to the baseline from which on speed and memory are worse
_MARGIN = 0.05  # of a quantity: this share of its size ...
_SPREAD = 0.5  # ... and this share of the baseline's standard deviation over seeds
_RISES = {"score": -1, "error": 1, "consistency": 1, "value": 0}  # which direction is worse; 0: either


@dataclass(frozen=True)
class Verdict:
    """One compared number."""

    cell: str
    quantity: str
    was: float
    now: float
    passed: bool
    why: str  # equal, within the margin, better, worse, changed, not shown, missing


def snapshot(specs: Iterable[RunSpec], folder: Path) -> dict[str, Any]:
    """Run the cells in an empty folder and gather what is compared, as JSON.

    Raises:
        DataError: a cell failed or diverged, so there is nothing to compare.
    """
    specs = list(specs)
    store = ResultStore(folder)
    models = folder / "models"
    if matrix.run_missing(specs, store, torch.device("cpu"), None, matrix.local, models_folder=models):
        raise DataError("every cell must finish to be compared: see the messages above")
    results = collect(store)
    final = finals(results).set_index("cell_id")
    ends = error_at_end(results)
    quality = {
        cell.name: _quality(results, cell, final.loc[[cell.cell_id]], ends[ends["cell_id"] == cell.cell_id])
        for cell in results.cells
    }
    return {
        "provenance": provenance(torch.device("cpu")),
        "quality": quality,
        "memory": {"largest cell, MiB": float(results.metric("cost/peak_memory_mib")["cost/peak_memory_mib"].max())},
    }


def hot_paths(file: Path) -> dict[str, float]:
    """Fastest call of every hot path in units of the fastest reference workload, from the json of `make bench-ci`.

    Raises:
        SpecError: the file cannot be read, or something else wrote it.
    """
    try:
        timed = json.loads(file.read_text(encoding="utf-8"))["benchmarks"]
        return {
            path["name"].removeprefix("test_"): path["stats"]["min"] / path["extra_info"]["reference"] for path in timed
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f"--speed must be a file that `make bench-ci` wrote, got {file}: {error!r}") from None


def load(suite: str) -> dict[str, Any] | None:
    """The baseline of a suite, if it has one."""
    path = _path(suite)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def update(suite: str, found: dict[str, Any]) -> None:
    """Keep what was found as the baseline; where speed was not measured, that of the baseline before stays."""
    write_json(_path(suite), {"speed": (load(suite) or {}).get("speed", {})} | found)


def compare(baseline: dict[str, Any], found: dict[str, Any]) -> list[Verdict]:
    """Every number of either, speed only if it was measured; those that do not pass come first."""
    verdicts = []
    for cell in sorted(baseline["quality"].keys() | found["quality"].keys()):
        old = baseline["quality"].get(cell, {})
        new = found["quality"].get(cell, {})
        verdicts += [
            _equivalent(cell, name, old.get(name, {}), new.get(name, {})) for name in sorted(old.keys() | new.keys())
        ]
    for kind, limit, unit in (("speed", SLOWER, "time / reference"), ("memory", LARGER, "memory")):
        for name in sorted(baseline[kind].keys() | found[kind].keys()) if kind in found else ():
            verdicts.append(_ratio(name, unit, baseline[kind].get(name), found[kind].get(name), limit))
    return sorted(verdicts, key=lambda verdict: (verdict.passed, verdict.cell, verdict.quantity))


def table(verdicts: list[Verdict]) -> str:
    """Everything that did not pass, or a line that says how much did."""
    failed = [verdict for verdict in verdicts if not verdict.passed]
    counts = {why: sum(verdict.why == why for verdict in verdicts) for why in dict.fromkeys(v.why for v in verdicts)}
    summary = f"{len(verdicts)} numbers: " + ", ".join(f"{number} {why}" for why, number in counts.items())
    if not failed:
        return summary
    rows = [[v.cell, v.quantity, v.was, v.now, v.why] for v in failed]
    return tabulate(rows, ["where", "what", "baseline", "now", "verdict"], floatfmt=".4g") + f"\n\n{summary}"


def _quality(results: Results, cell: CellView, final: pd.DataFrame, end: pd.DataFrame) -> dict[str, dict[str, float]]:
    """By quantity, a number per seed: score, open-loop error at the first and the last step, consistency, values."""
    records = results.records[results.records["cell_id"] == cell.cell_id].sort_values("step")
    curve = records[records["metric"] == "compounding/policy/median"]
    ends = [*[*curve.groupby("horizon")][:1], *end.groupby("horizon")]
    found = {f"error at h = {horizon:.0f}": rows for horizon, rows in ends}
    found |= {f"consistency {name}": records[records["metric"] == f"consistency/{name}"] for name in ("kl", "energy")}
    found |= {f"value {name}": records[records["metric"] == f"train/{name}"] for name in ("q", "critic")}
    per_seed = {name: rows.groupby("seed")["value"].last() for name, rows in found.items()}
    per_seed["score"] = final.set_index("seed")["final"]
    kept = {
        name: {str(seed): float(x) for seed, x in values.items() if math.isfinite(x)}
        for name, values in per_seed.items()
    }
    return {name: values for name, values in kept.items() if values}


def _equivalent(cell: str, name: str, old: dict[str, float], new: dict[str, float]) -> Verdict:
    seeds = sorted(old.keys() & new.keys())
    was, now = (torch.tensor([x[seed] for seed in seeds], dtype=torch.float64) for x in (old, new))
    if not seeds or old.keys() != new.keys():
        return Verdict(cell, name, _mean(old), _mean(new), False, "missing")
    change = now - was
    worse = _RISES[name.split()[0]]
    spread = float(was.std()) if len(seeds) > 1 else 0.0
    margin = _MARGIN * float(was.abs().mean()) + _SPREAD * spread
    half = float(change.std()) / len(seeds) ** 0.5 * float(student.ppf(0.95, len(seeds) - 1)) if len(seeds) > 1 else 0.0
    middle = float(change.mean())
    if (change == 0).all():
        why = "equal"
    elif abs(middle) + half <= margin:
        why = "within the margin"
    elif worse and worse * middle + half <= margin:
        why = "better"
    elif abs(middle) > margin and worse * middle >= 0:
        why = "worse" if worse else "changed"
    else:
        why = "not shown"
    return Verdict(cell, name, float(was.mean()), float(now.mean()), why not in ("worse", "changed", "not shown"), why)


def _ratio(name: str, unit: str, was: float | None, now: float | None, limit: float) -> Verdict:
    if was is None or now is None:
        return Verdict(name, unit, math.nan if was is None else was, math.nan if now is None else now, False, "missing")
    passed = now <= limit * was
    return Verdict(name, unit, was, now, passed, "within the margin" if passed else "worse")


def _mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values) if values else math.nan


def _path(suite: str) -> Path:
    name = Path(suite).stem if suite.endswith(".toml") else suite.replace("/", "--")
    return BASELINES / f"{name}.json"
