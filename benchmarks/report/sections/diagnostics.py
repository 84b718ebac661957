"""What goes wrong in the rollouts: the signatures that show, a row each."""

from benchmarks.report.results import Results
from benchmarks.report.section import Section
from benchmarks.report.signatures import SIGNATURES, signs
from benchmarks.report.tables.table import Entry, Table, as_number, cell_table

__all__ = ["SECTION", "diagnostics_table"]


def diagnostics_table(results: Results) -> Table:
    """One row per cell and signature that shows; without any, the table has no rows."""
    shown = signs(results)
    rows = [
        (cell, [Entry(sign.name), as_number(number, "{:.2g}"), Entry(sign.sentence.format(number))])
        for cell in results.cells
        for sign, number in shown[cell.cell_id]
    ]
    rules = "; ".join(f"{s.name}: {'above' if s.above else 'below'} {s.threshold:g}" for s in SIGNATURES)
    caption = (
        "Signatures that show in a cell, from means over its seeds (of errors, medians); what is not listed was looked "
        f"for and not seen, or is not defined there. Thresholds are rules of thumb. {rules}."
    )
    columns = ["signature", "number", "what it says"]
    return cell_table(results, "diagnostics", "Diagnostics", caption, columns, rows)


SECTION = Section("diagnostics", "Diagnostics", "why", tables=[diagnostics_table])
