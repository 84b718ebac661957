"""What one section of the page is made of: words, csv frames, tables and figures, each a function of the results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.figures.style import draw
from benchmarks.report.results import Results
from benchmarks.report.tables.table import Table

__all__ = ["PARTS", "Part", "Plot", "Section"]

Part = Literal["answer", "help", "why", "price", "varied", "details"]
PARTS: Mapping[Part, str] = {  # of the page, in this order, with their headings; in an ablation `varied` is the second
    "answer": "Answer",
    "help": "Does it help?",
    "why": "Why?",
    "price": "At what price?",
    "varied": "What was varied",
    "details": "Details",  # folded
}


@dataclass(frozen=True)
class Plot:
    """A figure with rows of panels; one with many rows continues in `<name>_2`, `<name>_3`."""

    name: str  # of its files
    caption: Callable[[Results], str]  # what is drawn and how to read it, from the facts of the run
    alt: Callable[[Results, list[Any]], str]  # what the figure of these rows says, in a sentence with its numbers
    data: str  # the csv file that holds its numbers, without suffix
    rows: Callable[[Results], Sequence[Any]]  # what the panels are for: tasks, algorithms, ...; none: no figure
    figure: Callable[[Results, list[Any]], Figure]  # of some of these
    per_page: int = 6

    def pages(self, results: Results) -> Iterator[tuple[str, str, Figure]]:
        """Each figure with the name of its files and what it says."""
        rows = list(self.rows(results))
        for page, first in enumerate(range(0, len(rows), self.per_page), 1):
            name = self.name if page == 1 else f"{self.name}_{page}"
            shown = rows[first : first + self.per_page]
            yield name, self.alt(results, shown), draw(self.figure, results, shown)


@dataclass(frozen=True)
class Section:
    """One section; tables without rows and figures without panels are left out. Words may carry **bold** markup."""

    id: str  # of the element on the page
    title: str
    part: Part  # of the page
    frames: Mapping[str, Callable[[Results], pd.DataFrame]] = field(default_factory=dict)  # by name of the csv file
    tables: Sequence[Callable[[Results], Table]] = ()
    figures: Sequence[Plot] = ()
    words: Callable[[Results], Sequence[str]] | None = None  # paragraphs above all else, the first is the headline
