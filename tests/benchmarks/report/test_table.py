"""What tables become in csv, Markdown, LaTeX and on a terminal."""

from collections.abc import Callable

import pandas as pd
import pytest

from benchmarks.report.table import Entry, Table, to_csv, to_latex, to_markdown, to_text


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
