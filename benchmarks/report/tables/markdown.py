"""A table in Markdown, as GitHub and most editors show it."""

import html
import re

from benchmarks.report.tables.settle import short_caption
from benchmarks.report.tables.table import Entry, Table
from benchmarks.report.text import one_line

__all__ = ["to_markdown"]


def to_markdown(table: Table) -> str:
    """Title, a pipe table without padding, the short caption, and folded notes."""
    lines = [
        [_escaped(name) for name in table.head],
        ["---:" if table.numeric(i) else ":---" for i in range(len(table.head))],
        *([_cell(entry) for entry in row] for row in table.rows),
    ]
    caption, notes = short_caption(table)
    folded = f"\n<details><summary>Notes</summary>\n\n{_escaped(notes)}\n\n</details>\n" if notes else ""
    body = "\n".join("|" + "|".join(line) + "|" for line in lines)
    return f"## {table.title}\n\n{body}\n\n{_escaped(caption)}\n{folded}"


def _cell(entry: Entry) -> str:
    return f"**{_escaped(entry.text)}**" if entry.bold else _escaped(entry.text)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*|\[\]])", r"\\\1", html.escape(one_line(text), quote=False))
