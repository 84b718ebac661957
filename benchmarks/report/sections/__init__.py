"""The sections of the report's page, one file each.

A file has the functions from `Results` to its csv frames, tables and figures, and at its end the SECTION that names
them with titles and captions. SECTIONS below is the order of the page: a new section is a new file and a name here,
a new table or figure is an entry of a SECTION. Start with `returns` (a frame and a table), then `cost` (a figure,
too); `scores` is what the command line prints. Sections share what lies one folder up, and do not import each other.
"""

from benchmarks.report.sections import (
    ablation,
    aggregate,
    answer,
    bought,
    compounding,
    compute,
    consistency,
    converged,
    cost,
    decomposition,
    diagnostics,
    equal_compute,
    fits,
    harm,
    improvement,
    learning_curves,
    levels,
    predictors,
    published,
    returns,
    scores,
)

__all__ = ["SECTIONS"]

SECTIONS = (
    answer.SECTION,
    improvement.SECTION,
    scores.SECTION,
    aggregate.SECTION,
    decomposition.SECTION,
    compounding.SECTION,
    consistency.SECTION,
    returns.SECTION,
    diagnostics.SECTION,
    predictors.SECTION,
    harm.SECTION,
    levels.SECTION,
    cost.SECTION,
    bought.SECTION,
    equal_compute.SECTION,
    compute.SECTION,
    ablation.SECTION,
    learning_curves.SECTION,
    improvement.DETAILS,
    decomposition.DETAILS,
    scores.DETAILS,
    aggregate.DETAILS,
    published.SECTION,
    fits.SECTION,
    converged.SECTION,
    returns.DETAILS,
    consistency.DETAILS,
)
