"""Frames as csv: the same columns first in every file, no text that a spreadsheet would run. Same input, same bytes."""

import pandas as pd

from benchmarks.report.results import LABELS

__all__ = ["KEYS", "to_csv"]

KEYS = [*LABELS, "seed"]  # the first columns of every file, those of them that it has


def to_csv(frame: pd.DataFrame) -> str:
    """Shortest exact numbers, empty where there is none; text that a spreadsheet would run as a formula gets a '."""
    keys = [name for name in KEYS if name in frame]
    ordered = frame[[*keys, *(name for name in frame if name not in keys)]]
    text = ordered.select_dtypes(exclude="number").columns
    safe = ordered.assign(**{column: ordered[column].map(_no_formula) for column in text})
    return safe.to_csv(index=False, lineterminator="\n")


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@")) else value
