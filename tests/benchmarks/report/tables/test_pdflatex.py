"""Every table of a report compiles with the packages its file names, and fits a page; needs pdflatex."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import report
from benchmarks.report.tables.latex import to_latex
from benchmarks.report.tables.settle import settled
from benchmarks.report.tables.table import Entry, Table, as_estimate, as_number
from benchmarks.store import ResultStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex"),
]
REFERENCE = Path(__file__).parents[4] / "results" / "reference"
ALLOWED = 1.0  # pt that a box may be too wide


def compiled(folder: Path, tables: dict[str, str], options: str) -> str:
    """The log of an article with these tables, each on pages of its own, and the packages that they name."""
    packages = {line.removeprefix("% needs ") for text in tables.values() for line in [text.split("\n", 1)[0]]}
    body = "\n".join(f"\\typeout{{table {name}}}\n{text}\\clearpage" for name, text in tables.items())
    document = "\n".join(
        [f"\\documentclass{options}{{article}}", *packages, r"\begin{document}", body, r"\end{document}"]
    )
    (folder / "tables.tex").write_text(document, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    found = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    log = (folder / "tables.log").read_text(encoding="latin-1")
    assert found.returncode == 0, log[-2000:]
    return log


def faults(log: str) -> list[str]:
    """Boxes that are too wide and floats that are too high, behind the name of their table."""
    lines = re.findall(r"table .*|Overfull \\hbox.*|.*Float too large.*", log)
    return [
        line
        for line in lines
        if "too large" in line or ("Overfull" in line and float(re.findall(r"([\d.]+)pt too wide", line)[0]) > ALLOWED)
    ]


@pytest.fixture(scope="module", params=["demo", "M_by_eta", "planted"])
def tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, build: Any) -> dict[str, str]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "planted":
        report(build.folder(folder))
    else:
        shutil.copytree(REFERENCE / request.param, folder, dirs_exist_ok=True)
        report(ResultStore(folder))
    return {path.stem: path.read_text(encoding="ascii") for path in sorted(folder.glob("report/latex/*.tex"))}


@pytest.mark.parametrize("options", ["", "[twocolumn]"])
def test_tables_of_reports_fit_a_page(tables: dict[str, str], options: str, tmp_path: Path) -> None:
    assert len(tables) > 4
    assert faults(compiled(tmp_path, tables, options)) == []


@pytest.mark.parametrize("options", ["", "[twocolumn]"])
def test_tables_of_any_shape_fit_a_page(options: str, tmp_path: Path) -> None:
    long = "ham_" * 40
    names = ["task", "algorithm", "variant", "generator"]
    prose = "What the policy does in the simulator is 3.9 times as far from the training data. " * 5
    numbers = [as_estimate(-1234.5, -2000.0, -469.0, bold=True, mark=" (n=3/6, 1 diverged)†"), as_number(1.2e-8)] * 6
    shapes = {
        "long": [[Entry(f"row {i}"), *numbers[:2]] for i in range(150)],
        "wide": [[Entry(f"{name} {i}") for name in names] + numbers for i in range(3)],
        "words": [
            [Entry(long), Entry(prose), Entry(long, bold=True), Entry("[x] $ % & _ {}"), *numbers] for _ in range(3)
        ],
        "hostile": [[Entry("W" * 200), as_number(1.0)], [Entry("\\" * 90), as_number(2.0)]],
        "one column": [[Entry("a")], [Entry("b")]],
    }
    written = {
        name: to_latex(
            settled(
                Table(
                    name, f"A table that is {name}", prose + long, [*names, *map(str, range(99))][: len(rows[0])], rows
                )
            ),
            "suite_1.toml",
        )
        for name, rows in shapes.items()
    }
    assert faults(compiled(tmp_path, written, options)) == []
    labels = re.findall(r"\\label\{(.*?)\}", "".join(written.values()))
    assert len(set(labels)) == len(labels)
    assert {"tab:suite-1-toml-one-column", "tab:suite-1-toml-long", "tab:suite-1-toml-long-2"} <= set(labels)


def test_what_does_not_fit_is_found(tmp_path: Path) -> None:
    """The control of the tests above."""
    text = "% needs \\usepackage{booktabs}\n" + "\\mbox{" + "much too wide " * 30 + "}\n"
    assert len(faults(compiled(tmp_path, {"wide": text}, ""))) == 1
