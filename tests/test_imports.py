"""Who may import whom, and that each package is the one in this repository."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "core": set(),
    "tasks": {"core"},
    "metrics": {"core"},
    "models": {"core"},
    "generators": {"core", "models", "tasks.base", "tasks.simulators.base"},
    "algorithms": {"core", "models"},
    "benchmarks": {"core", "tasks", "models", "generators", "algorithms", "metrics"},
}
REPORT_MAY_NOT = {"generators", "algorithms", "models", "tasks"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] in MAY_IMPORT}


def allowed(name: str, package: str) -> bool:
    permitted = MAY_IMPORT[package] | {package}
    return any(name == other or name.startswith(f"{other}.") or other.startswith(f"{name}.") for other in permitted)


def test_imports_go_one_way() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("*.py")
        for name in imports(path)
        if not allowed(name, package)
    ]
    assert not wrong


def test_a_report_needs_nothing_but_results() -> None:
    wrong = [
        f"{path.name} imports {name}"
        for path in (ROOT / "benchmarks/report").rglob("*.py")
        for name in imports(path)
        if name.partition(".")[0] in REPORT_MAY_NOT
    ]
    assert not wrong


@pytest.mark.parametrize("room", ["speed", "parity"])
def test_nothing_imports_a_laboratory(room: str) -> None:
    files = [ROOT / "run_bench.py", *(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))]
    laboratory = ROOT / "benchmarks" / room
    wrong = [
        str(path.relative_to(ROOT))
        for path in files
        if not path.is_relative_to(laboratory) and any(name.startswith(f"benchmarks.{room}") for name in imports(path))
    ]
    assert laboratory.is_dir()
    assert not wrong


def test_drivers_of_peers_import_nothing_of_ours() -> None:
    """They run in the peers' interpreters, beside packages whose names may be those of our folders."""
    own = ("benchmarks.peers", "benchmarks.parity.drivers")
    files = [ROOT / "benchmarks/peers.py", *(ROOT / "benchmarks/parity/drivers").glob("*.py")]
    found = {name for path in files for name in imports(path)}
    assert found
    assert not [name for name in found if not any(f"{name}.".startswith(f"{known}.") for known in own)]
    rooms = [ROOT / "benchmarks/__init__.py", ROOT / "benchmarks/parity/__init__.py"]
    assert not [path for path in rooms if imports(path)]


def test_packages_are_those_of_this_repository() -> None:
    for package in MAY_IMPORT:
        assert Path(str(import_module(package).__file__)).is_relative_to(ROOT)
