"""Have the models converged? Their error on rows that they have not seen, by what the suite varied."""

import math
from collections import defaultdict

import pandas as pd

from benchmarks.report.results import Results, once, titled
from benchmarks.report.section import Section
from benchmarks.report.study.quantities import data_name
from benchmarks.report.tables.table import Entry, Table, as_number
from benchmarks.report.text import natural

__all__ = ["LEVEL", "SECTION", "converged", "converged_table"]

LEVEL = 0.05  # share by which an error may lie above the lowest of its group and still count as converged


@once
def converged(results: Results) -> pd.DataFrame:
    """converged.csv: one row per cell and kind of pretrained model: validation, and its excess over the lowest.

    validation: of the model's own loss on held-out rows, or on rows kept back where it ends by itself; mean over the
    fits of the cell's seeds. excess: by how much it lies above the lowest among cells of equal data and generator. Only
    where these cells have several: budgets are then compared by validation error alone.
    """
    rows = []
    for cell in results.cells:
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for run in cell.runs:
            for key, model in run.get("models", {}).items():
                error = (model.get("facts") or {}).get("validation")
                if error is not None:
                    found[str(model["model"]).rpartition(".")[2].removesuffix("Config")][key] = float(error)
        for kind, errors in found.items():
            mean = sum(errors.values()) / len(errors)
            rows.append(
                {**cell.labels, "data": data_name(cell), "model": kind, "fits": len(errors), "validation": mean}
            )
    columns = ["task", "generator", "algorithm", "variant", "data", "model", "fits", "validation"]
    table = pd.DataFrame(rows, columns=columns)
    by = table.groupby(["data", "generator", "model"])["validation"]
    several = (by.transform("nunique") > 1).astype(bool)
    return table.assign(excess=table["validation"] / by.transform("min") - 1)[several].reset_index(drop=True)


def converged_table(results: Results) -> Table:
    """One row per data, generator and kind of model; a column for every variant."""
    table = converged(results)
    variants = sorted(set(table["variant"]), key=natural)
    rows = []
    for (data, generator, model), own in table.groupby(["data", "generator", "model"], sort=False):
        excess = own.groupby("variant")["excess"].mean()
        shown = [100 * float(excess.get(variant, math.nan)) for variant in variants]
        within = [variant for variant, over in zip(variants, shown, strict=True) if over <= 100 * LEVEL]
        names = [Entry(str(data)), Entry(titled(str(generator))), Entry(str(model))]
        entries = [as_number(over, "{:+.0f} %") for over in shown]
        rows.append([*names, *entries, Entry(", ".join(within))])
    caption = (
        "Error of pretrained models on rows they have not learned from (of diffusion and regression of trajectories "
        "their own loss on the held-out episodes, of models that end by themselves the error they end by), in per cent "
        f"above the lowest of the row. Converged: within {LEVEL:.0%} of it. No score is looked at."
    )
    head = ["data", "generator", "model", *(f"validation, {variant}" for variant in variants), "converged"]
    return Table("converged", "Have the models converged?", caption, head, rows, "converged")


SECTION = Section(
    "converged", "Have the models converged?", "details", frames={"converged": converged}, tables=[converged_table]
)
