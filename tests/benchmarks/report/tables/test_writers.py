"""What tables become in csv, Markdown, LaTeX and on a terminal."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import report
from benchmarks.report.tables.latex import PACKAGES, to_latex
from benchmarks.report.tables.markdown import to_markdown
from benchmarks.report.tables.settle import settled
from benchmarks.report.tables.spreadsheet import to_csv
from benchmarks.report.tables.table import Entry, Table, as_estimate, as_number
from benchmarks.report.tables.terminal import to_text


def latex(table: Table) -> str:
    return to_latex(table, "suite")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "\r@"])
def test_no_text_is_a_formula_in_a_spreadsheet(start: str) -> None:
    text = to_csv(pd.DataFrame({"text": [f"{start}1+1"], "number": [-1.5]})).split("\n", 1)[1]
    assert text.lstrip('"').startswith(f"'{start}1+1")
    assert text.endswith("-1.5\n")  # numbers stay numbers


def test_keys_are_the_first_columns_of_csv() -> None:
    columns = ["value", "variant", "seed", "generator", "algorithm", "metric", "task"]
    text = to_csv(pd.DataFrame([range(7)], columns=columns))
    assert text == "task,generator,algorithm,variant,seed,value,metric\n6,3,4,1,2,0,5\n"


@pytest.mark.parametrize("write", [to_text, to_markdown, latex])
def test_no_text_steers_a_terminal_or_fakes_a_row(write: Callable[[Table], str]) -> None:
    hostile = "\x1b[2Jcleared\r\nfake | row\x9b1m"
    text = write(Table("scores", "Scores", "caption", [hostile], [[Entry(hostile)]]))
    assert not set(text) & set("\x1b\r\x9b")
    assert "cleared\n" not in text


SCORES = settled(
    Table(
        "scores",
        "Scores",
        "Score of a seed. More rules.",
        ["generator", "score", "cost | s"],
        [
            [Entry("none"), as_estimate(-1.25, -2.25, -0.25, bold=True, mark=" (n=3)†"), as_number(1234.5)],
            [Entry("ar_diffusion"), as_estimate(30.0, 20.0, 40.0, mark=" (n=5)"), as_number(-1e-7)],
        ],
    )
)


def test_markdown_is_compact_and_folds_its_notes() -> None:
    assert to_markdown(SCORES).split("\n\n")[:3] == [
        "## Scores",
        "|generator|score|cost \\| s|\n|:---|---:|---:|\n|none|**−1.2 ± 1.0 (n=3)†**|1,234|\n"
        "|ar_diffusion|30.0 ± 10.0 (n=5)|−1.0e−07|",
        "Score of a seed.",
    ]
    assert "<details><summary>Notes</summary>\n\nMore rules.\n\n</details>" in to_markdown(SCORES)


def test_latex_aligns_numbers_in_math_mode() -> None:
    text = latex(SCORES)
    assert r"none & \textbf{\boldmath $-1.2 \pm 1.0$ (n=$3$)$^\dagger$} & $1{,}234$ \\" in text
    assert r"ar\_diffusion & $30.0 \pm 10.0$ (n=$5$) & $-1.0\cdot10^{-7}$ \\" in text
    assert r"\begin{tabular}{@{}lrr@{}}" in text
    assert r"\caption{Scores. Score of a seed.}" in text
    assert r"\label{tab:suite-scores}" in text


def test_text_fits_100_columns_and_repeats_the_names() -> None:
    head = ["generator", *(f"task {i}" for i in range(12))]
    rows = [[Entry(name), *(as_estimate(10.0 * i, 0.0, 20.0) for i in range(12))] for name in ("none", "mopo")]
    text = to_text(settled(Table("scores", "Scores", "A long caption. " * 20, head, rows)))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("\nmopo ") == 2
    assert all(f"task {i}" in text for i in range(12))
    assert to_text(Table("scores", "Scores", "caption", ["task", "none"], [])).startswith("Scores\n\ntask    none")


# Of the kernel, in the encoding OT1 that a document has without \usepackage{fontenc}, and of the packages.
KNOWN = {
    *(
        r"\usepackage",
        r"\begin",
        r"\end",
        r"\centering",
        r"\small",
        r"\footnotesize",
        r"\caption",
        r"\label",
        r"\setlength",
    ),
    *(r"\tabcolsep", r"\toprule", r"\midrule", r"\bottomrule", r"\shortstack", r"\boldmath"),
    *(r"\textbf", r"\textbackslash", r"\textasciitilde", r"\textasciicircum", r"\textless", r"\textgreater"),
    *(r"\textbar", r"\textendash", r"\textemdash", r"\dots", r"\S", r"\allowbreak"),
    *(
        r"\pm",
        r"\dagger",
        r"\ddagger",
        r"\cdot",
        r"\times",
        r"\leq",
        r"\geq",
        r"\alpha",
        r"\eta",
        r"\lambda",
    ),  # in $...$
}


def test_latex_names_its_packages_and_needs_no_other() -> None:
    """Every character that can be typed, and all that our own words are made of."""
    ours = "".join(path.read_text(encoding="utf-8") for path in Path(report.__file__).parent.rglob("*.py"))
    typed = "".join(map(chr, range(32, 127)))
    text = latex(Table("t", "title", "caption", ["head"], [[Entry(char)] for char in sorted({*typed, *ours})]))
    assert text.startswith(f"% needs {PACKAGES}\n")
    assert set(re.findall(r"\\[A-Za-z]+", text)) <= KNOWN
    assert text.isascii()
    assert text.count("?") == 1  # the one that was typed
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, flags=re.DOTALL)
    assert len(bodies) > 1
    assert not re.search(r"(?<!\\)[&%#_]", "".join(bodies))
    assert '"' not in text


@pytest.mark.parametrize("start", ["[2pt] x", "*x"])
def test_no_latex_row_begins_with_an_option(start: str) -> None:
    r"""`\\ [2pt]` is a distance and `\\ *` a row that stays with the next one."""
    text = latex(Table("t", "title", "caption", [start], [[Entry(start)], [Entry(start)]]))
    assert not re.search(r"(\\\\|rule)\s*[\[*]", text)


@pytest.mark.parametrize(
    ("typed", "written"),
    [('say "a"', "say ''a''"), ("cell--1", "cell-{}-1"), ("a — b", r"a \textemdash{} b"), ("é", "e"), ("?`", "?{`}")],
)
def test_latex_prints_what_was_typed(typed: str, written: str) -> None:
    assert f"\n{written} \\\\\n\\bottomrule" in latex(Table("t", "title", "caption", ["head"], [[Entry(typed)]]))
