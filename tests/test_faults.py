"""FAULTS.md names tests that exist, for every case once."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROWS = [line.split("|")[1:-1] for line in (TESTS / "FAULTS.md").read_text(encoding="utf-8").splitlines() if "|" in line]


def test_every_case_has_one_row_of_three_columns() -> None:
    head, rule, *rows = ROWS
    assert len(head) == 3
    assert set("".join(rule)) == {"-"}
    assert [row[0].split()[0] for row in rows] == [str(case) for case in range(1, 33)]
    assert all(len(row) == 3 for row in rows)


def test_every_test_that_is_named_exists() -> None:
    named = [found for row in ROWS for found in re.findall(r"`([\w/]+\.py)::(\w+)`", row[2])]
    assert len(named) > 50
    missing = [f"{file}::{name}" for file, name in named if name not in functions(TESTS / file)]
    assert not missing


def test_nothing_in_the_column_of_tests_is_misspelt() -> None:
    """Whatever looks like a test is read as one by the test above."""
    for *_, tests in ROWS:
        assert len(re.findall(r"`[\w/]+\.py::\w+`", tests)) == tests.count("::")


def functions(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
