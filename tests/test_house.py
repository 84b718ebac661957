"""Limits that keep the tree easy to walk: sizes of folders, files and functions, names of tests, docstrings."""

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("core", "tasks", "models", "generators", "algorithms", "metrics", "benchmarks")
FILES = [ROOT / "run_bench.py", *(path for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*.py"))]

MODULES = 12  # side by side in a folder, beside its __init__
REGISTRIES = ("generators", "algorithms", "tasks/sources", "benchmarks/report/sections")  # one module per method
FILE = 350  # lines
FUNCTION = 60  # lines, docstring included
NAME = 60  # characters of a test's name
OBVIOUS = 5  # lines up to which a public function may go without a docstring
TRACKED_FILE = 2**20  # bytes
TRACKED_TREE = 12_000_000  # bytes


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_folders_hold_a_dozen_modules_at_most() -> None:
    """But registries: their modules are alternatives with one contract, of which a reader needs one at a time."""
    rooms = {ROOT / folder for registry in REGISTRIES for folder in (registry, f"tests/{registry}")}
    count = Counter(path.parent for path in FILES if path.name not in ("__init__.py", "conftest.py"))
    assert rooms & count.keys() > {ROOT / registry for registry in REGISTRIES}
    assert not {name(folder): modules for folder, modules in count.items() if modules > MODULES and folder not in rooms}


def test_files_are_short() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: count for path, count in lines.items() if count > FILE}


def test_functions_fit_on_a_screen() -> None:
    long = {f"{name(path)}::{node.name}": length(node) for path in FILES for node in functions(path)}
    assert not {where: lines for where, lines in long.items() if lines > FUNCTION}


def test_names_of_tests_can_be_skimmed() -> None:
    tests = [node.name for path in FILES if path.name.startswith("test_") for node in functions(path)]
    assert not [test for test in tests if test.startswith("test_") and len(test) > NAME]


def test_public_functions_say_what_they_do() -> None:
    bare = [
        f"{name(path)}::{node.name}"
        for path in FILES
        if path.relative_to(ROOT).parts[0] in PACKAGES and not path.name.startswith("test_")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if length(node) > OBVIOUS and not ast.get_docstring(node)
    ]
    assert not bare


def test_every_folder_says_what_lives_in_it() -> None:
    rooms = [path for path in FILES if path.name == "__init__.py"]
    silent = [name(path) for path in rooms if len((ast.get_docstring(ast.parse(path.read_text())) or "").split()) < 12]
    assert not silent


def test_the_tracked_tree_is_small() -> None:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    sizes = {path: (ROOT / path).stat().st_size for path in listed.split("\0") if (ROOT / path).is_file()}
    assert not {path: size for path, size in sizes.items() if size > TRACKED_FILE}
    assert sum(sizes.values()) < TRACKED_TREE
