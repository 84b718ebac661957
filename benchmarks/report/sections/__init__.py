"""The sections of the report's page, one file each.

A file has the functions from `Results` to its csv frames, tables and figures, and at its end the SECTION that names
them with titles and captions. SECTIONS below is the order of the page: a new section is a new file and a name here,
a new table or figure is an entry of a SECTION. Start with `returns` (a frame and a table), then `cost` (a figure,
too); `scores` is what the command line prints. Sections share what lies one folder up, and do not import each other.
"""

from benchmarks.report.sections import (
    ablation,
    aggregate,
    compounding,
    consistency,
    cost,
    diagnostics,
    improvement,
    learning_curves,
    published,
    regime,
    returns,
    scores,
)

__all__ = ["SECTIONS"]

SECTIONS = (
    scores.SECTION,
    regime.SECTION,
    aggregate.SECTION,
    improvement.SECTION,
    published.SECTION,
    learning_curves.SECTION,
    ablation.SECTION,
    compounding.SECTION,
    consistency.SECTION,
    returns.SECTION,
    diagnostics.SECTION,
    cost.SECTION,
    returns.DETAILS,
    consistency.DETAILS,
)
