"""One table in four scripts, each with its own escaping: CSV, Markdown, LaTeX, plain text. Same input, same bytes."""

import html
import re
import textwrap
from collections.abc import Callable

import pandas as pd
from tabulate import tabulate

from benchmarks.report.tables import Entry, Table

__all__ = ["to_csv", "to_latex", "to_markdown", "to_text"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "—": "---",
    "−": "$-$",
    "…": r"\dots{}",
}


def to_csv(frame: pd.DataFrame) -> str:
    """Shortest exact numbers, empty where there is none; text that a spreadsheet would run as a formula gets a '."""
    text = frame.select_dtypes(exclude="number").columns
    safe = frame.assign(**{column: frame[column].map(_no_formula) for column in text})
    return safe.to_csv(index=False, lineterminator="\n")


def to_markdown(table: Table) -> str:
    """Title, pipe table, caption."""

    def cell(entry: Entry) -> str:
        return f"**{_markdown(entry.text)}**" if entry.bold else _markdown(entry.text)

    head = [_markdown(name) for name in table.head]
    body = tabulate(_rows(table, cell), head, tablefmt="pipe", disable_numparse=True)
    return f"## {table.title}\n\n{body}\n\n{_markdown(table.caption)}\n"


def to_latex(table: Table) -> str:
    """A `table` environment that needs the package booktabs and nothing else."""

    def cell(entry: Entry) -> str:
        return rf"\textbf{{{_latex(entry.text)}}}" if entry.bold else _latex(entry.text)

    lines = [[_latex(name) for name in table.head], *_rows(table, cell)]
    head, *body = [" & ".join(line) + r" \\" for line in lines]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\small",
            rf"\caption{{{_latex(table.title)}. {_latex(table.caption)}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.head)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def to_text(table: Table) -> str:
    """For a terminal."""
    head = [_one_line(name) for name in table.head]
    body = tabulate(_rows(table, lambda entry: _one_line(entry.text)), head, tablefmt="simple", disable_numparse=True)
    return f"{table.title}\n\n{body}\n\n{textwrap.fill(table.caption, 100)}\n"


def _rows(table: Table, cell: Callable[[Entry], str]) -> list[list[str]]:
    return [[cell(entry) for entry in row] for row in table.rows]


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@")) else value


def _one_line(text: str) -> str:
    """Without line breaks and other control characters, which could fake a row or steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*|\[\]])", r"\\\1", html.escape(_one_line(text), quote=False))


def _latex(text: str) -> str:
    """Characters that plain pdflatex has no glyph for become question marks."""
    escaped = "".join(_LATEX.get(char, char) for char in _one_line(text))
    return escaped.encode("ascii", "replace").decode()
