"""CONTRIBUTING's examples are real: its diffs apply, and what they add does what the text says."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from jaxtyping import install_import_hook

from benchmarks.execution import matrix
from benchmarks.store import ResultStore
from benchmarks.suite import cells, load_suite

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DIFFS = {diff.split("+++ b/")[1].split("\n")[0]: diff for diff in TEXT.split("```diff\n")[1:]}


@pytest.fixture
def least_squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """With its shapes checked, as they are in the contract that the text says to run."""
    diff = DIFFS["generators/least_squares.py"].split("\n```")[0]
    source = [line[1:] for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]
    name = "least_squares_example"
    (tmp_path / f"{name}.py").write_text("\n".join(source) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with install_import_hook([name], "beartype.beartype"):
        return import_module(name)


def test_the_generator_learns_the_linear_system(least_squares: ModuleType, tmp_path: Path) -> None:
    name = f"{least_squares.__name__}:LeastSquares"
    suite = load_suite("smoke", [f'generators=["{name}"]', "updates=40", "evaluate_every=40", "seeds=[0]"])
    store = ResultStore(tmp_path / "out")
    assert matrix.run_missing(cells(suite), store, torch.device("cpu"), None, matrix.local) == 0
    (cell,) = store.cells()
    values = {record.metric: record.value for record in cell.records if record.horizon == 10}
    median = values["compounding/policy/median"]
    still = values["compounding/policy/still"]
    assert median is not None
    assert still is not None
    assert median < 0.02 * still  # noise-free dynamics are linear: only rounding of W is left


@pytest.mark.slow
def test_the_generator_passes_the_contract(least_squares: ModuleType) -> None:
    """By the command that the text names, from a module outside of the tree."""
    contract = ["tests/generators/test_contract.py", "--generator", f"{least_squares.__name__}:LeastSquares"]
    folder = str(Path(str(least_squares.__file__)).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((folder, str(ROOT)))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *contract]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout


def test_the_toy_variation_applies() -> None:
    kept = [line[1:] for line in DIFFS["tasks/sources/toy.py"].splitlines() if line.startswith(" ")]
    assert "\n".join(kept[:2]) in (ROOT / "tasks/sources/toy.py").read_text(encoding="utf-8")


PACKAGES = ("core", "tasks", "models", "generators", "algorithms", "metrics", "benchmarks")
TINY = ["updates=2", "evaluate_every=2", "seeds=[0]", "dataset_rows=500", "fidelity_starts=3", "fidelity_horizon=1"]
WITH_THE_METRIC = f"""
import json, torch, run_bench
from benchmarks.execution.cell import run_cell
from benchmarks.suite import cells, load_suite
from metrics.catalogue import PAGE, updated
from tasks.base import load_task

run_bench.main(["list"])
(spec,) = cells(load_suite("smoke", ['generators=["duplicate"]', *{TINY}]))
records, _ = run_cell(spec, load_task(spec.task, spec.settings.data_options(None)), torch.device("cpu"))
found = [[record.horizon, record.value] for record in records if record.metric == "distance/inside"]
print(json.dumps([found, "`distance/inside`" in updated(PAGE.read_text(encoding="utf-8"))]))
"""


def test_the_metric_applies_and_is_recorded_and_listed(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_bench.py", tmp_path)
    diff = DIFFS["metrics/distribution.py"].split("\n```")[0] + "\n"
    whole = re.sub("\n(?=\n)", "\n ", diff)  # in a text, an empty line of the context has lost its blank
    subprocess.run(["git", "apply"], input=whole, text=True, cwd=tmp_path, check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", WITH_THE_METRIC]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    *listed, found = done.stdout.splitlines()
    assert "  distance/inside: generated states in the box around the training data" in listed
    assert json.loads(found) == [[[1, 1.0]], True]  # copies of the data do not leave its box
