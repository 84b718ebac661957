"""FAULTS.md numbers its cases without a gap and names tests that exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
_, *CASES = re.split(r"^## ", (TESTS / "FAULTS.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
LINES = [line for case in CASES for line in case.splitlines()]


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_case_has_its_number() -> None:
    assert [int(case.partition(".")[0]) for case in CASES] == list(range(1, 33))


def test_every_case_says_what_is_expected() -> None:
    assert not [case.splitlines()[0] for case in CASES if "\nExpected: " not in case]


def test_every_named_test_exists() -> None:
    named = [found for line in LINES for found in re.findall(r"^- `([\w/]+\.py)(?:::(\w+))?`$", line)]
    assert len(named) > 50
    assert not [file for file, _ in named if not (TESTS / file).is_file()]
    assert not [f"{file}::{name}" for file, name in named if name and name not in functions(TESTS / file)]


def test_nothing_that_looks_like_a_test_is_misspelt() -> None:
    assert not [line for line in LINES if "::" in line and not re.fullmatch(r"- `[\w/]+\.py::\w+`", line)]
