"""How the page arranges what sections show: parts in their order, numbers of tables and figures, shapes of tables."""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import count

from benchmarks.report.section import PARTS, Part, Section
from benchmarks.report.tables.table import Entry, Table

__all__ = ["Content", "Picture", "PlacedPart", "PlacedSection", "ShownFigure", "ShownTable", "parts"]

TALL = 25  # rows; a longer table scrolls in a box of its own
WIDE = 8  # columns; a wider table is printed in small type
LONG = 300  # characters; a longer caption is folded
PROSE = 40  # characters; a column with a longer entry wraps


@dataclass(frozen=True)
class Picture:
    """A figure as matplotlib wrote it."""

    name: str  # of its files
    caption: str
    alt: str  # what it says
    data: str  # the csv file with its numbers, without suffix
    svg: str


@dataclass(frozen=True)
class Content:
    """What a section shows of some results."""

    section: Section
    tables: list[Table]
    pictures: list[Picture]
    words: list[str]  # paragraphs with **bold** markup


@dataclass(frozen=True)
class Column:
    """One column of a table as shown."""

    name: str
    kind: str  # num, long (a sentence) or label


@dataclass(frozen=True)
class ShownTable:
    """A table with its number; the column that names a row stands first."""

    number: int
    table: Table
    columns: list[Column]
    rows: list[list[Entry]]
    files: list[tuple[str, str]]  # (kind, address)

    @property
    def tall(self) -> bool:
        """Whether it scrolls in a box of its own."""
        return len(self.rows) > TALL

    @property
    def wide(self) -> bool:
        """Whether paper is too narrow for whole words in it."""
        return len(self.columns) > WIDE

    @property
    def folded(self) -> bool:
        """Whether its caption is too long to stand open."""
        return len(self.table.caption) > LONG


@dataclass(frozen=True)
class ShownFigure:
    """A figure with its number."""

    number: int
    picture: Picture
    files: list[tuple[str, str]]  # (kind, address)


@dataclass(frozen=True)
class PlacedSection:
    """A section's content under its heading, which is empty where that of the part says it all."""

    id: str
    heading: str
    words: list[str]
    figures: list[ShownFigure]
    tables: list[ShownTable]


@dataclass(frozen=True)
class PlacedPart:
    """One part of the page."""

    id: Part
    title: str
    sections: list[PlacedSection]


def parts(contents: Iterable[Content], files: Set[str]) -> list[PlacedPart]:
    """Those with something to show, in the order of the page; links lead to the `files` that exist only.

    What was varied comes right behind the answer: where there is such a part, it is what the suite is about.
    """
    shown = [content for content in contents if content.words or content.tables or content.pictures]
    tables, figures = count(1), count(1)
    order = sorted(PARTS, key=lambda part: {"answer": 0, "varied": 1}.get(part, 2))
    placed = []
    for part in order:
        own = [content for content in shown if content.section.part == part]
        sections = [
            PlacedSection(
                content.section.id,
                "" if len(own) == 1 and part != "details" else content.section.title,
                content.words,
                [
                    ShownFigure(
                        next(figures), picture, _links(picture.name, picture.data, ("svg", "png", "pdf"), files)
                    )
                    for picture in content.pictures
                ],
                [_table(table, next(tables), files) for table in content.tables],
            )
            for content in own
        ]
        if sections:
            placed.append(PlacedPart(part, PARTS[part], sections))
    return placed


def _table(table: Table, number: int, files: Set[str]) -> ShownTable:
    named = table.head.index("generator") if "generator" in table.head else 0
    order = [named, *(place for place in range(len(table.head)) if place != named)]
    rows = [[row[place] for place in order] for row in table.rows]
    columns = [Column(table.head[place], _kind([row[place] for row in table.rows])) for place in order]
    return ShownTable(number, table, columns, rows, _links(table.name, table.data, ("tex",), files))


def _kind(entries: list[Entry]) -> str:
    if any(isinstance(entry.value, float | int) for entry in entries):
        return "num"
    return "long" if max((len(entry.text) for entry in entries), default=0) > PROSE else "label"


def _links(name: str, data: str, kinds: Iterable[str], files: Set[str]) -> list[tuple[str, str]]:
    """(kind, address) of the csv file behind it and of its own files, wherever they lie in the report's folder."""
    own = {kind: address for kind in kinds for address in sorted(files) if address.split("/")[-1] == f"{name}.{kind}"}
    data_file = {"csv": f"{data}.csv"} if f"{data}.csv" in files else {}
    return [*data_file.items(), *own.items()]
