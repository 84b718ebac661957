r"""A table as LaTeX: a file that names its packages, with one `table` environment or several that fit a page.

Widths are those of Computer Modern in the classes of LaTeX at 10 pt: a column of two is 229 pt wide, a page 345 pt.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report.tables.layout import by_height, by_width, keys
from benchmarks.report.tables.settle import short_caption
from benchmarks.report.tables.table import Entry, Table
from benchmarks.report.text import one_line

__all__ = ["PACKAGES", "to_latex"]

PACKAGES = r"\usepackage{array,booktabs}"
_LATEX = {  # what the fonts of plain LaTeX (OT1) have; `\textquotedbl` would need the package fontenc
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
    '"': "''",
    "`": "{`}",  # behind ? and ! it would turn them over
    "±": r"$\pm$",
    "“": "``",
    "”": "''",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"\S{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "−": "$-$",
    "⁻": "$^-$",
    "…": r"\dots{}",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "α": r"$\alpha$",
    "η": r"$\eta$",
    "λ": r"$\lambda$",
    "\u200b": r"\allowbreak{}",  # our own, in words that are wider than their column
}
_NUMBER = r"[+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+−]\d+)?"
_NUMBERS = re.compile(rf"({_NUMBER}(?: ± {_NUMBER})?)")
_WIDTHS = {  # of characters in em, rounded up; all others: 0.56
    0.28: "ijl.,;:!|'[]\u200b",
    0.335: " -",
    0.40: "fIrst()",
    0.50: "0123456789aceoz/*†‡–…",
    0.78: "wABCDEFGHJKLNOPQRSTUVXYZ<>=+−&",
    1.03: "mMW—±×≤≥%",
}
_EM = {character: width for width, characters in _WIDTHS.items() for character in characters}
_WIDE = 14.0  # em; a column with a wider entry is a paragraph
_NARROW = 7.0  # em; no paragraph is narrower
_GAP = 8.0  # pt between columns
_HEIGHT = 480.0  # pt of a page for a table with caption and notes; 550 are there


@dataclass(frozen=True)
class _Form:
    """An environment and a size of type."""

    environment: str
    width: float  # pt
    size: str
    em: float  # pt; the small sizes of Computer Modern are wider than their names say
    line: float  # pt from line to line


_FORMS = (  # the first that holds all of a table is taken; the last is for tables that are cut
    _Form("table", 229.0, "small", 9.25, 11.0),
    _Form("table", 229.0, "footnotesize", 8.5, 9.5),
    _Form("table*", 345.0, "small", 9.25, 11.0),
    _Form("table*", 345.0, "scriptsize", 7.97, 8.0),
    _Form("table*", 345.0, "footnotesize", 8.5, 9.5),
)


def to_latex(table: Table, suite: str) -> str:
    """Environments for a settled table, with the labels tab:SUITE-NAME, tab:SUITE-NAME-2, ... and notes below the last.

    A table that fits no page is cut into groups of columns, the first ones repeated, and these into groups of rows.
    """
    columns = [_Column.of(table, i) for i in range(len(table.head))]
    form, pieces = next(filter(None, (_whole(table, columns, form) for form in _FORMS)), _cut(table, columns))
    label = re.sub(r"[^a-z0-9]+", "-", f"{suite} {table.name}".lower()).strip("-")
    written = [f"% needs {PACKAGES}"]
    for number, (shown, rows) in enumerate(pieces, 1):
        place = f"{label}-{number}" if number > 1 else label
        written.append(_environment(table, form, [columns[i] for i in shown], rows, place, number, len(pieces)))
    return "\n".join(written)


@dataclass(frozen=True)
class _Column:
    """A column with its widths in em."""

    name: str
    entries: list[Entry]
    numeric: bool
    body: float  # of its widest entry
    head: float  # of its longest word

    @classmethod
    def of(cls, table: Table, place: int) -> "_Column":
        entries = [row[place] for row in table.rows]
        name = one_line(table.head[place])
        body = max((_em(entry.text) * (1.15 if entry.bold else 1) for entry in entries), default=0.0)
        return cls(name, entries, table.numeric(place), body, max(map(_em, name.split()), default=0.0))

    @property
    def paragraph(self) -> bool:
        """Whether its entries are wrapped."""
        return max(self.body, self.head) > _WIDE

    @property
    def least(self) -> float:
        """In em."""
        return _NARROW if self.paragraph else max(self.body, self.head)


_Piece = tuple[list[int], range]  # columns and rows


def _whole(table: Table, columns: list[_Column], form: _Form) -> tuple[_Form, list[_Piece]] | None:
    """All of the table in this form, if it fits; paragraphs want the width of the page."""
    if any(column.paragraph for column in columns) and form.environment == "table":
        return None
    if _total(columns, form) > form.width or sum(_heights(columns, form)) > _room(table, columns, form):
        return None
    return form, [(list(range(len(columns))), range(len(table.rows)))]


def _cut(table: Table, columns: list[_Column]) -> tuple[_Form, list[_Piece]]:
    """Into pieces of the last form."""
    form = _FORMS[-1]
    widths = [form.em * column.least + _GAP for column in columns]
    repeated = keys(table)
    if sum(widths[:repeated]) + max(widths[repeated:], default=0.0) > form.width + _GAP:
        repeated = 1
    pieces = [
        (shown, rows)
        for shown in by_width(widths, repeated, form.width + _GAP)
        for rows in by_height(
            _heights([columns[i] for i in shown], form), _room(table, [columns[i] for i in shown], form)
        )
    ]
    return form, pieces


def _total(columns: Sequence[_Column], form: _Form) -> float:
    """Points that columns need side by side."""
    return sum(form.em * column.least + _GAP for column in columns) - _GAP


def _paragraphs(columns: Sequence[_Column], form: _Form) -> dict[str, float]:
    """Points of every paragraph, by head: what the other columns leave is shared evenly."""
    wide = [column for column in columns if column.paragraph]
    spare = (form.width - _total(columns, form)) / max(1, len(wide))
    return {column.name: form.em * column.least + max(0.0, spare) for column in wide}


def _heights(columns: Sequence[_Column], form: _Form) -> list[float]:
    """Of the rows, in points; wrapped lines are not full."""
    points = _paragraphs(columns, form)
    wrapped = [column for column in columns if column.paragraph]
    lines = [
        max([1, *(math.ceil(1.3 * form.em * _em(x.entries[row].text) / points[x.name]) for x in wrapped)])
        for row in range(len(columns[0].entries))
    ]
    return [form.line * count for count in lines]


def _room(table: Table, columns: Sequence[_Column], form: _Form) -> float:
    """Points of a page that caption, heads and notes leave for rows; at least a fifth of it."""
    words = [f"Table 1: {table.title} {table.caption}", *(x.name for x in columns)]
    text = sum(math.ceil(1.1 * form.em * _em(part) / form.width) for part in words[:1])
    heads = max(len(_lines(column.name, max(column.body, column.head))) for column in columns)
    return max(_HEIGHT / 5, _HEIGHT - form.line * (text + heads + 3))


def _environment(
    table: Table, form: _Form, columns: list[_Column], rows: range, label: str, number: int, last: int
) -> str:
    points = _paragraphs(columns, form)
    specification = "".join(
        rf">{{\raggedright\arraybackslash}}p{{{points[x.name]:.0f}pt}}" if x.paragraph else "r" if x.numeric else "l"
        for x in columns
    )
    short, notes = short_caption(table)
    title = table.title if table.title.endswith("?") else f"{table.title}."
    caption = f"{title} {short}" if number == 1 else f"{table.title} (continued)."
    body = [_row([_entry(x, x.entries[row], points.get(x.name)) for x in columns]) for row in rows]
    below = [
        r"\par\smallskip",
        rf"\begin{{minipage}}{{\linewidth}}\raggedright {_latex(_breakable(notes, form.width))}\end{{minipage}}",
    ]
    return "\n".join(
        [
            rf"\begin{{{form.environment}}}[{'tp' if form.environment == 'table*' else 'htbp'}]",
            rf"\centering\{form.size}",
            rf"\setlength{{\tabcolsep}}{{{_GAP / 2:g}pt}}",
            rf"\caption{{{_latex(_breakable(caption, form.width / 2))}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{@{{}}{specification}@{{}}}}",
            r"\toprule",
            _row([_head(column) for column in columns]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *(below if notes and number == last else []),
            rf"\end{{{form.environment}}}",
            "",
        ]
    )


def _head(column: _Column) -> str:
    if column.paragraph:
        return _latex(column.name)
    lines = [_latex(line) for line in _lines(column.name, max(column.body, column.head))]
    stacked = r"\\".join(lines)
    return lines[0] if len(lines) == 1 else rf"\shortstack[{'r' if column.numeric else 'l'}]{{{stacked}}}"


def _lines(text: str, width: float) -> list[str]:
    """Of a head, wrapped at spaces to a width in em."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _em(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _entry(column: _Column, entry: Entry, points: float | None) -> str:
    """Numbers in math mode."""
    text = one_line(entry.text) if points is None else _breakable(entry.text, points)
    if column.numeric:
        parts = _NUMBERS.split(text)
        written = "".join(_math(part) if place % 2 else _latex(part) for place, part in enumerate(parts))
        return rf"\textbf{{\boldmath {written}}}" if entry.bold else written
    return rf"\textbf{{{_latex(text)}}}" if entry.bold else _latex(text)


