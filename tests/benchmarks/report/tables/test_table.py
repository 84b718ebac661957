"""What tables become in csv, Markdown, LaTeX and on a terminal."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import report
from benchmarks.report.tables.table import Entry, Table, to_csv, to_latex, to_markdown, to_text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "\r@"])
def test_no_text_is_a_formula_in_a_spreadsheet(start: str) -> None:
    text = to_csv(pd.DataFrame({"text": [f"{start}1+1"], "number": [-1.5]})).split("\n", 1)[1]
    assert text.lstrip('"').startswith(f"'{start}1+1")
    assert text.endswith("-1.5\n")  # numbers stay numbers


@pytest.mark.parametrize("write", [to_text, to_markdown, to_latex])
def test_no_text_steers_a_terminal_or_fakes_a_row(write: Callable[[Table], str]) -> None:
    hostile = "\x1b[2Jcleared\r\nfake | row\x9b1m"
    text = write(Table("scores", "Scores", "caption", [hostile], [[Entry(hostile)]]))
    assert not set(text) & set("\x1b\r\x9b")
    assert "cleared\n" not in text


# Of the kernel, in the encoding OT1 that a document has without \usepackage{fontenc}, and of booktabs.
KNOWN = {
    *(r"\begin", r"\end", r"\centering", r"\small", r"\caption", r"\label", r"\toprule", r"\midrule", r"\bottomrule"),
    *(r"\textbf", r"\textbackslash", r"\textasciitilde", r"\textasciicircum", r"\textless", r"\textgreater"),
    *(r"\textbar", r"\textendash", r"\textemdash", r"\dots", r"\S"),
    *(r"\pm", r"\dagger", r"\ddagger", r"\cdot", r"\times", r"\leq", r"\geq"),  # in $...$
}


def test_latex_needs_no_package_but_booktabs() -> None:
    """Every character that can be typed, and all that our own words are made of."""
    ours = "".join(path.read_text(encoding="utf-8") for path in Path(report.__file__).parent.rglob("*.py"))
    typed = "".join(map(chr, range(32, 127)))
    text = to_latex(Table("t", "title", "caption", ["head"], [[Entry(char)] for char in sorted({*typed, *ours})]))
    assert set(re.findall(r"\\[A-Za-z]+", text)) <= KNOWN
    assert text.isascii()
    assert text.count("?") == 1  # the one that was typed
    body = text.partition("\\midrule\n")[2]
    assert not re.search(r"(?<!\\)[&%#_]", body)
    assert '"' not in text


@pytest.mark.parametrize("start", ["[2pt] x", "*x"])
def test_no_latex_row_begins_with_an_option(start: str) -> None:
    r"""`\\ [2pt]` is a distance and `\\ *` a row that stays with the next one."""
    text = to_latex(Table("t", "title", "caption", [start], [[Entry(start)], [Entry(start)]]))
    assert not re.search(r"(\\\\|rule)\s*[\[*]", text)


@pytest.mark.parametrize(
    ("typed", "written"),
    [('say "a"', "say ''a''"), ("cell--1", "cell-{}-1"), ("a — b", r"a \textemdash{} b"), ("é", "e"), ("?`", "?{`}")],
)
def test_latex_prints_what_was_typed(typed: str, written: str) -> None:
    assert f"\n{written} \\\\\n\\bottomrule" in to_latex(Table("t", "title", "caption", ["head"], [[Entry(typed)]]))
