"""What goes wrong in the rollouts: the signatures that show, a row each."""

import re
from dataclasses import replace

import pandas as pd

from benchmarks.report.results import Results, generator_order
from benchmarks.report.section import Section
from benchmarks.report.signatures import SIGNATURES, measurements, signs
from benchmarks.report.tables.table import Entry, Table, as_number, cell_table

__all__ = ["SECTION", "diagnostics", "diagnostics_table"]


def diagnostics(results: Results) -> pd.DataFrame:
    """diagnostics.csv: one row per cell and signature that is defined there, whether it shows or not."""
    columns = ["task", "generator", "algorithm", "variant", "signature", "number", "threshold", "shows"]
    rows = [
        [*cell.labels.values(), sign.name, number, sign.threshold, sign.seen(number)]
        for cell, sign, number in measurements(results)
    ]
    return pd.DataFrame(rows, columns=columns)


def diagnostics_table(results: Results) -> Table:
    """One row per cell and signature that shows; without any, the table has no rows."""
    shown = signs(results)
    places = list(dict.fromkeys((cell.task, cell.algorithm) for cell in results.cells))
    order = sorted(
        results.cells, key=lambda cell: (places.index((cell.task, cell.algorithm)), generator_order(cell.generator))
    )
    rows = [
        (
            cell,
            [
                Entry(sign.name),
                as_number(number, "{:.2g}"),
                Entry(re.sub(r"-(?=\d)", "−", sign.sentence.format(number))),
            ],
        )
        for cell in order
        for sign, number in shown[cell.cell_id]
    ]
    rules = "; ".join(f"{s.name}: {'above' if s.above else 'below'} {s.threshold:g}" for s in SIGNATURES)
    caption = (
        "What is known to go wrong with rollouts, where it shows: means over the seeds of a cell (of errors, medians), "
        "at the last step of the generator's own rollouts. What is not listed was looked for and not seen, or is not "
        f"defined there. Thresholds are rules of thumb. {rules}."
    )
    columns = ["signature", "number", "what it says"]
    table = cell_table(results, "diagnostics", "Signs that show", caption, columns, rows)
    return replace(table, data="diagnostics")


SECTION = Section("diagnostics", "Diagnostics", "why", frames={"diagnostics": diagnostics}, tables=[diagnostics_table])