def _breakable(text: str, points: float) -> str:
    """Words that are wider than a line may be broken anywhere."""
    words = one_line(text).split(" ")
    return " ".join("\u200b".join(word) if _FORMS[0].em * _em(word) > points else word for word in words)


def _math(text: str) -> str:
    """A number, or two with a plus-minus sign."""
    text = re.sub(r"e([+−])0*(\d+)", lambda x: rf"\cdot10^{{{x[1].replace('+', '')}{x[2]}}}", text)
    return f"${text.replace('−', '-').replace(',', '{,}').replace('±', chr(92) + 'pm')}$"


def _em(text: str) -> float:
    """The width of a text; of 1e-05 that of its power of ten."""
    return math.fsum(_EM.get(character, 0.56) for character in re.sub(r"(?<=\d)e([+−])", r"·10\1", text))


def _row(entries: list[str]) -> str:
    r"""Of a tabular; behind the `\\` or the rule of the row before, a bracket or a star would be an option of it."""
    line = " & ".join(entries) + r" \\"
    return "{}" + line if line.startswith(("[", "*")) else line


def _latex(text: str) -> str:
    """Letters lose their accents, and what plain pdflatex has no glyph for becomes a question mark."""
    escaped = "".join(_LATEX.get(char) or unicodedata.normalize("NFKD", char) for char in one_line(text))
    bare = "".join(char for char in escaped if not unicodedata.combining(char))
    return re.sub("-(?=-)", "-{}", bare).encode("ascii", "replace").decode()  # two hyphens are no dash
