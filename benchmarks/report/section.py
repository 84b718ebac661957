"""What one section of the page is made of: csv frames, tables and figures, each a function of the results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.results import Results
from benchmarks.report.style import draw
from benchmarks.report.table import Table

__all__ = ["Plot", "Section"]


@dataclass(frozen=True)
class Plot:
    """A figure with rows of panels; one with many rows continues in `<name>_2`, `<name>_3`."""

    name: str  # of its files
    caption: str
    rows: Callable[[Results], Sequence[Any]]  # what the panels are for: tasks, algorithms, ...; none: no figure
    figure: Callable[[Results, list[Any]], Figure]  # of some of these
    per_page: int = 6

    def pages(self, results: Results) -> Iterator[tuple[str, Figure]]:
        """Each figure with the name of its files."""
        rows = list(self.rows(results))
        for page, first in enumerate(range(0, len(rows), self.per_page), 1):
            name = self.name if page == 1 else f"{self.name}_{page}"
            yield name, draw(self.figure, results, rows[first : first + self.per_page])


@dataclass(frozen=True)
class Section:
    """One section; tables without rows and figures without panels are left out."""

    id: str  # of the element on the page
    title: str
    frames: Mapping[str, Callable[[Results], pd.DataFrame]] = field(default_factory=dict)  # by name of the csv file
    tables: Sequence[Callable[[Results], Table]] = ()
    figures: Sequence[Plot] = ()
