"""What a suite varied: groups of cells that differ in a few fields, their scores beside `none` and beside the best."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from benchmarks.report.results import CellView, Results, error_by_cell, once
from benchmarks.report.scores import FEW_SEEDS, LEVEL, estimates, finals
from benchmarks.report.text import natural
from benchmarks.report.verdict import MARGIN, compares_scores, verdicts
from core.config import flat
from metrics.statistics import equivalence_test, holm

__all__ = ["LEVEL_RULE", "Ablation", "ablation", "ablations", "lags", "measured", "named"]

LEVEL_RULE = (
    f"Level with the best: within {MARGIN:g} points of the highest mean among the values of the same task, generator "
    f"and algorithm, by two one-sided tests paired by seed with p < {LEVEL} after Holm's correction for these values "
    f"and at least {FEW_SEEDS} seeds."
)
_SYMBOLS = {  # of the papers
    "iterations": "M",
    "rollout_length": "L",
    "filter.share": "η",
    "real_fraction": "α",
    "penalty": "λ",
}


@dataclass(frozen=True)
class Ablation:
    """Cells of one task, generator and algorithm that differ in a few fields."""

    task: str
    generator: str
    algorithm: str
    names: tuple[str, ...]  # of these fields in a cell's specification, dotted
    cells: Mapping[tuple[Any, ...], CellView]  # by the values of these fields, ascending

    @property
    def fields(self) -> tuple[str, ...]:
        """Their names in a suite."""
        return tuple(name.partition(".")[2] for name in self.names)

    def axis(self, place: int) -> list[Any]:
        """The values of a field, ascending."""
        return sorted({values[place] for values in self.cells}, key=lambda value: natural(str(value)))

    @property
    def title(self) -> str:
        """Whose cells they are."""
        return f"{self.task} · {self.generator} · {self.algorithm}"


def named(field: str) -> str:
    """A field with the papers' symbol for it, if it has one."""
    return f"{field} ({_SYMBOLS[field]})" if field in _SYMBOLS else field


@once
def ablations(results: Results) -> list[Ablation]:
    """Every group of finished cells that differ in some field; a field that follows from another does not count."""
    groups: dict[tuple[str, str, str], list[CellView]] = {}
    for cell in results.cells:
        if cell.done:
            groups.setdefault((cell.task, cell.generator, cell.algorithm), []).append(cell)
    found = []
    for (task, generator, algorithm), cells in groups.items():
        specs = [dict(flat(cell.spec)) for cell in cells]
        names = dict.fromkeys(name for spec in specs for name in spec)
        varied = _free([name for name in names if len({str(spec.get(name)) for spec in specs}) > 1], specs)
        if not varied:
            continue
        by_value = {tuple(spec.get(name) for name in varied): cell for spec, cell in zip(specs, cells, strict=True)}
        ordered = dict(sorted(by_value.items(), key=lambda item: [natural(str(value)) for value in item[0]]))
        found.append(Ablation(task, generator, algorithm, varied, ordered))
    return found


@once
def ablation(results: Results) -> pd.DataFrame:
    """ablation.csv: one row per varied cell, indexed by cell.

    mean, low, high: score; gain_*: its change against generator none, paired by seed, with `verdict` and p_holm of
    `verdicts`. level_with_best: highest, level or open by LEVEL_RULE, with its p_level; empty where the unit is not
    score. error: median over seeds at the last step, lag: mean over seeds of the last round. Where no cell trains on
    synthetic rows nothing is compared.
    """
    score = estimates(finals(results))
    compared = compares_scores(results)
    change = verdicts(results) if compared else verdicts(results).iloc[:0]
    level = _levels(results) if compared else pd.DataFrame(columns=["level_with_best", "p_level"])
    rows = [
        {
            "cell_id": cell.cell_id,
            **cell.labels,
            "fields": " x ".join(group.fields),
            "values": " x ".join(str(value) for value in values),
        }
        for group in ablations(results)
        for values, cell in group.cells.items()
    ]
    columns = ["cell_id", "task", "generator", "algorithm", "variant", "fields", "values"]
    table = pd.DataFrame(rows, columns=columns).set_index("cell_id")
    gain = change[["mean", "low", "high"]].add_prefix("gain_")
    table = table.join(score).join(gain).join(change[["p_holm", "verdict"]]).join(level)
    table = table.assign(error=error_by_cell(results).reindex(table.index), lag=lags(results).reindex(table.index))
    return table.astype({"verdict": "object", "level_with_best": "object", "p_level": "float64"})


def measured(results: Results, group: Ablation, name: str) -> bool:
    """Whether any cell of the group has a value in this column of `ablation`; scores only where they are compared."""
    own = ablation(results).loc[[cell.cell_id for cell in group.cells.values()], name]
    return bool(own.notna().any()) and (name != "mean" or compares_scores(results))


@once
def lags(results: Results) -> pd.Series:
    """By cell, how far actions moved in the last round of the generator's last call; mean over seeds."""
    return results.last("generate/lag").groupby("cell_id")["value"].mean()


def _levels(results: Results) -> pd.DataFrame:
    """By cell: `level_with_best` and `p_level`, of groups whose unit is score."""
    final = finals(results).query("unit == 'score'").pivot(index="seed", columns="cell_id", values="final")
    rows: dict[str, tuple[str, float]] = {}
    for group in ablations(results):
        own = final[[cell.cell_id for cell in group.cells.values() if cell.cell_id in final]]
        means = own.mean().dropna()
        if means.empty:
            continue
        best = str(means.idxmax())
        rows |= {str(cell_id): ("open", math.nan) for cell_id in means.index} | {best: ("highest", math.nan)}
        gaps = {cell: (own[cell] - own[best]).dropna() for cell in means.index if cell != best}
        tested = {
            cell: equivalence_test(torch.tensor(gap.to_numpy(), dtype=torch.float64), MARGIN).item()
            for cell, gap in gaps.items()
            if len(gap) >= FEW_SEEDS
        }
        adjusted = holm(torch.tensor(list(tested.values()), dtype=torch.float64)).tolist()
        rows |= {cell: ("level" if p < LEVEL else "open", p) for cell, p in zip(tested, adjusted, strict=True)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["level_with_best", "p_level"])


def _free(varied: Iterable[str], specs: list[dict[str, Any]]) -> tuple[str, ...]:
    """Without the fields whose value follows from one that is kept."""
    kept: list[str] = []
    for name in varied:
        follows = any(
            len({(str(spec.get(other)), str(spec.get(name))) for spec in specs})
            == len({str(spec.get(other)) for spec in specs})
            for other in kept
        )
        if not follows:
            kept.append(name)
    return tuple(kept)
