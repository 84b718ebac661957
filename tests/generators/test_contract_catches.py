"""The contract notices what a plug-in does wrong, and passes one that does it right."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUG_IN = """
from dataclasses import replace

import torch

from generators.duplicate import Duplicate


class Right(Duplicate):
    "As good as its parent."


class Careless(Duplicate):
    "Draws from the generator that everybody shares."

    def fit(self, task, data, models, rng):
        fitted = super().fit(task, data, models, rng)
        really = fitted.generate

        class Fitted:
            def __getattr__(self, name):
                return getattr(fitted, name)

            def generate(self, policy, start, length, rng):
                made = really(policy, start, length, rng)
                return replace(made, reward=made.reward + torch.rand(made.reward.shape))

        return Fitted()


class Greedy(Duplicate):
    "Scales the rewards of everybody's data."

    def fit(self, task, data, models, rng):
        fitted = super().fit(task, data, models, rng)
        data.train.reward.mul_(2)
        return fitted
"""


@pytest.mark.parametrize(
    ("name", "caught"),
    [
        ("Right", set()),
        ("Careless", {"test_numbers_are_a_function_of_the_rng"}),
        ("Greedy", {"test_nothing_it_is_given_is_changed"}),
    ],
)
def test_a_broken_plug_in_is_caught(tmp_path: Path, name: str, caught: set[str]) -> None:
    (tmp_path / "plug_in_example.py").write_text(PLUG_IN)
    contract = ROOT / "tests" / "generators" / "test_contract.py"
    command = ["-m", "pytest", "-p", "no:cacheprovider", "-q", "-rf", "--tb=no", "--rootdir", str(ROOT), str(contract)]
    done = subprocess.run(
        [
            sys.executable,
            *command,
            "--generator",
            f"plug_in_example:{name}",
            "-k",
            "function_of_the_rng or is_changed or shapes",
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = {line.split("::")[1].split("[")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")}
    assert failed == caught, done.stdout
    assert done.returncode == int(bool(caught))
    assert "passed" in done.stdout
